/**
 * The walk of guest (v2) tables: GCR3 table by PASID, four or five levels of guest table, and, when the device also
 * has a host table, every one of these accesses through it. That is the nested walk: there is no other.
 *
 * AMD 48882 rev 3.10, guest page tables, GCR3 tables, GCR3TRPMode.
 *
 * @packageDocumentation
 */
import { withoutPasid } from '../cache/iotlb.js'
import type { TaggedCache } from '../cache/tagged-cache.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import type { Switches } from '../switches.js'
import type { TranslationCaches } from '../translation-caches.js'
import { anyBitFrom, isSignExtended, levelIndex, levelShift, lowMaskHi, lowMaskLo } from './address-bits.js'
import { denied, noFault, notPresent, reservedBitSet, tableUnreadable } from './fault.js'
import type { Fault } from './fault.js'
import type { HostWalk } from './host-walk.js'
import { allRights, dirtyKept, mayExecute, mayRead, mayWrite, userMay } from './rights.js'
import type { TablePageCache } from './table-page-cache.js'
import type { TableKind, WalkTrace } from './trace.js'

/** The page's own GPA, and those of three GCR3 and five guest tables. */
const maxGpas = 9

/** Bits of the low word of a guest table entry. */
const present = 0x01
const writable = 0x02
const user = 0x04
const accessed = 0x20
const dirty = 0x40
const pageSize = 0x80
/** NX, in the high word. */
const noExecute = 0x80000000 | 0

/** Reserved address bits of a 2 MiB leaf, 20:13, and of a 1 GiB leaf, 29:13. */
const reserved2M = 0x001fe000
const reserved1G = 0x3fffe000

/** What of the device table entry and the control register a guest walk needs; filled in by the caller. */
export interface GuestRegime {
  /** Root of the GCR3 table: an SPA, or a GPA when `gcr3Nested`. */
  gcr3Lo: number
  gcr3Hi: number
  /** GLX + 1. */
  gcr3Levels: number
  /** 4 or 5. */
  guestLevels: number
  /** Mode and root of the host table; mode 0: a GPA is an SPA. */
  hostMode: number
  hostRootLo: number
  hostRootHi: number
  /** Whether GCR3 table pointers are GPAs: Control.GCR3TRPMode. */
  gcr3Nested: boolean
  /** DTE.IR and DTE.IW as rights. */
  granted: number
  /** The same for accesses to tables on behalf of a request. */
  impliedGranted: number
  /** Whether the request brought no PASID: its addresses have no sign. */
  isUntagged: boolean
  /** EFR.NXSup and EFR.USSup. */
  checksNoExecute: boolean
  checksUser: boolean
  /** Whether hardware sets A and D in guest entries. */
  setsAccessed: boolean
  setsDirty: boolean
  /** Whether bits are stored, or only the right to store them is checked. */
  stores: boolean
}

/** Walks guest tables. The answer of the last walk stands in the fields. */
export class GuestWalk {
  /** SPA that the last walk gave; after a host walk's {@link tableUnreadable}, the SPA of the entry. */
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
  /** Guest and GCR3 table entries read since the owner set it to zero; the host's reads are counted there. */
  reads = 0
  trace: WalkTrace | null = null
  /** log2 of the guest's page, whatever the host's. */
  guestSizeLog2 = 0
  /** Rights of the guest tables, whatever the host grants. */
  guestRights = 0
  /** The modelled caches, and under what this walk's finds are filed; null: none, or not for this walk. */
  caches: TranslationCaches | null = null
  domainId = 0
  filler = 0
  /** GPAs that the last walk came by, for entries that remember them: the page's own first. */
  readonly gpas = new Int32Array(2 * maxGpas)
  gpaCount = 0
  /** Walks that cached directories shortened, and those that they did not, since the owner set them to zero. */
  directoryHits = 0
  directoryMisses = 0

  /** Where the entry lies that {@link readEntry} read, and what it holds. */
  private entryLo = 0
  private entryHi = 0
  private entryGpaLo = 0
  private entryGpaHi = 0
  private valueLo = 0
  private valueHi = 0

