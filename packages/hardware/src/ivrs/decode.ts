/**
 * Reading an IVRS table from its bytes.
 *
 * AMD 48882 rev 3.10, I/O virtualization ACPI table. A wrong checksum does not keep a table from being read; lint tells.
 *
 * @packageDocumentation
 */
import { readStruct } from '@nestwalk/bits'
import type { StructLayout } from '@nestwalk/bits'
import {
  fromNumber,
  ivhdAttributesLayout,
  ivhdFeaturesLayout,
  ivhdFlagsLayout,
  ivhdInfoLayout,
  ivInfoLayout,
  ivmdFlagsLayout,
} from './bit-fields.js'
import { textOf } from './byte-fields.js'
import { readEntry } from './device-entry.js'
import type { DeviceEntry } from './device-entry.js'
import { IvrsError } from './ivrs-error.js'
import type { Ivhd, Ivmd, Ivrs, IvrsBlock } from './ivrs.js'
import {
  blockStruct,
  blockType,
  headerStruct,
  ivhd10Struct,
  ivhd11Struct,
  ivmdStruct,
} from './table-layout.js'

/**
 * Reads a table. Bytes after the length that the table states are left out.
 *
 * Blocks and device entries of types that are not known are kept as bytes.
 *
 * @throws IvrsError if the signature or a length makes the table unreadable
 */
export function decodeIvrs(bytes: Uint8Array): Ivrs {
  if (bytes.length < headerStruct.byteLength) {
    const had = `an IVRS table has at least ${headerStruct.byteLength} bytes, only ${bytes.length} are there`
    throw new IvrsError(0, had, 'give the whole table')
  }
  const header = readStruct(headerStruct, bytes)
  const signature = textOf(header.signature)
  if (signature !== 'IVRS') {
    const found = `the signature is ${JSON.stringify(signature)}, not "IVRS"`
    throw new IvrsError(
      0,
      found,
      'give the bytes of /sys/firmware/acpi/tables/IVRS or of an acpidump in binary form',
    )
  }
  if (header.length < headerStruct.byteLength || header.length > bytes.length) {
    const range = `the table states a length of ${header.length} bytes, but ${bytes.length} are there`
    throw new IvrsError(4, range, `give the whole table: the length takes ${headerStruct.byteLength} or more`)
  }
  return {
    revision: header.revision,
    oemId: textOf(header.oemId),
    oemTableId: textOf(header.oemTableId),
    oemRevision: header.oemRevision,
    creatorId: textOf(header.creatorId),
    creatorRevision: header.creatorRevision,
    info: fromNumber(ivInfoLayout, header.info),
    reserved: header.reserved,
    blocks: readBlocks(bytes.subarray(0, header.length)),
  }
}

function readBlocks(table: Uint8Array): IvrsBlock[] {
  const blocks: IvrsBlock[] = []
  let offset = headerStruct.byteLength
  while (offset < table.length) {
    const left = table.length - offset
    const advice = 'check the lengths of this block and of the blocks before it'
    if (left < blockStruct.byteLength) {
      throw new IvrsError(offset, `a block has at least 4 bytes, only ${left} are left`, advice)
    }
    const { length } = readStruct(blockStruct, table.subarray(offset))
    if (length < blockStruct.byteLength || length > left) {
      const stated = `the block states a length of ${length} bytes, but has 4 to ${left}`
      throw new IvrsError(offset + 2, stated, advice)
    }
    blocks.push(readBlock(table.subarray(offset, offset + length), offset))
    offset += length
  }
  return blocks
}

function readBlock(bytes: Uint8Array, offset: number): IvrsBlock {
  const { type } = readStruct(blockStruct, bytes)
  switch (type) {
    case blockType.ivhd10:
    case blockType.ivhd11:
    case blockType.ivhd40:
      return readIvhd(type, bytes, offset)
    case blockType.ivmdAll:
    case blockType.ivmdSelect:
    case blockType.ivmdRange:
      return readIvmd(type, bytes, offset)
    default:
      return { kind: 'unknown', bytes: bytes.slice() }
  }
}

function checkLength(bytes: Uint8Array, layout: StructLayout, offset: number): void {
  if (bytes.length < layout.byteLength) {
    const short = `the block has ${bytes.length} bytes, but ${layout.name} has at least ${layout.byteLength}`
    throw new IvrsError(offset, short, 'check its type and its length')
  }
}

function readIvhd(type: Ivhd['type'], bytes: Uint8Array, offset: number): Ivhd {
  const layout = type === blockType.ivhd10 ? ivhd10Struct : ivhd11Struct
  checkLength(bytes, layout, offset)
  const { deviceId, capabilityOffset, mmioBase, segment, ...raw } = readStruct(ivhd10Struct, bytes)
  const common = {
    kind: 'ivhd',
    flags: fromNumber(ivhdFlagsLayout, raw.flags),
    deviceId,
    capabilityOffset,
    mmioBase,
    segment,
    info: fromNumber(ivhdInfoLayout, raw.info),
    entries: readEntries(bytes.subarray(layout.byteLength)),
  } as const
  if (type === blockType.ivhd10) {
    return { ...common, type, features: fromNumber(ivhdFeaturesLayout, raw.features) }
  }
  const { attributes, efr, efr2 } = readStruct(ivhd11Struct, bytes)
  return { ...common, type, attributes: fromNumber(ivhdAttributesLayout, attributes), efr, efr2 }
}

function readEntries(bytes: Uint8Array): DeviceEntry[] {
  const entries: DeviceEntry[] = []
  for (let at = 0; at < bytes.length;) {
    const [entry, length] = readEntry(bytes.subarray(at))
    entries.push(entry)
    at += length
  }
  return entries
}

function readIvmd(type: Ivmd['type'], bytes: Uint8Array, offset: number): Ivmd {
  checkLength(bytes, ivmdStruct, offset)
  const { deviceId, auxiliary, reserved, start, byteLength, flags } = readStruct(ivmdStruct, bytes)
  return {
    kind: 'ivmd',
    type,
    flags: fromNumber(ivmdFlagsLayout, flags),
    deviceId,
    auxiliary,
    reserved,
    start,
    byteLength,
    rest: bytes.slice(ivmdStruct.byteLength),
  }
}
