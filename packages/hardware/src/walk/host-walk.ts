/**
 * The walk of a host (v1) table: from a guest-physical address to a system-physical one.
 *
 * AMD 48882 rev 3.10, I/O page tables: one to six levels that may be skipped, leaves at any level, rights ANDed over
 * every level, leaf sizes by level (NextLevel 0) or by trailing ones of the address (NextLevel 7).
 *
 * @packageDocumentation
 */
import type { SparseMemory } from '../memory/sparse-memory.js'
import { withoutPasid } from '../cache/iotlb.js'
import type { Switches } from '../switches.js'
import {
  anyBitBetween,
  anyBitFrom,
  frameMask,
  indexFrom,
  levelShift,
  lowMaskHi,
  lowMaskLo,
  trailingOnesSizeLog2,
} from './address-bits.js'
import { badEncoding, denied, noFault, notPresent, reservedBitSet, tableUnreadable } from './fault.js'
import type { Fault } from './fault.js'
import type { HostPathCache } from './host-path-cache.js'
import { HostTrail, marksDirty, marksNothing } from './host-trail.js'
import type { HostMarking } from './host-trail.js'
import { allRights, mayWrite } from './rights.js'
import type { WalkTrace } from './trace.js'
import type { WalkCaches } from './walk-caches.js'

export { marksAccessed, marksDirty, marksNothing } from './host-trail.js'
export type { HostMarking } from './host-trail.js'

/** Reserved bits in the high word of a directory entry, bits 60:52. */
const directoryReservedHi = 0x1ff00000
/** Reserved bits in the high word of a leaf: bits 58:52, or 56:52 where 58:57 tell the state of a page's migration. */
export const leafReservedHi = 0x07f00000
export const leafReservedMigratingHi = 0x01f00000

/** What a walk has to do beside walking, as bits of one word: most walks have nothing, and ask once. */
const enum Extra {
  trace = 1,
  /** A or D is set in the entries used. */
  marks = 2,
  /** Modelled directories are asked and filled. */
  directories = 4,
  /** The model's own cache of paths is. */
  paths = 8,
}

