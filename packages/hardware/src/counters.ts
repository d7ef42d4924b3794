/**
 * Performance counters: banks of counters that software programs with a source and filters.
 *
 * AMD 48882 rev 3.10, performance counters; sources as Linux's `amd_iommu` PMU names them. A counter that wraps tells so
 * in the event log if asked to. While no counter has a source, nothing is counted and nothing costs anything.
 *
 * @packageDocumentation
 */
import type { Words } from './memory/words.js'

/** What can be counted, by the number that software programs. */
export const counterSource = {
  passedUntranslated: 0x01,
  passedPretranslated: 0x02,
  passedExcluded: 0x03,
  targetAbort: 0x04,
  translations: 0x05,
  tlbHit: 0x06,
  tlbMiss: 0x07,
  directoryHit: 0x08,
  directoryMiss: 0x09,
  dteHit: 0x0a,
  dteMiss: 0x0b,
  tableReads: 0x0c,
  hostTableReads: 0x0d,
  guestTableReads: 0x0e,
  interruptDteHit: 0x0f,
  interruptDteMiss: 0x10,
  commands: 0x11,
  invalidations: 0x12,
  tlbInvalidations: 0x13,
  ignoredAccesses: 0x14,
  interruptsNotGuest: 0x15,
  interruptsGuest: 0x16,
  smiReceived: 0x17,
  smiBlocked: 0x18,
} as const

/** How many counters a chip has. */
export interface CounterShape {
  /** 1 to 63. */
  readonly banks: number
  /** In each bank, 1 to 15. */
  readonly counters: number
}

export const defaultCounterShape: CounterShape = { banks: 2, counters: 4 }
const noCounters: CounterShape = { banks: 0, counters: 0 }

/** Registers of a counter: count, source, three filters, report; 64 bits each. */
const registerCount = 6
const counterWords = registerCount * 2
const countAt = 0
const sourceAt = 2
const pasidAt = 4
const domainAt = 6
const deviceAt = 8
const reportAt = 10

/** Writable bits of those registers, low and high word. */
const writable: readonly (readonly [lo: number, hi: number])[] = [
  [-1, 0xffff],
  [0x800000ff | 0, 0],
  [-1, -1],
  [-1, -1],
  [-1, -1],
  [-1, 0x80000000 | 0],
]

/** The bank locks at 4008h, 4010h and 4018h keep the PASID, DomainID and DeviceID filters of their banks. */
const locks = 3

const countAll = 0x80000000 | 0
const filterOn = 0x80000000 | 0
/** Bits of a 48-bit count that the low word does not hold. */
const countSpan = 2 ** 48

/** See the file's comment. */
export class PerformanceCounters {
  /** Whether any counter has a source: to be asked before {@link count}, on paths that must be fast. */
  isOn = false
  /** Word index of each counter that has a source. */
  private active: number[] = []

  private constructor(
    private readonly words: Words,
    private readonly keySpace: number,
    private readonly first: number,
    private readonly shape: CounterShape,
  ) {
    this.findActive()
  }

  /**
   * @param shape - null: a chip without counters
   * @throws RangeError for a shape out of its limits
   */
  static create(words: Words, shape: CounterShape | null): PerformanceCounters {
    if (shape !== null) {
      checkCount('banks', shape.banks, 63)
      checkCount('counters', shape.counters, 15)
    }
    const made = shape ?? noCounters
    const first = words.allocate(2 * locks + made.banks * made.counters * counterWords)
    return new PerformanceCounters(words, words.newKeySpace(), first, made)
  }

  /** The same counters over a fork of the machine's words. */
  forkOnto(words: Words): PerformanceCounters {
    words.activate()
    return new PerformanceCounters(words, this.keySpace, this.first, this.shape)
  }

