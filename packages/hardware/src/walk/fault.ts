/**
 * Why a request ends early, as one number: the event's code above the twelve flag bits of the event log.
 *
 * Zero means that nothing is wrong. AMD 48882 rev 3.10, event log entries; the flags are bits 59:48 of the entry's
 * first quad-word. The faults stand before everything else: only there do bundlers put constants in place.
 *
 * @packageDocumentation
 */

export type Fault = number

export const noFault: Fault = 0

/** Refused, and no event tells of it. Code 0 is no event's. */
export const silentAbort: Fault = 0x800

/** No entry for the address: PR=0. */
export const notPresent: Fault = 0x2000
/** A reserved bit of a present entry is set: PR=1, RZ=1. */
export const reservedBitSet: Fault = 0x2090
/** A present entry encodes a level or a size that cannot be: PR=1, RZ=0. */
export const badEncoding: Fault = 0x2010
/** The entries do not grant the access: PR=1, PE=1. */
export const denied: Fault = 0x2050
/** A table entry could not be read, as no memory answered: hardware error type 1, master abort. */
export const tableUnreadable: Fault = 0x4200
/** The device table entry could not be read. */
export const deviceEntryUnreadable: Fault = 0x3200
/** A reserved bit of the device table entry is set: RZ=1. */
export const illegalDeviceEntryBits: Fault = 0x1080
/** The device table entry encodes a level that cannot be: RZ=0. */
export const illegalDeviceEntryLevel: Fault = 0x1000

/** Added to a fault that the address alone earns, whatever the event says of entries: no table is malformed. */
export const ofAddress = 0x10000

/** Flag bits of an event, as Linux prints them. */
export const eventFlag = {
  guest: 0x001,
  execute: 0x002,
  user: 0x004,
  interrupt: 0x008,
  present: 0x010,
  write: 0x020,
  permission: 0x040,
  reserved: 0x080,
  translationRequest: 0x100,
  /** User privilege in INVALID_DEVICE_REQUEST: elsewhere than in the other events. */
  userOfInvalidRequest: 0x002,
} as const

/** Event codes. */
export const eventCode = {
  illegalDevTableEntry: 1,
  ioPageFault: 2,
  devTabHardwareError: 3,
  pageTabHardwareError: 4,
  illegalCommandError: 5,
  commandHardwareError: 6,
  iotlbInvTimeout: 7,
  invalidDeviceRequest: 8,
  invalidPprRequest: 9,
  eventCounterZero: 10,
} as const

/** INVALID_DEVICE_REQUEST of a type, 0 to 7. */
export const invalidRequest = (type: number): Fault => 0x8000 | (type << 9)

/** The event code of a fault, 1 to 14; 0 for {@link silentAbort}. */
export const faultCode = (fault: Fault): number => (fault >>> 12) & 15
