/**
 * Writing an IVRS table.
 *
 * AMD 48882 rev 3.10, I/O virtualization ACPI table. Lengths and the checksum come from the content.
 *
 * @packageDocumentation
 */
import { readStruct, writeStruct } from '@nestwalk/bits'
import {
  ivhdAttributesLayout,
  ivhdFeaturesLayout,
  ivhdFlagsLayout,
  ivhdInfoLayout,
  ivInfoLayout,
  ivmdFlagsLayout,
  toNumber,
} from './bit-fields.js'
import { textField } from './byte-fields.js'
import { writeEntry } from './device-entry.js'
import type { Ivhd, Ivmd, Ivrs, IvrsBlock, UnknownBlock } from './ivrs.js'
import {
  blockStruct,
  blockType,
  headerStruct,
  ivhd10Struct,
  ivhd11Struct,
  ivmdStruct,
} from './table-layout.js'

const mostBlockBytes = 0xffff

/**
 * The bytes of a table, with its lengths and its checksum. `encodeIvrs(decodeIvrs(bytes))` gives back the bytes of a
 * table whose checksum is right.
 *
 * @throws RangeError naming the field whose value does not fit
 */
export function encodeIvrs(ivrs: Ivrs): Uint8Array {
  const blocks = ivrs.blocks.map(encodeBlock)
  const length = blocks.reduce<number>((sum, block) => sum + block.length, headerStruct.byteLength)
  const table = new Uint8Array(length)
  writeStruct(
    headerStruct,
    {
      signature: textField('signature', 'IVRS', 4),
      length,
      revision: ivrs.revision,
      oemId: textField('oemId', ivrs.oemId, 6),
      oemTableId: textField('oemTableId', ivrs.oemTableId, 8),
      oemRevision: ivrs.oemRevision,
      creatorId: textField('creatorId', ivrs.creatorId, 4),
      creatorRevision: ivrs.creatorRevision,
      info: toNumber(ivInfoLayout, ivrs.info),
      reserved: ivrs.reserved,
    },
    table,
  )
  let offset: number = headerStruct.byteLength
  for (const block of blocks) {
    table.set(block, offset)
    offset += block.length
  }
  return writeStruct(headerStruct, { checksum: -sumOf(table) & 0xff }, table)
}

/** The sum of all bytes; 0 in its lowest 8 bits when the checksum is right. */
export const sumOf = (table: Uint8Array): number => table.reduce((sum, byte) => (sum + byte) & 0xff, 0)

/** The bytes of one block. @throws RangeError naming the field whose value does not fit */
export function encodeBlock(block: IvrsBlock): Uint8Array {
  switch (block.kind) {
    case 'ivhd':
      return encodeIvhd(block)
    case 'ivmd':
      return encodeIvmd(block)
    case 'unknown':
      return encodeUnknown(block)
  }
}

function checkLength(name: string, length: number): number {
  if (length > mostBlockBytes) {
    throw new RangeError(`${name} cannot have ${length} bytes: a block takes up to ${mostBlockBytes}`)
  }
  return length
}

function encodeIvhd(ivhd: Ivhd): Uint8Array {
  const layout = ivhd.type === blockType.ivhd10 ? ivhd10Struct : ivhd11Struct
  const last = ivhd.entries.length - 1
  const entries = ivhd.entries.map((entry, i) => writeEntry(entry, i === last))
  const entryBytes = entries.reduce((sum, entry) => sum + entry.length, 0)
  const length = checkLength('IVHD', layout.byteLength + entryBytes)
  const bytes = new Uint8Array(length)
  let at: number = layout.byteLength
  for (const entry of entries) {
    bytes.set(entry, at)
    at += entry.length
  }
  const common = {
    type: ivhd.type,
    flags: toNumber(ivhdFlagsLayout, ivhd.flags),
    length,
    deviceId: ivhd.deviceId,
    capabilityOffset: ivhd.capabilityOffset,
    mmioBase: ivhd.mmioBase,
    segment: ivhd.segment,
    info: toNumber(ivhdInfoLayout, ivhd.info),
  }
  if (ivhd.type === blockType.ivhd10) {
    return writeStruct(
      ivhd10Struct,
      { ...common, features: toNumber(ivhdFeaturesLayout, ivhd.features) },
      bytes,
    )
  }
  const attributes = toNumber(ivhdAttributesLayout, ivhd.attributes)
  return writeStruct(ivhd11Struct, { ...common, attributes, efr: ivhd.efr, efr2: ivhd.efr2 }, bytes)
}

function encodeIvmd(ivmd: Ivmd): Uint8Array {
  const { type, deviceId, auxiliary, reserved, start, byteLength, rest } = ivmd
  const length = checkLength('IVMD', ivmdStruct.byteLength + rest.length)
  const bytes = new Uint8Array(length)
  bytes.set(rest, ivmdStruct.byteLength)
  const flags = toNumber(ivmdFlagsLayout, ivmd.flags)
  const fields = { type, flags, length, deviceId, auxiliary, reserved, start, byteLength }
  return writeStruct(ivmdStruct, fields, bytes)
}

function encodeUnknown({ bytes }: UnknownBlock): Uint8Array {
  if (bytes.length < blockStruct.byteLength) {
    throw new RangeError(`the bytes of an unknown block cannot be ${bytes.length}: it takes 4 or more`)
  }
  const { type, length } = readStruct(blockStruct, bytes)
  if (Object.values<number>(blockType).includes(type)) {
    throw new RangeError(
      `an unknown block cannot have type ${type.toString(16)}h: that type is known, use its kind`,
    )
  }
  if (length !== bytes.length) {
    throw new RangeError(`an unknown block cannot state a length of ${length}: it has ${bytes.length} bytes`)
  }
  return bytes
}
