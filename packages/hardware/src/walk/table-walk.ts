/**
 * The walk of the tables that a device table entry names: host, guest or nested.
 *
 * AMD 48882 rev 3.10, translation of requests, the walk. The answer stands in the result words.
 *
 * @packageDocumentation
 */
import { dteSlot } from '../cache/device-table-cache.js'
import { withoutPasid } from '../cache/iotlb.js'
import type { Features } from '../features.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import { controlHi, mmio } from '../mmio.js'
import type { Registers } from '../registers.js'
import type { Switches } from '../switches.js'
import { ResultWord } from './answer.js'
import type { Fault } from './fault.js'
import { GuestPathCache } from './guest-path-cache.js'
import { GuestRegime, RegimeFlag } from './guest-regime.js'
import { GuestWalk } from './guest-walk.js'
import { HostPathCache } from './host-path-cache.js'
import {
  HostWalk,
  leafReservedHi,
  leafReservedMigratingHi,
  marksAccessed,
  marksDirty,
  marksNothing,
} from './host-walk.js'
import type { HostMarking } from './host-walk.js'
import { allRights, dirtyKept, mayRead, mayWrite } from './rights.js'
import type { WalkTrace } from './trace.js'
import type { WalkCaches } from './walk-caches.js'

/** See the file's comment. */
export class TableWalk {
  readonly host: HostWalk
  readonly guest: GuestWalk
  private readonly regime = new GuestRegime()
  /** The model's own cache of ways through guest tables; null: none. */
  private readonly guestPaths: GuestPathCache | null
  /** Flags of the regime that do not depend on the request, and HADUpdate. */
  private regimeFlags = 0
  private hadUpdate = 0
  private readonly impliedNeedsEntry: boolean

  constructor(
    private readonly memory: SparseMemory,
    private readonly registers: Registers,
    private readonly features: Features,
    switches: Switches,
    private readonly result: Int32Array,
    /** Whether the model's own caches are used; see `host-path-cache.ts`. */
    keepsPaths: boolean,
  ) {
    const hostPaths = keepsPaths ? new HostPathCache(memory) : null
    this.guestPaths = keepsPaths ? new GuestPathCache(memory) : null
    this.host = new HostWalk(memory, switches, features.hostLevels, hostPaths)
    this.guest = new GuestWalk(memory, this.host, switches, this.guestPaths)
    this.impliedNeedsEntry = switches.choices.impliedDteRights !== 'never'
    this.controlChanged()
  }

  watch(trace: WalkTrace | null): void {
    this.host.trace = trace
    this.guest.tables.trace = trace
  }

  /** Which modelled caches the next walk uses; null: none. */
  use(caches: WalkCaches | null): void {
    this.host.caches = caches
    this.guest.tables.caches = caches
  }

  /** To be called after the control register changed: what walks check and set depends on it. */
  controlChanged(): void {
    const { noExecute, userPages, pageMigration } = this.features
    const control = this.registers.hi(mmio.control)
    this.hadUpdate = (control >>> 14) & 3
    this.regimeFlags =
      (noExecute ? RegimeFlag.checksNoExecute : 0) |
      (userPages ? RegimeFlag.checksUser : 0) |
      ((control & controlHi.gcr3TrpMode) !== 0 ? RegimeFlag.gcr3Nested : 0) |
      ((control & controlHi.guestAccessedOff) === 0 ? RegimeFlag.setsAccessed : 0) |
      ((control & controlHi.guestDirtyOff) === 0 ? RegimeFlag.setsDirty : 0)
    const migrates = pageMigration && (control & controlHi.pageMigrationEn) !== 0
    const leafReserved = migrates ? leafReservedMigratingHi : leafReservedHi
    if (leafReserved === this.host.leafReserved) return
    this.host.leafReserved = leafReserved
    this.guestPaths?.clear()
  }

