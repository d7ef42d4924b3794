import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  address,
  decode,
  encode,
  flag,
  overlaps,
  reservedBits,
  reservedSpans,
  uint,
  uint64,
} from './index.js'
import type { BitRange, RecordLayout } from './index.js'

const scatteredLayout = {
  name: 'SCATTERED',
  source: 'made up for this test, after the GCR3 root pointer of a DTE',
  wordCount: 2,
  fields: {
    valid: flag(0),
    mode: uint(11, 9),
    root: address([60, 58, 12], [95, 80, 15], [127, 107, 31]),
    tag: uint(47, 16),
    operand: uint64(79, 64),
    top: flag(63),
  },
} satisfies RecordLayout

const wholeWords = {
  name: 'WHOLE',
  source: 'made up for this test',
  wordCount: 2,
  fields: { low: uint64(63, 0), high: uint64(127, 64) },
} satisfies RecordLayout

const word = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn })
const twoWords = fc.tuple(word, word).map((pair) => BigUint64Array.from(pair))

/** The independent reader: a record as a string of binary digits, most significant first, and its slices. */
function sliceBits(words: readonly bigint[], { hi, lo }: BitRange): bigint {
  const digits = words
    .map((each) => each.toString(2).padStart(64, '0'))
    .reverse()
    .join('')
  return BigInt(`0b${digits.slice(digits.length - 1 - hi, digits.length - lo)}`)
}

describe('a record', () => {
  it('reads what slices of its binary digits say', () => {
    fc.assert(
      fc.property(word, word, (low, high) => {
        const at = (hi: number, lo: number) => sliceBits([low, high], { hi, lo })
        expect(decode(scatteredLayout, BigUint64Array.of(low, high))).toEqual({
          valid: at(0, 0) === 1n,
          mode: Number(at(11, 9)),
          root: (at(60, 58) << 12n) | (at(95, 80) << 15n) | (at(127, 107) << 31n),
          tag: Number(at(47, 16)),
          operand: at(79, 64),
          top: at(63, 63) === 1n,
        })
      }),
    )
  })

  it('writes what shifts by hand write', () => {
    const words = encode(scatteredLayout, {
      valid: true,
      mode: 5,
      root: 0x123456789000n,
      tag: 0xdeadbeef,
      top: true,
    })
    const root = 0x123456789000n
    expect(words[0]).toBe(
      1n | (5n << 9n) | (0xdeadbeefn << 16n) | (((root >> 12n) & 7n) << 58n) | (1n << 63n),
    )
    expect(words[1]).toBe((((root >> 15n) & 0xffffn) << 16n) | ((root >> 31n) << 43n))
  })

  it('decoded and encoded over itself is unchanged, reserved bits included', () => {
    fc.assert(
      fc.property(twoWords, (words) => {
        for (const layout of [scatteredLayout, wholeWords]) {
          expect(encode(layout, decode(layout, words), words)).toEqual(words)
        }
      }),
    )
  })

  it('encoded and decoded gives the values back', () => {
    const values = fc.record({
      valid: fc.boolean(),
      mode: fc.nat(7),
      root: fc.bigInt({ min: 0n, max: (1n << 40n) - 1n }).map((frame) => frame << 12n),
      tag: fc.nat(0xffff_ffff),
      operand: fc.bigInt({ min: 0n, max: 0xffffn }),
      top: fc.boolean(),
    })
    fc.assert(
      fc.property(values, twoWords, (value, base) => {
        expect(decode(scatteredLayout, encode(scatteredLayout, value, base))).toEqual(value)
      }),
    )
  })

  it('keeps the other fields and the reserved bits of its base, and the base itself', () => {
    fc.assert(
      fc.property(twoWords, fc.nat(7), (base, mode) => {
        const before = base.slice()
        const after = encode(scatteredLayout, { mode }, base)
        expect(base).toEqual(before)
        expect(after[1]).toBe(before[1])
        expect((after[0] ?? 0n) & ~0xe00n).toBe((before[0] ?? 0n) & ~0xe00n)
      }),
    )
  })

  it('reports the reserved bits that are not zero', () => {
    const words = BigUint64Array.of(0xan << 12n, 1n << 31n)
    expect(reservedBits(scatteredLayout, words)).toEqual([{ hi: 15, lo: 12, value: 0xan }])
    expect(reservedBits(scatteredLayout, BigUint64Array.of(~0n, ~0n))).toEqual([
      { hi: 8, lo: 1, value: 0xffn },
      { hi: 15, lo: 12, value: 0xfn },
      { hi: 57, lo: 48, value: 0x3ffn },
      { hi: 62, lo: 61, value: 3n },
      { hi: 106, lo: 96, value: 0x7ffn },
    ])
  })

  it('lists reserved bits per quad-word', () => {
    const empty = { name: 'EMPTY', source: 'none', wordCount: 2, fields: {} }
    expect(reservedSpans(empty)).toEqual([
      { hi: 63, lo: 0 },
      { hi: 127, lo: 64 },
    ])
    expect(reservedSpans(wholeWords)).toEqual([])
  })
})

