/**
 * The event of a request that was refused, and whether it is logged.
 *
 * AMD 48882 rev 3.10, event log entries. GN, PASID and US say on whose behalf; DTE.SA and SE keep page faults out.
 *
 * @packageDocumentation
 */
import { dteSlot } from '../cache/device-table-cache.js'
import type { DeviceTableCache } from '../cache/device-table-cache.js'
import { withoutPasid } from '../cache/iotlb.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import { logEvent } from '../queue/event-log.js'
import type { Registers } from '../registers.js'
import type { Switches } from '../switches.js'
import { outcome, request, resultWord, untaggedGuest } from './answer.js'
import { entryValid, suppressAfterFirst, suppressAll, translationValid } from './device-entry.js'
import { eventCode, eventFlag, faultCode } from './fault.js'
import type { Fault } from './fault.js'

/** Takes an event that is for a guest's log; false for one that is for the host's. `slot` is -1 without an entry. */
export type EventRoute = (slot: number, event: Int32Array) => boolean

/** See the file's comment. */
export class FaultReport {
  /** Where events of guests' devices go; null without a hardware vIOMMU. */
  route: EventRoute | null = null
  private readonly event = new Int32Array(4)
  private readonly namesGpa: boolean
  private readonly giovEvent: 'gn-1-us-1' | 'gn-1-us-0' | 'gn-0'
  private readonly tv0IsZero: boolean

  constructor(
    private readonly memory: SparseMemory,
    private readonly registers: Registers,
    private readonly deviceTableCache: DeviceTableCache,
    switches: Switches,
    /**
     * The words of the answer. The SPA of an entry that no memory answers for, and the GPA of a fault in the host table,
     * stand there already.
     */
    private readonly result: Int32Array,
  ) {
    const { choices } = switches
    this.namesGpa = choices.nestedHostFault === 'gpa'
    this.giovEvent = choices.giovEvent
    this.tv0IsZero = choices.tv0Domain === 'zero'
  }

  /**
   * Ends a request with a fault: puts the event together, and writes it to the log unless the entry suppresses it.
   *
   * @param slot - the entry's slot, or -1 without an entry
   * @param pasid - the request's PASID, -1 without, {@link untaggedGuest} when a request without PASID was in a guest
   *   table
   * @param inHost - the fault came up in the host table on behalf of a guest table
   */
  report(
    slot: number,
    fault: Fault,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
    inHost = false,
  ): number {
    const { event, result } = this
    this.compose(slot, fault, deviceId, pasid, lo, hi, flags, inHost && this.namesGpa)
    result.set(event, resultWord.event)
    result[resultWord.fault] = fault
    result[resultWord.logged] = 0
    if ((flags & (request.fresh | request.prefetch)) === 0 && !this.isSuppressed(slot, deviceId, fault)) {
      const isGuests = this.route?.(slot, event) === true
      result[resultWord.logged] = isGuests || logEvent(this.registers, this.memory, event) ? 1 : 0
    }
    return outcome.faulted
  }

  private compose(
    slot: number,
    fault: Fault,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
    asGpa: boolean,
  ): void {
    const { event, result } = this
    const code = faultCode(fault)
    if (code === 0) {
      event.fill(0)
      return
    }
    const namesEntry = code === eventCode.pageTabHardwareError || code === eventCode.devTabHardwareError
    const isUntagged = pasid === untaggedGuest
    const isGuest =
      pasid !== withoutPasid &&
      code !== eventCode.devTabHardwareError &&
      !(isUntagged && this.giovEvent === 'gn-0') &&
      !asGpa
    let eventFlags = fault & 0xfff
    if ((flags & request.write) !== 0 && code !== eventCode.invalidDeviceRequest)
      eventFlags |= eventFlag.write
    if ((flags & request.translationRequest) !== 0) eventFlags |= eventFlag.translationRequest
    if (isGuest) eventFlags |= eventFlag.guest | this.privilege(code, isUntagged, flags)
    const namedPasid = pasid > 0 ? pasid : 0
    event[0] = isGuest ? deviceId | ((namedPasid >>> 16) << 16) : deviceId
    event[1] = (code << 28) | (eventFlags << 16)
    if (isGuest) event[1] |= namedPasid & 0xffff
    else if (code === eventCode.ioPageFault || code === eventCode.pageTabHardwareError) {
      event[1] |= this.domainOf(slot)
    }
    event[2] = namesEntry ? result[resultWord.spaLo]! : asGpa ? result[resultWord.gpaLo]! : lo
    if (code === eventCode.illegalDevTableEntry) event[2] = lo & ~3
    event[3] = namesEntry ? result[resultWord.spaHi]! : asGpa ? result[resultWord.gpaHi]! : hi
  }

  /** US and NX, as far as this kind of event tells them. */
  private privilege(code: number, isUntagged: boolean, flags: number): number {
    const isUser = isUntagged ? this.giovEvent === 'gn-1-us-1' : (flags & request.supervisor) === 0
    if (code === eventCode.invalidDeviceRequest) return isUser ? eventFlag.userOfInvalidRequest : 0
    if (code !== eventCode.ioPageFault) return 0
    const executes = !isUntagged && (flags & request.execute) !== 0
    return (isUser ? eventFlag.user : 0) | (executes ? eventFlag.execute : 0)
  }

  private domainOf(slot: number): number {
    if (slot < 0) return 0
    const pool = this.memory.words.array
    if (this.tv0IsZero && (pool[slot]! & (entryValid | translationValid)) === entryValid) return 0
    return pool[slot + 2]! & 0xffff
  }

  /** Whether an event stays out of the log: SA always, SE after the first since the entry was cached. */
  private isSuppressed(slot: number, deviceId: number, fault: Fault): boolean {
    const code = faultCode(fault)
    if (code === 0) return true
    if (slot < 0 || code !== eventCode.ioPageFault) return false
    const pool = this.memory.words.array
    // With V=0 nothing else in the entry counts.
    if ((pool[slot]! & entryValid) === 0) return false
    const q1Hi = pool[slot + 3]!
    if ((q1Hi & suppressAll) !== 0) return true
    if ((q1Hi & suppressAfterFirst) === 0) return false
    if (pool[slot + dteSlot.logged] === 1) return true
    this.deviceTableCache.write(slot, deviceId, dteSlot.logged, 1)
    return false
  }
}
