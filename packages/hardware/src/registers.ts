/**
 * The MMIO registers of the IOMMU: values, write rules, and what runs because of them.
 *
 * AMD 48882 rev 3.10, MMIO registers. A base register keeps its value while its queue runs; writing it clears the
 * queue's pointers. Performance counters and the MSI registers have homes of their own.
 *
 * @packageDocumentation
 */
import type { Features } from './features.js'
import { eventLog, interruptLine, logs, pprLog } from './log.js'
import type { Log, LogRing } from './log.js'
import type { Words } from './memory/words.js'
import { controlHi, controlLo, mmio, status, statusWriteToClear } from './mmio.js'
import type { AccessBytes } from './port.js'

import { registerPlaces, registerRules, ringPointers } from './register-rules.js'

/** Words after the registers: what hardware remembers besides them. */
const commandHalted = registerRules.length * 2
/** One word for each log: an entry was lost, and the log waits to be restarted. */
const logStopped = commandHalted + 1
/** One word for each log: 1 while ring B is in use. */
const logInB = logStopped + logs.length
/** Bits of {@link interruptLine}. */
const interruptsPending = logInB + logs.length
const msiEnabled = interruptsPending + 1
const registerWords = msiEnabled + 1

const smiFilterLocked = 1 << 17
const commandsEnabled = controlLo.iommuEn | controlLo.cmdBufEn

/** See the file's comment. */
export class Registers {
  /** Which of {@link registerRules} this chip has. */
  private readonly isThere: readonly boolean[]
  /** Word indices of what is read with every request or command, as {@link controlWord}. */
  readonly exclusionWord: number
  readonly commandBaseWord: number
  readonly commandHeadWord: number
  readonly commandTailWord: number

  private constructor(
    private readonly words: Words,
    private readonly first: number,
    private readonly features: Features,
    private readonly snp: boolean,
    /** Word index of the control register, for code that reads it on every request. */
    readonly controlWord: number,
  ) {
    this.exclusionWord = this.wordOf(mmio.exclusionBase)
    this.commandBaseWord = this.wordOf(mmio.commandBase)
    this.commandHeadWord = this.wordOf(mmio.commandHead)
    this.commandTailWord = this.wordOf(mmio.commandTail)
    this.isThere = registerRules.map((rule) => rule.isThere(features))
  }

  /** @param snp - the platform has SNP on */
  static create(words: Words, features: Features, snp = false): Registers {
    const first = words.allocate(registerWords)
    const controlWord = first + registerPlaces[mmio.control >>> 3]! * 2
    const registers = new Registers(words, first, features, snp, controlWord)
    words.countStretch(first, registerWords, words.newKeySpace())
    words.activate()
    registerRules.forEach(({ offset, resetLo, resetHi }, place) => {
      if (registers.isThere[place] === true) registers.set(offset, resetLo, resetHi)
    })
    return registers
  }

  forkOnto(words: Words): Registers {
    return new Registers(words, this.first, this.features, this.snp, this.controlWord)
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
    this.words.write(word, lo)
    this.words.write(word + 1, hi)
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
    const at = offset & ~7
    let whole = value
    if (bytes === 4) {
      // The other half keeps its value; where writing 1 clears, that means: clears nothing.
      const old = at === mmio.status || at === mmio.hardwareEventStatus ? 0n : this.read(at)
      const half = BigInt.asUintN(32, value)
      whole = (offset & 4) === 0 ? (old & ~0xffffffffn) | half : BigInt.asUintN(32, old) | (half << 32n)
    }
    return this.write(at, Number(BigInt.asIntN(32, whole)), Number(BigInt.asIntN(32, whole >> 32n)))
  }

  /** A register as software reads it. */
  read(offset: number): bigint {
    if (offset === mmio.efr) return this.features.efr
    if (offset === mmio.efr2) return this.features.efr2
    if (this.placeOf(offset) < 0) return 0n
    const lo = offset === mmio.status ? this.lo(offset) | this.runBits() : this.lo(offset)
    return (BigInt(this.hi(offset) >>> 0) << 32n) | BigInt(lo >>> 0)
  }

