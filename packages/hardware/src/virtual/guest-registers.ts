/**
 * The registers of one guest: where they are, and which of their bits can be written.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software. The host has 64 bytes a guest to
 * control it (VFCtrl); the guest has a page (VF) that stands for MMIO 2000h to 2FFFh of its own IOMMU.
 *
 * @packageDocumentation
 */
import type { Features } from '../features.js'

/** Bytes that control one guest. */
export const vfControlBytes = 64
/** Bytes of a guest's page. */
export const vfBytes = 4096
/** GuestIDs have 16 bits. */
export const guestIdCount = 1 << 16

/** Offsets in the bytes that control a guest. */
export const vfControl = {
  deviceMap: 0x00,
  domainMap: 0x08,
  misc: 0x10,
  eventBBase: 0x18,
  command: 0x20,
  event: 0x28,
  ppr: 0x30,
  pprBBase: 0x38,
} as const

/** Offsets in a guest's page. */
export const vf = {
  commandHead: 0x00,
  commandTail: 0x08,
  eventHead: 0x10,
  eventTail: 0x18,
  status: 0x20,
  pprHead: 0x30,
  pprTail: 0x38,
  pprBHead: 0x50,
  pprBTail: 0x58,
  eventBHead: 0x70,
  eventBTail: 0x78,
  pprAutoResponse: 0x80,
} as const

/** Bits of a map control register. */
export const mapControl = {
  /** Low word: carry out. Reads as 0, since it is carried out at once. */
  write: 1 << 0,
  /** High word: the entry is valid. */
  validHi: 1 << 31,
  /** Lowest bit of the host's ID in the low word, and of the guest's in the high word. */
  idShift: 14,
} as const

/** Enable bits, low word: the same place in the command, event and PPR control registers. */
export const queueEnable = 1 << 8
export const queueInterruptEnable = 1 << 9
/** Bits of the guest PPR control register besides. */
export const guestPpr = {
  pprEn: 1 << 10,
  autoRspEn: 1 << 13,
  blockStopMarkers: 1 << 14,
  autoRspAlways: 1 << 15,
} as const

const pageLo = 0xfffff000 | 0
const addressHi = 0x000fffff

/** What can be written: low and high word. */
export interface WritableBits {
  readonly lo: number
  readonly hi: number
}

/** What of the register at an offset, a multiple of 8, can be written. */
export function vfControlWritable(offset: number): WritableBits {
  switch (offset) {
    case vfControl.misc:
      return { lo: 0xffff0000 | 0, hi: 0 }
    case vfControl.eventBBase:
    case vfControl.pprBBase:
      return { lo: pageLo, hi: addressHi }
    case vfControl.command:
      return { lo: pageLo | 0x30f, hi: addressHi }
    case vfControl.event:
      return { lo: -1, hi: addressHi }
    case vfControl.ppr:
      // The base stands four bits higher than elsewhere.
      return { lo: -1, hi: 0x00ffffff }
    default:
      // The two maps.
      return { lo: 0x3fffc001, hi: 0xbfffc000 | 0 }
  }
}

/** Byte offsets of ring entries. */
const pointer = 0x0007fff0

/** Bits of a register of the guest's page that can be written, low word; 0 where the chip has none. */
export function vfWritable(offset: number, features: Features): number {
  switch (offset) {
    case vf.commandHead:
    case vf.commandTail:
    case vf.eventHead:
    case vf.eventTail:
      return pointer
    case vf.eventBHead:
    case vf.eventBTail:
      return features.dualEventLog ? pointer : 0
    case vf.pprHead:
    case vf.pprTail:
      return features.pageRequests ? pointer : 0
    case vf.pprBHead:
    case vf.pprBTail:
      return features.pageRequests && features.dualPprLog ? pointer : 0
    case vf.pprAutoResponse:
      return features.pageRequests && features.pprAutoResponse ? 0x1f : 0
    default:
      return 0
  }
}
