/**
 * One access through the tables that a device table entry names: the IOTLB, or a walk of host, guest or nested tables.
 *
 * AMD 48882 rev 3.10, translation of requests, the steps after the regime is known. The answer stands in the result
 * words.
 *
 * @packageDocumentation
 */
import { dteSlot } from '../cache/device-table-cache.js'
import { fillerOf, frameHiOf, frameLoOf, rightsOf, sizeLog2Of } from '../cache/entry.js'
import { withoutPasid } from '../cache/iotlb.js'
import type { Iotlb } from '../cache/iotlb.js'
import type { Features } from '../features.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import { controlHi, mmio } from '../mmio.js'
import type { Registers } from '../registers.js'
import type { Switches } from '../switches.js'
import type { TranslationCaches } from '../translation-caches.js'
import { lowMaskHi, lowMaskLo } from './address-bits.js'
import { request, resultWord, source } from './answer.js'
import { denied, noFault, notPresent } from './fault.js'
import type { Fault } from './fault.js'
import { GuestWalk } from './guest-walk.js'
import type { GuestRegime } from './guest-walk.js'
import {
  HostWalk,
  leafReservedHi,
  leafReservedMigratingHi,
  marksAccessed,
  marksDirty,
  marksNothing,
} from './host-walk.js'
import type { HostMarking } from './host-walk.js'
import {
  allRights,
  dirtyKept,
  knownAbsent,
  leafBitsKept,
  leafBitsShift,
  mayRead,
  mayWrite,
} from './rights.js'
import { TablePageCache } from './table-page-cache.js'
import type { WalkTrace } from './trace.js'

/** No {@link Fault}: a part of the translation is not cached. */
const partMissing = -1

/** See the file's comment. */
export class TableAccess {
  /** Whether the last fault came up in the host table on behalf of a guest table. */
  faultInHost = false
  private readonly iotlb: Iotlb
  /** Whether walks have modelled caches to look at; most chips go without. */
  private readonly modelsWalkCaches: boolean
  private readonly host: HostWalk
  private readonly guest: GuestWalk
  private readonly hitFaults: boolean
  private readonly impliedNeedsEntry: boolean
  private readonly regime: GuestRegime = {
    gcr3Lo: 0,
    gcr3Hi: 0,
    gcr3Levels: 1,
    guestLevels: 4,
    hostMode: 0,
    hostRootLo: 0,
    hostRootHi: 0,
    gcr3Nested: false,
    granted: 0,
    impliedGranted: 0,
    isUntagged: false,
    checksNoExecute: true,
    checksUser: true,
    setsAccessed: true,
    setsDirty: true,
    stores: true,
  }

  constructor(
    private readonly memory: SparseMemory,
    private readonly registers: Registers,
    private readonly caches: TranslationCaches,
    private readonly features: Features,
    switches: Switches,
    private readonly result: Int32Array,
    /** Whether the model's own cache of table pages is used. */
    withTablePages: boolean,
  ) {
    this.iotlb = caches.iotlb
    this.host = new HostWalk(memory, switches, features.hostLevels)
    this.guest = new GuestWalk(
      memory,
      this.host,
      switches,
      withTablePages ? new TablePageCache(memory) : null,
    )
    const { design } = caches
    this.modelsWalkCaches =
      design.nestedEntries !== 'combined' ||
      design.remembersGpas ||
      design.pageWalkCache !== null ||
      design.gcr3Cache !== null
    this.regime.checksNoExecute = features.noExecute
    this.regime.checksUser = features.userPages
    this.hitFaults = switches.choices.hitWithoutRights === 'fault'
    this.impliedNeedsEntry = switches.choices.impliedDteRights !== 'never'
    this.controlChanged()
  }

  /** Host table entries that the last walk read. */
  get hostReads(): number {
    return this.host.reads
  }
  get directoryHits(): number {
    return this.host.directoryHits + this.guest.directoryHits
  }
  get directoryMisses(): number {
    return this.host.directoryMisses + this.guest.directoryMisses
  }

  watch(trace: WalkTrace | null): void {
    this.host.trace = trace
    this.guest.trace = trace
  }

  /** To be called after the control register changed: what is reserved in an entry depends on it. */
  controlChanged(): void {
    const migrates =
      this.features.pageMigration && (this.registers.hi(mmio.control) & controlHi.pageMigrationEn) !== 0
    this.host.leafReserved = migrates ? leafReservedMigratingHi : leafReservedHi
  }