  /** A register write by software, with the rules of the register. True if the control register changed. */
  write(offset: number, lo: number, hi: number): boolean {
    const place = this.placeOf(offset)
    if (place < 0 || this.isLocked(offset)) return false
    if (offset === mmio.status || offset === mmio.hardwareEventStatus) {
      const clears = offset === mmio.status ? statusWriteToClear : 3
      this.set(offset, this.lo(offset) & ~(lo & clears), this.hi(offset))
      return false
    }
    const rule = registerRules[place]!
    if (offset === mmio.control) {
      // Software finds out about this mode by reading it back.
      const absent = this.features.viommu ? 0 : controlHi.guestBuffersNested
      this.writeControl(lo & rule.lo, hi & rule.hi & ~absent)
      return true
    }
    // With SNP the exclusion base is the base of a window, and has no switches.
    const isWindow = this.snp && offset === mmio.exclusionBase
    this.set(offset, lo & (isWindow ? ~0xfff : rule.lo), hi & rule.hi)
    const pointers = ringPointers.get(offset)
    if (pointers !== undefined) {
      this.set(pointers[0], 0, 0)
      this.set(pointers[1], 0, 0)
    }
    return false
  }

  get commandsRun(): boolean {
    const pool = this.words.array
    return (
      (pool[this.controlWord]! & commandsEnabled) === commandsEnabled &&
      pool[this.first + commandHalted] === 0 &&
      isLegalLength(pool[this.commandBaseWord + 1]!)
    )
  }

  /** Whether hardware writes a log: it is enabled, its ring has a legal length, and no entry was lost. */
  runs(log: Log): boolean {
    return (
      this.enabled(log.enable) &&
      this.words.array[this.first + logStopped + log.index] === 0 &&
      isLegalLength(this.hi(this.ringOf(log).base))
    )
  }

  /** The ring of a log that is in use. */
  ringOf(log: Log): LogRing {
    return log.b !== undefined && this.isInB(log) ? log.b : log.a
  }

  haltCommands(): void {
    this.remember(commandHalted, 1)
  }

  /**
   * The ring of a log is full, and an entry lost unless another ring takes it: tells software.
   *
   * @returns whether the log goes on in its other ring
   */
  overflow(log: Log): boolean {
    const full = this.ringOf(log)
    this.report(full.overflow, log.interruptEnable, log.line)
    const other = full === log.a ? log.b : log.a
    const swaps =
      other !== undefined &&
      this.dualMode(log) === 2 &&
      (this.lo(mmio.status) & other.overflow) === 0 &&
      isLegalLength(this.hi(other.base))
    if (swaps) this.remember(logInB + log.index, other === log.b ? 1 : 0)
    else this.remember(logStopped + log.index, 1)
    return swaps
  }

  /** Sets status bits, and raises an interrupt if the control bit `interruptEnable` is on. */
  report(bits: number, interruptEnable: number, line: number = interruptLine.general): void {
    this.set(mmio.status, this.lo(mmio.status) | bits, this.hi(mmio.status))
    if ((this.lo(mmio.control) & interruptEnable) !== 0) this.raise(line)
  }

  /** Raises one of the IOMMU's own interrupts; without a way to send one it is lost, as MSI has no memory. */
  raise(line: number): void {
    const sends =
      this.words.array[this.first + msiEnabled] === 1 ||
      (this.features.x2Apic && (this.hi(mmio.control) & controlHi.intCapXtEn) !== 0)
    if (sends) this.remember(interruptsPending, this.words.array[this.first + interruptsPending]! | line)
  }

  /** Tells whether the PCI function has MSI enabled. */
  setMsiEnabled(isEnabled: boolean): void {
    this.remember(msiEnabled, isEnabled ? 1 : 0)
  }

  /** Takes one raised interrupt: a bit of {@link interruptLine}, or 0. */
  takeInterrupt(): number {
    const pending = this.words.array[this.first + interruptsPending]!
    const line = pending & -pending
    this.remember(interruptsPending, pending & ~line)
    return line
  }

