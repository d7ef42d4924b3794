/** Programs on one machine with an AMD IOMMU, which make their calls by structures of words. */
import { amdMachine } from '../../src/file/amd-kernel.js'
import { deviceDmaCommand } from '../../src/file/device-dma.js'
import type { Kernel } from '../../src/file/kernel.js'
import type { FileResult, OpenFile } from '../../src/open-file.js'
import { SimulatedHost, SimulatedProcess } from '../../src/simulated-process.js'
import { entryWords } from '../host.js'

const wide = (value: bigint): [number, number] => [
  Number(BigInt.asUintN(32, value)),
  Number(BigInt.asUintN(32, value >> 32n)),
]

export const amdKernel = (): Kernel => amdMachine({ extensions: true }).kernel

/** A program with `/dev/iommu` and the device vfio0, bound. */
export class AmdProgram {
  readonly process = SimulatedProcess.create<OpenFile>(SimulatedHost.create())
  readonly iommu: OpenFile
  readonly device: OpenFile
  readonly deviceId: number
  private readonly argument = this.process.memory.map(2 * 4096)
  /** Files that calls have opened, the last one last. */
  readonly opened: OpenFile[] = []

  constructor(kernel: Kernel) {
    this.iommu = kernel.openIommu()
    this.device = kernel.openVfioDevice(0)!
    this.deviceId = this.call(this.device, 0x3b76, [16, 0, this.process.open(this.iommu), 0])[3]!
  }

  /** A call that must succeed; its structure afterwards. */
  call(file: OpenFile, cmd: number, words: readonly number[]): Uint32Array {
    const { argument, process } = this
    const bytes = new Uint8Array(Uint32Array.from(words).buffer)
    process.memory.write(argument, bytes)
    const { errno, rule, newFiles = [] } = file.ioctl({ cmd, argument, process })
    if (errno !== undefined) throw new Error(`${errno} ${rule}`)
    this.opened.push(...newFiles.map((each) => each.file))
    process.memory.read(argument, bytes)
    return new Uint32Array(bytes.buffer)
  }

  ioas = (): number => this.call(this.iommu, 0x3b81, [12, 0, 0])[2]!

  hwpt(on: number, flags: number, data: readonly bigint[] = [], fault = 0): number {
    const address = this.argument + 4096n
    this.process.memory.write(address, new Uint8Array(BigUint64Array.from(data).buffer))
    const [type, length] = data.length === 0 ? [0, 0] : [3, 8 * data.length]
    const words = [48, flags, this.deviceId, on, 0, 0, type, length, ...wide(address), fault, 0]
    return this.call(this.iommu, 0x3b89, words)[4]!
  }

  attach = (to: number): number => this.call(this.device, 0x3b77, [12, 0, to])[2]!

  /** The device comes to a nested HWPT, under a name. Returns the queue of its events. */
  nest(virtualId: number): OpenFile {
    const parent = this.hwpt(this.ioas(), 1)
    const viommu = this.call(this.iommu, 0x3b90, [40, 0, 3, this.deviceId, parent, 0, 0, 0, 0, 0])[5]!
    this.call(this.iommu, 0x3b91, [24, viommu, this.deviceId, 0, ...wide(BigInt(virtualId))])
    this.call(this.iommu, 0x3b93, [32, 0, viommu, 3, 16, 0, 0, 0])
    this.attach(this.hwpt(viommu, 0, entryWords()))
    return this.opened.at(-1)!
  }

  /** The device reads an address that nobody has mapped. */
  strayDma(address: bigint): FileResult {
    const { argument, process } = this
    const buffer = argument + 4096n
    const words = [64, 0, 0, 4, ...wide(address), ...wide(buffer), 0, 0, 0, 0, 0, 0, 0, 0]
    process.memory.write(argument, new Uint8Array(Uint32Array.from(words).buffer))
    return this.device.ioctl({ cmd: deviceDmaCommand, argument, process })
  }

  /** How many events a queue has. */
  events(queue: OpenFile): number {
    return queue.read(this.process, 4096n, -1n).ret / 24
  }
}