  /**
   * Walks from the beginning.
   *
   * @param slot - the device's table entry
   * @param pasid - {@link withoutPasid} for the host table alone
   * @param isFresh - nothing is set in a table
   * @param isUntagged - the request brought no PASID, though it goes through guest tables
   */
  walk(
    slot: number,
    pasid: number,
    lo: number,
    hi: number,
    needed: number,
    isFresh: boolean,
    isUntagged: boolean,
  ): Fault {
    const { host, guest, regime, result } = this
    const pool = this.memory.words.array
    const q0Lo = pool[slot]!
    const q0Hi = pool[slot + 1]!
    host.reads = 0
    host.marking = isFresh ? marksNothing : this.hostMarking(q0Lo)
    if (pasid === withoutPasid) {
      const granted = q0Hi & (mayRead | mayWrite)
      const fault = host.walk(q0Lo, q0Hi, (q0Lo >>> 9) & 7, lo, hi, granted, needed)
      guest.endedInHost = false
      result[ResultWord.spaLo] = host.spaLo
      result[ResultWord.spaHi] = host.spaHi
      result[ResultWord.sizeLog2] = host.sizeLog2
      result[ResultWord.rights] = host.rights & (mayRead | mayWrite)
      result[ResultWord.reads] = host.reads
      result[ResultWord.leafBits] = host.leafBits
      return fault
    }
    guest.tables.reads = 0
    this.loadRegime(slot, isFresh, isUntagged)
    const fault = guest.walk(regime, pasid, lo, hi, needed)
    result[ResultWord.spaLo] = guest.spaLo
    result[ResultWord.spaHi] = guest.spaHi
    result[ResultWord.sizeLog2] = guest.sizeLog2
    result[ResultWord.rights] = guest.rights & allRights
    result[ResultWord.reads] = host.reads + guest.tables.reads
    result[ResultWord.gpaLo] = guest.gpaLo
    result[ResultWord.gpaHi] = guest.gpaHi
    result[ResultWord.leafBits] = regime.hostMode !== 0 ? host.leafBits : 0
    return fault
  }

  /** Walks the host table for a GPA that is known already; the answer stands in {@link host}. */
  walkHost(slot: number, gpaLo: number, gpaHi: number, needed: number): Fault {
    const { host } = this
    const pool = this.memory.words.array
    const q0Lo = pool[slot]!
    const q0Hi = pool[slot + 1]!
    host.reads = 0
    host.marking = this.hostMarking(q0Lo)
    const fault = host.walk(
      q0Lo,
      q0Hi,
      (q0Lo >>> 9) & 7,
      gpaLo,
      gpaHi,
      q0Hi & (mayRead | mayWrite),
      needed & (mayRead | mayWrite),
    )
    this.guest.endedInHost = true
    return fault
  }

  /** {@link dirtyKept} if a write through the translation just made has no bit left to set. */
  dirtyKept(pasid: number): number {
    const inGuest = pasid !== withoutPasid
    const isKept =
      (!inGuest || this.guestKeptDirty()) && ((inGuest && this.regime.hostMode === 0) || this.hostKeptDirty())
    return isKept ? dirtyKept : 0
  }

  /** The same for the parts of a nested translation. */
  guestKeptDirty(): boolean {
    return (this.regime.flags & RegimeFlag.setsDirty) === 0 || this.guest.isDirty
  }
  hostKeptDirty(): boolean {
    return (this.host.marking & marksDirty) === 0 || this.host.isDirty
  }

  private loadRegime(slot: number, isFresh: boolean, isUntagged: boolean): void {
    const pool = this.memory.words.array
    const { regime, guestPaths } = this
    const q0Lo = pool[slot]!
    const q0Hi = pool[slot + 1]!
    regime.gcr3Lo = pool[slot + dteSlot.gcr3]!
    regime.gcr3Hi = pool[slot + dteSlot.gcr3 + 1]!
    regime.gcr3Levels = ((q0Hi >>> 24) & 3) + 1
    regime.guestLevels = 4 + ((pool[slot + 5]! >>> 22) & 3)
    regime.hostMode = (q0Lo >>> 9) & 7
    regime.hostRootLo = q0Lo
    regime.hostRootHi = q0Hi
    regime.granted = q0Hi & (mayRead | mayWrite)
    regime.impliedGranted = this.impliedNeedsEntry ? regime.granted : mayRead | mayWrite
    regime.flags =
      this.regimeFlags | (isUntagged ? RegimeFlag.isUntagged : 0) | (isFresh ? 0 : RegimeFlag.stores)
    if (guestPaths !== null) guestPaths.begin(regime, this.host.marking)
  }

  /** Which of A and D hardware sets in host entries: DTE.HAD as far as Control.HADUpdate and EFR let it. */
  private hostMarking(q0Lo: number): HostMarking {
    const asked = (q0Lo >>> 7) & this.hadUpdate
    // Bit 0 alone stands for A; D comes on top. HADUpdate=10 is reserved and sets nothing.
    if ((asked & 1) === 0) return marksNothing
    const { hostAccessed, hostDirty } = this.features
    return (hostAccessed ? marksAccessed : 0) | (asked === 3 && hostDirty ? marksDirty : 0)
  }
}
