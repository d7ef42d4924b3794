/**
 * Address translation services: requests by which a device asks for a translation to keep, and requests by addresses
 * that it was given.
 *
 * AMD 48882 rev 3.10, ATS; PCI Express ATS. A page that is absent or denied is a successful answer without rights, not
 * an event.
 *
 * @packageDocumentation
 */
import type { SparseMemory } from '../memory/sparse-memory.js'
import type { Switches } from '../switches.js'
import { dteSlot } from '../cache/device-table-cache.js'
import { withoutPasid } from '../cache/iotlb.js'
import { outcome, request, resultWord, source, untaggedGuest } from './answer.js'
import { atsEnabled, guestValid, isGiov, translationValid } from './device-entry.js'
import type { FaultReport } from './fault-report.js'
import {
  denied,
  eventCode,
  eventFlag,
  faultCode,
  invalidRequest,
  noFault,
  ofAddress,
  silentAbort,
} from './fault.js'
import type { Fault } from './fault.js'
import { allRights, mayExecute, mayRead, mayWrite, userMay } from './rights.js'
import type { TableAccess } from './table-access.js'

/** AttrV and Mode0FC, bits 54 and 55 of quad-word 3. */
const modeZeroCoherent = 0x00c00000
/** FC as a leaf has it. */
const forceCoherent = 0x10000000

/** See the file's comment. */
export class AtsRequests {
  constructor(
    private readonly memory: SparseMemory,
    private readonly tables: TableAccess,
    private readonly faults: FaultReport,
    private readonly switches: Switches,
    private readonly result: Int32Array,
  ) {}

  /**
   * A request by an address that the device was given before: let through, if the device may use ATS.
   *
   * @param slot - the device's entry; V=1 and legal
   */
  translated(slot: number, deviceId: number, pasid: number, lo: number, hi: number, flags: number): number {
    const pool = this.memory.words.array
    if ((pool[slot + 3]! & atsEnabled) === 0) {
      return this.faults.report(slot, invalidRequest(1), deviceId, pasid, lo, hi, flags)
    }
    const needed = (flags & request.write) !== 0 ? mayWrite : mayRead
    if (this.switches.choices.translatedRights === 'checked' && (pool[slot + 1]! & needed) === 0) {
      return this.faults.report(slot, denied, deviceId, pasid, lo, hi, flags)
    }
    this.result[resultWord.spaLo] = lo
    this.result[resultWord.spaHi] = hi
    return outcome.forwarded
  }

  /**
   * A request for a translation: what the tables grant, rights that they do not grant left out.
   *
   * @param slot - the device's entry; V=1 and legal
   * @returns {@link outcome}: `translated` with the rights granted, perhaps none; or `faulted`, when the tables are not
   *   such as can be answered from
   */
  translation(slot: number, deviceId: number, pasid: number, lo: number, hi: number, flags: number): number {
    const pool = this.memory.words.array
    const q0Lo = pool[slot]!
    const q0Hi = pool[slot + 1]!
    if ((q0Lo & translationValid) === 0 || (pool[slot + 3]! & atsEnabled) === 0) {
      return this.faults.report(slot, invalidRequest(0), deviceId, pasid, lo, hi, flags)
    }
    const illegalLevel = pool[slot + dteSlot.illegalLevel]!
    if (illegalLevel !== noFault) {
      return this.faults.report(slot, illegalLevel, deviceId, pasid, lo, hi, flags)
    }
    let tagged = pasid
    if (pasid >= 0 && (q0Hi & guestValid) === 0) {
      if (this.switches.choices.pasidWithoutGuestTables === 'fault') return this.nothing(deviceId)
      tagged = withoutPasid
    }
    const isUntagged = tagged < 0 && isGiov(q0Hi)
    if (isUntagged) tagged = 0
    const isModeZero = (q0Lo & 0xe00) === 0
    const answer =
      tagged < 0 && isModeZero
        ? this.identity(q0Hi, lo, hi)
        : this.throughTables(slot, deviceId, tagged, lo, hi, flags, isUntagged)
    // Without a host table AttrV and Mode0FC stand in for the FC of its leaf.
    if (isModeZero && answer === outcome.translated) {
      const attributes = pool[slot + 7]! & modeZeroCoherent
      this.result[resultWord.leafBits] = attributes === modeZeroCoherent ? forceCoherent : 0
    }
    return answer
  }