  /**
   * Translates an address.
   *
   * @param slot - the device's table entry
   * @param pasid - the tag's PASID, {@link withoutPasid} for the host table alone
   * @param needed - rights that the request needs: bits of `rights.ts`
   * @param isUntagged - the request brought no PASID, though it goes through guest tables
   */
  access(
    slot: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
    needed: number,
    isUntagged: boolean,
  ): Fault {
    const pool = this.memory.words.array
    const result = this.result
    const domainId = pool[slot + 2]! & 0xffff
    result[resultWord.domainId] = domainId
    result[resultWord.pasid] = pasid
    this.faultInHost = false
    const isFresh = (flags & request.fresh) !== 0
    if (!isFresh) {
      const neededInCache = (needed & mayWrite) !== 0 ? needed | dirtyKept : needed
      const iotlb = this.iotlb
      const at = iotlb.lookupAt(pool[slot + dteSlot.domainRecord]!, domainId, pasid, lo, hi)
      if (at >= 0) {
        const rights = rightsOf(pool, at)
        if ((rights & neededInCache) === neededInCache) {
          const size = sizeLog2Of(pool, at)
          result[resultWord.spaLo] = frameLoOf(pool, at) | (lo & lowMaskLo(size))
          result[resultWord.spaHi] = frameHiOf(pool, at) | (hi & lowMaskHi(size))
          result[resultWord.sizeLog2] = size
          result[resultWord.rights] = rights & allRights
          result[resultWord.source] = source.iotlb
          result[resultWord.filler] = fillerOf(pool, at)
          result[resultWord.leafBits] = (rights & leafBitsKept) << leafBitsShift
          return noFault
        }
        if ((rights & knownAbsent) !== 0) return notPresent
        // Otherwise walked again: then only a stale grant can show, never a stale refusal.
        if (this.hitFaults && (rights & needed) !== needed) return denied
      }
    }
    this.regime.isUntagged = isUntagged
    const fault = this.walk(slot, deviceId, domainId, pasid, lo, hi, needed, isFresh)
    if (fault !== noFault) {
      if (fault === notPresent && !isFresh && this.caches.design.cachesAbsent) {
        this.fill(slot, domainId, deviceId, pasid, lo, hi, 12, 0, 0, knownAbsent)
      }
      return fault
    }
    return noFault
  }

  /** Walks tables, or finds the parts of a nested translation in the modelled caches; keeps what was found. */
  private walk(
    slot: number,
    deviceId: number,
    domainId: number,
    pasid: number,
    lo: number,
    hi: number,
    needed: number,
    isFresh: boolean,
  ): Fault {
    const { host, guest, result, caches } = this
    const pool = this.memory.words.array
    const isNested = pasid !== withoutPasid && ((pool[slot]! >>> 9) & 7) !== 0
    const hasWalkCaches = this.modelsWalkCaches && !isFresh
    if (hasWalkCaches) {
      host.domainId = domainId
      host.filler = deviceId
      guest.domainId = domainId
      guest.filler = deviceId
    }
    host.directories = hasWalkCaches ? caches.directories : null
    guest.caches = hasWalkCaches ? caches : null
    if (hasWalkCaches) this.forgetDirectoryCounts()
    result[resultWord.source] = source.walk
    result[resultWord.filler] = deviceId
    if (hasWalkCaches && isNested && caches.guestToGpa !== null) {
      const fault = this.throughParts(caches.guestToGpa, slot, domainId, pasid, lo, hi, needed)
      if (fault !== partMissing) return fault
    }
    const fault = this.walkTables(slot, pasid, lo, hi, needed, isFresh)
    if (fault !== noFault || isFresh) return fault
    if (isNested && caches.guestToGpa !== null) {
      this.keepParts(caches.guestToGpa, domainId, deviceId, pasid, lo, hi)
      if (caches.design.nestedEntries === 'split') return noFault
    }
    this.keep(slot, domainId, deviceId, pasid, lo, hi)
    return noFault
  }

  private forgetDirectoryCounts(): void {
    this.host.directoryHits = 0
    this.host.directoryMisses = 0
    this.guest.directoryHits = 0
    this.guest.directoryMisses = 0
  }

