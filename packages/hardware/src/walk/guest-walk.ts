/**
 * The walk of guest (v2) tables: GCR3 table by PASID, four or five levels of guest table, and, when the device also
 * has a host table, every one of these accesses through it. That is the nested walk: there is no other.
 *
 * AMD 48882 rev 3.10, guest page tables, GCR3 tables, GCR3TRPMode.
 *
 * @packageDocumentation
 */
import type { SparseMemory } from '../memory/sparse-memory.js'
import type { Switches } from '../switches.js'
import {
  anyBitFrom,
  frameMask,
  isSignExtended,
  levelIndex,
  levelShift,
  lowMaskHi,
  lowMaskLo,
} from './address-bits.js'
import { denied, noFault, notPresent, reservedBitSet } from './fault.js'
import type { Fault } from './fault.js'
import {
  accessed,
  dirty,
  noExecute,
  pageSize,
  present,
  reservedInLeaf,
  user,
  writable,
} from './guest-entry.js'
import type { GuestPathCache } from './guest-path-cache.js'
import { RegimeFlag } from './guest-regime.js'
import type { GuestRegime } from './guest-regime.js'
import { GuestTables } from './guest-tables.js'
import type { HostWalk } from './host-walk.js'
import { allRights, mayExecute, mayRead, mayWrite, userMay } from './rights.js'
import type { WalkCaches } from './walk-caches.js'

/** What becomes of the way to the lowest table. Bits: a test for one costs nothing that a load would. */
const enum Path {
  none = 0,
  /** It is found, and the walk begins at its end. */
  known = 1,
  /** It is kept. */
  kept = 2,
}

/** Walks guest tables. The answer of the last walk stands in the fields. */
export class GuestWalk {
  /** SPA that the last walk gave; after a host walk's `tableUnreadable`, the SPA of the entry. */
  spaLo = 0
  spaHi = 0
  /** GPA that the guest tables gave; after a fault in the host table, the GPA that met it. */
  gpaLo = 0
  gpaHi = 0
  /** Whether the last walk ended in the host table. */
  endedInHost = false
  /** log2 of the smaller of the guest's and the host's page. */
  sizeLog2 = 0
  rights = 0
  /** Whether the guest leaf's D bit was set, or would be by this walk: a later write then has nothing to mark. */
  isDirty = false
  /** log2 of the guest's page, whatever the host's. */
  guestSizeLog2 = 0
  /** Rights of the guest tables, whatever the host grants. */
  guestRights = 0
  readonly tables: GuestTables

  /** All ones where rights are checked in each entry, and where in the leaf; otherwise zero. */
  private readonly checkedEarly: number
  private readonly checkedAtLeaf: number
  private readonly supervisorIgnoresRw: boolean
  private readonly signsPasid0: boolean
  private readonly nestsNextGcr3: boolean
  private readonly pasidBeyondGlx: Fault
  private readonly nonCanonical: Fault

  constructor(
    memory: SparseMemory,
    private readonly host: HostWalk,
    switches: Switches,
    /** Guest tables found before; null: every walk begins at the GCR3 table. */
    private readonly paths: GuestPathCache | null,
  ) {
    const { choices } = switches
    this.tables = new GuestTables(memory, host, switches)
    this.checkedEarly = choices.rightsOrder === 'each-level' ? -1 : 0
    this.checkedAtLeaf = choices.rightsOrder === 'leaf' ? -1 : 0
    this.supervisorIgnoresRw = choices.supervisorWrite === 'ignores-rw'
    this.signsPasid0 = choices.pasid0Tagged === 'sign-extended'
    this.nestsNextGcr3 = choices.gcr3NextPointer === 'gpa'
    this.pasidBeyondGlx = switches.pasidBeyondGlx
    this.nonCanonical = switches.nonCanonical
  }

  /**
   * Translates one address.
   *
   * @param pasid - 0 for a request without PASID
   * @param needed - rights that the request needs: bits of `rights.ts`
   */
  walk(regime: GuestRegime, pasid: number, lo: number, hi: number, needed: number): Fault {
    const { tables } = this
    this.gpaLo = 0
    this.gpaHi = 0
    this.endedInHost = false
    tables.faultInHost = false
    if (pasid >>> Math.imul(9, regime.gcr3Levels) !== 0 && this.pasidBeyondGlx !== noFault) {
      return this.pasidBeyondGlx
    }
    const width = levelShift(regime.guestLevels + 1)
    // PASID 0 serves requests without PASID, whose addresses have no sign.
    const isSigned = pasid > 0 || (this.signsPasid0 && (regime.flags & RegimeFlag.isUntagged) === 0)
    const isCanonical = isSigned ? isSignExtended(width - 1, lo, hi) : !anyBitFrom(width, lo, hi)
    if (!isCanonical) return this.nonCanonical
    if (tables.caches !== null) return this.walkCached(tables.caches, regime, pasid, lo, hi, needed)
    const paths = tables.trace === null ? this.paths : null
    if (paths?.find(regime, pasid, lo, hi) === true) {
      const neededEarly = this.neededOfGuest(needed) & this.checkedEarly
      // A right that the path lacks is refused by the entry that lacks it, so that one is to be found first.
      if ((paths.rights & neededEarly) === neededEarly) {
        this.gpaLo = paths.frameLo
        this.gpaHi = paths.frameHi
        tables.reads += paths.guestReads
        this.host.reads += paths.hostReads
        return this.walkTables(regime, pasid, lo, hi, needed, paths.level, paths.rights, Path.known)
      }
    }
    const fault = this.walkGcr3(regime, pasid, paths !== null)
    if (fault !== noFault) return fault
    return this.walkTables(
      regime,
      pasid,
      lo,
      hi,
      needed,
      regime.guestLevels,
      allRights,
      paths === null ? Path.none : Path.kept,
    )
  }

