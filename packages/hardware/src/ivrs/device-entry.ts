/**
 * Device entries of an IVHD: which devices an IOMMU translates, and how their table entries are to be set up.
 *
 * AMD 48882 rev 3.10, I/O virtualization ACPI table, IVHD device entries.
 *
 * @packageDocumentation
 */
import { textOf, textField, u16Field, u32Field, u8Field } from './byte-fields.js'

/** Types of entries that have a kind of their own. */
export const entryType = {
  pad: 0,
  all: 1,
  select: 2,
  rangeStart: 3,
  rangeEnd: 4,
  longPad: 64,
  aliasSelect: 66,
  aliasStart: 67,
  extendedSelect: 70,
  extendedStart: 71,
  special: 72,
  acpiHid: 0xf0,
} as const

/** Varieties of special devices. */
export const specialVariety = { ioapic: 1, hpet: 2 } as const

/** Formats of the unique ID in an {@link AcpiHidEntry}. */
export const uidFormat = { none: 0, integer: 1, text: 2 } as const

/** Fills space; 4 bytes with 3 bytes of content, or 8 with 7. */
export interface PadEntry {
  readonly kind: 'pad'
  readonly content: Uint8Array
}

/** All devices, one device, or the start or the end of a range. */
export interface PlainEntry {
  readonly kind: 'all' | 'select' | 'rangeStart' | 'rangeEnd'
  /** Of `all`: reserved. */
  readonly deviceId: number
  /** Data byte; of `rangeEnd`: reserved. */
  readonly settings: number
}

/** A device, or the start of a range of devices, whose requests carry another DeviceID. */
export interface AliasEntry {
  readonly kind: 'aliasSelect' | 'aliasStart'
  readonly deviceId: number
  readonly settings: number
  /** The DeviceID in the requests. */
  readonly alias: number
  /** Byte 4, and byte 7 as bits 15:8. */
  readonly reserved: number
}

/** A device or the start of a range, with more settings. */
export interface ExtendedEntry {
  readonly kind: 'extendedSelect' | 'extendedStart'
  readonly deviceId: number
  readonly settings: number
  /** ATS requests of the device are not allowed. */
  readonly atsDisabled: boolean
  /** Bits 30:0 of the extended data. */
  readonly reserved: number
}

/** An I/O APIC or HPET: the source of its interrupts. */
export interface SpecialEntry {
  readonly kind: 'special'
  /** I/O APIC ID or HPET number. */
  readonly handle: number
  readonly deviceId: number
  /** See {@link specialVariety}. */
  readonly variety: number
  readonly settings: number
  /** Bytes 1 and 2. */
  readonly reserved: number
}

/** A device that ACPI names and PCI does not. Texts are as in the table header, up to 8 bytes. */
export interface AcpiHidEntry {
  readonly kind: 'acpiHid'
  readonly deviceId: number
  readonly settings: number
  readonly hid: string
  readonly cid: string
  /** See {@link uidFormat}. */
  readonly uidFormat: number
  readonly uid: Uint8Array
}

/** An entry of a type that is not known or has no known length, or one that the end of the block cuts off. */
export interface UnknownEntry {
  readonly kind: 'unknown'
  /** The first byte is the type. */
  readonly bytes: Uint8Array
}

export type DeviceEntry =
  PadEntry | PlainEntry | AliasEntry | ExtendedEntry | SpecialEntry | AcpiHidEntry | UnknownEntry

const hidHeadBytes = 22

/** The length that an entry says it has; 0 if it cannot be told. */
function statedBytes(view: DataView): number {
  const type = view.getUint8(0)
  if (type < 0x80) return 4 << (type >>> 6)
  if (type !== entryType.acpiHid || view.byteLength < hidHeadBytes) return 0
  return hidHeadBytes + view.getUint8(21)
}

/**
 * Reads the entry at the start of `bytes`, which reach to the end of the block and are not empty.
 *
 * @returns the entry, and how many bytes it has
 */
export function readEntry(bytes: Uint8Array): readonly [DeviceEntry, byteLength: number] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const length = statedBytes(view)
  if (length === 0 || length > bytes.length) return [{ kind: 'unknown', bytes: bytes.slice() }, bytes.length]
  return [readWhole(view, bytes.slice(0, length)), length]
}

