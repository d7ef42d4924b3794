/**
 * The events of interrupt requests that are refused, and which of them are kept out of the log.
 *
 * AMD 48882 rev 3.10, event log entries: I is set, RW is not, and a page fault names the DomainID. DTE.SA and SE are
 * about memory requests; interrupts have DTE.IG and IRTE.SupIOPF.
 *
 * @packageDocumentation
 */
import {
  deviceEntryUnreadable,
  eventCode,
  eventFlag,
  faultCode,
  illegalDeviceEntryBits,
  illegalDeviceEntryLevel,
  invalidRequest,
  tableUnreadable,
} from '../walk/fault.js'
import type { Fault } from '../walk/fault.js'
import type { InterruptSwitches } from './interrupt-switches.js'
import { meaning } from './table-entry.js'

/** INVALID_DEVICE_REQUEST, type 5: an interrupt while DTE.IntCtl=0. */
export const interruptsOff: Fault = invalidRequest(5)

/** The fault of a table entry, or a backing page, that no memory answers for. */
export function unreadableFault({ interruptEntryUnreadable }: InterruptSwitches): Fault {
  switch (interruptEntryUnreadable) {
    case 'dev-tab-hardware-error':
      return deviceEntryUnreadable
    case 'page-tab-hardware-error':
      return tableUnreadable
    case 'illegal-dev-table-entry':
      return illegalDeviceEntryLevel
  }
}

/** ILLEGAL_DEV_TABLE_ENTRY with the chosen RZ. */
export const illegalWith = (choice: 'rz-0' | 'rz-1'): Fault =>
  choice === 'rz-1' ? illegalDeviceEntryBits : illegalDeviceEntryLevel

/**
 * Whether the page fault of an interrupt is kept out of the log.
 *
 * @param which - one of `meaning` that leads to a page fault
 * @param ignores - DTE.IG
 * @param suppresses - IRTE.SupIOPF
 */
export function isPageFaultSilent(
  which: number,
  ignores: boolean,
  suppresses: boolean,
  { ignoreUnmapped, suppressEntryFaults }: InterruptSwitches,
): boolean {
  // Both are meant for entries with RemapEn=0 at least.
  if (which === meaning.disabled) return ignores || suppresses
  if (suppresses && suppressEntryFaults === 'every-fault') return true
  if (!ignores) return false
  return ignoreUnmapped === 'every-fault' || (ignoreUnmapped === 'not-present' && which === meaning.beyond)
}

/**
 * Puts an event together.
 *
 * @param event - four words, to be written
 * @param lo - low word of the address that the event names, which depends on the kind; `hi` is the high word
 */
export function writeInterruptEvent(
  event: Int32Array,
  fault: Fault,
  deviceId: number,
  domainId: number,
  lo: number,
  hi: number,
): void {
  const code = faultCode(fault)
  const flags = fault & 0xfff
  const namesDomain = code === eventCode.ioPageFault || code === eventCode.pageTabHardwareError
  event[0] = deviceId
  event[1] = (code << 28) | (flags << 16) | (namesDomain ? domainId : 0)
  // In INVALID_DEVICE_REQUEST the place of I is not used.
  if (code !== eventCode.invalidDeviceRequest) event[1] |= eventFlag.interrupt << 16
  event[2] = code === eventCode.illegalDevTableEntry ? lo & ~3 : lo
  event[3] = hi
}

/** Whether the event names the address of a table entry instead of the request's. */
export function namesTableAddress(fault: Fault): boolean {
  const code = faultCode(fault)
  return code === eventCode.devTabHardwareError || code === eventCode.pageTabHardwareError
}
