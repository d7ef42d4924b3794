import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeLeafFrame, decodeSizeCode, encodeLeafFrame, encodeSizeCode } from './index.js'

const address = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn })

/** The independent decoder: binary digits from bit 12 up, cut at the first zero. */
function byDigits(value: bigint): { base: bigint; sizeLog2: number } {
  const digits = Array.from(value.toString(2).padStart(64, '0')).reverse().slice(12).join('')
  const sizeLog2 = 13 + digits.indexOf('0')
  return { base: value - BigInt.asUintN(sizeLog2, value), sizeLog2 }
}

describe('the size code of commands', () => {
  it('of any address with S set is the block that its binary digits say', () => {
    fc.assert(
      fc.property(address, fc.nat(62), (random, ones) => {
        const value = (random | ((1n << BigInt(ones)) - 1n) | 1n) & ~(1n << 63n)
        expect(decodeSizeCode(value)).toEqual(byDigits(value))
      }),
    )
  })

  it('without S is one 4 KiB page, whatever the low bits', () => {
    fc.assert(
      fc.property(address, (value) => {
        expect(decodeSizeCode(value & ~1n)).toEqual({ base: (value >> 12n) << 12n, sizeLog2: 12 })
      }),
    )
  })

  it('reads back for every size, at the first and the last base', () => {
    for (let sizeLog2 = 12; sizeLog2 <= 64; sizeLog2++) {
      for (const base of [0n, (1n << 64n) - (1n << BigInt(sizeLog2))]) {
        expect(decodeSizeCode(encodeSizeCode(base, sizeLog2))).toEqual({ base, sizeLog2 })
      }
    }
  })

  it('is refused for other sizes and unaligned bases', () => {
    expect(() => encodeSizeCode(0n, 11)).toThrow('2^11 bytes cannot be coded: only 2^12 to 2^64')
    expect(() => encodeSizeCode(0n, 65)).toThrow(RangeError)
    expect(() => encodeSizeCode(0x1000n, 13)).toThrow('0x1000 is not the base of a block of 2^13 bytes')
    expect(() => encodeSizeCode(1n << 64n, 12)).toThrow(RangeError)
  })
})

describe('the size code of host leaves', () => {
  it('reads back for every size, at the first and the last base', () => {
    for (let sizeLog2 = 13; sizeLog2 <= 52; sizeLog2++) {
      for (const base of [0n, (1n << 52n) - (1n << BigInt(sizeLog2))]) {
        expect(decodeLeafFrame(encodeLeafFrame(base, sizeLog2))).toEqual({ base, sizeLog2 })
      }
    }
  })

  it('of a frame of all ones is a size that no level admits', () => {
    expect(decodeLeafFrame(0xf_ffff_ffff_f000n)).toEqual({ base: 0n, sizeLog2: 53 })
  })

  it('is refused for other sizes and addresses', () => {
    expect(() => encodeLeafFrame(0n, 12)).toThrow(RangeError)
    expect(() => encodeLeafFrame(0n, 53)).toThrow(RangeError)
    expect(() => encodeLeafFrame(1n << 52n, 13)).toThrow('0x10000000000000 is not a 52-bit address')
  })
})
