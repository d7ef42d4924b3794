/** The int32 forms against the same in BigInt, for every level, bit and size. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseHex } from '@nestwalk/bits'
import sizeCodes from '../../vectors/size-codes.json' with { type: 'json' }
import {
  anyBitBetween,
  anyBitFrom,
  indexFrom,
  isSignExtended,
  levelIndex,
  levelShift,
  lowMaskHi,
  lowMaskLo,
  trailingOnesSizeLog2,
} from './address-bits.js'

const split = (value: bigint): [number, number] => [
  Number(BigInt.asIntN(32, value)),
  Number(BigInt.asIntN(32, value >> 32n)),
]
const below = (bit: number): bigint => (1n << BigInt(bit)) - 1n
const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, n) => from + n)

/** Every single bit, every run of ones from the bottom or from the top, and their complements. */
const edges = range(0, 64).flatMap((bit) => {
  const values = [bit < 64 ? 1n << BigInt(bit) : 0n, below(bit), below(64) ^ below(bit)]
  return [...values, ...values.map((value) => below(64) ^ value)]
})
const levels = range(1, 6)
const anyAddress = fc.bigInt({ min: 0n, max: below(64) })

/** Calls `check` with all edges and with random addresses. */
function forAddresses(check: (address: bigint, lo: number, hi: number) => void): void {
  for (const address of edges) check(address, ...split(address))
  fc.assert(
    fc.property(anyAddress, (address) => {
      check(address, ...split(address))
    }),
  )
}

describe('bits of an address in two words', { timeout: 120_000 }, () => {
  it.each(levels)('give the index of a table of level %d', (level) => {
    const shift = 12 + 9 * (level - 1)
    expect(levelShift(level)).toBe(shift)
    forAddresses((address, lo, hi) => {
      expect(levelIndex(level, lo, hi)).toBe(Number((address >> BigInt(shift)) & 511n))
    })
  })

  it('give an index from any bit on', () => {
    forAddresses((address, lo, hi) => {
      for (const bit of range(12, 57)) {
        expect(indexFrom(bit, lo, hi)).toBe(Number((address >> BigInt(bit)) & 511n))
      }
    })
  })

  it('are masked below any bit', () => {
    for (const bit of range(0, 64)) {
      expect([lowMaskLo(bit), lowMaskHi(bit)]).toEqual(split(below(bit)))
    }
  })

  it('are looked at from any bit up', () => {
    forAddresses((address, lo, hi) => {
      for (const bit of range(12, 66)) expect(anyBitFrom(bit, lo, hi)).toBe(address >> BigInt(bit) !== 0n)
    })
  })

  it('are looked at between any two levels', () => {
    forAddresses((address, lo, hi) => {
      for (const upper of range(2, 7)) {
        for (const lower of range(1, upper - 1)) {
          const bits = below(levelShift(upper)) ^ below(levelShift(lower))
          expect(anyBitBetween(levelShift(lower), levelShift(upper), lo, hi)).toBe((address & bits) !== 0n)
        }
      }
    })
  })

  it('are a sign extension from any bit, or are not', () => {
    forAddresses((address, lo, hi) => {
      for (const bit of range(13, 63)) {
        const extended = BigInt.asUintN(64, BigInt.asIntN(bit + 1, address))
        expect(isSignExtended(bit, lo, hi)).toBe(address === extended)
      }
    })
  })
})

describe('the size by trailing ones', { timeout: 120_000 }, () => {
  /** The lowest zero from bit 12 up; `top` when there is none below. */
  function sizeOf(value: bigint, top: number): number {
    let bit = 12
    while (bit < top && ((value >> BigInt(bit)) & 1n) === 1n) bit++
    return bit + 1
  }

  it.each([
    ['a leaf, bits 51:12', 20, 52],
    ['a command, bits 63:12', 31, 63],
  ])('is that of the lowest zero, in %s', (_, hiBits, top) => {
    forAddresses((address, lo, hi) => expect(trailingOnesSizeLog2(lo, hi, hiBits)).toBe(sizeOf(address, top)))
    fc.assert(
      fc.property(fc.integer({ min: 12, max: 63 }), anyAddress, (ones, noise) => {
        const value = (noise & ~below(ones)) | below(ones)
        expect(trailingOnesSizeLog2(...split(value), hiBits)).toBe(sizeOf(value, top))
      }),
    )
  })

  it.each([...sizeCodes.encoding, ...sizeCodes.decoding])('of $hiWord is 2^$sizeLog2 bytes', (vector) => {
    const value = parseHex(vector.hiWord)
    if ((value & 1n) === 0n) return
    expect(trailingOnesSizeLog2(...split(value), 31)).toBe(vector.sizeLog2)
  })
})
