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
import { outcome, request, resultWord, untaggedGuest } from './answer.js'
import { entryValid, suppressAfterFirst, suppressAll } from './device-entry.js'
import { eventCode, eventFlag, faultCode } from './fault.js'
import type { Fault } from './fault.js'

/** See the file's comment. */
export class FaultReport {
  private readonly event = new Int32Array(4)

  constructor(
    private readonly memory: SparseMemory,
    private readonly registers: Registers,
    private readonly deviceTableCache: DeviceTableCache,
  ) {}

  /**
   * Ends a request with a fault: puts the event together, and writes it to the log unless the entry suppresses it.
   *
   * @param result - the words of the answer; the SPA of an entry that no memory answers for stands there already
   * @param slot - the entry's slot, or -1 without an entry
   * @param pasid - the request's PASID, -1 without, {@link untaggedGuest} when a request without PASID was in a guest
   *   table
   */
  report(
    result: Int32Array,
    slot: number,
    fault: Fault,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
  ): number {
    const { event } = this
    const code = faultCode(fault)
    const isGuest = pasid !== withoutPasid
    const namedPasid = pasid > 0 ? pasid : 0
    let eventFlags = fault & 0xfff
    if ((flags & request.write) !== 0) eventFlags |= eventFlag.write
    if (isGuest && code !== eventCode.devTabHardwareError) eventFlags |= eventFlag.guest
    if (isGuest && code === eventCode.ioPageFault) {
      if (pasid === untaggedGuest) eventFlags |= eventFlag.user
      else {
        if ((flags & request.execute) !== 0) eventFlags |= eventFlag.execute
        if ((flags & request.supervisor) === 0) eventFlags |= eventFlag.user
      }
    }
    const namesTag = code === eventCode.ioPageFault || code === eventCode.pageTabHardwareError
    const domainId = slot < 0 ? 0 : this.memory.words.array[slot + 2]! & 0xffff
    const namesEntry = code === eventCode.pageTabHardwareError || code === eventCode.devTabHardwareError
    event[0] =
      isGuest && code !== eventCode.devTabHardwareError ? deviceId | ((namedPasid >>> 16) << 16) : deviceId
    event[1] = (code << 28) | (eventFlags << 16)
    if (isGuest && code !== eventCode.devTabHardwareError) event[1] |= namedPasid & 0xffff
    else if (namesTag) event[1] |= domainId
    event[2] = namesEntry ? result[resultWord.spaLo]! : code === eventCode.illegalDevTableEntry ? lo & ~3 : lo
    event[3] = namesEntry ? result[resultWord.spaHi]! : hi
    result.set(event, resultWord.event)
    result[resultWord.logged] = 0
    if ((flags & request.fresh) === 0 && !this.isSuppressed(slot, deviceId, code)) {
      result[resultWord.logged] = logEvent(this.registers, this.memory, event) ? 1 : 0
    }
    return outcome.faulted
  }

  /** Whether the entry keeps this event out of the log: SA always, SE after the first since the entry was cached. */
  private isSuppressed(slot: number, deviceId: number, code: number): boolean {
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
