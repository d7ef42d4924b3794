/** A chip with its tables and rings in place, for tests to work on. */
import { Iommu, load64, SparseMemory, store64 } from '../src/index.js'
import type { IommuOptions } from '../src/index.js'

/** MMIO offsets and control bits as tests write them. */
export const register = {
  deviceTableBase: 0x0,
  commandBase: 0x8,
  eventBase: 0x10,
  control: 0x18,
  efr: 0x30,
  segment1Base: 0x100,
  efr2: 0x1a0,
  commandHead: 0x2000,
  commandTail: 0x2008,
  eventHead: 0x2010,
  eventTail: 0x2018,
  status: 0x2020,
} as const

export const controlBit = {
  iommuEn: 1n << 0n,
  eventLogEn: 1n << 2n,
  eventIntEn: 1n << 3n,
  comWaitIntEn: 1n << 4n,
  cmdBufEn: 1n << 12n,
  gtEn: 1n << 16n,
  ephEn: 1n << 45n,
  hostAccessed: 1n << 46n,
  hostDirty: 3n << 46n,
  guestDirtyOff: 1n << 48n,
  guestAccessedOff: 1n << 54n,
  gcr3TrpMode: 1n << 58n,
} as const

export const statusBit = {
  eventOverflow: 1n << 0n,
  eventLogInt: 1n << 1n,
  comWaitInt: 1n << 2n,
  eventLogRun: 1n << 3n,
  cmdBufRun: 1n << 4n,
} as const

/** Everything on, guest A and D off: walks store nothing. */
export const quietControl =
  controlBit.iommuEn |
  controlBit.eventLogEn |
  controlBit.cmdBufEn |
  controlBit.gtEn |
  controlBit.guestDirtyOff |
  controlBit.guestAccessedOff |
  controlBit.gcr3TrpMode

/** Where the chip's own tables lie. */
export const place = { deviceTable: 0x4000000n, commandRing: 0x5000000n, eventLog: 0x5100000n } as const

/** Message control of the MSI capability, in configuration space. */
const msiControl = 0x66

export type Dte = readonly bigint[]

export interface ChipOptions extends Partial<IommuOptions> {
  readonly control?: bigint
  readonly sizeBytes?: number
  /** Length codes of the rings: 8 is 256 entries. */
  readonly commandLength?: bigint
  readonly eventLength?: bigint
}

export class Chip {
  private constructor(
    readonly memory: SparseMemory,
    readonly iommu: Iommu,
  ) {}

  static create(options: ChipOptions = {}): Chip {
    const memory = options.memory ?? SparseMemory.create(options.sizeBytes ?? 2 ** 40)
    const chip = new Chip(memory, Iommu.create({ ...options, memory }))
    // Interrupts are MSI messages; without MSI they are lost.
    chip.iommu.writeConfig(msiControl, 2, 1)
    const { commandLength = 8n, eventLength = 8n, control = quietControl } = options
    chip.write(register.deviceTableBase, place.deviceTable | 0x1ffn)
    chip.write(register.commandBase, place.commandRing | (commandLength << 56n))
    chip.write(register.eventBase, place.eventLog | (eventLength << 56n))
    chip.write(register.control, control)
    return chip
  }

  fork(): Chip {
    const memory = this.memory.fork()
    return new Chip(memory, this.iommu.forkOnto(memory))
  }

  read(offset: number): bigint {
    return this.iommu.readMmio(offset, 8)
  }

  write(offset: number, value: bigint): void {
    this.iommu.writeMmio(offset, 8, value)
  }

  load(address: bigint): bigint | undefined {
    return load64(this.memory, address)
  }

  put(...entries: readonly (readonly [address: bigint, value: bigint])[]): void {
    for (const [address, value] of entries) store64(this.memory, address, value)
  }

  setDte(deviceId: number, words: Dte): void {
    words.forEach((word, n) => this.put([place.deviceTable + BigInt(deviceId * 32 + n * 8), word]))
  }

  /** Puts commands into the ring and moves the tail. */
  enqueue(...commands: readonly (readonly [lo: bigint, hi: bigint])[]): void {
    const base = this.read(register.commandBase)
    const mask = (16n << ((base >> 56n) & 15n)) - 1n
    for (const [lo, hi] of commands) {
      const tail = this.read(register.commandTail)
      const at = (base & 0xffffffffff000n) + tail
      this.put([at, lo], [at + 8n, hi])
      this.write(register.commandTail, (tail + 16n) & mask)
    }
  }

  /** Steps until the queue has nothing more to do. */
  run(): number {
    let steps = 0
    while (this.iommu.step()) steps++
    return steps
  }

  /** Enqueues commands and carries them out. */
  command(...commands: readonly (readonly [lo: bigint, hi: bigint])[]): number {
    this.enqueue(...commands)
    return this.run()
  }

  hasStatus(bit: bigint): boolean {
    return (this.read(register.status) & bit) !== 0n
  }

  /** Takes the events out of the log, as software does. */
  takeEvents(): (readonly [bigint, bigint])[] {
    const base = this.read(register.eventBase)
    const mask = (16n << ((base >> 56n) & 15n)) - 1n
    const events: (readonly [bigint, bigint])[] = []
    let head = this.read(register.eventHead)
    for (; head !== this.read(register.eventTail); head = (head + 16n) & mask) {
      const at = (base & 0xffffffffff000n) + head
      events.push([this.load(at) ?? 0n, this.load(at + 8n) ?? 0n])
    }
    this.write(register.eventHead, head)
    return events
  }

  fingerprint(): string {
    return this.memory.words.fingerprint().join()
  }
}

/** An event from its four 32-bit words as manuals print them. */
export function event(words: string): readonly [bigint, bigint] {
  const [w0 = 0n, w1 = 0n, w2 = 0n, w3 = 0n] = words.split(' ').map((word) => BigInt(`0x${word}`))
  return [(w1 << 32n) | w0, (w3 << 32n) | w2]
}
