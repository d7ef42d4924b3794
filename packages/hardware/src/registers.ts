/**
 * The MMIO registers of the IOMMU: values, write rules, and what runs because of them.
 *
 * AMD 48882 rev 3.10, MMIO registers. A base register keeps its value while its queue runs; writing it clears the
 * queue's pointers.
 *
 * @packageDocumentation
 */
import type { Features } from './features.js'
import type { Words } from './memory/words.js'
import type { AccessBytes } from './port.js'

/** MMIO offsets. */
export const mmio = {
  deviceTableBase: 0x0000,
  commandBase: 0x0008,
  eventBase: 0x0010,
  control: 0x0018,
  efr: 0x0030,
  deviceTableSegment1: 0x0100,
  efr2: 0x01a0,
  commandHead: 0x2000,
  commandTail: 0x2008,
  eventHead: 0x2010,
  eventTail: 0x2018,
  status: 0x2020,
} as const

/** Bits of the control register, by half. */
export const controlLo = {
  iommuEn: 1 << 0,
  eventLogEn: 1 << 2,
  eventIntEn: 1 << 3,
  comWaitIntEn: 1 << 4,
  cmdBufEn: 1 << 12,
  gtEn: 1 << 16,
} as const
export const controlHi = {
  ephEn: 1 << 13, // 45
  guestDirtyOff: 1 << 16, // 48
  guestAccessedOff: 1 << 22, // 54
  pageMigrationEn: 1 << 24, // 56
  gcr3TrpMode: 1 << 26, // 58
} as const

/** Bits of the status register. */
export const status = {
  eventOverflow: 1 << 0,
  eventLogInt: 1 << 1,
  comWaitInt: 1 << 2,
  eventLogRun: 1 << 3,
  cmdBufRun: 1 << 4,
} as const

/** Status bits that are cleared by writing 1. */
const statusWriteToClear = 0x68e67

/** Names of the kept registers, in the order of their words. */
const kept = [
  mmio.deviceTableBase,
  0x100,
  0x108,
  0x110,
  0x118,
  0x120,
  0x128,
  0x130,
  mmio.commandBase,
  mmio.eventBase,
  mmio.control,
  mmio.commandHead,
  mmio.commandTail,
  mmio.eventHead,
  mmio.eventTail,
  mmio.status,
] as const

/** Words after the registers: what hardware remembers besides them. */
const commandHalted = kept.length * 2
const eventStopped = commandHalted + 1
const interruptPending = commandHalted + 2
const registerWords = commandHalted + 3

/** Writable bits of each register, low and high word. Pointers are byte offsets 18:4. */
const writable = new Map<number, readonly [lo: number, hi: number]>([
  [mmio.deviceTableBase, [0xfffff1ff | 0, 0x000fffff]],
  [mmio.commandBase, [0xfffff000 | 0, 0x0f0fffff]],
  [mmio.eventBase, [0xfffff000 | 0, 0x0f0fffff]],
  [mmio.control, [-1, -1]],
  [mmio.commandHead, [0x0007fff0, 0]],
  [mmio.commandTail, [0x0007fff0, 0]],
  [mmio.eventHead, [0x0007fff0, 0]],
  [mmio.eventTail, [0x0007fff0, 0]],
  ...kept
    .filter((offset) => offset >= 0x100 && offset <= 0x130)
    .map((offset) => [offset, [0xfffff1ff | 0, 0x000fffff]] as const),
])

/** Length code of a base register after reset: 256 entries. */
const resetLength = 8 << 24

/** See the file's comment. */
export class Registers {
  private constructor(
    private readonly words: Words,
    private readonly keySpace: number,
    private readonly first: number,
    private readonly features: Features,
    /** Word index of the control register, for code that reads it on every request. */
    readonly controlWord: number,
  ) {}

  static create(words: Words, features: Features): Registers {
    const first = words.allocate(registerWords)
    const controlWord = first + kept.indexOf(mmio.control) * 2
    const registers = new Registers(words, words.newKeySpace(), first, features, controlWord)
    words.activate()
    registers.set(mmio.commandBase, 0, resetLength)
    registers.set(mmio.eventBase, 0, resetLength)
    return registers
  }

  forkOnto(words: Words): Registers {
    return new Registers(words, this.keySpace, this.first, this.features, this.controlWord)
  }

  lo(offset: number): number {
    return this.words.array[this.wordOf(offset)]!
  }

  hi(offset: number): number {
    return this.words.array[this.wordOf(offset) + 1]!
  }

  /** Stores a register as hardware does: no rules. */
  set(offset: number, lo: number, hi: number): void {
    const word = this.wordOf(offset)
    this.words.writeKeyed(word, lo, word - this.first, this.keySpace)
    this.words.writeKeyed(word + 1, hi, word + 1 - this.first, this.keySpace)
  }

  /** What software reads at an offset; accesses that are not aligned read as zero. */
  readMmio(offset: number, bytes: AccessBytes): bigint {
    this.words.activate()
    if (offset % bytes !== 0) return 0n
    const value = this.read(offset & ~7)
    if (bytes === 8) return value
    return BigInt.asUintN(32, (offset & 4) === 0 ? value : value >> 32n)
  }