  /** A nested translation put together from an entry to the GPA and one from there, which a host walk may have to make. */
  private throughParts(
    guestToGpa: Iotlb,
    slot: number,
    domainId: number,
    pasid: number,
    lo: number,
    hi: number,
    needed: number,
  ): Fault {
    const { host, result, iotlb } = this
    const pool = this.memory.words.array
    const granted = pool[slot + 1]! & (mayRead | mayWrite)
    const kept = (needed & mayWrite) !== 0 ? dirtyKept : 0
    if (!guestToGpa.lookup(guestToGpa.domainRecord(domainId), domainId, pasid, lo, hi)) return partMissing
    const guestRights = guestToGpa.rights
    if ((guestRights & (needed | kept)) !== (needed | kept)) return partMissing
    const guestSize = guestToGpa.sizeLog2
    const gpaLo = guestToGpa.frameLo | (lo & lowMaskLo(guestSize))
    const gpaHi = guestToGpa.frameHi | (hi & lowMaskHi(guestSize))
    const ofHost = needed & (mayRead | mayWrite)
    const record = pool[slot + dteSlot.domainRecord]!
    result[resultWord.gpaLo] = gpaLo
    result[resultWord.gpaHi] = gpaHi
    if (
      iotlb.lookup(record, domainId, withoutPasid, gpaLo, gpaHi) &&
      (iotlb.rights & (ofHost | kept)) === (ofHost | kept)
    ) {
      const size = iotlb.sizeLog2
      result[resultWord.spaLo] = iotlb.frameLo | (gpaLo & lowMaskLo(size))
      result[resultWord.spaHi] = iotlb.frameHi | (gpaHi & lowMaskHi(size))
      result[resultWord.sizeLog2] = size < guestSize ? size : guestSize
      result[resultWord.rights] = guestRights & (iotlb.rights | ~(mayRead | mayWrite)) & allRights
      result[resultWord.source] = source.iotlb
      result[resultWord.filler] = guestToGpa.filler
      result[resultWord.leafBits] = (iotlb.rights & leafBitsKept) << leafBitsShift
      return noFault
    }
    const q0Lo = pool[slot]!
    host.reads = 0
    host.marking = this.hostMarking(q0Lo)
    const fault = host.walk(q0Lo, pool[slot + 1]!, (q0Lo >>> 9) & 7, gpaLo, gpaHi, granted, ofHost)
    result[resultWord.spaLo] = host.spaLo
    result[resultWord.spaHi] = host.spaHi
    result[resultWord.reads] = host.reads
    if (fault !== noFault) {
      this.faultInHost = true
      return fault
    }
    result[resultWord.sizeLog2] = host.sizeLog2 < guestSize ? host.sizeLog2 : guestSize
    result[resultWord.rights] = guestRights & (host.rights | ~(mayRead | mayWrite)) & allRights
    result[resultWord.leafBits] = host.leafBits
    this.keepHost(domainId, host.filler, gpaLo, gpaHi)
    return noFault
  }

  /** Walks the tables that the entry names; on success the answer stands in the result words. */
  private walkTables(
    slot: number,
    pasid: number,
    lo: number,
    hi: number,
    needed: number,
    isFresh: boolean,
  ): Fault {
    const { host, guest, result } = this
    const pool = this.memory.words.array
    const q0Lo = pool[slot]!
    const q0Hi = pool[slot + 1]!
    const granted = q0Hi & (mayRead | mayWrite)
    host.reads = 0
    host.marking = isFresh ? marksNothing : this.hostMarking(q0Lo)
    let fault: Fault
    if (pasid === withoutPasid) {
      fault = host.walk(q0Lo, q0Hi, (q0Lo >>> 9) & 7, lo, hi, granted, needed)
      result[resultWord.spaLo] = host.spaLo
      result[resultWord.spaHi] = host.spaHi
      result[resultWord.sizeLog2] = host.sizeLog2
      result[resultWord.rights] = host.rights & (mayRead | mayWrite)
      result[resultWord.reads] = host.reads
    } else {
      guest.reads = 0
      this.loadRegime(slot, isFresh)
      fault = guest.walk(this.regime, pasid, lo, hi, needed)
      this.faultInHost = guest.endedInHost
      result[resultWord.spaLo] = guest.spaLo
      result[resultWord.spaHi] = guest.spaHi
      result[resultWord.sizeLog2] = guest.sizeLog2
      result[resultWord.rights] = guest.rights & allRights
      result[resultWord.reads] = host.reads + guest.reads
      result[resultWord.gpaLo] = guest.gpaLo
      result[resultWord.gpaHi] = guest.gpaHi
    }
    const throughHost = pasid === withoutPasid || this.regime.hostMode !== 0
    result[resultWord.leafBits] = throughHost ? host.leafBits : 0
    return fault
  }