  /** Keeps the two halves of an event that tells of a hardware error; a second one only leaves its trace. */
  holdHardwareEvent(lo: number, hi: number, lowerLo: number, lowerHi: number): void {
    if (!this.features.hardwareErrors) return
    const held = this.lo(mmio.hardwareEventStatus)
    if ((held & 1) === 0) {
      this.set(mmio.hardwareEventUpper, lo, hi)
      this.set(mmio.hardwareEventLower, lowerLo, lowerHi)
    }
    this.set(mmio.hardwareEventStatus, (held & 1) === 0 ? held | 1 : held | 2, 0)
  }

  private writeControl(lo: number, hi: number): void {
    const turnedOn = lo & ~this.lo(mmio.control)
    this.set(mmio.control, lo, hi)
    // Enabling a queue again restarts it: commands after an error, a log after an overflow.
    if ((turnedOn & controlLo.cmdBufEn) !== 0) this.remember(commandHalted, 0)
    for (const log of logs) {
      if ((turnedOn & log.enable) === 0) continue
      this.remember(logStopped + log.index, 0)
      const overflows = log.a.overflow | (log.b === undefined ? 0 : log.b.overflow)
      this.set(mmio.status, this.lo(mmio.status) & ~overflows, this.hi(mmio.status))
    }
    for (const log of [eventLog, pprLog]) {
      const mode = this.dualMode(log)
      if (mode !== 2) this.remember(logInB + log.index, mode === 1 ? 1 : 0)
    }
  }

  /** Whether a register keeps its value now: what hardware uses while a queue runs, and a locked SMI filter. */
  private isLocked(offset: number): boolean {
    if (offset === mmio.commandBase || offset === mmio.commandHead) return this.commandsRun
    for (const log of logs) {
      if (isOfRing(log.a, offset) || (log.b !== undefined && isOfRing(log.b, offset))) return this.runs(log)
    }
    if (offset >= mmio.smiFilter0 && offset < mmio.gaBase) {
      return (this.lo(offset) & smiFilterLocked) !== 0
    }
    return false
  }

  private isInB(log: Log): boolean {
    return this.words.array[this.first + logInB + log.index] === 1
  }

  /** DualEventLogEn or DualPprLogEn: 0 ring A, 1 ring B, 2 both in turn. For logs that can be doubled. */
  private dualMode(log: Log): number {
    if (log === pprLog) return this.features.dualPprLog ? this.lo(mmio.control) >>> 30 : 0
    return this.features.dualEventLog ? this.hi(mmio.control) & 3 : 0
  }

  private runBits(): number {
    let bits = this.commandsRun ? status.cmdBufRun : 0
    for (const log of logs) {
      if (this.runs(log)) bits |= log.runStatus
      if (this.isInB(log)) bits |= log.activeStatus
    }
    return bits
  }

  private enabled(queueEnable: number): boolean {
    const both = controlLo.iommuEn | queueEnable
    return (this.lo(mmio.control) & both) === both
  }

  private remember(what: number, value: number): void {
    this.words.write(this.first + what, value)
  }

  /** Place of a register that this chip has, or -1. */
  private placeOf(offset: number): number {
    const place = registerPlaces[offset >>> 3] ?? -1
    return place >= 0 && this.isThere[place] === true ? place : -1
  }

  private wordOf(offset: number): number {
    return this.first + registerPlaces[offset >>> 3]! * 2
  }
}

/** What hardware uses of a running log's ring: where it is, and where the next entry goes. */
const isOfRing = (ring: LogRing, offset: number): boolean => offset === ring.base || offset === ring.tail

/** Bytes of a ring with this high word of its base register; the length code is bits 59:56. */
export const ringBytes = (baseHi: number): number => 16 << ((baseHi >>> 24) & 15)

const isLegalLength = (baseHi: number): boolean => ((baseHi >>> 24) & 15) >= 8
