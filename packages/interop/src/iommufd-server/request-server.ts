/**
 * Serves requests of programs: decodes them, puts them to the kernel, encodes what it says.
 *
 * @packageDocumentation
 */
import { readStruct } from '@nestwalk/bits'
import type {
  CallingProcess,
  Errno,
  FileResult,
  ForeignFile,
  OpenableKernel,
  OpenFile,
} from '@nestwalk/iommufd'
import type { Client, RefusedCall } from './client.js'
import { FailNthFile } from './fail-nth-file.js'
import { FileTable } from './file-table.js'
import { MappedRegions } from './mapped-regions.js'
import {
  caughtFileLayout,
  ioctlBytes,
  mmapLayout,
  munmapLayout,
  openKind,
  pollLayout,
  procStatusLayout,
  readIoctl,
  readLayout,
  requestType,
  writeLayout,
} from './message.js'
import type { Message } from './message-reader.js'
import { BrokenStreamError } from './message-reader.js'
import { Caller } from './process/calling-process.js'
import type { FileFinder } from './process/calling-process.js'
import { CallMemory } from './process/call-memory.js'
import { ProcessTable } from './process/process-table.js'
import { encodeResult } from './result.js'
import type { MemoryWrite, Result } from './result.js'

const kilobytesPerPage = 4n
const noFiles: NonNullable<FileResult['newFiles']> = []
const noHandles: readonly never[] = []
const noWrites: readonly MemoryWrite[] = []
const nothing = Buffer.alloc(0)

export interface RequestServerParts {
  readonly kernel: OpenableKernel
  /** Takes one sentence about whatever went wrong. */
  readonly report: (line: string) => void
  readonly refused: (call: RefusedCall) => void
}

/** See the file's comment. */
export class RequestServer {
  readonly files = new FileTable()
  readonly processes = new ProcessTable()
  private readonly regions = new MappedRegions(this.files)

  constructor(private readonly parts: RequestServerParts) {}

  /** What OPEN opens: the handle of a file that the caller attaches to, or why there is none. */
  open(what: bigint): bigint | Errno {
    const file = this.guarded<OpenFile | undefined>(undefined, () => this.openKind(what))
    return file === undefined ? 'ENODEV' : this.files.add(file)
  }

  /** Serves a request; what is returned goes back. @throws BrokenStreamError for one that cannot be */
  serve(client: Client, { type, body }: Message): Buffer {
    this.processes.moment++
    // By now the last call's files have their connections, or never will.
    for (const handle of client.unattached) this.files.dropUnattached(handle)
    client.unattached = noHandles
    this.regions.fetch()
    const result = this.guarded<Result>({ ret: -1, errno: 'EIO' }, () => this.perform(client, type, body))
    this.regions.show()
    return encodeResult(result)
  }

  /** A process has ended, or runs another program. */
  clientLeft(client: Client): void {
    for (const handle of client.unattached) this.files.dropUnattached(handle)
    for (const number of client.mappings) this.regions.unmap(number)
    this.processes.forgetEnded()
  }

  private openKind(what: bigint): OpenFile | undefined {
    const { kernel } = this.parts
    switch (Number(BigInt.asUintN(32, what))) {
      case openKind.iommu:
        return kernel.openIommu()
      case openKind.vfioContainer:
        return kernel.openVfioContainer()
      case openKind.failNth:
        return new FailNthFile(kernel)
      case openKind.vfioDevice:
        return kernel.openVfioDevice(Number(what >> 32n))
      default:
        return undefined
    }
  }

  private perform(client: Client, type: number, body: Buffer): Result {
    switch (type) {
      case requestType.ioctl:
        return this.ioctl(client, body)
      case requestType.read:
        return this.read(client, body)
      case requestType.write:
        return this.write(client, body)
      case requestType.poll:
        return this.poll(body)
      case requestType.mmap:
        return this.mmap(client, body)
      case requestType.munmap:
        return this.munmap(client, body)
      case requestType.barrier:
        return { ret: 0 }
      case requestType.procStatus:
        return this.procStatus(body)
      default:
        throw new BrokenStreamError(`there is no request of type ${type}`)
    }
  }

  private ioctl(client: Client, body: Buffer): Result {
    if (body.length < ioctlBytes) throw new BrokenStreamError(`an IOCTL came with ${body.length} bytes`)
    const { handle, cmd, pid, argument, capabilities, bytes, files: count } = readIoctl(body)
    const argumentAt = ioctlBytes + count * caughtFileLayout.byteLength
    if (body.length !== argumentAt + bytes) {
      throw new BrokenStreamError(`an IOCTL of ${body.length} bytes announces ${argumentAt + bytes}`)
    }
    const file = this.files.find(handle)
    const own = pid === client.pid ? client.memory : this.processes.memoryOf(pid)
    if (file === undefined) return { ret: -1, errno: 'EBADF' }
    if (own === undefined) {
      this.parts.report(`process ${pid} calls, but its memory cannot be looked at`)
      return { ret: -1, errno: 'EFAULT' }
    }
    const memory = new CallMemory(own, argument, body.subarray(argumentAt))
    const files = new CallerFiles(this, pid, body.subarray(ioctlBytes, argumentAt))
    const process = new Caller(own, client.uid, capabilities, memory, files)
    return this.toResult(client, cmd, file.ioctl({ cmd, argument, process }), memory.writes)
  }

