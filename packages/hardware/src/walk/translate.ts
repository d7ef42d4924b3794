/**
 * The translation of one memory request, from the device table entry to the event.
 *
 * Follows the order of AMD 48882 rev 3.10, translation of requests: enable, special addresses, device table entry,
 * validity, reserved bits, exclusion range, rights of the entry, levels, regime, tables. The answer stands in
 * {@link Translator.result}; nothing is allocated.
 *
 * @packageDocumentation
 */
import { dteSlot } from '../cache/device-table-cache.js'
import type { DeviceTableCache } from '../cache/device-table-cache.js'
import { withoutPasid } from '../cache/iotlb.js'
import type { Features } from '../features.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import { controlLo, mmio } from '../mmio.js'
import type { Registers } from '../registers.js'
import type { Switches } from '../switches.js'
import type { TranslationCaches } from '../translation-caches.js'
import { Outcome, RequestFlag, ResultWord, resultWords, Source, untaggedGuest } from './answer.js'
import { AtsRequests } from './ats.js'
import { entryValid, guestIoProtection, guestValid, mayBeExcluded, translationValid } from './device-entry.js'
import { DeviceTable } from './device-table.js'
import { denied, invalidRequest, noFault, notPresent } from './fault.js'
import { FaultReport } from './fault-report.js'
import type { EventRoute } from './fault-report.js'
import { allRights, mayExecute, mayRead, mayWrite, userMay } from './rights.js'
import { isSpecial, SpecialRanges } from './special-ranges.js'
import { TableAccess } from './table-access.js'
import type { WalkTrace } from './trace.js'

/** What the platform around an IOMMU decides. */
export interface Platform {
  /** SNP is on: the exclusion registers are the window of completion stores instead. */
  readonly snp: boolean
  /** The capability's HtAtsResv. */
  readonly translationRangeReserved: boolean
  /** The model's own caches are used; see `host-path-cache.ts` and `guest-path-cache.ts`. */
  readonly tablePageCache: boolean
}

/** No {@link Outcome}: the request goes on. */
const passesChecks = -1

/** See the file's comment. */
export class Translator {
  /** The answer to the last request; see {@link ResultWord}. */
  readonly result = new Int32Array(resultWords)
  readonly deviceTable: DeviceTable
  private readonly tables: TableAccess
  private readonly faults: FaultReport
  private readonly special: SpecialRanges
  private readonly ats: AtsRequests
  private readonly holeIsMemory: boolean

  constructor(
    private readonly memory: SparseMemory,
    private readonly registers: Registers,
    caches: TranslationCaches,
    deviceTableCache: DeviceTableCache,
    features: Features,
    private readonly switches: Switches,
    platform: Platform,
  ) {
    const { result } = this
    this.deviceTable = new DeviceTable(
      memory,
      registers,
      caches.iotlb,
      deviceTableCache,
      features,
      switches,
      platform.snp,
    )
    this.faults = new FaultReport(memory, registers, deviceTableCache, switches, result)
    this.tables = new TableAccess(
      memory,
      registers,
      caches,
      features,
      switches,
      result,
      platform.tablePageCache,
    )
    this.ats = new AtsRequests(memory, this.tables, this.faults, switches, result)
    this.special = new SpecialRanges(
      memory,
      this.deviceTable,
      this.faults,
      switches,
      result,
      platform.translationRangeReserved,
    )
    this.holeIsMemory = features.hyperTransportIgnored
  }

  /** Has events that are for a guest's log taken elsewhere. */
  routeEvents(route: EventRoute): void {
    this.faults.route = route
  }

  /** Host table entries that the last walk read. */
  get hostReads(): number {
    return this.tables.hostReads
  }
  /** Modelled directory caches that the last access found something in, or did not. */
  get directoryHits(): number {
    return this.tables.directoryHits
  }
  get directoryMisses(): number {
    return this.tables.directoryMisses
  }

  /** Tells `trace` of every table access from now on; null to stop. */
  watch(trace: WalkTrace | null): void {
    this.deviceTable.trace = trace
    this.tables.watch(trace)
  }

  /** To be called after the control register changed: what is reserved in an entry depends on it. */
  controlChanged(): void {
    this.deviceTable.controlChanged()
    this.tables.controlChanged()
  }

