/** A kernel of one kind of file, whose calls show what a server hands on: see `fakeIoctl`. */
import type {
  CallingProcess,
  FileResult,
  IoctlCall,
  MmapRequest,
  MmapResult,
  OpenableKernel,
  OpenFile,
  PageSource,
  Region,
} from '@nestwalk/iommufd'

/**
 * Calls of a {@link FakeFile}. The argument is the address of a structure of eight u64, of which `[i]` is the i-th:
 *
 * - sum: [2] = [0] + [1]
 * - openAt: opens a file, its descriptor as 4 bytes at [0]
 * - openAsResult: opens a file, its descriptor is what the call returns
 * - countOpen: [0] = number of open files
 * - copy: copies [2] bytes from address [0] to address [1]; EFAULT
 * - fileKind: [1] = what descriptor [0] is: 0 nothing, 1 one of ours, 2 shared memory, 3 another file
 * - who: [0] = user, [1] = capabilities (1 ipcLock, 2 sysResource, 4 rawIo), [2] = RLIMIT_MEMLOCK, [3] = key of the memory
 * - keep: keeps [1] pages at address [0], writes [2] = physical address of the first; with [3] not 0 they are pinned for
 *   writing, else for reading; EFAULT
 * - keepFile: as keep, from byte [1] of descriptor [0]; EINVAL
 * - readKept: [1] = the byte at [0] of what is kept
 * - writeKept: puts the byte [1] there
 * - letGo: unpins what is kept
 * - region: [0] = first byte of the region; then it becomes [1]
 * - fail: throws
 * - refuse: EBADE, with [0] = 1 written
 */
export const fakeIoctl = {
  ...{ sum: 1, openAt: 2, openAsResult: 3, countOpen: 4, copy: 5, fileKind: 6, who: 7, keep: 8, keepFile: 9 },
  ...{ readKept: 10, writeKept: 11, letGo: 12, region: 13, fail: 14, refuse: 15 },
} as const

const structBytes = 64
const ok: FileResult = { ret: 0 }
const efault: FileResult = { ret: -1, errno: 'EFAULT' }

export class FakeKernel implements OpenableKernel {
  openFiles = 0
  readonly region: Region = { bytes: new Uint8Array(8192).fill(0x5a) }
  mapped = 0
  readonly armed = new Map<number, number>()
  kept: { readonly source: PageSource; readonly pages: number } | undefined
  /** Every call, in order, by name. */
  readonly calls: string[] = []

  openIommu(): OpenFile {
    return new FakeFile(this)
  }
  openVfioContainer(): OpenFile {
    return new FakeFile(this)
  }
  openVfioDevice(n: number): OpenFile | undefined {
    return n === 7 ? new FakeFile(this) : undefined
  }
  /** One page for each open file. */
  pinned(): number {
    return this.openFiles
  }
  locked(): number {
    return 2 * this.openFiles
  }
  armFailure(memory: number, count: number): void {
    this.armed.set(memory, count)
  }
  failuresLeft(memory: number): number {
    return this.armed.get(memory) ?? 0
  }
}

class FakeFile implements OpenFile {
  constructor(private readonly kernel: FakeKernel) {
    kernel.openFiles++
  }

  ioctl({ cmd, argument, process }: IoctlCall): FileResult {
    const bytes = new Uint8Array(structBytes)
    if (!process.memory.read(argument, bytes)) return efault
    const words = new BigUint64Array(bytes.buffer)
    const result = this.command(cmd, words, process)
    return process.memory.write(argument, bytes) ? result : efault
  }

