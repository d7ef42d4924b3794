import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
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
} from './index.js'

const everyKind = defineStruct({
  name: 'every_kind',
  byteLength: 48,
  fields: {
    size: u32(0),
    fd: s32(4),
    iova: u64(8),
    type: u8(16),
    reserved: u8Array(17, 3),
    flags: u16(20),
    words: u64Array(24, 3),
  },
})

const values = fc.record({
  size: fc.nat(0xffff_ffff),
  fd: fc.integer(),
  iova: fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }),
  type: fc.nat(0xff),
  reserved: fc.uint8Array({ minLength: 3, maxLength: 3 }),
  flags: fc.nat(0xffff),
  words: fc.bigUint64Array({ minLength: 3, maxLength: 3 }),
})

/** The independent reader: bytes as reversed pairs of hexadecimal digits. */
const littleEndianAt = (bytes: Uint8Array, offset: number, count: number): bigint => {
  const digits = [...bytes.slice(offset, offset + count)].map((byte) => byte.toString(16).padStart(2, '0'))
  return BigInt(`0x${digits.reverse().join('')}`)
}

describe('a structure', () => {
  it('lies in memory little-endian at the stated offsets', () => {
    const bytes = writeStruct(everyKind, {
      size: 0x30,
      fd: -2,
      iova: 0x0102030405060708n,
      type: 0xab,
      reserved: Uint8Array.of(1, 2, 3),
      flags: 0xbeef,
      words: BigUint64Array.of(1n, 0n, 0xff00n),
    })
    expect(Buffer.from(bytes).toString('hex')).toBe(
      '30000000feffffff0807060504030201ab010203efbe00000100000000000000000000000000000000ff000000000000',
    )
  })

  it('reads what its bytes reversed say', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 48, maxLength: 48 }), (bytes) => {
        const value = readStruct(everyKind, bytes)
        expect(BigInt(value.size)).toBe(littleEndianAt(bytes, 0, 4))
        expect(BigInt.asUintN(32, BigInt(value.fd))).toBe(littleEndianAt(bytes, 4, 4))
        expect(value.iova).toBe(littleEndianAt(bytes, 8, 8))
        expect(BigInt(value.type)).toBe(littleEndianAt(bytes, 16, 1))
        expect(BigInt(value.flags)).toBe(littleEndianAt(bytes, 20, 2))
        expect([...value.words]).toEqual([24, 32, 40].map((offset) => littleEndianAt(bytes, offset, 8)))
      }),
    )
  })

  it('written and read gives the values back; read and written over itself is unchanged', () => {
    fc.assert(
      fc.property(values, (value) => {
        const bytes = writeStruct(everyKind, value)
        expect(readStruct(everyKind, bytes)).toEqual(value)
        expect(writeStruct(everyKind, readStruct(everyKind, bytes), bytes.slice())).toEqual(bytes)
      }),
    )
  })

  it('sits anywhere in a larger buffer, and keeps what is not named', () => {
    const buffer = new Uint8Array(64).fill(0xff)
    const bytes = writeStruct(everyKind, { size: 1 }, buffer.subarray(8))
    expect(bytes.length).toBe(56)
    expect([...buffer.subarray(6, 14)]).toEqual([0xff, 0xff, 1, 0, 0, 0, 0xff, 0xff])
    expect(readStruct(everyKind, buffer.subarray(8)).fd).toBe(-1)
  })

  it('knows its implicit padding', () => {
    expect(gaps(everyKind)).toEqual([{ offset: 22, byteLength: 2 }])
    expect(gaps(defineStruct({ name: 's', byteLength: 16, fields: { b: u64(8) } }))).toEqual([
      { offset: 0, byteLength: 8 },
    ])
    expect(gaps(defineStruct({ name: 's', byteLength: 8, fields: { b: u32(0) } }))).toEqual([
      { offset: 4, byteLength: 4 },
    ])
  })
})

describe('a definition is refused', () => {
  it.each([
    [{ a: u32(0), b: u16(2) }, 's.b at byte 2 overlaps a'],
    [{ a: u64(4) }, 's.a at byte 4 is not aligned to 8'],
    [{ a: u32(-4) }, 's.a at byte -4 is not aligned to 4'],
    [{ a: u8Array(10, 3) }, 's.a at byte 10 ends beyond the 12 bytes'],
    [{ a: u64(0) }, 's has 12 bytes, not a multiple of 8'],
  ])('%#: %s', (fields, message) => {
    expect(() => defineStruct({ name: 's', byteLength: 12, fields })).toThrow(new RangeError(message))
  })
})

describe('a call is refused', () => {
  it.each([
    [{ type: 256 }, 'every_kind.type: 256 is not in 0..255'],
    [{ flags: -1 }, 'every_kind.flags: -1 is not in 0..65535'],
    [{ size: 1.5 }, 'every_kind.size: 1.5 is not in 0..4294967295'],
    [{ fd: 0x8000_0000 }, 'every_kind.fd: 2147483648 is not in -2147483648..2147483647'],
    [{ iova: 1n << 64n }, 'every_kind.iova: 18446744073709551616 is not in 0..18446744073709551615'],
    [{ reserved: new Uint8Array(2) }, 'every_kind.reserved: 2 elements, not 3'],
    [{ words: new BigUint64Array(4) }, 'every_kind.words: 4 elements, not 3'],
  ])('%#: a value that does not fit', (value, message) => {
    expect(() => writeStruct(everyKind, value)).toThrow(message)
  })

  it('with too few bytes, or a field that is not there', () => {
    expect(() => readStruct(everyKind, new Uint8Array(47))).toThrow(
      'every_kind has 48 bytes, only 47 are given',
    )
    const wrong = { sise: 1 } as unknown as { size: number }
    expect(() => writeStruct(everyKind, wrong)).toThrow('every_kind has no field sise')
  })
})
