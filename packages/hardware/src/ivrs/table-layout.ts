/**
 * Where the fields of the IVRS header, of IVHD and of IVMD blocks lie, in bytes.
 *
 * AMD 48882 rev 3.10, I/O virtualization ACPI table; the first 36 bytes are the header of every ACPI table.
 *
 * @packageDocumentation
 */
import { defineStruct, u16, u32, u64, u8, u8Array } from '@nestwalk/bits'

export const headerStruct = defineStruct({
  name: 'IVRS header',
  byteLength: 48,
  fields: {
    signature: u8Array(0, 4),
    length: u32(4),
    revision: u8(8),
    checksum: u8(9),
    oemId: u8Array(10, 6),
    oemTableId: u8Array(16, 8),
    oemRevision: u32(24),
    creatorId: u8Array(28, 4),
    creatorRevision: u32(32),
    info: u32(36),
    reserved: u64(40),
  },
})

/** What every block starts with. */
export const blockStruct = defineStruct({
  name: 'IVRS block',
  byteLength: 4,
  fields: { type: u8(0), flags: u8(1), length: u16(2) },
})

const ivhdFields = {
  ...blockStruct.fields,
  deviceId: u16(4),
  capabilityOffset: u16(6),
  mmioBase: u64(8),
  segment: u16(16),
  info: u16(18),
} as const

export const ivhd10Struct = defineStruct({
  name: 'IVHD 10h',
  byteLength: 24,
  fields: { ...ivhdFields, features: u32(20) },
})

/** Types 11h and 40h. */
export const ivhd11Struct = defineStruct({
  name: 'IVHD 11h',
  byteLength: 40,
  fields: { ...ivhdFields, attributes: u32(20), efr: u64(24), efr2: u64(32) },
})

export const ivmdStruct = defineStruct({
  name: 'IVMD',
  byteLength: 32,
  fields: {
    ...blockStruct.fields,
    deviceId: u16(4),
    auxiliary: u16(6),
    reserved: u64(8),
    start: u64(16),
    byteLength: u64(24),
  },
})

/** Types of blocks. */
export const blockType = {
  ivhd10: 0x10,
  ivhd11: 0x11,
  ivhd40: 0x40,
  ivmdAll: 0x20,
  ivmdSelect: 0x21,
  ivmdRange: 0x22,
} as const