  /** A request for a translation in the exclusion range: the page itself, if the device may ask at all. */
  excluded(slot: number, deviceId: number, pasid: number, lo: number, hi: number, flags: number): number {
    if ((this.memory.words.array[slot + 3]! & atsEnabled) === 0) {
      return this.faults.report(slot, invalidRequest(0), deviceId, pasid, lo, hi, flags)
    }
    const answer = this.identity(allRights, lo, hi)
    // Of the range's size nothing is said but that it is made of pages.
    this.result[resultWord.sizeLog2] = 12
    this.result[resultWord.source] = source.exclusion
    return answer
  }

  /** With Mode 0: the address itself. */
  identity(granted: number, lo: number, hi: number): number {
    const { result } = this
    result[resultWord.spaLo] = lo
    result[resultWord.spaHi] = hi
    result[resultWord.sizeLog2] = 64
    result[resultWord.rights] = granted & (mayRead | mayWrite)
    result[resultWord.source] = source.identity
    result[resultWord.leafBits] = 0
    return outcome.translated
  }

  private throughTables(
    slot: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
    isUntagged: boolean,
  ): number {
    const { result, tables } = this
    const named = isUntagged ? untaggedGuest : pasid
    const first = tables.access(slot, deviceId, pasid, lo, hi, flags, 0, isUntagged)
    if (first !== noFault) return this.failed(first, slot, deviceId, named, lo, hi, flags)
    let rights = result[resultWord.rights]!
    if (this.isUser(pasid, isUntagged, flags) && (rights & userMay) === 0) rights = 0
    if ((flags & request.nonPosted) !== 0) rights &= ~mayWrite
    else if (this.wantsWriting(rights, flags)) {
      rights = this.withWriting(slot, deviceId, pasid, lo, hi, flags, isUntagged, rights)
    }
    // A page that may not be read may not be executed either.
    if ((rights & mayRead) === 0) rights &= ~mayExecute
    result[resultWord.rights] = rights
    return outcome.translated
  }

  private isUser(pasid: number, isUntagged: boolean, flags: number): boolean {
    if (pasid === withoutPasid) return false
    return isUntagged ? this.switches.choices.giovPrivilege === 'user' : (flags & request.supervisor) === 0
  }

  /** Whether the tables are to be asked once more for writing: to set D, or where a cached entry did not grant it. */
  private wantsWriting(rights: number, flags: number): boolean {
    if ((rights & mayWrite) !== 0) return this.switches.choices.atsDirty === 'set'
    const isCached = this.result[resultWord.source] === source.iotlb
    return isCached && (flags & request.write) !== 0 && rights !== 0
  }

  /** Asks for writing: the writes that follow pass the IOMMU unseen, so D is set now. */
  private withWriting(
    slot: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
    isUntagged: boolean,
    rights: number,
  ): number {
    const { result, tables } = this
    const from = result[resultWord.source]!
    const reads = result[resultWord.reads]!
    const fault = tables.access(slot, deviceId, pasid, lo, hi, flags, mayWrite, isUntagged)
    const isWalked = result[resultWord.source] === source.walk
    // The answer came from where the first look found it, unless the second had to walk.
    if (!isWalked) result[resultWord.source] = from
    result[resultWord.reads] = isWalked ? reads + result[resultWord.reads]! : reads
    return fault === noFault ? result[resultWord.rights]! : rights & ~mayWrite
  }

  /** A page that is not there or denied is an answer; tables that make no sense are an event. */
  private failed(
    fault: Fault,
    slot: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
  ): number {
    const isOrdinary =
      (fault & ofAddress) !== 0 ||
      (faultCode(fault) === eventCode.ioPageFault &&
        ((fault & eventFlag.present) === 0 || (fault & eventFlag.permission) !== 0))
    if (isOrdinary) return this.nothing(deviceId)
    const isSilent =
      this.switches.choices.atsMalformed === 'silent' && faultCode(fault) === eventCode.ioPageFault
    const told = isSilent ? silentAbort : fault
    return this.faults.report(slot, told, deviceId, pasid, lo, hi, flags, this.tables.faultInHost)
  }

  /** A successful answer that grants nothing. */
  private nothing(deviceId: number): number {
    const { result } = this
    result[resultWord.spaLo] = 0
    result[resultWord.spaHi] = 0
    result[resultWord.sizeLog2] = 12
    result[resultWord.rights] = 0
    result[resultWord.source] = source.walk
    result[resultWord.filler] = deviceId
    result[resultWord.leafBits] = 0
    return outcome.translated
  }
}