  /** Starts where the modelled caches let it: at a guest table, at the guest's top table, or from the beginning. */
  private walkCached(
    caches: WalkCaches,
    regime: GuestRegime,
    pasid: number,
    lo: number,
    hi: number,
    needed: number,
  ): Fault {
    caches.forgetGpas()
    if (caches.findDirectory(pasid, lo, hi)) {
      this.gpaLo = caches.tableLo
      this.gpaHi = caches.tableHi
      return this.walkTables(regime, pasid, lo, hi, needed, caches.level, caches.rights, Path.none)
    }
    if (caches.findGuestRoot(pasid)) {
      this.gpaLo = caches.tableLo
      this.gpaHi = caches.tableHi
    } else {
      const fault = this.walkGcr3(regime, pasid, false)
      if (fault !== noFault) return fault
      caches.keepGuestRoot(pasid, this.gpaLo, this.gpaHi)
    }
    return this.walkTables(regime, pasid, lo, hi, needed, regime.guestLevels, allRights, Path.none)
  }

  /** Finds the guest's top table: afterwards its GPA stands in `gpaLo` and `gpaHi`. */
  private walkGcr3(regime: GuestRegime, pasid: number, keepsPath: boolean): Fault {
    const { tables } = this
    let tableLo = regime.gcr3Lo | 0
    let tableHi = regime.gcr3Hi | 0
    let isNested = (regime.flags & RegimeFlag.gcr3Nested) !== 0
    for (let shift = Math.imul(9, regime.gcr3Levels - 1) | 0; shift >= 0; shift = (shift - 9) | 0) {
      const entryLo = tableLo | (((pasid >>> shift) & 511) << 3)
      const fault = tables.read(regime, isNested, 'gcr3-table', entryLo, tableHi)
      if (fault !== noFault) return this.failAt(fault, entryLo, tableHi)
      const { valueLo, valueHi } = tables
      if ((valueLo & present) === 0) return notPresent
      if ((valueLo & 0xffe) !== 0 || valueHi >>> 20 !== 0) return reservedBitSet
      if (keepsPath) tables.markPages()
      tableLo = valueLo & frameMask
      tableHi = valueHi & 0xfffff
      isNested ||= this.nestsNextGcr3
    }
    this.gpaLo = tableLo
    this.gpaHi = tableHi
    return noFault
  }

