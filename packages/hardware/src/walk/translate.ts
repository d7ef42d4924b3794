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
import type { Words } from '../memory/words.js'
import { controlLo } from '../mmio.js'
import type { Registers } from '../registers.js'
import type { Switches } from '../switches.js'
import type { TranslationCaches } from '../translation-caches.js'
import { Outcome, RequestFlag, ResultWord, resultWords, Source, untaggedGuest } from './answer.js'
import { AtsRequests } from './ats.js'
import { guestValid, isGiov } from './device-entry.js'
import { DeviceTable, notCached } from './device-table.js'
import { EntryChecks, passesChecks } from './entry-checks.js'
import { noFault, notPresent } from './fault.js'
import { FaultReport } from './fault-report.js'
import type { EventRoute } from './fault-report.js'
import { mayExecute, mayRead, mayWrite, userMay } from './rights.js'
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

/** See the file's comment. */
export class Translator {
  /** The answer to the last request; see {@link ResultWord}. */
  readonly result = new Int32Array(resultWords)
  readonly deviceTable: DeviceTable
  private readonly tables: TableAccess
  private readonly faults: FaultReport
  private readonly special: SpecialRanges
  private readonly ats: AtsRequests
  private readonly checks: EntryChecks
  private readonly holeIsMemory: boolean
  private readonly words: Words
  private readonly controlWord: number
  private readonly exclusionWord: number

  constructor(
    memory: SparseMemory,
    registers: Registers,
    caches: TranslationCaches,
    deviceTableCache: DeviceTableCache,
    features: Features,
    private readonly switches: Switches,
    platform: Platform,
  ) {
    const { result } = this
    this.words = memory.words
    this.controlWord = registers.controlWord
    this.exclusionWord = registers.exclusionWord
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
    this.checks = new EntryChecks(memory, registers, this.ats, this.faults, switches, result)
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
    return this.translateIn(this.words.array, deviceId, pasid, lo, hi, flags)
  }

  /** The same for a caller who has the machine's words at hand. */
  translateIn(
    pool: Int32Array,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
  ): number {
    const { result } = this
    this.deviceTable.wasCached = null
    result[ResultWord.domainId] = -1
    result[ResultWord.source] = Source.none
    result[ResultWord.reads] = 0
    if ((pool[this.controlWord]! & controlLo.iommuEn) === 0) return this.checks.forward(lo, hi)
    if (isSpecial(lo, hi, this.holeIsMemory)) {
      const answer = this.special.answer(deviceId, pasid, lo, hi, flags)
      return answer >= 0 ? answer : this.afterReading(deviceId, pasid, lo, hi, flags)
    }
    const slot = (flags & RequestFlag.fresh) === 0 ? this.deviceTable.cachedIn(pool, deviceId) : notCached
    if (slot === notCached) return this.afterReading(deviceId, pasid, lo, hi, flags)
    return this.translateBy(pool, slot, deviceId, pasid, lo, hi, flags)
  }

  /** Reading an entry may make room for it, and move the words. */
  private afterReading(deviceId: number, pasid: number, lo: number, hi: number, flags: number): number {
    const { deviceTable, result } = this
    const slot = deviceTable.entryOf(deviceId, (flags & RequestFlag.fresh) !== 0)
    if (slot < 0) {
      result[ResultWord.spaLo] = deviceTable.entryLo
      result[ResultWord.spaHi] = deviceTable.entryHi
      return this.faults.report(slot, deviceTable.fault, deviceId, pasid, lo, hi, flags)
    }
    return this.translateBy(this.words.array, slot, deviceId, pasid, lo, hi, flags)
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
    const access = (flags & RequestFlag.write) !== 0 ? mayWrite : mayRead
    // Most requests pass all checks: for them it does not matter in which order they are made.
    const passes =
      (pool[slot + dteSlot.plainRights]! & access) !== 0 &&
      (flags & (RequestFlag.translationRequest | RequestFlag.translated)) === 0 &&
      // ExEn.
      (pool[this.exclusionWord]! & 1) === 0
    if (!passes) {
      const answer = this.checks.check(slot, deviceId, pasid, lo, hi, flags)
      if (answer !== passesChecks) return answer
    }
    if (pasid >= 0 && (pool[slot + 1]! & guestValid) !== 0) {
      const needed =
        access |
        ((flags & RequestFlag.execute) !== 0 ? mayExecute : 0) |
        ((flags & RequestFlag.supervisor) !== 0 ? 0 : userMay)
      return this.throughTables(pool, slot, deviceId, pasid, lo, hi, flags, needed, pasid)
    }
    return this.withoutGuest(pool, slot, deviceId, pasid, lo, hi, flags, access)
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
}