function readWhole(view: DataView, bytes: Uint8Array): DeviceEntry {
  const type = view.getUint8(0)
  const deviceId = view.getUint16(1, true)
  const settings = view.getUint8(3)
  switch (type) {
    case entryType.pad:
    case entryType.longPad:
      return { kind: 'pad', content: bytes.slice(1) }
    case entryType.all:
      return { kind: 'all', deviceId, settings }
    case entryType.select:
      return { kind: 'select', deviceId, settings }
    case entryType.rangeStart:
      return { kind: 'rangeStart', deviceId, settings }
    case entryType.rangeEnd:
      return { kind: 'rangeEnd', deviceId, settings }
    case entryType.aliasSelect:
    case entryType.aliasStart: {
      const kind = type === entryType.aliasSelect ? 'aliasSelect' : 'aliasStart'
      const reserved = view.getUint8(4) | (view.getUint8(7) << 8)
      return { kind, deviceId, settings, alias: view.getUint16(5, true), reserved }
    }
    case entryType.extendedSelect:
    case entryType.extendedStart: {
      const kind = type === entryType.extendedSelect ? 'extendedSelect' : 'extendedStart'
      const extended = view.getUint32(4, true)
      return { kind, deviceId, settings, atsDisabled: extended >>> 31 === 1, reserved: extended & 0x7fffffff }
    }
    case entryType.special: {
      const handle = view.getUint8(4)
      const special = { deviceId: view.getUint16(5, true), variety: view.getUint8(7), settings }
      return { kind: 'special', handle, ...special, reserved: deviceId }
    }
    case entryType.acpiHid: {
      const hid = textOf(bytes.subarray(4, 12))
      const cid = textOf(bytes.subarray(12, 20))
      const uid = bytes.slice(hidHeadBytes)
      return { kind: 'acpiHid', deviceId, settings, hid, cid, uidFormat: view.getUint8(20), uid }
    }
    default:
      return { kind: 'unknown', bytes }
  }
}

/**
 * The bytes of an entry.
 *
 * @param isLast - nothing follows it in the block; only then may it be one whose length cannot be told
 * @throws RangeError naming the field whose value does not fit
 */
export function writeEntry(entry: DeviceEntry, isLast: boolean): number[] {
  switch (entry.kind) {
    case 'pad':
      return writePad(entry)
    case 'all':
    case 'select':
    case 'rangeStart':
    case 'rangeEnd':
      return head(entry)
    case 'aliasSelect':
    case 'aliasStart': {
      const [low, high] = u16Field(`${entry.kind}.reserved`, entry.reserved)
      return [...head(entry), low, ...u16Field(`${entry.kind}.alias`, entry.alias), high]
    }
    case 'extendedSelect':
    case 'extendedStart': {
      const [b0, b1, b2, b3] = u32Field(`${entry.kind}.reserved`, entry.reserved, 0x7fffffff)
      return [...head(entry), b0, b1, b2, b3 | (entry.atsDisabled ? 0x80 : 0)]
    }
    case 'special':
      return [
        ...head({ kind: 'special', deviceId: entry.reserved, settings: entry.settings }, 'reserved'),
        u8Field('special.handle', entry.handle),
        ...u16Field('special.deviceId', entry.deviceId),
        u8Field('special.variety', entry.variety),
      ]
    case 'acpiHid':
      return [
        ...head(entry),
        ...textField('acpiHid.hid', entry.hid, 8),
        ...textField('acpiHid.cid', entry.cid, 8),
        u8Field('acpiHid.uidFormat', entry.uidFormat),
        u8Field('acpiHid.uid.length', entry.uid.length),
        ...entry.uid,
      ]
    case 'unknown':
      return writeUnknown(entry, isLast)
  }
}

type Head = Pick<PlainEntry, 'deviceId' | 'settings'> & {
  readonly kind: Exclude<DeviceEntry['kind'], 'pad' | 'unknown'>
}

const head = ({ kind, deviceId, settings }: Head, atOne = 'deviceId'): number[] => [
  entryType[kind],
  ...u16Field(`${kind}.${atOne}`, deviceId),
  u8Field(`${kind}.settings`, settings),
]

function writePad({ content }: PadEntry): number[] {
  if (content.length !== 3 && content.length !== 7) {
    throw new RangeError(`pad.content cannot have ${content.length} bytes: it takes 3 or 7`)
  }
  return [content.length === 3 ? entryType.pad : entryType.longPad, ...content]
}

function writeUnknown({ bytes }: UnknownEntry, isLast: boolean): number[] {
  if (bytes.length === 0) throw new RangeError('unknown.bytes cannot be empty: the first byte is the type')
  const [asRead, length] = readEntry(bytes)
  if (asRead.kind !== 'unknown' || length !== bytes.length) {
    throw new RangeError(
      `unknown.bytes cannot start an entry of ${length} bytes that can be told: use its kind`,
    )
  }
  const stated = statedBytes(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  if (stated !== bytes.length && !isLast) {
    throw new RangeError('unknown.bytes of no known length can only be the last entry of a block')
  }
  return [...bytes]
}
