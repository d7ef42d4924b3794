/**
 * The walk of a host (v1) table: from a guest-physical address to a system-physical one.
 *
 * AMD 48882 rev 3.10, I/O page tables: one to six levels that may be skipped, leaves at any level, rights ANDed over
 * every level, leaf sizes by level (NextLevel 0) or by trailing ones of the address (NextLevel 7).
 *
 * @packageDocumentation
 */
import type { SparseMemory } from '../memory/sparse-memory.js'
import type { TaggedCache } from '../cache/tagged-cache.js'
import { withoutPasid } from '../cache/iotlb.js'
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
import { allRights, mayRead, mayWrite } from './rights.js'
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
  /** U and FC of the leaf: bits 59 and 60 of the entry, in place in its high word. */
  leafBits = 0
  /** Whether the leaf's D bit was set, or would be by this walk: a later write then has nothing to mark. */
  isDirty = false
  /** Table entries read since the owner set it to zero. */
  reads = 0
  marking: HostMarking = marksNothing
  /** {@link leafReservedHi} or {@link leafReservedMigratingHi}. */
  leafReserved = leafReservedHi
  trace: WalkTrace | null = null
  /** The modelled cache of directory entries, and under what this walk's are filed; null: none, or not for this walk. */
  directories: TaggedCache | null = null
  domainId = 0
  filler = 0
  /** Whether the entries used are noted even if nothing is set in them. */
  notesTrail = false
  /** Walks that {@link directories} shortened, and those that it did not, since the owner set them to zero. */
  directoryHits = 0
  directoryMisses = 0

  /** SPAs of the entries that the last walk used, for A and D. */
  private readonly trail = new Int32Array(trailEntries * 2)
  private trailLength = 0

  /** Whether rights are checked in each entry, rather than in the leaf. */
  private readonly checksEach: boolean
  private readonly refuses512G: boolean
  private readonly checksLowBits: boolean
  private readonly largestSizeLog2: number
  private readonly marksDirectories: boolean

  constructor(
    private readonly memory: SparseMemory,
    private readonly switches: Switches,
    /** Deepest table that the implementation walks: 4 to 6 levels. */
    private readonly hostLevels: number,
  ) {
    const { choices } = switches
    this.checksEach = choices.rightsOrder === 'each-level'
    this.refuses512G = choices.leaf512G === 'refused'
    this.checksLowBits = choices.leafLowBits === 'reserved'
    this.largestSizeLog2 = choices.sizeAbove2p51 === 'invalid' ? 51 : 53
    this.marksDirectories = choices.hostDirectoryAccessed === 'set'
  }

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
    const notes = this.marking !== marksNothing || this.notesTrail
    const directories = this.directories
    let tableLo = rootLo & 0xfffff000
    let tableHi = rootHi & 0xfffff
    let level = mode
    let passed = allRights
    const neededEarly = this.checksEach ? needed : 0
    this.trailLength = 0
    if (directories !== null) {
      const record = directories.domainRecord(this.domainId)
      if (directories.lookup(record, this.domainId, withoutPasid, lo, hi)) {
        tableLo = directories.frameLo
        tableHi = directories.frameHi
        level = directories.level
        passed = directories.rights
        this.directoryHits += 1
        if ((granted & passed & neededEarly) !== neededEarly) return denied
      } else this.directoryMisses += 1
    }
    for (;;) {
      const entryLo = tableLo | (levelIndex(level, lo, hi) << 3)
      this.reads += 1
      if (trace !== null) trace.read('host-table', entryLo, tableHi)
      const word = memory.wordOf(entryLo, tableHi)
      if (word < 0) return this.unreadable(entryLo, tableHi)
      if (notes) this.follow(entryLo, tableHi)
      const valueLo = pool[word]!
      const valueHi = pool[word + 1]!
      if ((valueLo & 1) === 0) return notPresent
      const nextLevel = (valueLo >>> 9) & 7
      const isLeaf = nextLevel === 0 || nextLevel === 7
      if ((valueHi & (isLeaf ? this.leafReserved : directoryReservedHi)) !== 0) return reservedBitSet
      passed &= valueHi
      const rights = granted & passed
      // Rights come before the level encoding: a right missing in a directory wins over whatever lies below it.
      if ((rights & neededEarly) !== neededEarly) return denied
      if (isLeaf) return this.leaf(level, nextLevel, valueLo, valueHi, lo, hi, rights, needed)
      if (nextLevel >= level) {
        return nextLevel > this.hostLevels ? this.switches.nextLevelBeyondHats : badEncoding
      }
      if (nextLevel < level - 1 && anyBitBetween(12 + 9 * nextLevel, levelShift(level), lo, hi)) {
        return badEncoding
      }
      tableLo = valueLo & 0xfffff000
      tableHi = valueHi & 0xfffff
      level = nextLevel
      if (directories !== null) this.keepDirectory(directories, level, tableLo, tableHi, passed, lo, hi)
    }
  }

  /** Marks the memory pages that the last walk read, so that a change to one is noticed. */
  markPagesRead(): void {
    const { words } = this.memory
    for (let i = 0; i < this.trailLength; i++) {
      words.mark(this.memory.wordOf(this.trail[i << 1]!, this.trail[(i << 1) + 1]!))
    }
  }

  private keepDirectory(
    directories: TaggedCache,
    level: number,
    tableLo: number,
    tableHi: number,
    passed: number,
    lo: number,
    hi: number,
  ): void {
    const { domainId, filler } = this
    const record = directories.domainRecord(domainId)
    const size = levelShift(level + 1)
    const rights = passed & (mayRead | mayWrite)
    directories.fillTable(
      record,
      domainId,
      withoutPasid,
      lo,
      hi,
      size,
      tableLo,
      tableHi,
      rights,
      filler,
      level,
    )
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
      if (level === 6 || (level === 4 && this.refuses512G)) return badEncoding
    } else {
      sizeLog2 = trailingOnesSizeLog2(valueLo, valueHi, 20)
      if (sizeLog2 <= shift || sizeLog2 >= shift + 9) return badEncoding
      // Level 5 could hold 2^52 and 2^53, but no size above 2^51 is listed.
      if (sizeLog2 > this.largestSizeLog2) return badEncoding
    }
    const offsetLo = lowMaskLo(sizeLog2)
    const offsetHi = lowMaskHi(sizeLog2)
    if (this.checksLowBits && nextLevel === 0) {
      const low = (valueLo & 0xfffff000 & offsetLo) | (valueHi & 0xfffff & offsetHi)
      if (low !== 0) return reservedBitSet
    }
    if ((rights & needed) !== needed) return denied
    this.spaLo = (valueLo & 0xfffff000 & ~offsetLo) | (lo & offsetLo)
    this.spaHi = (valueHi & 0xfffff & ~offsetHi) | (hi & offsetHi)
    this.sizeLog2 = sizeLog2
    this.rights = rights
    this.leafBits = valueHi & 0x18000000
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
    for (let i = this.marksDirectories ? 0 : last; i <= last; i++) {
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
