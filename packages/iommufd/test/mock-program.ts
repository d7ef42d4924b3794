import { Kernel } from '../src/file/kernel.js'
import { MockBackend } from '../src/mock/mock-backend.js'
import { testCommand } from '../src/mock/test-command.js'
import type { FileResult, OpenFile } from '../src/open-file.js'
import { SimulatedHost, SimulatedProcess } from '../src/simulated-process.js'

/** Fields of a structure by their byte offset: numbers are 32 bits long, bigints 64. */
export type Fields = Readonly<Record<number, number | bigint>>

/** What a call did: its errno, what it returned, and the structure as it was left in memory. */
export interface Called {
  readonly errno: string | undefined
  readonly ret: number
  u32(offset: number): number
  u64(offset: number): bigint
}

/** First address of the mock's aperture. */
export const aperture = 0x0100_0000n

export const readable = 4

/** A program with an open `/dev/iommu` on a machine with the mock IOMMU. It writes structures byte by byte. */
export class MockProgram {
  readonly host: SimulatedHost
  readonly backend: MockBackend
  readonly kernel: Kernel
  readonly process: SimulatedProcess<OpenFile>
  /** Its descriptor of `/dev/iommu`. */
  readonly iommu: number
  private readonly argument: bigint

  constructor(machine?: MockProgram) {
    this.host = machine?.host ?? SimulatedHost.create()
    this.backend = machine?.backend ?? new MockBackend()
    this.kernel = machine?.kernel ?? Kernel.create({ backend: this.backend, testCalls: [testCommand] })
    this.process = SimulatedProcess.create<OpenFile>(this.host)
    this.argument = this.process.memory.map(4096)
    this.iommu = this.process.open(this.kernel.openIommu())
  }

  /** Fresh memory: its address. */
  buffer(pages: number, options: { huge?: boolean; writeable?: boolean } = {}): bigint {
    return this.process.memory.map(pages * 4096, options)
  }

  read(address: bigint, length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    if (!this.process.memory.read(address, bytes)) throw new Error(`no memory at ${address}`)
    return bytes
  }

  write(address: bigint, bytes: Uint8Array): void {
    if (!this.process.memory.write(address, bytes)) throw new Error(`no memory at ${address}`)
  }

  file(descriptor: number): OpenFile {
    const file = this.process.file(descriptor)
    if (file === undefined || !('ioctl' in file)) throw new Error(`${descriptor} is no file of iommufd`)
    return file
  }

  close(descriptor: number): void {
    const file = this.file(descriptor)
    this.process.close(descriptor)
    file.close()
  }

  /** A call on `/dev/iommu`. */
  call(number: number, size: number, fields: Fields): Called {
    const bytes = new Uint8Array(size)
    const view = new DataView(bytes.buffer)
    view.setUint32(0, size, true)
    for (const [offset, value] of Object.entries(fields)) {
      if (typeof value === 'bigint') view.setBigUint64(Number(offset), value, true)
      else view.setUint32(Number(offset), value, true)
    }
    this.write(this.argument, bytes)
    const { argument, process } = this
    const result = this.file(this.iommu).ioctl({ cmd: 0x3b00 | number, argument, process })
    return this.called(result, size)
  }

  /** An operation of IOMMU_TEST_CMD. */
  test(op: number, id: number, fields: Fields = {}): Called {
    return this.call(0xa0, 72, { ...fields, 4: op, 8: id })
  }

  /** The kernel gives the descriptors, and writes their numbers to where the call wants them. */
  private called({ ret, errno, newFiles = [] }: FileResult, size: number): Called {
    let value = ret
    for (const { file, address } of newFiles) {
      const descriptor = this.process.open(file)
      if (address === 0n) value = descriptor
      else this.write(address, new Uint8Array(Uint32Array.of(descriptor).buffer))
    }
    const view = new DataView(this.read(this.argument, size).buffer)
    return {
      errno,
      ret: value,
      u32: (offset) => view.getUint32(offset, true),
      u64: (offset) => view.getBigUint64(offset, true),
    }
  }

  destroy = (id: number): string | undefined => this.call(0x80, 8, { 4: id }).errno

  ioas = (): number => ok(this.call(0x81, 12, {})).u32(8)

  /** Maps at an address, readable and writeable unless flags say otherwise. */
  map = (ioas: number, iova: bigint, address: bigint, length: bigint, flags = 7): Called =>
    this.call(0x85, 40, { 4: flags, 8: ioas, 16: address, 24: length, 32: iova })

  unmap = (ioas: number, iova: bigint, length: bigint): Called =>
    this.call(0x86, 24, { 4: ioas, 8: iova, 16: length })

  /** Makes a mock device on an object. */
  device(on: number, flags = 0): { stdev: number; hwpt: number; device: number } {
    const made = ok(this.test(12, on, { 28: flags }))
    return { stdev: made.u32(16), hwpt: made.u32(20), device: made.u32(24) }
  }

  /** HWPT_ALLOC; with data, a structure of type 0xdead. */
  hwpt(
    device: number,
    on: number,
    options: { flags?: number; data?: number[]; fault?: number } = {},
  ): number {
    const { flags = 0, data, fault = 0 } = options
    const address = data === undefined ? 0n : this.buffer(1)
    if (data !== undefined) this.write(address, new Uint8Array(Uint32Array.from(data).buffer))
    const type = data === undefined ? { 24: 0, 28: 0 } : { 24: 0xdead, 28: 4 * data.length }
    return ok(this.call(0x89, 48, { 4: flags, 8: device, 12: on, ...type, 32: address, 40: fault })).u32(16)
  }
}

/** A call that must succeed. */
export function ok(called: Called): Called {
  if (called.errno !== undefined) throw new Error(called.errno)
  return called
}
