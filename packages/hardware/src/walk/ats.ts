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
import { outcome, request, resultWord, source } from './answer.js'
import { atsEnabled, guestIoProtection, guestValid, translationValid } from './device-entry.js'
import type { FaultReport } from './fault-report.js'
import { denied, eventCode, eventFlag, faultCode, invalidRequest, noFault, silentAbort } from './fault.js'
import type { Fault } from './fault.js'
import { mayExecute, mayRead, mayWrite, userMay } from './rights.js'
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
    const isGiov = tagged < 0 && (q0Hi & guestIoProtection) !== 0 && (q0Hi & guestValid) !== 0
    if (isGiov) tagged = 0
    if (tagged < 0 && (q0Lo & 0xe00) === 0) {
      const answer = this.identity(q0Hi, lo, hi)
      // AttrV and Mode0FC stand in for the FC of a leaf.
      const attributes = pool[slot + 7]! & modeZeroCoherent
      this.result[resultWord.leafBits] = attributes === modeZeroCoherent ? forceCoherent : 0
      return answer
    }
    const isUser = isGiov
      ? this.switches.choices.giovPrivilege === 'user'
      : (flags & request.supervisor) === 0
    return this.throughTables(slot, deviceId, tagged, lo, hi, flags, isGiov, isUser && tagged >= 0)
  }

  /** In the exclusion range, or with Mode 0: the address itself. */
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
    isUser: boolean,
  ): number {
    const { result, tables } = this
    const first = tables.access(slot, deviceId, pasid, lo, hi, flags, 0, isUntagged)
    if (first !== noFault) return this.failed(first, slot, deviceId, pasid, lo, hi, flags)
    let rights = result[resultWord.rights]!
    // Exe is granted only with reading, and all of it only to whom the pages belong.
    if (isUser && (rights & userMay) === 0) rights = 0
    const mayDirty = (flags & request.nonPosted) === 0
    if ((rights & mayWrite) !== 0 && mayDirty && this.switches.choices.atsDirty === 'set') {
      // The writes that follow pass the IOMMU unseen, so D is set now.
      const again = tables.access(slot, deviceId, pasid, lo, hi, flags, mayWrite, isUntagged)
      if (again !== noFault) rights &= ~mayWrite
    } else if (!mayDirty) rights &= ~mayWrite
    if ((rights & mayRead) === 0) rights &= ~mayExecute
    result[resultWord.rights] = rights
    return outcome.translated
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
      faultCode(fault) === eventCode.ioPageFault &&
      ((fault & eventFlag.present) === 0 || (fault & eventFlag.permission) !== 0)
    if (isOrdinary) return this.nothing(deviceId)
    const isSilent =
      this.switches.choices.atsMalformed === 'silent' && faultCode(fault) === eventCode.ioPageFault
    return this.faults.report(slot, isSilent ? silentAbort : fault, deviceId, pasid, lo, hi, flags)
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
