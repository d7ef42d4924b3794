/**
 * The bit positions of the MMIO registers other than Control, Status and the feature registers.
 *
 * @packageDocumentation
 */
import { address, flag, uint, uint64 } from '@nestwalk/bits'
import type { Decoded, RecordLayout } from '@nestwalk/bits'
import { byteOffset, gathered, spa } from './fields.js'

const source = 'AMD 48882 rev 3.10, chapter 3'
const wordCount = 1

/** Bits 51:12 of a system physical address. */
const page = spa([51, 12, 12])

/** Device Table Base. */
export const deviceTableBaseLayout = {
  name: 'Device Table Base',
  source,
  wordCount,
  fields: {
    /** Size: 4 KiB units of the table less one. */
    size: uint(8, 0),
    /** DevTabBase. */
    base: page,
  },
} as const satisfies RecordLayout

/** Device Table Segment 1 to 7 Base. */
export const deviceTableSegmentLayout = {
  name: 'Device Table Segment Base',
  source,
  wordCount,
  fields: {
    /** Size: 4 KiB units less one; 0xff for segment 1, less for the others. */
    size: uint(7, 0),
    base: page,
  },
} as const satisfies RecordLayout

const ring = {
  base: page,
  /** log2 of the number of 16-byte units, 8 to 15; smaller codes are reserved. */
  lengthLog2: uint(59, 56),
}

/** Command Buffer Base: ComBase, ComLen. */
export const commandBufferBaseLayout = {
  name: 'Command Buffer Base',
  source,
  wordCount,
  fields: ring,
} as const satisfies RecordLayout

/** Event Log Base, A or B: EventBase, EventLen. */
export const eventLogBaseLayout = {
  name: 'Event Log Base',
  source,
  wordCount,
  fields: ring,
} as const satisfies RecordLayout

/** PPR Log Base, A or B: PPRLogBase, PPRLogLen. */
export const pprLogBaseLayout = {
  name: 'PPR Log Base',
  source,
  wordCount,
  fields: ring,
} as const satisfies RecordLayout

/** GA Log Base: GALogBase, GALogLen, which counts 16-byte units of 8-byte entries. */
export const gaLogBaseLayout = {
  name: 'GA Log Base',
  source,
  wordCount,
  fields: ring,
} as const satisfies RecordLayout

/** GA Log Tail Address: where hardware keeps a copy of the GA log's tail. */
export const gaLogTailAddressLayout = {
  name: 'GA Log Tail Address',
  source,
  wordCount,
  fields: { address: spa([51, 3, 3]) },
} as const satisfies RecordLayout

/** Exclusion Base. With SNP the same register is Completion Store Base and has only the base. */
export const exclusionBaseLayout = {
  name: 'Exclusion Base',
  source,
  wordCount,
  fields: {
    /** ExEn. */
    enabled: flag(0),
    /** Allow: every device may use the range. */
    allowAll: flag(1),
    base: page,
  },
} as const satisfies RecordLayout

/** Exclusion Limit: the last page of the range, inclusive. With SNP: Completion Store Limit. */
export const exclusionLimitLayout = {
  name: 'Exclusion Limit',
  source,
  wordCount,
  fields: { limit: page },
} as const satisfies RecordLayout

/** Hardware Event Upper: the first half of an event that reports a hardware error. */
export const hardwareEventUpperLayout = {
  name: 'Hardware Event Upper',
  source,
  wordCount,
  fields: { operand: uint64(59, 0), code: uint(63, 60) },
} as const satisfies RecordLayout

/** Hardware Event Status. */
export const hardwareEventStatusLayout = {
  name: 'Hardware Event Status',
  source,
  wordCount,
  fields: {
    /** HEV: an event is held; write 1 to clear. */
    valid: flag(0),
    /** HEO: another came meanwhile; write 1 to clear. */
    overflow: flag(1),
  },
} as const satisfies RecordLayout

/** SMI Filter; one public source. */
export const smiFilterLayout = {
  name: 'SMI Filter',
  source,
  wordCount,
  fields: {
    /** SmiDid. */
    deviceId: uint(15, 0),
    /** SmiDV. */
    valid: flag(16),
    /** SmiFLock. */
    locked: flag(17),
  },
} as const satisfies RecordLayout

/** Device-specific Feature, Control and Status. */
export const deviceSpecificLayout = {
  name: 'Device-Specific',
  source,
  wordCount,
  fields: { implementation: uint(23, 0), revisionMinor: uint(27, 24), revisionMajor: uint(31, 28) },
} as const satisfies RecordLayout

/** Performance Optimization Control. */
export const performanceOptimizationLayout = {
  name: 'Performance Optimization Control',
  source,
  wordCount,
  fields: {
    /** PerfOptEn. */
    enabled: flag(13),
  },
} as const satisfies RecordLayout

/** X2APIC interrupt control: general, PPR or GA. */
export const x2ApicControlLayout = {
  name: 'X2APIC Interrupt Control',
  source,
  wordCount,
  fields: {
    /** DestMode: the destination is logical. */
    logicalDestination: flag(2),
    /** Dest, all 32 bits. */
    destination: gathered([31, 8, 0], [63, 56, 24]),
    vector: uint(39, 32),
    /** DM: delivery mode. */
    deliveryMode: flag(40),
  },
} as const satisfies RecordLayout

/** MARC Base. */
export const marcBaseLayout = {
  name: 'MARC Base',
  source,
  wordCount,
  fields: { base: address([51, 12, 12]) },
} as const satisfies RecordLayout

/** MARC Relocation. */
export const marcRelocationLayout = {
  name: 'MARC Relocation',
  source,
  wordCount,
  fields: {
    /** RelocEn. */
    enabled: flag(0),
    /** RO: read-only. */
    readOnly: flag(1),
    address: address([51, 12, 12]),
  },
} as const satisfies RecordLayout

/** MARC Length. */
export const marcLengthLayout = {
  name: 'MARC Length',
  source,
  wordCount,
  fields: { length: address([51, 12, 12]) },
} as const satisfies RecordLayout

/** Head or tail of a ring of 16-byte entries: a byte offset. */
export const ringPointerLayout = {
  name: 'Ring Pointer',
  source,
  wordCount,
  fields: { offset: byteOffset(18, 4) },
} as const satisfies RecordLayout

/** Head or tail of the GA log, whose entries have 8 bytes. */
export const gaLogPointerLayout = {
  name: 'GA Log Pointer',
  source,
  wordCount,
  fields: { offset: byteOffset(15, 3) },
} as const satisfies RecordLayout

/** PPR Auto Response. */
export const pprAutoResponseLayout = {
  name: 'PPR Auto Response',
  source,
  wordCount,
  fields: {
    /** PprAutoRespCode. */
    responseCode: uint(3, 0),
    /** PprAutoRespMaskGn. */
    maskGuestNested: flag(4),
  },
} as const satisfies RecordLayout

/** PPR Overflow Early, of log A or B. */
export const pprOverflowEarlyLayout = {
  name: 'PPR Overflow Early',
  source,
  wordCount,
  fields: {
    /** Threshold. */
    threshold: uint(14, 0),
    /** IntEn. */
    interruptEnabled: flag(30),
    /** En. */
    enabled: flag(31),
  },
} as const satisfies RecordLayout

/** A register whose bits have no public description, or none that divides them. */
export const wholeRegisterLayout = {
  name: 'Register',
  source,
  wordCount,
  fields: { value: uint64(63, 0) },
} as const satisfies RecordLayout

export type DeviceTableBase = Decoded<typeof deviceTableBaseLayout>
export type RingBase = Decoded<typeof commandBufferBaseLayout>
