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
import { anyBitFrom, isSignExtended, levelIndex, levelShift, lowMaskHi, lowMaskLo } from './address-bits.js'
import { denied, noFault, notPresent, reservedBitSet, tableUnreadable } from './fault.js'
import type { Fault } from './fault.js'
import type { HostWalk } from './host-walk.js'
import { mayExecute, mayRead, mayWrite, userMay } from './rights.js'
import type { TableKind, WalkTrace } from './trace.js'

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
  /** GPA that the guest tables gave. */
  gpaLo = 0
  gpaHi = 0
  /** log2 of the smaller of the guest's and the host's page. */
  sizeLog2 = 0
  rights = 0
  /** Whether the guest leaf's D bit was set, or would be by this walk: a later write then has nothing to mark. */
  isDirty = false
  /** Guest and GCR3 table entries read since the owner set it to zero; the host's reads are counted there. */
  reads = 0
  trace: WalkTrace | null = null

  /** Where the entry lies that {@link readEntry} read, and what it holds. */
  private entryLo = 0
  private entryHi = 0
  private valueLo = 0
  private valueHi = 0

  constructor(
    private readonly memory: SparseMemory,
    private readonly host: HostWalk,
    private readonly switches: Switches,
  ) {}

  /**
   * Translates one address.
   *
   * @param pasid - 0 for a request without PASID
   * @param needed - rights that the request needs: bits of `rights.ts`
   */
  walk(regime: GuestRegime, pasid: number, lo: number, hi: number, needed: number): Fault {
    if (pasid >>> (9 * regime.gcr3Levels) !== 0) return this.switches.pasidBeyondGlx
    const width = 12 + 9 * regime.guestLevels
    // PASID 0 serves requests without PASID, whose addresses have no sign.
    const isCanonical = pasid === 0 ? !anyBitFrom(width, lo, hi) : isSignExtended(width - 1, lo, hi)
    if (!isCanonical) return this.switches.nonCanonical
    const fault = this.walkGcr3(regime, pasid)
    return fault === noFault ? this.walkTables(regime, lo, hi, needed) : fault
  }

  /** Finds the guest's top table: afterwards its GPA stands in `gpaLo` and `gpaHi`. */
  private walkGcr3(regime: GuestRegime, pasid: number): Fault {
    this.gpaLo = regime.gcr3Lo
    this.gpaHi = regime.gcr3Hi
    for (let level = regime.gcr3Levels - 1; level >= 0; level--) {
      const index = (pasid >>> (9 * level)) & 511
      const through = regime.gcr3Nested ? regime.hostMode : 0
      const fault = this.readEntry(regime, through, 'gcr3-table', index)
      if (fault !== noFault) return fault
      if ((this.valueLo & present) === 0) return notPresent
      if ((this.valueLo & 0xffe) !== 0 || this.valueHi >>> 20 !== 0) return reservedBitSet
      this.gpaLo = this.valueLo & 0xfffff000
      this.gpaHi = this.valueHi & 0xfffff
    }
    return noFault
  }

  private walkTables(regime: GuestRegime, lo: number, hi: number, needed: number): Fault {
    let rights = regime.granted | mayExecute | userMay
    for (let level = regime.guestLevels; ; level--) {
      const readFault = this.readEntry(regime, regime.hostMode, 'guest-table', levelIndex(level, lo, hi))
      if (readFault !== noFault) return readFault
      const valueLo = this.valueLo
      const valueHi = this.valueHi
      if ((valueLo & present) === 0) return notPresent
      const isLeaf = level === 1 || (valueLo & pageSize) !== 0
      if (hasReservedBits(level, isLeaf, valueLo, valueHi, regime.checksNoExecute)) return reservedBitSet
      if ((valueLo & writable) === 0) rights &= ~mayWrite
      if (regime.checksUser && (valueLo & user) === 0) rights &= ~userMay
      if (regime.checksNoExecute && (valueHi & noExecute) !== 0) rights &= ~mayExecute
      if ((rights & needed) !== needed) return denied
      const markFault = this.mark(regime, isLeaf && (needed & mayWrite) !== 0)
      if (markFault !== noFault) return markFault
      if (isLeaf) return this.finish(regime, levelShift(level), lo, hi, rights, needed)
      this.gpaLo = valueLo & 0xfffff000
      this.gpaHi = valueHi & 0xfffff
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
  ): Fault {
    const offsetLo = lowMaskLo(sizeLog2)
    const offsetHi = lowMaskHi(sizeLog2)
    const gpaLo = (this.valueLo & 0xfffff000 & ~offsetLo) | (lo & offsetLo)
    const gpaHi = (this.valueHi & 0xfffff & ~offsetHi) | (hi & offsetHi)
    this.gpaLo = gpaLo
    this.gpaHi = gpaHi
    this.isDirty = (this.valueLo & dirty) !== 0 || (needed & mayWrite) !== 0
    if (regime.hostMode === 0) {
      this.spaLo = gpaLo
      this.spaHi = gpaHi
      this.sizeLog2 = sizeLog2
      this.rights = rights
      return noFault
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
    if (fault !== noFault) return fault
    this.sizeLog2 = host.sizeLog2 < sizeLog2 ? host.sizeLog2 : sizeLog2
    this.rights = rights & (host.rights | ~(mayRead | mayWrite))
    return noFault
  }

  /** Reads entry `index` of the table at the GPA in `gpaLo` and `gpaHi`, through the host table unless its mode is 0. */
  private readEntry(regime: GuestRegime, hostMode: number, kind: TableKind, index: number): Fault {
    const gpaLo = this.gpaLo | (index << 3)
    let lo = gpaLo
    let hi = this.gpaHi
    if (hostMode !== 0) {
      const host = this.host
      const fault = host.walk(
        regime.hostRootLo,
        regime.hostRootHi,
        hostMode,
        gpaLo,
        hi,
        regime.granted,
        mayRead,
      )
      lo = host.spaLo
      hi = host.spaHi
      if (fault !== noFault) return this.failAt(fault, lo, hi)
    }
    this.reads += 1
    if (this.trace !== null) this.trace.read(kind, lo, hi)
    const word = this.memory.wordOf(lo, hi)
    if (word < 0) return this.failAt(tableUnreadable, lo, hi)
    const pool = this.memory.words.array
    this.entryLo = lo
    this.entryHi = hi
    this.valueLo = pool[word]!
    this.valueHi = pool[word + 1]!
    return noFault
  }

  /** Sets A, and D for a write through a leaf, in the entry just read; the host must then let its page be written. */
  private mark(regime: GuestRegime, asWritten: boolean): Fault {
    const bits = (regime.setsAccessed ? accessed : 0) | (asWritten && regime.setsDirty ? dirty : 0)
    if ((this.valueLo & bits) === bits) return noFault
    if (regime.hostMode !== 0) {
      if ((this.host.rights & mayWrite) === 0) return denied
      this.host.mark(true)
    }
    if (!regime.stores) return noFault
    // An OR on the word as it is now: the host entry that was just marked may be this very word.
    const now = this.memory.words.array[this.memory.wordOf(this.entryLo, this.entryHi)]!
    this.memory.store32(this.entryLo, this.entryHi, now | bits)
    if (this.trace !== null) this.trace.store('guest-table', this.entryLo, this.entryHi)
    return noFault
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
