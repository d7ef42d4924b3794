/**
 * The translation of one memory request, from the device table entry to the event.
 *
 * Follows the order of AMD 48882 rev 3.10, translation of requests: enable, device table entry, validity, reserved
 * bits, rights of the entry, levels, regime, IOTLB, walk. The answer stands in {@link Translator.result}; nothing is
 * allocated.
 *
 * @packageDocumentation
 */
import { dteSlot } from '../cache/device-table-cache.js'
import type { DeviceTableCache } from '../cache/device-table-cache.js'
import { withoutPasid } from '../cache/iotlb.js'
import type { Iotlb } from '../cache/iotlb.js'
import type { Features } from '../features.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import { controlHi, controlLo, mmio } from '../registers.js'
import type { Registers } from '../registers.js'
import type { Switches } from '../switches.js'
import { entryValid, guestIoProtection, guestValid, translationValid } from './device-entry.js'
import { DeviceTable } from './device-table.js'
import { outcome, request, resultWord, source, untaggedGuest } from './answer.js'
import { lowMaskHi, lowMaskLo } from './address-bits.js'
import { denied, noFault, notPresent } from './fault.js'
import type { Fault } from './fault.js'
import { FaultReport } from './fault-report.js'
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
import { allRights, dirtyKept, mayExecute, mayRead, mayWrite, userMay } from './rights.js'
import type { WalkTrace } from './trace.js'