  private command(cmd: number, words: BigUint64Array, process: CallingProcess<OpenFile>): FileResult {
    const [first = 0n, second = 0n, third = 0n, fourth = 0n] = words
    const { kernel } = this
    switch (cmd) {
      case fakeIoctl.sum:
        words[2] = first + second
        return ok
      case fakeIoctl.openAt:
      case fakeIoctl.openAsResult: {
        const file = new FakeFile(kernel)
        const address = cmd === fakeIoctl.openAt ? first : 0n
        return { ret: 0, newFiles: [{ file, address, isCloseOnExec: true }] }
      }
      case fakeIoctl.countOpen:
        words[0] = BigInt(kernel.openFiles)
        return ok
      case fakeIoctl.copy: {
        const copied = new Uint8Array(Number(third))
        const isThere = process.memory.read(first, copied) && process.memory.write(second, copied)
        return isThere ? ok : efault
      }
      case fakeIoctl.fileKind: {
        const file = process.file(Number(first))
        words[1] = 0n
        if (file !== undefined) words[1] = 'kind' in file ? (file.kind === 'other' ? 3n : 2n) : 1n
        return ok
      }
      case fakeIoctl.who: {
        const { ipcLock, sysResource, rawIo } = process.capabilities
        words[0] = BigInt(process.uid)
        words[1] = BigInt(Number(ipcLock) + 2 * Number(sysResource) + 4 * Number(rawIo))
        words[2] = process.lockableBytes
        words[3] = BigInt(process.memory.key)
        return ok
      }
      case fakeIoctl.keep:
        return this.keep(process.memory.source(first, Number(second)), words, Number(second), fourth !== 0n)
      case fakeIoctl.keepFile: {
        const file = process.file(Number(first))
        if (file === undefined || !('kind' in file)) return { ret: -1, errno: 'EBADF' }
        return this.keep(file.source(second, 1), words, 1, true)
      }
      case fakeIoctl.readKept: {
        const byte = new Uint8Array(1)
        const isThere = kernel.kept?.source.read(Number(first), byte) === true
        words[1] = BigInt(byte[0] ?? 0)
        return isThere ? ok : efault
      }
      case fakeIoctl.writeKept:
        return kernel.kept?.source.write(Number(first), Uint8Array.of(Number(second))) === true ? ok : efault
      case fakeIoctl.letGo:
        kernel.kept?.source.unpin(0, kernel.kept.pages)
        kernel.kept = undefined
        return ok
      case fakeIoctl.region:
        words[0] = BigInt(kernel.region.bytes[0] ?? 0)
        kernel.region.bytes[0] = Number(second)
        return ok
      case fakeIoctl.fail:
        throw new Error('a mistake')
      case fakeIoctl.refuse:
        words[0] = 1n
        return { ret: -1, errno: 'EBADE', rule: 'a-rule', why: 'because' }
      default:
        return { ret: -1, errno: 'ENOTTY' }
    }
  }

  private keep(source: PageSource, words: BigUint64Array, pages: number, writes: boolean): FileResult {
    const runs = source.pin(0, pages, writes)
    if (typeof runs === 'string') return { ret: -1, errno: runs }
    this.kernel.kept = { source, pages }
    words[2] = runs[0]?.first ?? 0n
    return { ret: runs.length }
  }

  /** As many bytes as were asked for, each saying where it was read from. */
  read(_process: unknown, count: bigint, offset: bigint): FileResult {
    const bytes = new Uint8Array(Number(count)).fill(Number(BigInt.asUintN(8, offset)))
    return { ret: bytes.length, bytes }
  }
  write(_process: unknown, bytes: Uint8Array, count: bigint, offset: bigint): FileResult {
    this.kernel.calls.push(`write ${[...bytes].join(',')} of ${count} at ${offset}`)
    return { ret: bytes.length }
  }
  poll(events: number): number {
    return events & 4
  }
  mmap({ length, offset }: MmapRequest): MmapResult {
    const { region } = this.kernel
    if (offset !== 0x1000n || length !== BigInt(region.bytes.length)) return { ret: -1, errno: 'ENXIO' }
    this.kernel.mapped++
    return { ret: 0, region }
  }
  munmap(): void {
    this.kernel.mapped--
  }
  close(): void {
    this.kernel.openFiles--
    this.kernel.calls.push('close')
  }
}
