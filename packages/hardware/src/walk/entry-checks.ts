/**
 * What a device table entry says of a request before the request goes through tables.
 *
 * AMD 48882 rev 3.10, translation of requests: validity, reserved bits, exclusion range, rights of the entry, levels, in
 * this order. Most requests pass all of it, and {@link Translator} does not ask.
 *
 * @packageDocumentation
 */
import { dteSlot } from '../cache/device-table-cache.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import { mmio } from '../mmio.js'
import type { Registers } from '../registers.js'
import type { Switches } from '../switches.js'
import { Outcome, RequestFlag, ResultWord, Source, untaggedGuest } from './answer.js'
import type { AtsRequests } from './ats.js'
import { entryValid, isGiov, mayBeExcluded, translationValid } from './device-entry.js'
import { denied, invalidRequest, noFault, notPresent } from './fault.js'
import type { FaultReport } from './fault-report.js'
import { allRights, mayRead, mayWrite } from './rights.js'

/** No {@link Outcome}: the request goes on. */
export const passesChecks = -1

/** See the file's comment. */
export class EntryChecks {
  constructor(
    private readonly memory: SparseMemory,
    private readonly registers: Registers,
    private readonly ats: AtsRequests,
    private readonly faults: FaultReport,
    private readonly switches: Switches,
    private readonly result: Int32Array,
  ) {}

  /**
   * The checks one after the other.
   *
   * @returns one of {@link Outcome}, or {@link passesChecks}
   */
  check(slot: number, deviceId: number, pasid: number, lo: number, hi: number, flags: number): number {
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

  /** Lets a request through by its own address. */
  forward(lo: number, hi: number): number {
    this.result[ResultWord.spaLo] = lo
    this.result[ResultWord.spaHi] = hi
    this.result[ResultWord.rights] = allRights
    return Outcome.forwarded
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
}

/** Page number of an address of 64 bits: 52 bits, exact in a double. */
const pageNumber = (lo: number, hi: number): number => (hi >>> 0) * 2 ** 20 + (lo >>> 12)