/** See the file's comment. */
export class Translator {
  /** The answer to the last request; see {@link resultWord}. */
  readonly result = new Int32Array(16)
  private readonly host: HostWalk
  private readonly guest: GuestWalk
  private readonly deviceTable: DeviceTable
  private readonly faults: FaultReport
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
    checksNoExecute: true,
    checksUser: true,
    setsAccessed: true,
    setsDirty: true,
    stores: true,
  }

  constructor(
    private readonly memory: SparseMemory,
    private readonly registers: Registers,
    private readonly iotlb: Iotlb,
    deviceTableCache: DeviceTableCache,
    private readonly features: Features,
    private readonly switches: Switches,
  ) {
    this.deviceTable = new DeviceTable(memory, registers, iotlb, deviceTableCache, features, switches)
    this.faults = new FaultReport(memory, registers, deviceTableCache)
    this.host = new HostWalk(memory, switches, features.hostLevels)
    this.guest = new GuestWalk(memory, this.host, switches)
    this.regime.checksNoExecute = features.noExecute
    this.regime.checksUser = features.userPages
    this.host.leafReserved = this.leafReservedNow()
  }

  /** Tells `trace` of every table access from now on; null to stop. */
  watch(trace: WalkTrace | null): void {
    this.deviceTable.trace = trace
    this.host.trace = trace
    this.guest.trace = trace
  }

  /** To be called after the control register changed: what is reserved in an entry depends on it. */
  controlChanged(): void {
    this.deviceTable.controlChanged()
    this.host.leafReserved = this.leafReservedNow()
  }

  /**
   * Translates the address of one request.
   *
   * @param pasid - -1 for a request without PASID
   * @param flags - bits of {@link request}
   * @returns one of {@link outcome}
   */
  translate(deviceId: number, pasid: number, lo: number, hi: number, flags: number): number {
    const pool = this.memory.words.array
    const result = this.result
    result[resultWord.source] = source.none
    result[resultWord.reads] = 0
    if ((pool[this.registers.controlWord]! & controlLo.iommuEn) === 0) return this.forward(lo, hi)
    const slot = this.deviceTable.entryOf(deviceId, (flags & request.fresh) !== 0)
    if (slot < 0) {
      result[resultWord.spaLo] = this.deviceTable.entryLo
      result[resultWord.spaHi] = this.deviceTable.entryHi
      return this.faults.report(result, slot, this.deviceTable.fault, deviceId, pasid, lo, hi, flags)
    }
    return this.translateBy(slot, deviceId, pasid, lo, hi, flags)
  }

  private translateBy(
    slot: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
  ): number {
    const pool = this.memory.words.array
    const q0Lo = pool[slot]!
    const q0Hi = pool[slot + 1]!
    if ((q0Lo & entryValid) === 0) {
      if (pasid < 0 || this.switches.choices.pasidWithoutValid === 'forward') return this.forward(lo, hi)
      return this.faults.report(this.result, slot, notPresent, deviceId, pasid, lo, hi, flags)
    }
    const illegal = pool[slot + dteSlot.illegal]!
    if (illegal !== noFault)
      return this.faults.report(this.result, slot, illegal, deviceId, pasid, lo, hi, flags)
    if ((q0Lo & translationValid) === 0)
      return this.faults.report(this.result, slot, notPresent, deviceId, pasid, lo, hi, flags)
    const access = (flags & request.write) !== 0 ? mayWrite : mayRead
    if ((q0Hi & access) === 0)
      return this.faults.report(this.result, slot, denied, deviceId, pasid, lo, hi, flags)
    const illegalLevel = pool[slot + dteSlot.illegalLevel]!
    if (illegalLevel !== noFault)
      return this.faults.report(this.result, slot, illegalLevel, deviceId, pasid, lo, hi, flags)

    let tagged = pasid
    if (pasid >= 0 && (q0Hi & guestValid) === 0) {
      if (this.switches.choices.pasidWithoutGuestTables === 'fault') {
        return this.faults.report(this.result, slot, notPresent, deviceId, pasid, lo, hi, flags)
      }
      tagged = withoutPasid
    }
    if (tagged >= 0) {
      const needed =
        access |
        ((flags & request.execute) !== 0 ? mayExecute : 0) |
        ((flags & request.supervisor) !== 0 ? 0 : userMay)
      return this.throughTables(slot, deviceId, tagged, lo, hi, flags, needed, false)
    }
    // Under GIoV a request without PASID goes through the guest table of PASID 0, with user privilege.
    if ((q0Hi & guestIoProtection) !== 0 && (q0Hi & guestValid) !== 0) {
      return this.throughTables(slot, deviceId, 0, lo, hi, flags, access | userMay, true)
    }
    if ((q0Lo & 0xe00) === 0) return this.passThrough(q0Hi, lo, hi)
    return this.throughTables(slot, deviceId, withoutPasid, lo, hi, flags, access, false)
  }

  /** The IOTLB, then the walk of host, guest or nested tables. `pasid` is the tag's: -1 for the host table alone. */
  private throughTables(
    slot: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
    needed: number,
    isUntagged: boolean,
  ): number {
    const pool = this.memory.words.array
    const result = this.result
    const domainId = pool[slot + 2]! & 0xffff
    const isFresh = (flags & request.fresh) !== 0
    result[resultWord.domainId] = domainId
    result[resultWord.pasid] = pasid
    if (!isFresh) {
      // A hit without the rights is walked again: then only a stale grant can show, never a stale refusal.
      const neededInCache = (needed & mayWrite) !== 0 ? needed | dirtyKept : needed
      const iotlb = this.iotlb
      if (
        iotlb.lookup(pool[slot + dteSlot.domainRecord]!, domainId, pasid, lo, hi) &&
        (iotlb.rights & neededInCache) === neededInCache
      ) {
        const size = iotlb.sizeLog2
        result[resultWord.spaLo] = iotlb.frameLo | (lo & lowMaskLo(size))
        result[resultWord.spaHi] = iotlb.frameHi | (hi & lowMaskHi(size))
        result[resultWord.sizeLog2] = size
        result[resultWord.rights] = iotlb.rights & allRights
        result[resultWord.source] = source.iotlb
        result[resultWord.filler] = iotlb.filler
        return outcome.translated
      }
    }
    const fault = this.walk(slot, pasid, lo, hi, needed, isFresh)
    if (fault !== noFault) {
      return this.faults.report(
        this.result,
        slot,
        fault,
        deviceId,
        isUntagged ? untaggedGuest : pasid,
        lo,
        hi,
        flags,
      )
    }
    result[resultWord.source] = source.walk
    result[resultWord.filler] = deviceId
    if (!isFresh) this.keep(slot, domainId, deviceId, pasid, lo, hi)
    return outcome.translated
  }

  /** Walks the tables that the entry names; on success the answer stands in the result words. */
  private walk(slot: number, pasid: number, lo: number, hi: number, needed: number, isFresh: boolean): Fault {
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
      result[resultWord.spaLo] = guest.spaLo
      result[resultWord.spaHi] = guest.spaHi
      result[resultWord.sizeLog2] = guest.sizeLog2
      result[resultWord.rights] = guest.rights & allRights
      result[resultWord.reads] = host.reads + guest.reads
      result[resultWord.gpaLo] = guest.gpaLo
      result[resultWord.gpaHi] = guest.gpaHi
    }
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
    const rights = result[resultWord.rights]! | (hostKept && guestKept ? dirtyKept : 0)
    this.iotlb.fill(
      this.memory.words.array[slot + dteSlot.domainRecord]!,
      domainId,
      pasid,
      lo,
      hi,
      result[resultWord.sizeLog2]!,
      result[resultWord.spaLo]!,
      result[resultWord.spaHi]!,
      rights,
      deviceId,
    )
  }

  private forward(lo: number, hi: number): number {
    this.result[resultWord.spaLo] = lo
    this.result[resultWord.spaHi] = hi
    this.result[resultWord.rights] = allRights
    return outcome.forwarded
  }

  /** Mode 0 without guest tables: the address is an SPA, the rights are the entry's. */
  private passThrough(q0Hi: number, lo: number, hi: number): number {
    const result = this.result
    result[resultWord.spaLo] = lo
    result[resultWord.spaHi] = hi
    result[resultWord.sizeLog2] = 64
    result[resultWord.rights] = q0Hi & (mayRead | mayWrite)
    result[resultWord.source] = source.identity
    return outcome.translated
  }

  private leafReservedNow(): number {
    const migrates =
      this.features.pageMigration && (this.registers.hi(mmio.control) & controlHi.pageMigrationEn) !== 0
    return migrates ? leafReservedMigratingHi : leafReservedHi
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
