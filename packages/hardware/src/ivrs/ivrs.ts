/**
 * The IVRS table as a value: which IOMMUs a machine has, which devices are behind each, which memory must stay mapped.
 *
 * AMD 48882 rev 3.10, I/O virtualization ACPI table. Lengths and the checksum are no part of the value: they follow
 * from it. Everything else is, reserved bits too.
 *
 * @packageDocumentation
 */
import type { IvhdAttributes, IvhdFeatures, IvhdFlags, IvhdInfo, IvInfo, IvmdFlags } from './bit-fields.js'
import type { DeviceEntry } from './device-entry.js'

/** The table. Texts have a character a byte, without the zero bytes at their ends. */
export interface Ivrs {
  readonly revision: number
  /** Up to 6 bytes. */
  readonly oemId: string
  /** Up to 8 bytes. */
  readonly oemTableId: string
  readonly oemRevision: number
  /** Up to 4 bytes. */
  readonly creatorId: string
  readonly creatorRevision: number
  readonly info: IvInfo
  /** Bytes 40 to 47. */
  readonly reserved: bigint
  readonly blocks: readonly IvrsBlock[]
}

export type IvrsBlock = Ivhd | Ivmd | UnknownBlock

interface IvhdCommon {
  readonly kind: 'ivhd'
  readonly flags: IvhdFlags
  /** DeviceID of the IOMMU itself. */
  readonly deviceId: number
  /** Offset of the IOMMU's capability block in its configuration space. */
  readonly capabilityOffset: number
  readonly mmioBase: bigint
  /** PCI segment group of the IOMMU and of its devices. */
  readonly segment: number
  readonly info: IvhdInfo
  readonly entries: readonly DeviceEntry[]
}

/** I/O virtualization hardware definition with an extract of the features. */
export interface Ivhd10 extends IvhdCommon {
  readonly type: 0x10
  readonly features: IvhdFeatures
}

/** I/O virtualization hardware definition with images of the feature registers. */
export interface Ivhd11 extends IvhdCommon {
  readonly type: 0x11 | 0x40
  readonly attributes: IvhdAttributes
  readonly efr: bigint
  readonly efr2: bigint
}

export type Ivhd = Ivhd10 | Ivhd11

/** I/O virtualization memory definition. */
export interface Ivmd {
  readonly kind: 'ivmd'
  /** 20h for all devices, 21h for one, 22h for a range of them. */
  readonly type: 0x20 | 0x21 | 0x22
  readonly flags: IvmdFlags
  readonly deviceId: number
  /** Type 22h: the last DeviceID. */
  readonly auxiliary: number
  readonly reserved: bigint
  /** Physical address. */
  readonly start: bigint
  /** Bytes of memory. */
  readonly byteLength: bigint
  /** What a block longer than 32 bytes has after them. */
  readonly rest: Uint8Array
}

/** A block of a type that is not known, whole: the first byte is the type, bytes 2 and 3 are the length. */
export interface UnknownBlock {
  readonly kind: 'unknown'
  readonly bytes: Uint8Array
}

/**
 * The definitions that software uses: of each IOMMU the one with the highest type, 40h before 11h before 10h.
 *
 * Of two of the same type the first counts. The order is that in which the IOMMUs come.
 */
export function ivhdsInUse(ivrs: Ivrs): Ivhd[] {
  const best = new Map<number, Ivhd>()
  for (const block of ivrs.blocks) {
    if (block.kind !== 'ivhd') continue
    const key = iommuKey(block)
    const known = best.get(key)
    if (known === undefined || block.type > known.type) best.set(key, block)
  }
  return [...best.values()]
}

/** Tells IOMMUs apart: segment and DeviceID. */
export const iommuKey = (ivhd: Ivhd): number => ivhd.segment * 0x10000 + ivhd.deviceId