  /**
   * Translates the address of one request.
   *
   * @param pasid - -1 for a request without PASID
   * @param flags - bits of {@link RequestFlag}
   * @returns one of {@link Outcome}
   */
  translate(deviceId: number, pasid: number, lo: number, hi: number, flags: number): number {
    let pool = this.memory.words.array
    const result = this.result
    this.deviceTable.wasCached = null
    result[ResultWord.domainId] = -1
    result[ResultWord.source] = Source.none
    result[ResultWord.reads] = 0
    if ((pool[this.registers.controlWord]! & controlLo.iommuEn) === 0) return this.forward(lo, hi)
    if (isSpecial(lo, hi, this.holeIsMemory)) {
      const answer = this.special.answer(deviceId, pasid, lo, hi, flags)
      if (answer >= 0) return answer
      // Reading an entry may have made room for it, and moved the words: here, and below.
      pool = this.memory.words.array
    }
    const slot = this.deviceTable.entryIn(pool, deviceId, (flags & RequestFlag.fresh) !== 0)
    if (slot < 0) {
      result[ResultWord.spaLo] = this.deviceTable.entryLo
      result[ResultWord.spaHi] = this.deviceTable.entryHi
      return this.faults.report(slot, this.deviceTable.fault, deviceId, pasid, lo, hi, flags)
    }
    return this.translateBy(this.memory.words.array, slot, deviceId, pasid, lo, hi, flags)
  }

  private translateBy(
    pool: Int32Array,
    slot: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
  ): number {
    const q0Lo = pool[slot]!
    const q0Hi = pool[slot + 1]!
    const access = (flags & RequestFlag.write) !== 0 ? mayWrite : mayRead
    // Most requests pass all checks: for them it does not matter in which order they are made.
    const passes =
      (q0Lo & (entryValid | translationValid)) === (entryValid | translationValid) &&
      (pool[slot + dteSlot.illegal]! | pool[slot + dteSlot.illegalLevel]!) === noFault &&
      (q0Hi & access) !== 0 &&
      (flags & (RequestFlag.translationRequest | RequestFlag.translated)) === 0 &&
      // ExEn.
      (pool[this.registers.exclusionWord]! & 1) === 0
    if (!passes) {
      const answer = this.check(slot, deviceId, pasid, lo, hi, flags)
      if (answer !== passesChecks) return answer
    }
    if (pasid >= 0 && (q0Hi & guestValid) !== 0) {
      const needed =
        access |
        ((flags & RequestFlag.execute) !== 0 ? mayExecute : 0) |
        ((flags & RequestFlag.supervisor) !== 0 ? 0 : userMay)
      return this.throughTables(pool, slot, deviceId, pasid, lo, hi, flags, needed, pasid)
    }
    return this.withoutGuest(pool, slot, deviceId, pasid, lo, hi, flags, access)
  }

  /**
   * The checks before the regime is known, one after the other.
   *
   * @returns one of {@link Outcome}, or {@link passesChecks}
   */
  private check(
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
    const isAts = (flags & (RequestFlag.translationRequest | RequestFlag.translated)) !== 0
    if ((q0Lo & entryValid) === 0) return this.withoutEntry(slot, deviceId, pasid, lo, hi, flags)
    const illegal = pool[slot + dteSlot.illegal]!
    if (illegal !== noFault) return this.faults.report(slot, illegal, deviceId, pasid, lo, hi, flags)
    if ((flags & RequestFlag.translated) !== 0) {
      return this.ats.translated(slot, deviceId, pasid, lo, hi, flags)
    }
    if ((pool[this.registers.exclusionWord]! & 1) !== 0 && this.isExcluded(slot, pasid, lo, hi)) {
      if (isAts) return this.ats.excluded(slot, deviceId, pasid, lo, hi, flags)
      this.result[ResultWord.source] = Source.exclusion
      return this.forward(lo, hi)
    }
    if (isAts) return this.ats.translation(slot, deviceId, pasid, lo, hi, flags)
    if ((q0Lo & translationValid) === 0) {
      return this.faults.report(slot, notPresent, deviceId, pasid, lo, hi, flags)
    }
    const access = (flags & RequestFlag.write) !== 0 ? mayWrite : mayRead
    if ((q0Hi & access) === 0) {
      const named = pasid < 0 && isGiov(q0Hi) && this.switches.choices.giovDteDenied === 'gn-1'
      return this.faults.report(slot, denied, deviceId, named ? untaggedGuest : pasid, lo, hi, flags)
    }
    const illegalLevel = pool[slot + dteSlot.illegalLevel]!
    if (illegalLevel !== noFault) {
      return this.faults.report(slot, illegalLevel, deviceId, pasid, lo, hi, flags)
    }
    return passesChecks
  }