  /** A write of software; accesses that are not aligned change nothing. True if the control register changed. */
  writeMmio(offset: number, bytes: AccessBytes, value: bigint): boolean {
    this.words.activate()
    if (offset % bytes !== 0) return false
    let whole = value
    if (bytes === 4) {
      // The other half keeps its value; in the status register that means: clears nothing.
      const at = offset & ~7
      const old = at === mmio.status ? 0n : this.read(at)
      const half = BigInt.asUintN(32, value)
      whole = (offset & 4) === 0 ? (old & ~0xffffffffn) | half : BigInt.asUintN(32, old) | (half << 32n)
    }
    return this.write(offset & ~7, Number(BigInt.asIntN(32, whole)), Number(BigInt.asIntN(32, whole >> 32n)))
  }

  /** A register as software reads it. */
  read(offset: number): bigint {
    if (offset === mmio.efr) return this.features.efr
    if (offset === mmio.efr2) return this.features.efr2
    if (!isKept(offset)) return 0n
    const lo = offset === mmio.status ? this.lo(offset) | this.runBits() : this.lo(offset)
    return (BigInt(this.hi(offset) >>> 0) << 32n) | BigInt(lo >>> 0)
  }

  /** A register write by software, with the rules of the register. True if the control register changed. */
  write(offset: number, lo: number, hi: number): boolean {
    if (offset === mmio.status) {
      this.set(offset, this.lo(offset) & ~(lo & statusWriteToClear), this.hi(offset))
      return false
    }
    const mask = writable.get(offset)
    if (mask === undefined || this.isLocked(offset)) return false
    const newLo = lo & mask[0]
    const newHi = hi & mask[1]
    if (offset === mmio.control) {
      this.writeControl(newLo, newHi)
      return true
    }
    this.set(offset, newLo, newHi)
    if (offset === mmio.commandBase) this.clearPointers(mmio.commandHead, mmio.commandTail)
    if (offset === mmio.eventBase) this.clearPointers(mmio.eventHead, mmio.eventTail)
    return false
  }

  get commandsRun(): boolean {
    return (
      this.enabled(controlLo.cmdBufEn) &&
      this.words.array[this.first + commandHalted] === 0 &&
      isLegalLength(this.hi(mmio.commandBase))
    )
  }

  get eventsRun(): boolean {
    return (
      this.enabled(controlLo.eventLogEn) &&
      this.words.array[this.first + eventStopped] === 0 &&
      isLegalLength(this.hi(mmio.eventBase))
    )
  }

  haltCommands(): void {
    this.remember(commandHalted, 1)
  }

  stopEvents(): void {
    this.remember(eventStopped, 1)
  }

  /** Sets status bits, and raises an interrupt if the control bit `interruptEnable` is on. */
  report(bits: number, interruptEnable: number): void {
    this.set(mmio.status, this.lo(mmio.status) | bits, this.hi(mmio.status))
    if ((this.lo(mmio.control) & interruptEnable) !== 0) this.remember(interruptPending, 1)
  }

  takeInterrupt(): boolean {
    const pending = this.words.array[this.first + interruptPending] !== 0
    this.remember(interruptPending, 0)
    return pending
  }

  private writeControl(lo: number, hi: number): void {
    const turnedOn = lo & ~this.lo(mmio.control)
    this.set(mmio.control, lo, hi)
    // Enabling a queue again restarts it: commands after an error, events after an overflow.
    if ((turnedOn & controlLo.cmdBufEn) !== 0) this.remember(commandHalted, 0)
    if ((turnedOn & controlLo.eventLogEn) !== 0) {
      this.remember(eventStopped, 0)
      this.set(mmio.status, this.lo(mmio.status) & ~status.eventOverflow, this.hi(mmio.status))
    }
  }

  /** Base registers, and the pointers that hardware moves, keep their values while their queue runs. */
  private isLocked(offset: number): boolean {
    if (offset === mmio.commandBase || offset === mmio.commandHead) return this.commandsRun
    if (offset === mmio.eventBase || offset === mmio.eventTail) return this.eventsRun
    return false
  }

  private clearPointers(head: number, tail: number): void {
    this.set(head, 0, 0)
    this.set(tail, 0, 0)
  }

  private runBits(): number {
    return (this.eventsRun ? status.eventLogRun : 0) | (this.commandsRun ? status.cmdBufRun : 0)
  }

  private enabled(queueEnable: number): boolean {
    const both = controlLo.iommuEn | queueEnable
    return (this.lo(mmio.control) & both) === both
  }

  private remember(what: number, value: number): void {
    this.words.writeKeyed(this.first + what, value, what, this.keySpace)
  }

  private wordOf(offset: number): number {
    return this.first + kept.indexOf(offset as (typeof kept)[number]) * 2
  }
}

const isKept = (offset: number): boolean => (kept as readonly number[]).includes(offset)

/** Bytes of a ring with this high word of its base register; the length code is bits 59:56. */
export const ringBytes = (baseHi: number): number => 16 << ((baseHi >>> 24) & 15)

const isLegalLength = (baseHi: number): boolean => ((baseHi >>> 24) & 15) >= 8
