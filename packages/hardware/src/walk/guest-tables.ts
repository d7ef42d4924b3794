/**
 * Reading entries of GCR3 and guest tables, through the host table where there is one, and setting A and D in them.
 *
 * AMD 48882 rev 3.10, guest page tables: these accesses are implied ones, with rights of their own.
 *
 * @packageDocumentation
 */
import type { SparseMemory } from '../memory/sparse-memory.js'
import type { Switches } from '../switches.js'
import { denied, noFault, tableUnreadable } from './fault.js'
import type { Fault } from './fault.js'
import type { GuestRegime } from './guest-regime.js'
import { RegimeFlag } from './guest-regime.js'
import { marksDirty } from './host-walk.js'
import type { HostWalk } from './host-walk.js'
import { dirtyKept, mayRead, mayWrite } from './rights.js'
import type { TableKind, WalkTrace } from './trace.js'
import type { WalkCaches } from './walk-caches.js'

/** See the file's comment. */
export class GuestTables {
  /** The entry read last. */
  valueLo = 0
  valueHi = 0
  /** Its SPA; after a host walk's {@link tableUnreadable}, that of the host's entry. */
  spaLo = 0
  spaHi = 0
  /** Whether the last fault came from the host table. */
  faultInHost = false
  /** Entries read since the owner set it to zero; the host's are counted there. */
  reads = 0
  trace: WalkTrace | null = null
  /** The modelled caches; null: none, or not for this walk. */
  caches: WalkCaches | null = null

  /** What the host table grants where the entry lies. */
  placeRights = 0
  /** Whether the host's last walk was the one to that place. */
  private placeIsWalked = false
  /** Whether tables without a host table need DTE.IR and IW too. */
  private readonly checksImplied: boolean
  private readonly markRights: 'when-changing' | 'always' | 'never'
  /** Whether {@link mark} has something to check even if the bits are set. */
  readonly alwaysMarks: boolean

  constructor(
    private readonly memory: SparseMemory,
    private readonly host: HostWalk,
    { choices }: Switches,
  ) {
    this.checksImplied = choices.impliedDteRights === 'always'
    this.markRights = choices.guestMarkRights
    this.alwaysMarks = choices.guestMarkRights === 'always'
  }

  /** Reads the entry at an address: a GPA, or an SPA where the GCR3 table's pointers are. */
  read(regime: GuestRegime, isNested: boolean, kind: TableKind, addressLo: number, addressHi: number): Fault {
    let lo = addressLo
    let hi = addressHi
    if (isNested && regime.hostMode !== 0) {
      const fault = this.locate(regime, addressLo, addressHi)
      if (fault !== noFault) {
        this.faultInHost = true
        return fault
      }
      lo = this.spaLo
      hi = this.spaHi
    } else {
      this.placeIsWalked = false
      if (isNested && this.checksImplied && (regime.granted & mayRead) === 0) return denied
    }
    if (this.trace !== null) this.trace.read(kind, lo, hi)
    return this.load(lo, hi)
  }

  /** Reads an entry of which it is known where it lies, and what the host table grants there. */
  readAt(lo: number, hi: number, rights: number): Fault {
    this.placeRights = rights
    this.placeIsWalked = false
    return this.load(lo, hi)
  }

  /**
   * Sets bits of A and D in the entry just read; the host must then let its page be written.
   *
   * @param lo - GPA of the entry
   */
  mark(regime: GuestRegime, bits: number, lo: number, hi: number): Fault {
    const { memory, host } = this
    const isSet = (this.valueLo & bits) === bits
    if (isSet && (bits === 0 || !this.alwaysMarks)) return noFault
    if (this.markRights !== 'never' && !this.mayMark(regime)) {
      this.faultInHost = regime.hostMode !== 0
      return denied
    }
    if (isSet) return noFault
    const { spaLo, spaHi } = this
    if (regime.hostMode !== 0) {
      // A place that was known without a walk has no trail to mark: walk it now.
      if (!this.placeIsWalked) {
        const before = host.reads
        const fault = this.locateByWalk(regime, lo, hi)
        host.reads = before
        if (fault !== noFault) {
          this.faultInHost = true
          return fault
        }
      }
      host.mark(true)
    }
    if ((regime.flags & RegimeFlag.stores) === 0) return noFault
    // An OR on the word as it is now: the host entry that was just marked may be this very word.
    const now = memory.words.array[memory.wordOf(spaLo, spaHi)]!
    memory.store32(spaLo, spaHi, now | bits)
    if (this.trace !== null) this.trace.store('guest-table', spaLo, spaHi)
    return noFault
  }

  /** Marks the memory pages by which the entry read last was found, so that a change to one is noticed. */
  markPlace(): void {
    if (this.placeIsWalked) this.host.markPagesRead()
  }

  /** The same, and the page that the entry lies in. */
  markPages(): void {
    this.markPlace()
    this.memory.words.mark(this.memory.wordOf(this.spaLo, this.spaHi))
  }

  private load(lo: number, hi: number): Fault {
    const word = this.memory.wordOf(lo, hi)
    this.reads += 1
    this.spaLo = lo
    this.spaHi = hi
    if (word < 0) return tableUnreadable
    const pool = this.memory.words.array
    this.valueLo = pool[word]!
    this.valueHi = pool[(word + 1) | 0]!
    return noFault
  }

  /** Finds where a table's GPA lies, and what the host grants there. */
  private locate(regime: GuestRegime, lo: number, hi: number): Fault {
    if (this.caches !== null) return this.locateCached(this.caches, regime, lo, hi)
    return this.locateByWalk(regime, lo, hi)
  }

  private locateByWalk(regime: GuestRegime, lo: number, hi: number): Fault {
    const { host } = this
    const { hostRootLo, hostRootHi, hostMode, impliedGranted } = regime
    const fault = host.walk(hostRootLo, hostRootHi, hostMode, lo, hi, impliedGranted, mayRead)
    this.spaLo = host.spaLo
    this.spaHi = host.spaHi
    this.placeRights = host.rights
    this.placeIsWalked = true
    return fault
  }

  /** With modelled entries from GPA to SPA, tables are found by them too. */
  private locateCached(caches: WalkCaches, regime: GuestRegime, lo: number, hi: number): Fault {
    const { host } = this
    caches.noteTable(lo, hi)
    if (caches.findGpa(lo, hi, mayRead | regime.impliedGranted)) {
      this.spaLo = caches.spaLo
      this.spaHi = caches.spaHi
      this.placeRights = caches.rights
      this.placeIsWalked = false
      return noFault
    }
    const fault = this.locateByWalk(regime, lo, hi)
    if (fault !== noFault) return fault
    const kept = (host.marking & marksDirty) === 0 || host.isDirty ? dirtyKept : 0
    const rights = (host.rights & (mayRead | mayWrite)) | kept
    caches.keepGpa(lo, hi, host.sizeLog2, host.spaLo, host.spaHi, rights)
    return noFault
  }

  /** Whether the page of the entry just read may be written. */
  private mayMark(regime: GuestRegime): boolean {
    if (regime.hostMode !== 0) return (this.placeRights & mayWrite) !== 0
    return !this.checksImplied || (regime.granted & mayWrite) !== 0
  }
}
