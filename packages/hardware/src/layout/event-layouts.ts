/**
 * The bit positions of every event of the event log.
 *
 * Fields that several events share are written down once, then each event lists its own. Two events
 * say with GN whether they name a DomainID or a PASID, in the same bits: each has two layouts, the
 * second with `Guest` in front.
 *
 * @packageDocumentation
 */
import { address, flag, uint } from '@nestwalk/bits'
import type { RecordLayout } from '@nestwalk/bits'
import { deviceId, domainId, gpa, iova, pasid, spa } from './fields.js'

/** Quad-words of an event. */
export const eventWordCount = 2

const source = 'AMD 48882 rev 3.10, section 2.5'
const wordCount = eventWordCount

/** EventCode. */
const code = { code: uint(63, 60) }

/** DeviceID of the requester. */
const requester = { deviceId: deviceId(15, 0) }

/** PASID of a request that had one, in two pieces. */
const requestPasid = { pasid: pasid([47, 32, 0], [19, 16, 16]) }

/** DomainID of the requester's device table entry. */
const requestDomain = { domainId: domainId(47, 32) }

/** GN: the address is a guest virtual one and the PASID counts. */
const guestNested = { guestNested: flag(48) }

/** I: an interrupt request. */
const interrupt = { interrupt: flag(51) }

/** RW: a write. */
const write = { write: flag(53) }

/** RZ: a reserved bit was set; if clear, a level or size was illegal (with PR set and PE clear). */
const reservedNotZero = { reservedNotZero: flag(55) }

/** TR: an ATS translation request. */
const translationRequest = { translationRequest: flag(56) }

/** Type of a hardware error: 1 master abort, 2 target abort, 3 data error; 0 reserved. */
const errorType = { errorType: uint(58, 57) }

/** Why a request was made on a vIOMMU's own behalf; one public source. */
const viommuCause = {
  /** vNR: no public source says what it stands for. */
  vNr: flag(27),
  /** vEvent: a write to a guest's event log. */
  guestEventWrite: flag(29),
  /** vPtr: a guest pointer. */
  guestPointer: flag(30),
  /** vCmd: a guest command. */
  guestCommand: flag(31),
}

const pageFaultFlags = {
  ...guestNested,
  /** NX: an execute request. */
  execute: flag(49),
  /** US: user privilege. */
  user: flag(50),
  ...interrupt,
  /** PR: the entry was present (of an interrupt: RemapEn was set). */
  present: flag(52),
  ...write,
  /** PE: the access lacked permission. */
  permissionViolated: flag(54),
  ...reservedNotZero,
  ...translationRequest,
}

const pageTableErrorFields = {
  ...code,
  ...requester,
  ...viommuCause,
  ...guestNested,
  ...interrupt,
  ...write,
  ...translationRequest,
  ...errorType,
  /** Of the table entry. */
  address: spa([127, 64, 0]),
}

const rmpFields = {
  ...code,
  ...requester,
  /** Flags of the RMP check. */
  rmpFlags: uint(23, 16),
  /** VMG tag. */
  vmgTag: uint(47, 32),
  /** As bits 59:48 of IO_PAGE_FAULT. */
  flags: uint(59, 48),
}

/** Of the request; no space is implied beyond what the device sent. */
const requestAddress = { address: iova([127, 64, 0]) }

