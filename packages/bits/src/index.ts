/**
 * Bits, bytes and addresses: what the other packages describe structures with.
 *
 * @packageDocumentation
 */
export { gpa, gva, iova, spa } from './address.js'
export type { Brand, Gpa, Gva, Iova, Spa } from './address.js'
export {
  dwordsOf,
  hex,
  hexDigits,
  hexDwordsOfWords,
  hexOfWords,
  parseHex,
  parseHexNumber,
  wordOf,
  wordsFromHex,
  wordsFromHexDwords,
} from './hex.js'
export {
  address,
  decode,
  encode,
  flag,
  overlaps,
  reservedBits,
  reservedSpans,
  uint,
  uint64,
} from './record.js'
export type {
  AddressPart,
  BitRange,
  Decoded,
  Field,
  Overlap,
  RecordLayout,
  ReservedBits,
  Span,
} from './record.js'
export {
  defineStruct,
  gaps,
  readStruct,
  s32,
  u16,
  u32,
  u64,
  u64Array,
  u8,
  u8Array,
  writeStruct,
} from './struct.js'
export type { Gap, StructField, StructLayout, StructValue } from './struct.js'