  /** Where the host table has put the last table entry, and what it grants there. */
  private placeLo = 0
  private placeHi = 0
  private placeRights = 0
  /** Whether the host's last walk was the one to that place. */
  private placeIsWalked = false

  private readonly checksEach: boolean
  private readonly checksAtLeaf: boolean
  private readonly supervisorIgnoresRw: boolean
  private readonly signsPasid0: boolean
  private readonly nestsNextGcr3: boolean
  /** Whether tables without a host table need DTE.IR and IW too. */
  private readonly checksImplied: boolean
  private readonly markRights: 'when-changing' | 'always' | 'never'

  constructor(
    private readonly memory: SparseMemory,
    private readonly host: HostWalk,
    private readonly switches: Switches,
    /** Null: every access walks the host table. */
    private readonly tablePages: TablePageCache | null,
  ) {
    const { choices } = switches
    this.checksEach = choices.rightsOrder === 'each-level'
    this.checksAtLeaf = choices.rightsOrder === 'leaf'
    this.supervisorIgnoresRw = choices.supervisorWrite === 'ignores-rw'
    this.signsPasid0 = choices.pasid0Tagged === 'sign-extended'
    this.nestsNextGcr3 = choices.gcr3NextPointer === 'gpa'
    this.checksImplied = choices.impliedDteRights === 'always'
    this.markRights = choices.guestMarkRights
  }

  /**
   * Translates one address.
   *
   * @param pasid - 0 for a request without PASID
   * @param needed - rights that the request needs: bits of `rights.ts`
   */
  walk(regime: GuestRegime, pasid: number, lo: number, hi: number, needed: number): Fault {
    this.endedInHost = false
    if (pasid >>> (9 * regime.gcr3Levels) !== 0 && this.switches.pasidBeyondGlx !== noFault) {
      return this.switches.pasidBeyondGlx
    }
    const width = 12 + 9 * regime.guestLevels
    // PASID 0 serves requests without PASID, whose addresses have no sign.
    const isSigned = pasid > 0 || (this.signsPasid0 && !regime.isUntagged)
    const isCanonical = isSigned ? isSignExtended(width - 1, lo, hi) : !anyBitFrom(width, lo, hi)
    if (!isCanonical) return this.switches.nonCanonical
    this.gpaCount = 1
    if (this.caches !== null) return this.walkCached(this.caches, regime, pasid, lo, hi, needed)
    const fault = this.walkGcr3(regime, pasid)
    return fault === noFault
      ? this.walkTables(regime, pasid, lo, hi, needed, regime.guestLevels, allRights)
      : fault
  }

  /** Starts where the modelled caches let it: at a guest table, at the guest's top table, or from the beginning. */
  private walkCached(
    caches: TranslationCaches,
    regime: GuestRegime,
    pasid: number,
    lo: number,
    hi: number,
    needed: number,
  ): Fault {
    const { directories, guestRoots } = caches
    if (directories?.lookup(directories.domainRecord(this.domainId), this.domainId, pasid, lo, hi) === true) {
      this.gpaLo = directories.frameLo
      this.gpaHi = directories.frameHi
      this.directoryHits += 1
      return this.walkTables(regime, pasid, lo, hi, needed, directories.level, directories.rights)
    }
    if (directories !== null) this.directoryMisses += 1
    if (guestRoots?.lookup(guestRoots.domainRecord(this.domainId), this.domainId, pasid, 0, 0) === true) {
      this.gpaLo = guestRoots.frameLo
      this.gpaHi = guestRoots.frameHi
    } else {
      const fault = this.walkGcr3(regime, pasid)
      if (fault !== noFault) return fault
      if (guestRoots !== null) this.keepTable(guestRoots, pasid, 0, 0, 12, 0, allRights)
    }
    return this.walkTables(regime, pasid, lo, hi, needed, regime.guestLevels, allRights)
  }

