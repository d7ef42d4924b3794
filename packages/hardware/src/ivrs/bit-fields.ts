/**
 * The registers and flag bytes inside the IVRS table, bit by bit.
 *
 * AMD 48882 rev 3.10, I/O virtualization ACPI table. Reserved bits are a field too, in place, so that a table that is
 * decoded and encoded again keeps every bit.
 *
 * @packageDocumentation
 */
import { address, decode, encode, flag, uint } from '@nestwalk/bits'
import type { Decoded, Field, RecordLayout } from '@nestwalk/bits'

const source = 'AMD 48882 rev 3.10, I/O virtualization ACPI table'

/** Bits without a meaning, each at its own position. */
const reserved = (...ranges: readonly (readonly [hi: number, lo: number])[]): Field<number> => ({
  spans: address(...ranges.map(([hi, lo]) => [hi, lo, lo] as const)).spans,
  fromBits: Number,
  toBits: BigInt,
})

/** IVinfo, 32 bits: what holds for all IOMMUs of the machine. */
export const ivInfoLayout = {
  name: 'IVinfo',
  source,
  wordCount: 1,
  fields: {
    /** The EFR images of IVHD 11h and 40h are valid. */
    efrSup: flag(0),
    /** DMA was remapped before the OS started. */
    dmaRemap: flag(1),
    /** Guest virtual addresses: 2 is 48 bits. */
    gvaSize: uint(7, 5),
    /** Bits of a physical address. */
    paSize: uint(14, 8),
    /** Bits of a virtual address. */
    vaSize: uint(21, 15),
    /** The HyperTransport address translation range is reserved. */
    htAtsResv: flag(22),
    reserved: reserved([4, 2], [31, 23]),
  },
} as const satisfies RecordLayout

/** Flags of an IVHD, 8 bits: how the OS is to set up the IOMMU. */
export const ivhdFlagsLayout = {
  name: 'IVHD flags',
  source,
  wordCount: 1,
  fields: {
    htTunEn: flag(0),
    passPW: flag(1),
    resPassPW: flag(2),
    isoc: flag(3),
    /** The IOMMU supports IOTLBs in devices (ATS). */
    iotlbSup: flag(4),
    coherent: flag(5),
    /** In type 10h only: 11h and 40h have the EFR image. */
    preFSup: flag(6),
    /** In type 10h only: 11h and 40h have the EFR image. */
    pprSup: flag(7),
  },
} as const satisfies RecordLayout

/** IOMMU info of an IVHD, 16 bits. */
export const ivhdInfoLayout = {
  name: 'IVHD info',
  source,
  wordCount: 1,
  fields: {
    /** MSI message of the event log and of commands. */
    msiNum: uint(4, 0),
    /** HyperTransport unit. */
    unitId: uint(12, 8),
    reserved: reserved([7, 5], [15, 13]),
  },
} as const satisfies RecordLayout

/** Feature reporting of IVHD 10h, 32 bits: an extract of EFR. */
export const ivhdFeaturesLayout = {
  name: 'IVHD features',
  source,
  wordCount: 1,
  fields: {
    xtSup: flag(0),
    nxSup: flag(1),
    gtSup: flag(2),
    glxSup: uint(4, 3),
    iaSup: flag(5),
    gaSup: flag(6),
    heSup: flag(7),
    pasMax: uint(12, 8),
    /** Performance counters of a bank. */
    pnCounters: uint(16, 13),
    /** Banks of performance counters. */
    pnBanks: uint(22, 17),
    /** MSI message of the PPR log. */
    msiNumPpr: uint(27, 23),
    gats: uint(29, 28),
    hats: uint(31, 30),
  },
} as const satisfies RecordLayout

/** Attributes of IVHD 11h and 40h, 32 bits: what the EFR image does not say. */
export const ivhdAttributesLayout = {
  name: 'IVHD attributes',
  source,
  wordCount: 1,
  fields: {
    /** Host translation is disabled. */
    hatDis: flag(0),
    /** Performance counters of a bank. */
    pnCounters: uint(16, 13),
    /** Banks of performance counters. */
    pnBanks: uint(22, 17),
    /** MSI message of the PPR log. */
    msiNumPpr: uint(27, 23),
    reserved: reserved([12, 1], [31, 28]),
  },
} as const satisfies RecordLayout

/** Data byte of a device entry: bits that the device's table entry is to have. */
export const deviceSettingsLayout = {
  name: 'device settings',
  source,
  wordCount: 1,
  fields: {
    initPass: flag(0),
    eIntPass: flag(1),
    nmiPass: flag(2),
    sysMgt: uint(5, 4),
    lint0Pass: flag(6),
    lint1Pass: flag(7),
    reserved: reserved([3, 3]),
  },
} as const satisfies RecordLayout

/** Flags of an IVMD, 8 bits. */
export const ivmdFlagsLayout = {
  name: 'IVMD flags',
  source,
  wordCount: 1,
  fields: {
    /** The range is to be mapped to itself. */
    unity: flag(0),
    /** Devices may read it. */
    ir: flag(1),
    /** Devices may write it. */
    iw: flag(2),
    /** The range is for the exclusion range registers. */
    exclusion: flag(3),
    reserved: reserved([7, 4]),
  },
} as const satisfies RecordLayout

export type IvInfo = Decoded<typeof ivInfoLayout>
export type IvhdFlags = Decoded<typeof ivhdFlagsLayout>
export type IvhdInfo = Decoded<typeof ivhdInfoLayout>
export type IvhdFeatures = Decoded<typeof ivhdFeaturesLayout>
export type IvhdAttributes = Decoded<typeof ivhdAttributesLayout>
export type DeviceSettingBits = Decoded<typeof deviceSettingsLayout>
export type IvmdFlags = Decoded<typeof ivmdFlagsLayout>

/** Reads one of these layouts from its value as an unsigned number. */
export const fromNumber = <const L extends RecordLayout>(layout: L, value: number): Decoded<L> =>
  decode(layout, BigUint64Array.of(BigInt(value)))

/** @throws RangeError naming the field whose value does not fit */
export const toNumber = <const L extends RecordLayout>(layout: L, values: Decoded<L>): number =>
  Number(encode(layout, values)[0])

/** The data byte of a device entry, taken apart. @throws RangeError for anything but a byte */
export function deviceSettingBits(settings: number): DeviceSettingBits {
  if (!Number.isInteger(settings) || settings < 0 || settings > 0xff) {
    throw new RangeError(`settings cannot be ${settings}: it takes 0 to 0xff`)
  }
  return fromNumber(deviceSettingsLayout, settings)
}