  private read(client: Client, body: Buffer): Result {
    const { handle, count, offset } = parse(readLayout, body)
    const file = this.files.find(handle)
    if (file === undefined) return { ret: -1, errno: 'EBADF' }
    return this.toResult(client, 'read', file.read(this.callerOf(client), count, offset))
  }

  private write(client: Client, body: Buffer): Result {
    const { handle, offset, count } = parse(writeLayout, body)
    const file = this.files.find(handle)
    if (file === undefined) return { ret: -1, errno: 'EBADF' }
    const bytes = body.subarray(writeLayout.byteLength)
    return this.toResult(client, 'write', file.write(this.callerOf(client), bytes, count, offset))
  }

  private poll(body: Buffer): Result {
    const { handle, events } = parse(pollLayout, body)
    const file = this.files.find(handle)
    return file === undefined ? { ret: -1, errno: 'EBADF' } : { ret: file.poll(events) }
  }

  private mmap(client: Client, body: Buffer): Result {
    const { handle, ...request } = parse(mmapLayout, body)
    const file = this.files.find(handle)
    if (file === undefined) return { ret: -1, errno: 'EBADF' }
    const result = file.mmap(request)
    if (result.region === undefined) return this.toResult(client, 'mmap', result)
    const { number, path } = this.regions.map(handle, file, result.region)
    client.mappings.add(number)
    return { ret: Number(number), data: Buffer.from(path) }
  }

  private munmap(client: Client, body: Buffer): Result {
    const { region } = parse(munmapLayout, body)
    if (!client.mappings.delete(region)) return { ret: -1, errno: 'EINVAL' }
    this.regions.unmap(region)
    return { ret: 0 }
  }

  private procStatus(body: Buffer): Result {
    const { pid } = parse(procStatusLayout, body)
    const key = this.processes.knownMemoryOf(pid)?.key
    const data = Buffer.alloc(16)
    if (key !== undefined) {
      const { kernel } = this.parts
      data.writeBigInt64LE(BigInt(kernel.pinned(key)) * kilobytesPerPage, 0)
      data.writeBigInt64LE(BigInt(kernel.locked(key)) * kilobytesPerPage, 8)
    }
    return { ret: 0, data }
  }

  /** The caller of read and write, which name no files and need no rights. */
  private callerOf({ pid, uid, memory }: Client): CallingProcess<OpenFile> {
    return new Caller(
      memory,
      uid,
      0n,
      new CallMemory(memory, 0n, nothing),
      new CallerFiles(this, pid, nothing),
    )
  }

  /** @param call - what was called: a name, or the command of an ioctl */
  private toResult(
    client: Client,
    call: string | number,
    { ret, errno, rule, why, bytes: data, newFiles = noFiles }: FileResult,
    writes: readonly MemoryWrite[] = noWrites,
  ): Result {
    if (errno !== undefined) {
      const name = typeof call === 'number' ? `ioctl 0x${call.toString(16)}` : call
      this.parts.refused({ pid: client.pid, call: name, errno, rule, why })
    }
    if (newFiles.length === 0) return { ret, errno, writes, files: noHandles, data }
    const files = newFiles.map(({ file, address, isCloseOnExec }) => ({
      ...{ handle: this.files.add(file), address, isCloseOnExec },
    }))
    client.unattached = files.map(({ handle }) => handle)
    return { ret, errno, writes, files, data }
  }

  /** A mistake of ours costs one call, and is told. */
  private guarded<T>(otherwise: T, work: () => T): T {
    try {
      return work()
    } catch (error) {
      if (error instanceof BrokenStreamError) throw error
      const what = error instanceof Error ? (error.stack ?? error.message) : String(error)
      this.parts.report(`a mistake in nestwalk, please tell its authors: ${what}`)
      return otherwise
    }
  }
}

/** Files of a caller: those that came with the call, and what else the process has open. */
class CallerFiles implements FileFinder {
  /** @param list - the descriptors of the process that are ours */
  constructor(
    private readonly server: RequestServer,
    private readonly pid: number,
    private readonly list: Buffer,
  ) {}

  ours(descriptor: number): OpenFile | undefined {
    for (let at = 0; at < this.list.length; at += caughtFileLayout.byteLength) {
      const caught = readStruct(caughtFileLayout, this.list.subarray(at))
      if (caught.descriptor === descriptor) return this.server.files.find(caught.handle)
    }
    return undefined
  }

  foreign(descriptor: number): ForeignFile | undefined {
    return this.server.processes.files.find(this.pid, descriptor)
  }
}

function parse<const L extends Parameters<typeof readStruct>[0]>(layout: L, body: Buffer) {
  if (body.length < layout.byteLength) {
    throw new BrokenStreamError(`${layout.name} came with ${body.length} bytes, not ${layout.byteLength}`)
  }
  return readStruct(layout, body)
}
