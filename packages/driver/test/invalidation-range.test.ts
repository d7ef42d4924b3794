import { iova, parseHex } from '@nestwalk/bits'
import { everything, rangeFields, rangeOf } from '@nestwalk/driver'
import type { AddressRange } from '@nestwalk/driver'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import vectors from '@nestwalk/hardware/vectors/size-codes.json' with { type: 'json' }
import { runs } from './runs.js'

/** The upper quad-word of the command for a range, without PDE and GN. */
function hiWordOf(range: AddressRange): bigint {
  const { size, address } = rangeFields(range)
  return address | (size ? 1n : 0n)
}

const blockOf = (base: bigint, sizeLog2: number): AddressRange => ({
  first: base,
  last: base + (1n << BigInt(sizeLog2)) - 1n,
})

describe('a block is coded as the vectors say', () => {
  it.each(vectors.encoding)('2^$sizeLog2 bytes at $base', ({ base, sizeLog2, hiWord }) => {
    const block = blockOf(parseHex(base), sizeLog2)
    expect(hiWordOf(block)).toBe(parseHex(hiWord))
    expect(rangeOf(rangeFields(block))).toEqual(block)
  })

  it.each(vectors.rangeCoding)('$name', ({ first, last, base, sizeLog2, hiWord }) => {
    const range = { first: parseHex(first), last: parseHex(last) }
    expect(hiWordOf(range)).toBe(parseHex(hiWord))
    expect(rangeOf(rangeFields(range))).toEqual(blockOf(parseHex(base), sizeLog2))
  })

  it.each(vectors.decoding.filter(({ hiWord }) => BigInt.asUintN(12, parseHex(hiWord)) === 1n))(
    'and read back: $why',
    ({ hiWord, base, sizeLog2 }) => {
      const word = parseHex(hiWord)
      expect(rangeOf({ size: true, address: iova(word & ~0xfffn) })).toEqual(
        blockOf(parseHex(base), sizeLog2),
      )
    },
  )
})

/** The smallest aligned power-of-two block that holds a range, by trying all; above 2^52 everything. */
function smallestBlock({ first, last }: AddressRange): AddressRange {
  for (let size = 12; size <= 52; size++) {
    const base = (first >> BigInt(size)) << BigInt(size)
    if (last < base + (1n << BigInt(size))) return blockOf(base, size)
  }
  return everything
}

const address = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })

describe('the command for a range names the smallest block that holds it', () => {
  const ranges = fc.oneof(
    fc.tuple(address, address),
    // Ends near each other and near a power of two.
    fc
      .tuple(
        fc.integer({ min: 12, max: 63 }),
        fc.bigInt({ min: -9000n, max: 9000n }),
        fc.bigInt({ min: 0n, max: 9000n }),
      )
      .map(([bit, offset, length]): [bigint, bigint] => {
        const first = (1n << BigInt(bit)) + offset
        return first < 0n ? [0n, length] : [first, first + length]
      }),
  )
  it('whatever the range', () => {
    fc.assert(
      fc.property(ranges, ([a, b]) => {
        const range = a < b ? { first: a, last: b } : { first: b, last: a }
        expect(rangeOf(rangeFields(range))).toEqual(smallestBlock(range))
      }),
      { numRuns: runs(1000) },
    )
  })

  it('for all ranges of pages in the first 64', () => {
    for (let first = 0n; first < 64n; first++) {
      for (let last = first; last < 64n; last++) {
        const range = { first: first << 12n, last: (last << 12n) | 0xfffn }
        expect(rangeOf(rangeFields(range))).toEqual(smallestBlock(range))
      }
    }
  })

  it('everything above 2^52 bytes is coded as all addresses', () => {
    const { size, address: coded } = rangeFields({ first: 0n, last: 1n << 52n })
    expect([size, coded]).toEqual([true, 0x7fff_ffff_ffff_f000n])
    expect(rangeFields(everything)).toEqual({ size, address: coded })
  })
})