/** The layout of every event, by kind. */
export const eventLayouts = {
  IllegalDevTableEntry: {
    name: 'ILLEGAL_DEV_TABLE_ENTRY',
    source,
    wordCount,
    fields: {
      ...code,
      ...requester,
      ...requestPasid,
      ...viommuCause,
      ...guestNested,
      ...interrupt,
      ...write,
      ...reservedNotZero,
      ...translationRequest,
      /** Of the request; bits 1:0 are not stored. */
      address: iova([127, 66, 2]),
    },
  },
  /** GN=0: names the DomainID. */
  IoPageFault: {
    name: 'IO_PAGE_FAULT',
    source,
    wordCount,
    fields: { ...code, ...requester, ...requestDomain, ...viommuCause, ...pageFaultFlags, ...requestAddress },
  },
  /** GN=1: names the PASID. */
  GuestIoPageFault: {
    name: 'IO_PAGE_FAULT',
    source,
    wordCount,
    fields: { ...code, ...requester, ...requestPasid, ...viommuCause, ...pageFaultFlags, ...requestAddress },
  },
  DevTabHardwareError: {
    name: 'DEV_TAB_HARDWARE_ERROR',
    source,
    wordCount,
    fields: {
      ...code,
      ...requester,
      ...viommuCause,
      ...interrupt,
      ...write,
      ...translationRequest,
      ...errorType,
      /** Of the device table entry. */
      address: spa([127, 64, 0]),
    },
  },
  /** GN=0: names the DomainID. */
  PageTabHardwareError: {
    name: 'PAGE_TAB_HARDWARE_ERROR',
    source,
    wordCount,
    fields: { ...pageTableErrorFields, ...requestDomain },
  },
  /** GN=1: names the PASID. */
  GuestPageTabHardwareError: {
    name: 'PAGE_TAB_HARDWARE_ERROR',
    source,
    wordCount,
    fields: { ...pageTableErrorFields, ...requestPasid },
  },
  IllegalCommandError: {
    name: 'ILLEGAL_COMMAND_ERROR',
    source,
    wordCount,
    fields: {
      ...code,
      /** Of the command, 16-byte aligned. */
      address: spa([127, 68, 4]),
    },
  },
  CommandHardwareError: {
    name: 'COMMAND_HARDWARE_ERROR',
    source,
    wordCount,
    fields: {
      ...code,
      ...errorType,
      /** That was attempted. */
      address: spa([127, 64, 0]),
    },
  },
  IotlbInvTimeout: {
    name: 'IOTLB_INV_TIMEOUT',
    source,
    wordCount,
    fields: {
      ...code,
      ...requester,
      /** Of the command, 16-byte aligned. */
      address: spa([127, 68, 4]),
    },
  },
  InvalidDeviceRequest: {
    name: 'INVALID_DEVICE_REQUEST',
    source,
    wordCount,
    fields: {
      ...code,
      ...requester,
      ...requestPasid,
      ...guestNested,
      /** US: user privilege, one bit lower than in IO_PAGE_FAULT. */
      user: flag(49),
      ...translationRequest,
      /** Type: what was wrong with the request; its meaning depends on TR. */
      requestType: uint(59, 57),
      ...requestAddress,
    },
  },
  InvalidPprRequest: {
    name: 'INVALID_PPR_REQUEST',
    source,
    wordCount,
    fields: {
      ...code,
      ...requester,
      pasid: pasid([31, 16, 0], [45, 42, 16]),
      /** PPRTag: of the page request. */
      tag: uint(41, 32),
      /** RX: no response is expected. */
      noResponseExpected: flag(48),
      /** GN: the address is a guest virtual one and the PASID counts. */
      guestNested: flag(57),
      ...requestAddress,
    },
  },
  EventCounterZero: {
    name: 'EVENT_COUNTER_ZERO',
    source,
    wordCount,
    fields: {
      ...code,
      /** CounterNote: what software gave the counter; its upper half comes first. */
      counterNote: address([83, 64, 32], [127, 96, 0]),
    },
  },
  /** Its layout has one public source. */
  GuestEventFault: {
    name: 'GUEST_EVENT_FAULT',
    source,
    wordCount,
    fields: {
      ...code,
      /** GuestID. */
      guestId: uint(47, 32),
    },
  },
  /** Its layout has one public source. */
  ViommuHardwareError: {
    name: 'VIOMMU_HARDWARE_ERROR',
    source,
    wordCount,
    fields: {
      ...code,
      /** GuestID. */
      guestId: uint(15, 0),
      /** Src. */
      errorSource: uint(17, 16),
      /** Where the error was met. */
      address: address([127, 64, 0]),
    },
  },
  RmpPageFault: {
    name: 'RMP_PAGE_FAULT',
    source,
    wordCount,
    fields: { ...rmpFields, address: gpa([127, 64, 0]) },
  },
  RmpHardwareError: {
    name: 'RMP_HARDWARE_ERROR',
    source,
    wordCount,
    fields: { ...rmpFields, address: spa([127, 67, 3]) },
  },
} as const satisfies Record<string, RecordLayout>
