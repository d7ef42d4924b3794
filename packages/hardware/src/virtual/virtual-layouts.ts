/**
 * Layouts of the registers that control a guest, and of the map entries.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software; of the map entries only the
 * host's DeviceID is published.
 *
 * @packageDocumentation
 */
import { flag, uint } from '@nestwalk/bits'
import type { Decoded, RecordLayout } from '@nestwalk/bits'
import { deviceId, domainId, gpa } from '../layout/fields.js'

const source = 'AMD linux-iommu, posted series "Introduce hardware vIOMMU support"'

/** Bits that write the entry. */
const mapBits = {
  /** The entry is written; reads as 0. */
  write: flag(0),
  /** The entry is valid from then on. */
  valid: flag(63),
}

/** VFCtrl 00h: writes an entry of the DeviceID map. */
export const deviceMapControlLayout = {
  name: 'Guest DeviceID Map Control',
  source,
  wordCount: 1,
  fields: { ...mapBits, hostDeviceId: deviceId(29, 14), guestDeviceId: deviceId(61, 46) },
} as const satisfies RecordLayout

/** VFCtrl 08h: writes an entry of the DomainID map. */
export const domainMapControlLayout = {
  name: 'Guest DomainID Map Control',
  source,
  wordCount: 1,
  fields: { ...mapBits, hostDomainId: domainId(29, 14), guestDomainId: domainId(61, 46) },
} as const satisfies RecordLayout

/** VFCtrl 10h. */
export const guestMiscControlLayout = {
  name: 'Guest Misc Control',
  source,
  wordCount: 1,
  fields: {
    /** Whose entry holds the guest's host table; 0: none. */
    translateDeviceId: deviceId(31, 16),
  },
} as const satisfies RecordLayout

/** VFCtrl 18h and 38h. */
export const guestLogBBaseLayout = {
  name: 'Guest Log B Base',
  source,
  wordCount: 1,
  fields: { base: gpa([51, 12, 12]) },
} as const satisfies RecordLayout

/** VFCtrl 20h. */
export const guestCommandControlLayout = {
  name: 'Guest Command Control',
  source,
  wordCount: 1,
  fields: {
    /** log2 of the entries: 8 to 15. */
    lengthLog2: uint(3, 0),
    enabled: flag(8),
    /** An interrupt for COMPLETION_WAIT. */
    interruptEnabled: flag(9),
    base: gpa([51, 12, 12]),
  },
} as const satisfies RecordLayout

/** VFCtrl 28h. */
export const guestEventControlLayout = {
  name: 'Guest Event Control',
  source,
  wordCount: 1,
  fields: {
    lengthLog2: uint(3, 0),
    lengthBLog2: uint(7, 4),
    enabled: flag(8),
    interruptEnabled: flag(9),
    /** 0 log A, 1 log B, 2 both in turn. */
    dual: uint(11, 10),
    base: gpa([51, 12, 12]),
  },
} as const satisfies RecordLayout

/** VFCtrl 30h. */
export const guestPprControlLayout = {
  name: 'Guest PPR Control',
  source,
  wordCount: 1,
  fields: {
    lengthLog2: uint(3, 0),
    lengthBLog2: uint(7, 4),
    enabled: flag(8),
    interruptEnabled: flag(9),
    /** PPREn: page requests are accepted at all. */
    requestsEnabled: flag(10),
    dual: uint(12, 11),
    autoResponse: flag(13),
    stopMarkersBlocked: flag(14),
    autoResponseAlways: flag(15),
    /** Four bits higher than in the other registers. */
    base: gpa([55, 16, 12]),
  },
} as const satisfies RecordLayout

/** Entry of a guest's DeviceID map. The valid bit is the model's own. */
export const deviceMapEntryLayout = {
  name: 'Guest DeviceID Map Entry',
  source,
  wordCount: 2,
  fields: { valid: flag(0), hostDeviceId: deviceId(39, 24) },
} as const satisfies RecordLayout

/** Entry of a guest's DomainID map. All of it is the model's own. */
export const domainMapEntryLayout = {
  name: 'Guest DomainID Map Entry',
  source,
  wordCount: 1,
  fields: { valid: flag(0), hostDomainId: domainId(39, 24) },
} as const satisfies RecordLayout

export type DeviceMapControl = Decoded<typeof deviceMapControlLayout>
export type DomainMapControl = Decoded<typeof domainMapControlLayout>
export type GuestCommandControl = Decoded<typeof guestCommandControlLayout>
export type GuestEventControl = Decoded<typeof guestEventControlLayout>
export type GuestPprControl = Decoded<typeof guestPprControlLayout>