/** Which checks the switches choose, as bits of one word. */
const enum Check {
  refuses512G = 1,
  lowBits = 2,
}

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
  /** {@link leafReservedHi} or {@link leafReservedMigratingHi}. */
  leafReserved = leafReservedHi

  private setMarking: HostMarking = marksNothing
  private setTrace: WalkTrace | null = null
  private setCaches: WalkCaches | null = null
  /** Bits of {@link Extra}. */
  private extras = 0
  private readonly trail: HostTrail
  /** All ones where rights are checked in each entry, zero where in the leaf. */
  private readonly checkedEarly: number
  private readonly checks: number
  private readonly largestSizeLog2: number
  private readonly aboveWidth: Fault
  private readonly nextLevelBeyondHats: Fault

  constructor(
    private readonly memory: SparseMemory,
    switches: Switches,
    /** Deepest table that the implementation walks: 4 to 6 levels. */
    private readonly hostLevels: number,
    /** Tables found before; null: every walk begins at the root. */
    private readonly paths: HostPathCache | null = null,
  ) {
    const { choices } = switches
    this.trail = new HostTrail(memory, choices.hostDirectoryAccessed === 'set')
    this.checkedEarly = choices.rightsOrder === 'each-level' ? -1 : 0
    this.checks =
      (choices.leaf512G === 'refused' ? Check.refuses512G : 0) |
      (choices.leafLowBits === 'reserved' ? Check.lowBits : 0)
    this.largestSizeLog2 = choices.sizeAbove2p51 === 'invalid' ? 51 : 53
    this.aboveWidth = switches.aboveWidth
    this.nextLevelBeyondHats = switches.nextLevelBeyondHats
    this.chooseExtras()
  }

  get marking(): HostMarking {
    return this.setMarking
  }
  set marking(marking: HostMarking) {
    this.setMarking = marking
    this.chooseExtras()
  }
  set trace(trace: WalkTrace | null) {
    this.setTrace = trace
    this.chooseExtras()
  }
  /** The modelled caches; null: none, or not for this walk. */
  set caches(caches: WalkCaches | null) {
    this.setCaches = caches
    this.chooseExtras()
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
    // Each `| 0` tells the compiler what it cannot know of arguments, and would ask again at each level: int32.
    const iovaLo = lo | 0
    const iovaHi = hi | 0
    const { extras, memory } = this
    let level = mode | 0
    if (anyBitFrom(levelShift(level + 1), iovaLo, iovaHi)) return this.aboveWidth
    const neededEarly = needed & this.checkedEarly
    let tableLo = rootLo & frameMask
    let tableHi = rootHi & 0xfffff
    let rights = granted | 0
    let reads = this.reads | 0
    let isPathKnown = 1
    if (extras !== 0) {
      this.trail.restart()
      const { paths } = this
      const caches = this.setCaches
      if ((extras & Extra.paths) !== 0) {
        // A right that the path lacks is refused by the entry that lacks it, so that one is to be found first.
        const isFound = paths!.find(tableLo, tableHi, level, iovaLo, iovaHi, rights, this.setMarking)
        isPathKnown = isFound ? 1 : 0
        if (isFound && (paths!.rights & neededEarly) === neededEarly) {
          tableLo = paths!.frameLo
          tableHi = paths!.frameHi
          level = paths!.level
          rights = paths!.rights
          reads += paths!.reads
        }
      } else if (caches?.findDirectory(withoutPasid, lo, hi) === true) {
        tableLo = caches.tableLo
        tableHi = caches.tableHi
        level = caches.level
        rights &= caches.rights
        if ((rights & neededEarly) !== neededEarly) return denied
      } else if (caches !== null) caches.rights = allRights
    }
    const pool = memory.words.array
    let shift = levelShift(level) | 0
    let fault: Fault
    for (;;) {
      const entryLo = tableLo | (indexFrom(shift, iovaLo, iovaHi) << 3)
      reads = (reads + 1) | 0
      if (extras !== 0) this.note(entryLo, tableHi)
      const word = memory.wordOf(entryLo, tableHi)
      if (word < 0) {
        fault = this.unreadable(entryLo, tableHi)
        break
      }
      const valueLo = pool[word]!
      const valueHi = pool[(word + 1) | 0]!
      tableLo = valueLo & frameMask
      tableHi = valueHi & 0xfffff
      const below = (level - 1) | 0
      // The usual entry first, present and of the next level: that one is known before the entry is read.
      if ((valueLo & 0xe01) === ((below << 9) | 1) && below !== 0 && (valueHi & directoryReservedHi) === 0) {
        rights &= valueHi
        if ((rights & neededEarly) !== neededEarly) {
          fault = denied
          break
        }
        level = below
        shift = (shift - 9) | 0
      } else {
        const nextLevel = (valueLo >>> 9) & 7
        if ((valueLo & 1) === 0) {
          fault = notPresent
          break
        }
        const isLeaf = nextLevel === 0 || nextLevel === 7
        if ((valueHi & (isLeaf ? this.leafReserved : directoryReservedHi)) !== 0) {
          fault = reservedBitSet
          break
        }
        const above = rights
        rights &= valueHi
        // Rights come before the level encoding: a right missing in a directory wins over whatever lies below it.
        if ((rights & neededEarly) !== neededEarly) {
          fault = denied
          break
        }
        if (isLeaf) {
          fault = this.leaf(level, nextLevel, valueLo, valueHi, iovaLo, iovaHi, rights, needed | 0)
          if (isPathKnown === 0 && fault === noFault) this.paths!.keep(this.trail, level, above)
          break
        }
        if (nextLevel >= level) {
          fault = nextLevel > this.hostLevels ? this.nextLevelBeyondHats : badEncoding
          break
        }
        if (anyBitBetween(levelShift(nextLevel + 1), shift, iovaLo, iovaHi)) {
          fault = badEncoding
          break
        }
        level = nextLevel
        shift = levelShift(level) | 0
      }
      if ((extras & Extra.directories) !== 0) this.keepDirectory(lo, hi, level, tableLo, tableHi, valueHi)
    }
    this.reads = reads
    return fault
  }

  /** Sets A in the entries of the last walk, and D in its leaf when it was for a write. */
  mark(forWrite: boolean): void {
    this.trail.setBits(this.setMarking, forWrite, this.setTrace)
  }

  /** Marks the memory pages that the last walk read, so that a change to one is noticed. */
  markPagesRead(): void {
    this.trail.markPages()
  }

  private chooseExtras(): void {
    const isPlain = this.setTrace === null && this.setCaches === null
    this.extras =
      (this.setTrace === null ? 0 : Extra.trace) |
      (this.setMarking === marksNothing ? 0 : Extra.marks) |
      (this.setCaches === null ? 0 : Extra.directories) |
      (isPlain && this.paths !== null ? Extra.paths : 0)
  }

  private note(lo: number, hi: number): void {
    if (this.setTrace !== null) this.setTrace.read('host-table', lo, hi)
    this.trail.add(lo, hi)
  }

  /** Files the table that the walk has come to. What the device's entry grants is no matter of the tables. */
  private keepDirectory(
    lo: number,
    hi: number,
    level: number,
    tableLo: number,
    tableHi: number,
    valueHi: number,
  ): void {
    const caches = this.setCaches!
    caches.rights &= valueHi
    caches.keepDirectory(withoutPasid, lo, hi, level, tableLo, tableHi, caches.rights)
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
    const checks = this.checks
    let sizeLog2 = shift
    if (nextLevel === 0) {
      if (level === 6 || (level === 4 && (checks & Check.refuses512G) !== 0)) return badEncoding
    } else {
      sizeLog2 = trailingOnesSizeLog2(valueLo, valueHi, 20)
      if (sizeLog2 <= shift || sizeLog2 >= shift + 9) return badEncoding
      // Level 5 could hold 2^52 and 2^53, but no size above 2^51 is listed.
      if (sizeLog2 > this.largestSizeLog2) return badEncoding
    }
    const offsetLo = lowMaskLo(sizeLog2)
    const offsetHi = lowMaskHi(sizeLog2)
    if ((checks & Check.lowBits) !== 0 && nextLevel === 0) {
      const low = (valueLo & frameMask & offsetLo) | (valueHi & 0xfffff & offsetHi)
      if (low !== 0) return reservedBitSet
    }
    if ((rights & needed) !== needed) return denied
    this.spaLo = (valueLo & frameMask & ~offsetLo) | (lo & offsetLo)
    this.spaHi = (valueHi & 0xfffff & ~offsetHi) | (hi & offsetHi)
    this.sizeLog2 = sizeLog2
    this.rights = rights
    this.leafBits = valueHi & 0x18000000
    this.isDirty = (valueLo & marksDirty) !== 0 || (needed & mayWrite) !== 0
    if (this.setMarking !== marksNothing) this.mark((needed & mayWrite) !== 0)
    return noFault
  }

  private unreadable(lo: number, hi: number): Fault {
    this.spaLo = lo
    this.spaHi = hi
    return tableUnreadable
  }
}
