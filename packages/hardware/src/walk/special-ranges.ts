/**
 * Addresses that are not memory: interrupts, and the HyperTransport hole below 2^40.
 *
 * AMD 48882 rev 3.10, special address ranges and device table entry (SysMgt, IoCtl); which event tells of a refusal is
 * INVALID_DEVICE_REQUEST with a type. The rest of the hole has no public description: requests there are refused.
 *
 * @packageDocumentation
 */
import type { DeviceTable } from './device-table.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import type { Switches } from '../switches.js'
import { dteSlot } from '../cache/device-table-cache.js'
import { outcome, request, resultWord } from './answer.js'
import { entryValid, translationValid } from './device-entry.js'
import type { FaultReport } from './fault-report.js'
import { illegalDeviceEntryLevel, invalidRequest, noFault, notPresent, silentAbort } from './fault.js'
import type { Fault } from './fault.js'
import { mayWrite } from './rights.js'

/** Whether an address is in one of the ranges, unless `holeIsMemory`. */
export const isSpecial = (lo: number, hi: number, holeIsMemory: boolean): boolean =>
  hi === 0 ? lo >>> 20 === 0xfee : hi >= 0xfd && hi <= 0xff && !holeIsMemory

/** Bits 63:40 of an address in the hole, in its high word, with bit 39 repeated. */
export const signOfHole = 0xffffff00 | 0

/** In place of a slot: the device's entry was not looked at. */
const noEntry = -1

/** What the entry lets a range be: the request goes on as one to memory, or passes, or a fault. */
const asMemory = -1
const passes = 0

/** See the file's comment. */
export class SpecialRanges {
  constructor(
    private readonly memory: SparseMemory,
    private readonly deviceTable: DeviceTable,
    private readonly faults: FaultReport,
    private readonly switches: Switches,
    private readonly result: Int32Array,
    /** The capability's HtAtsResv: the address translation range is reserved. */
    private readonly translationRangeReserved: boolean,
  ) {}

  /**
   * Answers a request to a special range.
   *
   * @returns one of {@link outcome}, or -1 when the request goes on as one to memory
   */
  answer(deviceId: number, pasid: number, lo: number, hi: number, flags: number): number {
    const isPosted = (flags & (request.write | request.nonPosted)) === request.write
    // Requests by translated address are not asked for a translation, whatever range they name.
    if ((flags & request.translationRequest) !== 0)
      return this.refuse(noEntry, invalidRequest(1), deviceId, pasid, lo, hi, flags)
    if (hi === 0) return this.interruptRange(isPosted, deviceId, pasid, lo, hi, flags)
    const block = hi === 0xfd ? lo >>> 16 : 0x10000
    if (block < 0xf900) {
      if (isPosted) return outcome.interrupt
      return this.refuse(noEntry, invalidRequest(0), deviceId, pasid, lo, hi, flags)
    }
    // Acknowledge cycles of the interrupt controller, and what lies beside system management.
    if (block < 0xf910 || (block >= 0xf920 && block < 0xfb00)) {
      return this.refuse(noEntry, invalidRequest(isPosted ? 6 : 0), deviceId, pasid, lo, hi, flags)
    }
    if (block >= 0xfe00) {
      const fault =
        this.switches.choices.hyperTransportRest === 'silent' ? silentAbort : invalidRequest(isPosted ? 3 : 4)
      return this.refuse(noEntry, fault, deviceId, pasid, lo, hi, flags)
    }
    if (block >= 0xfb00 && block < 0xfc00) {
      if (isPosted && !this.translationRangeReserved) return this.forward(lo, hi)
      return this.refuse(noEntry, invalidRequest(isPosted ? 3 : 4), deviceId, pasid, lo, hi, flags)
    }
    return this.byEntry(block >>> 4 === 0xf91, isPosted, deviceId, pasid, lo, hi, flags)
  }

  private interruptRange(
    isPosted: boolean,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
  ): number {
    const isWrite = (flags & request.write) !== 0
    if (pasid >= 0 && (isWrite || this.switches.choices.interruptWithPasid === 'all')) {
      return this.refuse(noEntry, notPresent, deviceId, pasid, lo, hi, flags)
    }
    if (isPosted) return outcome.interrupt
    return this.refuse(noEntry, invalidRequest(0), deviceId, pasid, lo, hi, flags)
  }

  /** System management and port I/O: the device's entry says what becomes of them. */
  private byEntry(
    isManagement: boolean,
    isPosted: boolean,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
  ): number {
    const slot = this.deviceTable.entryOf(deviceId, (flags & request.fresh) !== 0)
    if (slot < 0) {
      this.result[resultWord.spaLo] = this.deviceTable.entryLo
      this.result[resultWord.spaHi] = this.deviceTable.entryHi
      return this.refuse(slot, this.deviceTable.fault, deviceId, pasid, lo, hi, flags)
    }
    const pool = this.memory.words.array
    if ((pool[slot]! & entryValid) === 0) return this.forward(lo, hi)
    const illegal = pool[slot + dteSlot.illegal]!
    if (illegal !== noFault) return this.refuse(slot, illegal, deviceId, pasid, lo, hi, flags)
    const q1Hi = pool[slot + 3]!
    const rule = isManagement
      ? managementRule((q1Hi >>> 8) & 3, isPosted, (pool[slot + 1]! & mayWrite) !== 0)
      : portRule((q1Hi >>> 3) & 3)
    if (rule === passes) return this.forward(lo, hi)
    if (rule !== asMemory) return this.refuse(slot, rule, deviceId, pasid, lo, hi, flags)
    if ((pool[slot]! & translationValid) !== 0) return asMemory
    return this.refuse(slot, invalidRequest(7), deviceId, pasid, lo, hi, flags)
  }

  private refuse(
    slot: number,
    fault: Fault,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
  ): number {
    const isExtended = hi !== 0 && this.switches.choices.hyperTransportAddress === 'sign-extended'
    return this.faults.report(slot, fault, deviceId, pasid, lo, isExtended ? hi | signOfHole : hi, flags)
  }

  private forward(lo: number, hi: number): number {
    this.result[resultWord.spaLo] = lo
    this.result[resultWord.spaHi] = hi
    return outcome.forwarded
  }
}

/** DTE.SysMgt. Which messages are INTx is told by HyperTransport alone, so 10 forwards none here. */
function managementRule(sysMgt: number, isPosted: boolean, mayBeWritten: boolean): number {
  if (sysMgt === 3) return asMemory
  if (!isPosted) return invalidRequest(4)
  if (sysMgt !== 1) return invalidRequest(3)
  // Erratum 63: without DTE.IW the message is dropped.
  return mayBeWritten ? passes : silentAbort
}

/** DTE.IoCtl. */
function portRule(ioCtl: number): number {
  if (ioCtl === 0) return invalidRequest(2)
  if (ioCtl === 1) return passes
  return ioCtl === 2 ? asMemory : illegalDeviceEntryLevel
}
