/**
 * Events by which the host learns what went wrong on behalf of a guest.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software: the layouts of
 * GUEST_EVENT_FAULT and VIOMMU_HARDWARE_ERROR have that source alone. What the two source bits of the latter mean is not
 * published but for one sample, a command buffer under source 1; the rest of {@link errorSource} is the model's own.
 *
 * @packageDocumentation
 */
import type { Memory } from '../memory/memory.js'
import { logEvent } from '../queue/event-log.js'
import type { Registers } from '../registers.js'
import { eventCode, eventFlag, faultCode } from '../walk/fault.js'
import type { Fault } from '../walk/fault.js'

/** What hardware was after when it met an error: the source bits of VIOMMU_HARDWARE_ERROR. */
export const errorSource = { maps: 0, commands: 1, eventLog: 2, pprLog: 3 } as const

/**
 * On whose behalf a table was walked: bits of the first word of events 1 to 4. `pointer` stands for the maps, which is
 * the model's own reading of "guest pointer".
 */
export const walkCause = { command: 1 << 31, pointer: 1 << 30, event: 1 << 29 } as const

const guestEventFault = 0xb0000000 | 0
const virtualHardwareError = 0xc0000000 | 0

/** See the file's comment. */
export class HostEvents {
  private readonly event = new Int32Array(4)

  constructor(
    private readonly registers: Registers,
    private readonly memory: Memory,
  ) {}

  /** GUEST_EVENT_FAULT: the guest's event log did not take an event. */
  guestEventFault(guestId: number): void {
    this.log(0, guestEventFault | guestId, 0, 0)
  }

  /**
   * VIOMMU_HARDWARE_ERROR.
   *
   * @param source - one of {@link errorSource}
   * @param lo - private address or GPA, low word; `hi` is the high word
   */
  hardwareError(guestId: number, source: number, lo: number, hi: number): void {
    this.log(guestId | (source << 16), virtualHardwareError, lo, hi)
  }

  /**
   * The event of a walk that failed.
   *
   * @param cause - one of {@link walkCause}
   * @param domainId - of the device table entry
   * @param lo - what the event names, a multiple of 8: the address that was walked, or the SPA that no memory answers for
   */
  walkFault(
    deviceId: number,
    cause: number,
    fault: Fault,
    isWrite: boolean,
    domainId: number,
    lo: number,
    hi: number,
  ): void {
    const code = faultCode(fault)
    const flags = (fault & 0xfff) | (isWrite ? eventFlag.write : 0)
    const namesDomain = code === eventCode.ioPageFault || code === eventCode.pageTabHardwareError
    this.log(deviceId | cause, (code << 28) | (flags << 16) | (namesDomain ? domainId : 0), lo, hi)
  }

  private log(w0: number, w1: number, w2: number, w3: number): void {
    this.event.set([w0, w1, w2, w3])
    logEvent(this.registers, this.memory, this.event)
  }
}