  /**
   * From the table of `top` at the GPA in `gpaLo` and `gpaHi` down.
   *
   * @param passed - what the levels above it grant
   * @param path - one of {@link Path}
   */
  private walkTables(
    regime: GuestRegime,
    pasid: number,
    lo: number,
    hi: number,
    needed: number,
    top: number,
    passed: number,
    path: number,
  ): Fault {
    const { tables } = this
    const { caches } = tables
    const flags = regime.flags | 0
    const granted = regime.granted | mayExecute | userMay
    const checksNoExecute = (flags & RegimeFlag.checksNoExecute) !== 0
    const markBits = (flags & RegimeFlag.setsAccessed) !== 0 ? accessed : 0
    const isWritten = (needed & mayWrite) !== 0 && (flags & RegimeFlag.setsDirty) !== 0
    const neededOfGuest = this.neededOfGuest(needed)
    const neededEarly = neededOfGuest & this.checkedEarly
    let tableLo = this.gpaLo | 0
    let tableHi = this.gpaHi | 0
    let rights = granted & passed
    // What the device's entry does not grant is no matter of the tables.
    let ofTables = passed
    for (let level = top | 0; ; level = (level - 1) | 0) {
      const entryLo = tableLo | (levelIndex(level, lo, hi) << 3)
      const above = rights
      const readFault =
        (path & Path.known) !== 0 && level === top
          ? this.readKnown(entryLo)
          : tables.read(regime, true, 'guest-table', entryLo, tableHi)
      if (readFault !== noFault) return this.failAt(readFault, entryLo, tableHi)
      const { valueLo, valueHi } = tables
      if ((valueLo & present) === 0) return notPresent
      const isLeaf = level === 1 || (valueLo & pageSize) !== 0
      if (!checksNoExecute && (valueHi & noExecute) !== 0) return reservedBitSet
      if (isLeaf && (valueLo & reservedInLeaf(level)) !== 0) return reservedBitSet
      let refused = 0
      if ((valueLo & writable) === 0) refused = mayWrite
      if ((valueLo & user) === 0 && (flags & RegimeFlag.checksUser) !== 0) refused |= userMay
      if ((valueHi & noExecute) !== 0) refused |= mayExecute
      rights &= ~refused
      ofTables &= ~refused
      if ((rights & neededEarly) !== neededEarly) return denied
      if (isLeaf && (~rights & neededOfGuest & this.checkedAtLeaf) !== 0) return denied
      const bits = isLeaf && isWritten ? markBits | dirty : markBits
      if ((valueLo & bits) !== bits || tables.alwaysMarks) {
        const markFault = tables.mark(regime, bits, entryLo, tableHi)
        if (markFault !== noFault) return this.failAt(markFault, entryLo, tableHi)
      }
      if ((path & Path.kept) !== 0) {
        if (isLeaf) this.keepPath(level, tableLo, tableHi, above)
        else tables.markPages()
      }
      tableLo = valueLo & frameMask
      tableHi = valueHi & 0xfffff
      if (isLeaf) return this.finish(regime, levelShift(level), tableLo, tableHi, lo, hi, rights, needed)
      if (caches !== null) {
        caches.keepDirectory(pasid, lo, hi, level - 1, tableLo, tableHi, ofTables)
      }
    }
  }

  private readKnown(entryLo: number): Fault {
    const paths = this.paths!
    return this.tables.readAt(paths.placeLo | (entryLo & 0xfff), paths.placeHi, paths.placeRights)
  }

  /** Keeps the path to the table whose entry was just read. */
  private keepPath(level: number, tableLo: number, tableHi: number, rights: number): void {
    const { tables, host } = this
    tables.markPlace()
    this.paths!.keep(level, tableLo, tableHi, rights, tables.reads - 1, host.reads, tables)
  }

  /** The last step: the page's GPA through the host table, with the rights that the request needs. */
  private finish(
    regime: GuestRegime,
    sizeLog2: number,
    frameLo: number,
    frameHi: number,
    lo: number,
    hi: number,
    rights: number,
    needed: number,
  ): Fault {
    const { host, tables } = this
    const offsetLo = lowMaskLo(sizeLog2)
    const offsetHi = lowMaskHi(sizeLog2)
    const gpaLo = (frameLo & ~offsetLo) | (lo & offsetLo)
    const gpaHi = (frameHi & ~offsetHi) | (hi & offsetHi)
    const neededOfGuest = this.neededOfGuest(needed)
    this.gpaLo = gpaLo
    this.gpaHi = gpaHi
    this.isDirty = (tables.valueLo & dirty) !== 0 || (needed & mayWrite) !== 0
    this.guestSizeLog2 = sizeLog2
    this.guestRights = rights
    if (tables.caches !== null) tables.caches.notePage(gpaLo, gpaHi)
    if (regime.hostMode === 0) {
      this.spaLo = gpaLo
      this.spaHi = gpaHi
      this.sizeLog2 = sizeLog2
      this.rights = rights
      return (rights & neededOfGuest) === neededOfGuest ? noFault : denied
    }
    const { hostRootLo, hostRootHi, hostMode, granted } = regime
    const neededOfHost = needed & (mayRead | mayWrite)
    const fault = host.walk(hostRootLo, hostRootHi, hostMode, gpaLo, gpaHi, granted, neededOfHost)
    this.spaLo = host.spaLo
    this.spaHi = host.spaHi
    if (fault !== noFault) {
      this.endedInHost = true
      return fault
    }
    if ((rights & neededOfGuest) !== neededOfGuest) return denied
    this.sizeLog2 = host.sizeLog2 < sizeLog2 ? host.sizeLog2 : sizeLog2
    this.rights = rights & (host.rights | ~(mayRead | mayWrite))
    return noFault
  }

  /** What a request needs that the guest's tables can grant. */
  private neededOfGuest(needed: number): number {
    return (needed & userMay) === 0 && this.supervisorIgnoresRw ? needed & ~mayWrite : needed
  }

  /** A fault on the way to the entry at a GPA, or in setting bits there. */
  private failAt(fault: Fault, gpaLo: number, gpaHi: number): Fault {
    const { tables } = this
    this.spaLo = tables.spaLo
    this.spaHi = tables.spaHi
    this.endedInHost = tables.faultInHost
    this.gpaLo = gpaLo
    this.gpaHi = gpaHi
    return fault
  }
}