  /** Files the table at the GPA in `gpaLo` and `gpaHi` under a span of addresses. */
  private keepTable(
    cache: TaggedCache,
    pasid: number,
    lo: number,
    hi: number,
    size: number,
    level: number,
    passed: number,
  ): void {
    const record = cache.domainRecord(this.domainId)
    cache.fillTable(
      record,
      this.domainId,
      pasid,
      lo,
      hi,
      size,
      this.gpaLo,
      this.gpaHi,
      passed,
      this.filler,
      level,
    )
  }

  /** Finds the guest's top table: afterwards its GPA stands in `gpaLo` and `gpaHi`. */
  private walkGcr3(regime: GuestRegime, pasid: number): Fault {
    this.gpaLo = regime.gcr3Lo
    this.gpaHi = regime.gcr3Hi
    let isNested = regime.gcr3Nested
    for (let level = regime.gcr3Levels - 1; level >= 0; level--) {
      const index = (pasid >>> (9 * level)) & 511
      const fault = this.readEntry(regime, isNested, 'gcr3-table', index)
      if (fault !== noFault) return fault
      if ((this.valueLo & present) === 0) return notPresent
      if ((this.valueLo & 0xffe) !== 0 || this.valueHi >>> 20 !== 0) return reservedBitSet
      this.gpaLo = this.valueLo & 0xfffff000
      this.gpaHi = this.valueHi & 0xfffff
      isNested ||= this.nestsNextGcr3
    }
    return noFault
  }

  /** From the table of `top` at the GPA in `gpaLo` and `gpaHi` down; `passed` is what the levels above it grant. */
  private walkTables(
    regime: GuestRegime,
    pasid: number,
    lo: number,
    hi: number,
    needed: number,
    top: number,
    passed: number,
  ): Fault {
    const directories = this.caches === null ? null : this.caches.directories
    const granted = regime.granted | mayExecute | userMay
    let rights = granted & passed
    const isSupervisor = (needed & userMay) === 0
    const neededOfGuest = isSupervisor && this.supervisorIgnoresRw ? needed & ~mayWrite : needed
    const neededEarly = this.checksEach ? neededOfGuest : 0
    for (let level = top; ; level--) {
      const readFault = this.readEntry(regime, true, 'guest-table', levelIndex(level, lo, hi))
      if (readFault !== noFault) return readFault
      const valueLo = this.valueLo
      const valueHi = this.valueHi
      if ((valueLo & present) === 0) return notPresent
      const isLeaf = level === 1 || (valueLo & pageSize) !== 0
      if (hasReservedBits(level, isLeaf, valueLo, valueHi, regime.checksNoExecute)) return reservedBitSet
      if ((valueLo & writable) === 0) rights &= ~mayWrite
      if (regime.checksUser && (valueLo & user) === 0) rights &= ~userMay
      if (regime.checksNoExecute && (valueHi & noExecute) !== 0) rights &= ~mayExecute
      if ((rights & neededEarly) !== neededEarly) return denied
      if (isLeaf && this.checksAtLeaf && (rights & neededOfGuest) !== neededOfGuest) return denied
      const markFault = this.mark(regime, isLeaf && (needed & mayWrite) !== 0)
      if (markFault !== noFault) return markFault
      if (isLeaf) return this.finish(regime, levelShift(level), lo, hi, rights, needed, neededOfGuest)
      this.gpaLo = valueLo & 0xfffff000
      this.gpaHi = valueHi & 0xfffff
      if (directories !== null) {
        // What the device's entry does not grant is no matter of the tables.
        const ofTables = rights | (~granted & allRights)
        this.keepTable(directories, pasid, lo, hi, levelShift(level), level - 1, ofTables)
      }
    }
  }

