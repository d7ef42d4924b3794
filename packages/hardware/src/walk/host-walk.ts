/**
 * The walk of a host (v1) table: from a guest-physical address to a system-physical one.
 *
 * AMD 48882 rev 3.10, I/O page tables: one to six levels that may be skipped, leaves at any level, rights ANDed over
 * every level, leaf sizes by level (NextLevel 0) or by trailing ones of the address (NextLevel 7).
 *
 * @packageDocumentation
 */
import type { SparseMemory } from '../memory/sparse-memory.js'
import type { Switches } from '../switches.js'
import {
  anyBitBetween,
  anyBitFrom,
  levelIndex,
  levelShift,
  lowMaskHi,
  lowMaskLo,
  trailingOnesSizeLog2,
} from './address-bits.js'
import { badEncoding, denied, noFault, notPresent, reservedBitSet, tableUnreadable } from './fault.js'
import type { Fault } from './fault.js'
import { mayWrite } from './rights.js'
import type { WalkTrace } from './trace.js'

/** Reserved bits in the high word of a directory entry, bits 60:52. */
const directoryReservedHi = 0x1ff00000
/** Reserved bits in the high word of a leaf: bits 58:52, or 56:52 where 58:57 tell the state of a page's migration. */
export const leafReservedHi = 0x07f00000
export const leafReservedMigratingHi = 0x01f00000

/**
 * Which of A and D hardware sets in host entries: DTE.HAD as far as Control.HADUpdate and EFR let it. The bits are
 * those of the low word of an entry.
 */
export type HostMarking = number
export const marksNothing: HostMarking = 0
export const marksAccessed: HostMarking = 0x20
export const marksDirty: HostMarking = 0x40

/** Longest walk: six levels. */
const trailEntries = 6

/** Walks host tables. The answer of the last walk stands in the fields. */
export class HostWalk {
  /** SPA that the last walk gave. After {@link tableUnreadable}: the SPA of the entry. */
  spaLo = 0
  spaHi = 0
  /** log2 of the page's size in bytes. */
  sizeLog2 = 0
  /** What the DTE and all levels grant: bits of `rights.ts`. */
  rights = 0
  /** Whether the leaf's D bit was set, or would be by this walk: a later write then has nothing to mark. */
  isDirty = false
  /** Table entries read since the owner set it to zero. */
  reads = 0
  marking: HostMarking = marksNothing
  /** {@link leafReservedHi} or {@link leafReservedMigratingHi}. */
  leafReserved = leafReservedHi
  trace: WalkTrace | null = null

  /** SPAs of the entries that the last walk used, for A and D. */
  private readonly trail = new Int32Array(trailEntries * 2)
  private trailLength = 0

  constructor(
    private readonly memory: SparseMemory,
    private readonly switches: Switches,
    /** Deepest table that the implementation walks: 4 to 6 levels. */
    private readonly hostLevels: number,
  ) {}

  /**
   * Translates one address.
   *
   * @param mode - DTE.Mode, 1 to 6
   * @param granted - rights of the DTE
   * @param needed - rights that the access needs; they are checked at every level
   */
  walk(
    rootLo: number,
    rootHi: number,
    mode: number,
    lo: number,
    hi: number,
    granted: number,
    needed: number,
  ): Fault {
    if (mode < 6 && anyBitFrom(12 + 9 * mode, lo, hi)) return this.switches.aboveWidth
    const memory = this.memory
    const pool = memory.words.array
    const trace = this.trace
    const marking = this.marking
    let tableLo = rootLo & 0xfffff000
    let tableHi = rootHi & 0xfffff
    let level = mode
    let rights = granted
    this.trailLength = 0
    for (;;) {
      const entryLo = tableLo | (levelIndex(level, lo, hi) << 3)
      this.reads += 1
      if (trace !== null) trace.read('host-table', entryLo, tableHi)
      const word = memory.wordOf(entryLo, tableHi)
      if (word < 0) return this.unreadable(entryLo, tableHi)
      if (marking !== marksNothing) this.follow(entryLo, tableHi)
      const valueLo = pool[word]!
      const valueHi = pool[word + 1]!
      if ((valueLo & 1) === 0) return notPresent
      const nextLevel = (valueLo >>> 9) & 7
      const isLeaf = nextLevel === 0 || nextLevel === 7
      if ((valueHi & (isLeaf ? this.leafReserved : directoryReservedHi)) !== 0) return reservedBitSet
      rights &= valueHi
      // Rights come before the level encoding: a right missing in a directory wins over whatever lies below it.
      if ((rights & needed) !== needed) return denied
      if (isLeaf) return this.leaf(level, nextLevel, valueLo, valueHi, lo, hi, rights, needed)
      if (nextLevel >= level) return nextLevel > this.hostLevels ? reservedBitSet : badEncoding
      if (nextLevel < level - 1 && anyBitBetween(12 + 9 * nextLevel, levelShift(level), lo, hi)) {
        return badEncoding
      }
      tableLo = valueLo & 0xfffff000
      tableHi = valueHi & 0xfffff
      level = nextLevel
    }
  }

  private leaf(
    level: number,
    nextLevel: number,
    valueLo: number,
    valueHi: number,
    lo: number,
    hi: number,
    rights: number,
    needed: number,
  ): Fault {
    const shift = levelShift(level)
    let sizeLog2 = shift
    if (nextLevel === 0) {
      if (level === 6) return badEncoding
    } else {
      sizeLog2 = trailingOnesSizeLog2(valueLo, valueHi, 20)
      if (sizeLog2 <= shift || sizeLog2 >= shift + 9) return badEncoding
      // Level 5 could hold 2^52 and 2^53, but no size above 2^51 is listed.
      if (sizeLog2 > 51 && level === 5) return badEncoding
    }
    const offsetLo = lowMaskLo(sizeLog2)
    const offsetHi = lowMaskHi(sizeLog2)
    this.spaLo = (valueLo & 0xfffff000 & ~offsetLo) | (lo & offsetLo)
    this.spaHi = (valueHi & 0xfffff & ~offsetHi) | (hi & offsetHi)
    this.sizeLog2 = sizeLog2
    this.rights = rights
    this.isDirty = (valueLo & marksDirty) !== 0 || (needed & mayWrite) !== 0
    if (this.marking !== marksNothing) this.mark((needed & mayWrite) !== 0)
    return noFault
  }

  private unreadable(lo: number, hi: number): Fault {
    this.spaLo = lo
    this.spaHi = hi
    return tableUnreadable
  }

  private follow(lo: number, hi: number): void {
    const at = this.trailLength++ << 1
    this.trail[at] = lo
    this.trail[at + 1] = hi
  }

  /** Sets A in the entries of the last walk, and D in its leaf when it was for a write. */
  mark(forWrite: boolean): void {
    const last = this.trailLength - 1
    for (let i = 0; i <= last; i++) {
      const lo = this.trail[i << 1]!
      const hi = this.trail[(i << 1) + 1]!
      const before = this.memory.words.array[this.memory.wordOf(lo, hi)]!
      const after = before | (i === last && forWrite ? this.marking : this.marking & marksAccessed)
      if (after === before) continue
      this.memory.store32(lo, hi, after)
      if (this.trace !== null) this.trace.store('host-table', lo, hi)
    }
  }
}