  /** Requests without PASID, and those whose PASID finds no guest tables. */
  private withoutGuest(
    pool: Int32Array,
    slot: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
    access: number,
  ): number {
    const q0Lo = pool[slot]!
    const q0Hi = pool[slot + 1]!
    if (pasid >= 0 && this.switches.choices.pasidWithoutGuestTables === 'fault') {
      return this.faults.report(slot, notPresent, deviceId, pasid, lo, hi, flags)
    }
    // Under GIoV a request without PASID goes through the guest table of PASID 0, with user privilege.
    if (isGiov(q0Hi)) {
      const needed = this.switches.choices.giovPrivilege === 'user' ? access | userMay : access
      return this.throughTables(pool, slot, deviceId, 0, lo, hi, flags, needed, untaggedGuest)
    }
    if ((q0Lo & 0xe00) === 0) return this.ats.identity(q0Hi, lo, hi)
    return this.throughTables(pool, slot, deviceId, withoutPasid, lo, hi, flags, access, pasid)
  }

  private throughTables(
    pool: Int32Array,
    slot: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
    needed: number,
    named: number,
  ): number {
    const isUntagged = named === untaggedGuest
    const fault = this.tables.accessIn(pool, slot, deviceId, pasid, lo, hi, flags, needed, isUntagged)
    if (fault === noFault) return Outcome.translated
    return this.faults.report(slot, fault, deviceId, named, lo, hi, flags, this.tables.faultInHost)
  }

  /** V=0: memory requests pass; what belongs to ATS does not. */
  private withoutEntry(
    slot: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
  ): number {
    if ((flags & RequestFlag.translationRequest) !== 0) {
      return this.faults.report(slot, invalidRequest(0), deviceId, pasid, lo, hi, flags)
    }
    if ((flags & RequestFlag.translated) !== 0) {
      return this.faults.report(slot, invalidRequest(1), deviceId, pasid, lo, hi, flags)
    }
    if (pasid < 0 || this.switches.choices.pasidWithoutValid === 'forward') return this.forward(lo, hi)
    return this.faults.report(slot, notPresent, deviceId, pasid, lo, hi, flags)
  }

  /** Whether the exclusion range, which is enabled, applies to a request. */
  private isExcluded(slot: number, pasid: number, lo: number, hi: number): boolean {
    const { registers } = this
    const pool = this.memory.words.array
    const { choices } = this.switches
    if ((pool[slot]! & translationValid) === 0 && choices.exclusionBeforeTv === 'no') return false
    if (pasid >= 0 && choices.exclusionWithPasid === 'ignored') return false
    const baseLo = registers.lo(mmio.exclusionBase)
    if ((baseLo & 2) === 0 && (pool[slot + 3]! & mayBeExcluded) === 0) return false
    const page = pageNumber(lo, hi)
    const first = pageNumber(baseLo, registers.hi(mmio.exclusionBase))
    const last = pageNumber(registers.lo(mmio.exclusionLimit), registers.hi(mmio.exclusionLimit))
    return page >= first && page <= last
  }

  private forward(lo: number, hi: number): number {
    this.result[ResultWord.spaLo] = lo
    this.result[ResultWord.spaHi] = hi
    this.result[ResultWord.rights] = allRights
    return Outcome.forwarded
  }
}

/** Requests without PASID go through the guest table of PASID 0. */
const isGiov = (q0Hi: number): boolean => (q0Hi & guestIoProtection) !== 0 && (q0Hi & guestValid) !== 0

/** Page number of an address of 64 bits: 52 bits, exact in a double. */
const pageNumber = (lo: number, hi: number): number => (hi >>> 0) * 2 ** 20 + (lo >>> 12)