describe('a layout', () => {
  it('whose fields overlap is found out', () => {
    const bad = { ...scatteredLayout, fields: { ...scatteredLayout.fields, wrong: uint(59, 57) } }
    expect(overlaps(scatteredLayout)).toEqual([])
    expect(overlaps(bad)).toEqual([
      { bit: 58, fields: ['root', 'wrong'] },
      { bit: 59, fields: ['root', 'wrong'] },
    ])
  })

  it('whose fields leave the record is found out', () => {
    const bad = { ...scatteredLayout, wordCount: 1 }
    expect(() => overlaps(bad)).toThrow('SCATTERED.root lies beyond the record: bit 95')
  })

  it('cannot have a field across quad-words, or more than 32 bits in a number', () => {
    expect(() => uint(65, 60)).toThrow('bits 65:60 are not an ascending range within one quad-word')
    expect(() => uint64(3, 9)).toThrow(RangeError)
    expect(() => uint(32, 0)).toThrow('bits 32:0 are more than 32: use uint64')
  })
})

describe('a value that does not fit', () => {
  it.each([
    [{ mode: 8 }, 'SCATTERED.mode cannot hold 8: it takes 0 to 0x7 (bits 11:9)'],
    [{ mode: -1 }, 'SCATTERED.mode cannot hold -1: it takes 0 to 0x7 (bits 11:9)'],
    [{ mode: 1.5 }, 'SCATTERED.mode cannot hold 1.5: it takes 0 to 0x7 (bits 11:9)'],
    [
      { root: 0x1800n },
      'SCATTERED.root cannot hold 0x1800: it takes values with no other bits than 14:12, 30:15, 51:31',
    ],
    [{ root: 1n << 52n }, 'SCATTERED.root cannot hold 0x10000000000000'],
    [{ operand: -5n }, 'SCATTERED.operand cannot hold -5: it takes 0 to 0xffff (bits 79:64)'],
  ])('is named with its record, field and limits: %o', (values, message) => {
    expect(() => encode(scatteredLayout, values)).toThrow(new RangeError(message).message)
    expect(() => encode(scatteredLayout, values)).toThrow(RangeError)
  })

  it('includes a field that the record does not have', () => {
    const values = { modus: 1 } as unknown as { mode: number }
    expect(() => encode(scatteredLayout, values)).toThrow('SCATTERED has no field modus')
  })

  it('includes words that are not the record', () => {
    const message = 'SCATTERED has 2 quad-words, not 1'
    expect(() => decode(scatteredLayout, new BigUint64Array(1))).toThrow(message)
    expect(() => encode(scatteredLayout, {}, new BigUint64Array(1))).toThrow(message)
    expect(() => reservedBits(scatteredLayout, new BigUint64Array(1))).toThrow(message)
  })
})