  private loadRegime(slot: number, isFresh: boolean): void {
    const pool = this.memory.words.array
    const regime = this.regime
    const q0Lo = pool[slot]!
    const q0Hi = pool[slot + 1]!
    const controlHigh = pool[this.registers.controlWord + 1]!
    regime.gcr3Lo = pool[slot + dteSlot.gcr3]!
    regime.gcr3Hi = pool[slot + dteSlot.gcr3 + 1]!
    regime.gcr3Levels = ((q0Hi >>> 24) & 3) + 1
    regime.guestLevels = 4 + ((pool[slot + 5]! >>> 22) & 3)
    regime.hostMode = (q0Lo >>> 9) & 7
    regime.hostRootLo = q0Lo
    regime.hostRootHi = q0Hi
    regime.gcr3Nested = (controlHigh & controlHi.gcr3TrpMode) !== 0
    regime.granted = q0Hi & (mayRead | mayWrite)
    regime.impliedGranted = this.impliedNeedsEntry ? regime.granted : mayRead | mayWrite
    regime.setsAccessed = (controlHigh & controlHi.guestAccessedOff) === 0
    regime.setsDirty = (controlHigh & controlHi.guestDirtyOff) === 0
    regime.stores = !isFresh
  }

  /** Files the walk's answer in the IOTLB. */
  private keep(
    slot: number,
    domainId: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
  ): void {
    const result = this.result
    const inGuest = pasid !== withoutPasid
    const hostMarks = (this.host.marking & marksDirty) !== 0 && !(inGuest && this.regime.hostMode === 0)
    const hostKept = !hostMarks || this.host.isDirty
    const guestKept = !inGuest || !this.regime.setsDirty || this.guest.isDirty
    const leafBits = result[resultWord.leafBits]! >>> leafBitsShift
    const rights = result[resultWord.rights]! | (hostKept && guestKept ? dirtyKept : 0) | leafBits
    this.fill(
      slot,
      domainId,
      deviceId,
      pasid,
      lo,
      hi,
      result[resultWord.sizeLog2]!,
      result[resultWord.spaLo]!,
      result[resultWord.spaHi]!,
      rights,
    )
  }

  private fill(
    slot: number,
    domainId: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    size: number,
    spaLo: number,
    spaHi: number,
    rights: number,
  ): void {
    const { iotlb, guest } = this
    const record = this.memory.words.array[slot + dteSlot.domainRecord]!
    if (this.caches.design.remembersGpas && pasid !== withoutPasid) {
      const { gpas, gpaCount } = guest
      iotlb.fill(record, domainId, pasid, lo, hi, size, spaLo, spaHi, rights, deviceId, gpas, gpaCount)
    } else iotlb.fill(record, domainId, pasid, lo, hi, size, spaLo, spaHi, rights, deviceId)
  }

  /** Files a nested translation in two parts. */
  private keepParts(
    guestToGpa: Iotlb,
    domainId: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
  ): void {
    const { guest, regime } = this
    const rights = (guest.guestRights & allRights) | (!regime.setsDirty || guest.isDirty ? dirtyKept : 0)
    guestToGpa.fill(
      guestToGpa.domainRecord(domainId),
      domainId,
      pasid,
      lo,
      hi,
      guest.guestSizeLog2,
      guest.gpaLo,
      guest.gpaHi,
      rights,
      deviceId,
    )
    this.keepHost(domainId, deviceId, guest.gpaLo, guest.gpaHi)
  }

  /** Files the host's last walk under the GPA that it was for. */
  private keepHost(domainId: number, deviceId: number, gpaLo: number, gpaHi: number): void {
    const { host, iotlb } = this
    const kept = (host.marking & marksDirty) === 0 || host.isDirty ? dirtyKept : 0
    const rights = (host.rights & (mayRead | mayWrite)) | kept | (host.leafBits >>> leafBitsShift)
    const record = iotlb.domainRecord(domainId)
    const { sizeLog2, spaLo, spaHi } = host
    iotlb.fill(record, domainId, withoutPasid, gpaLo, gpaHi, sizeLog2, spaLo, spaHi, rights, deviceId)
  }

  /** Which of A and D hardware sets in host entries: DTE.HAD as far as Control.HADUpdate and EFR let it. */
  private hostMarking(q0Lo: number): HostMarking {
    const asked = (q0Lo >>> 7) & (this.memory.words.array[this.registers.controlWord + 1]! >>> 14) & 3
    const { hostAccessed, hostDirty } = this.features
    // Bit 0 alone stands for A; D comes on top. HADUpdate=10 is reserved and sets nothing.
    if ((asked & 1) === 0) return marksNothing
    return (hostAccessed ? marksAccessed : 0) | (asked === 3 && hostDirty ? marksDirty : 0)
  }
}