  /** The last step: the page's GPA through the host table, with the rights that the request needs. */
  private finish(
    regime: GuestRegime,
    sizeLog2: number,
    lo: number,
    hi: number,
    rights: number,
    needed: number,
    neededOfGuest: number,
  ): Fault {
    const offsetLo = lowMaskLo(sizeLog2)
    const offsetHi = lowMaskHi(sizeLog2)
    const gpaLo = (this.valueLo & 0xfffff000 & ~offsetLo) | (lo & offsetLo)
    const gpaHi = (this.valueHi & 0xfffff & ~offsetHi) | (hi & offsetHi)
    this.gpaLo = gpaLo
    this.gpaHi = gpaHi
    this.isDirty = (this.valueLo & dirty) !== 0 || (needed & mayWrite) !== 0
    this.guestSizeLog2 = sizeLog2
    this.guestRights = rights
    this.gpas[0] = gpaLo & 0xfffff000
    this.gpas[1] = gpaHi
    if (regime.hostMode === 0) {
      this.spaLo = gpaLo
      this.spaHi = gpaHi
      this.sizeLog2 = sizeLog2
      this.rights = rights
      return (rights & neededOfGuest) === neededOfGuest ? noFault : denied
    }
    const host = this.host
    const fault = host.walk(
      regime.hostRootLo,
      regime.hostRootHi,
      regime.hostMode,
      gpaLo,
      gpaHi,
      regime.granted,
      needed & (mayRead | mayWrite),
    )
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

  /**
   * Reads entry `index` of the table at the address in `gpaLo` and `gpaHi`: a GPA, or an SPA where the GCR3 table's
   * pointers are.
   */
  private readEntry(regime: GuestRegime, isNested: boolean, kind: TableKind, index: number): Fault {
    const gpaLo = this.gpaLo | (index << 3)
    const gpaHi = this.gpaHi
    let lo = gpaLo
    let hi = gpaHi
    if (isNested) {
      if (regime.hostMode !== 0) {
        const fault = this.locate(regime, gpaLo, hi)
        lo = this.placeLo
        hi = this.placeHi
        if (fault !== noFault) return this.failInHost(fault, gpaLo, lo, hi)
      } else if (this.checksImplied && (regime.granted & mayRead) === 0) return denied
    }
    this.reads += 1
    if (this.trace !== null) this.trace.read(kind, lo, hi)
    const word = this.memory.wordOf(lo, hi)
    if (word < 0) return this.failAt(tableUnreadable, lo, hi)
    const pool = this.memory.words.array
    this.entryLo = lo
    this.entryHi = hi
    this.entryGpaLo = gpaLo
    this.entryGpaHi = gpaHi
    this.valueLo = pool[word]!
    this.valueHi = pool[word + 1]!
    return noFault
  }

  /** Finds where a table's GPA lies: `placeLo`, `placeHi`, and what the host grants there, `placeRights`. */
  private locate(regime: GuestRegime, lo: number, hi: number): Fault {
    const { host, tablePages } = this
    if (this.caches !== null) return this.locateCached(this.caches, regime, lo, hi)
    const { hostRootLo, hostRootHi, hostMode, impliedGranted } = regime
    if (tablePages === null || this.trace !== null) return this.locateByWalk(regime, lo, hi)
    if (tablePages.find(hostRootLo, hostRootHi, hostMode, impliedGranted, host.marking, lo, hi)) {
      this.placeLo = tablePages.frameLo | (lo & 0xfff)
      this.placeHi = tablePages.frameHi
      this.placeRights = tablePages.rights
      this.placeIsWalked = false
      host.reads += tablePages.reads
      return noFault
    }
    const before = host.reads
    host.notesTrail = true
    const fault = this.locateByWalk(regime, lo, hi)
    host.notesTrail = false
    if (fault === noFault) tablePages.keep(host, host.reads - before, lo, hi)
    return fault
  }

  private locateByWalk(regime: GuestRegime, lo: number, hi: number): Fault {
    const { host } = this
    const { hostRootLo, hostRootHi, hostMode, impliedGranted } = regime
    const fault = host.walk(hostRootLo, hostRootHi, hostMode, lo, hi, impliedGranted, mayRead)
    this.placeLo = host.spaLo
    this.placeHi = host.spaHi
    this.placeRights = host.rights
    this.placeIsWalked = true
    return fault
  }

  /** With modelled entries from GPA to SPA, tables are found by them too. */
  private locateCached(caches: TranslationCaches, regime: GuestRegime, lo: number, hi: number): Fault {
    if (caches.design.remembersGpas && this.gpaCount < maxGpas) {
      this.gpas[2 * this.gpaCount] = lo & 0xfffff000
      this.gpas[2 * this.gpaCount + 1] = hi
      this.gpaCount += 1
    }
    if (caches.guestToGpa === null) return this.locateByWalk(regime, lo, hi)
    const { iotlb } = caches
    const record = iotlb.domainRecord(this.domainId)
    const needed = mayRead | regime.impliedGranted
    if (iotlb.lookup(record, this.domainId, withoutPasid, lo, hi) && (iotlb.rights & needed) === needed) {
      this.placeLo = iotlb.frameLo | (lo & lowMaskLo(iotlb.sizeLog2))
      this.placeHi = iotlb.frameHi | (hi & lowMaskHi(iotlb.sizeLog2))
      this.placeRights = iotlb.rights
      this.placeIsWalked = false
      return noFault
    }
    const fault = this.locateByWalk(regime, lo, hi)
    if (fault !== noFault) return fault
    const { host } = this
    const kept = (host.marking & 0x40) === 0 || host.isDirty ? dirtyKept : 0
    iotlb.fill(
      record,
      this.domainId,
      withoutPasid,
      lo,
      hi,
      host.sizeLog2,
      host.spaLo,
      host.spaHi,
      (host.rights & (mayRead | mayWrite)) | kept,
      this.filler,
    )
    return noFault
  }

  /** Sets A, and D for a write through a leaf, in the entry just read; the host must then let its page be written. */
  private mark(regime: GuestRegime, asWritten: boolean): Fault {
    const bits = (regime.setsAccessed ? accessed : 0) | (asWritten && regime.setsDirty ? dirty : 0)
    const isSet = (this.valueLo & bits) === bits
    if (isSet && (bits === 0 || this.markRights !== 'always')) return noFault
    if (this.markRights !== 'never' && !this.mayMark(regime)) {
      if (regime.hostMode === 0) return denied
      return this.failInHost(denied, this.entryGpaLo, this.entryLo, this.entryHi)
    }
    if (isSet) return noFault
    if (regime.hostMode !== 0) {
      // A place that was known without a walk has no trail to mark: walk it now.
      if (!this.placeIsWalked) {
        const before = this.host.reads
        const fault = this.locateByWalk(regime, this.entryGpaLo, this.entryGpaHi)
        this.host.reads = before
        if (fault !== noFault) return this.failInHost(fault, this.entryGpaLo, this.placeLo, this.placeHi)
      }
      this.host.mark(true)
    }
    if (!regime.stores) return noFault
    // An OR on the word as it is now: the host entry that was just marked may be this very word.
    const now = this.memory.words.array[this.memory.wordOf(this.entryLo, this.entryHi)]!
    this.memory.store32(this.entryLo, this.entryHi, now | bits)
    if (this.trace !== null) this.trace.store('guest-table', this.entryLo, this.entryHi)
    return noFault
  }

  /** Whether the page of the entry just read may be written. */
  private mayMark(regime: GuestRegime): boolean {
    if (regime.hostMode !== 0) return (this.placeRights & mayWrite) !== 0
    return !this.checksImplied || (regime.granted & mayWrite) !== 0
  }

  private failInHost(fault: Fault, gpaLo: number, lo: number, hi: number): Fault {
    this.endedInHost = true
    this.gpaLo = gpaLo
    return this.failAt(fault, lo, hi)
  }

  private failAt(fault: Fault, lo: number, hi: number): Fault {
    this.spaLo = lo
    this.spaHi = hi
    return fault
  }
}

function hasReservedBits(
  level: number,
  isLeaf: boolean,
  valueLo: number,
  valueHi: number,
  checksNoExecute: boolean,
): boolean {
  if (!checksNoExecute && (valueHi & noExecute) !== 0) return true
  if (level === 1 || !isLeaf) return false
  if (level === 2) return (valueLo & reserved2M) !== 0
  if (level === 3) return (valueLo & reserved1G) !== 0
  return true
}