  /** A register as software reads it, at an MMIO offset that is a multiple of 8. */
  read(offset: number): readonly [lo: number, hi: number] {
    if (offset === 0x4000) return [(this.shape.counters << 7) | (this.shape.banks << 12), 0]
    const at = this.placeOf(offset)
    return at < 0 ? [0, 0] : [this.words.array[at]!, this.words.array[at + 1]!]
  }

  /** A register write by software. */
  write(offset: number, lo: number, hi: number): void {
    const at = this.placeOf(offset)
    if (at < 0) return
    const index = (at - this.first - 2 * locks) % counterWords
    if (at < this.first + 2 * locks) {
      this.put(at, lo, hi)
      return
    }
    if (index >= pasidAt && index <= deviceAt && this.isLocked((index - pasidAt) >> 1, offset)) return
    const mask = writable[index >> 1]!
    this.put(at, lo & mask[0], hi & mask[1])
    this.findActive()
  }

  /**
   * Counts something.
   *
   * @param amount - how often it happened
   * @param pasid - -1 without
   * @param wrapped - told the note of each counter that wrapped and is to report it
   */
  count(
    source: number,
    amount: number,
    deviceId: number,
    domainId: number,
    pasid: number,
    wrapped: (note: number) => void,
  ): void {
    const pool = this.words.array
    for (const at of this.active) {
      const programmed = pool[at + sourceAt]!
      if ((programmed & 0xff) !== source || amount === 0) continue
      const isMeant =
        (programmed & countAll) !== 0 ||
        (this.passes(at + deviceAt, deviceId) &&
          this.passes(at + domainAt, domainId) &&
          this.passes(at + pasidAt, pasid))
      if (!isMeant) continue
      const before = (pool[at + countAt + 1]! & 0xffff) * 2 ** 32 + (pool[at + countAt]! >>> 0)
      const after = before + amount
      this.put(at + countAt, after | 0, Math.floor(after / 2 ** 32) & 0xffff)
      if (after >= countSpan && (pool[at + reportAt + 1]! & filterOn) !== 0) {
        wrapped(pool[at + reportAt]!)
      }
    }
  }

  /** A filter: bit 31 switches it on, the low half is the value, the high half says which bits of it count. */
  private passes(at: number, value: number): boolean {
    const wanted = this.words.array[at]!
    if ((wanted & filterOn) === 0) return true
    return value >= 0 && ((value ^ wanted) & this.words.array[at + 1]! & 0x7fffffff) === 0
  }

  private isLocked(filter: number, offset: number): boolean {
    const bank = (offset >>> 12) - 0x40
    const lock = this.words.array[this.first + 2 * filter + (bank >> 5)]!
    return ((lock >>> (bank & 31)) & 1) === 1
  }

  /** Word index of a register, or -1. */
  private placeOf(offset: number): number {
    if (offset >= 0x4008 && offset <= 0x4018) return this.first + ((offset - 0x4008) >> 2)
    const bank = (offset >>> 12) - 0x40
    const counter = (offset >>> 8) & 15
    const register = (offset & 0xff) >> 3
    if (bank < 0 || bank >= this.shape.banks || counter >= this.shape.counters || register >= registerCount) {
      return -1
    }
    return this.first + 2 * locks + (bank * this.shape.counters + counter) * counterWords + register * 2
  }

  private findActive(): void {
    this.active = []
    const { banks, counters } = this.shape
    for (let n = 0; n < banks * counters; n++) {
      const at = this.first + 2 * locks + n * counterWords
      if ((this.words.array[at + sourceAt]! & 0xff) !== 0) this.active.push(at)
    }
    this.isOn = this.active.length > 0
  }

  private put(at: number, lo: number, hi: number): void {
    this.words.writeKeyed(at, lo, at - this.first, this.keySpace)
    this.words.writeKeyed(at + 1, hi, at + 1 - this.first, this.keySpace)
  }
}

function checkCount(name: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 1 || value > max) {
    throw new RangeError(`performance counters: ${name} ${value} is not an integer from 1 to ${max}`)
  }
}
