import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
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
} from './index.js'

const word = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn })

describe('writing hexadecimal', () => {
  it('pads to a fixed number of digits and refuses more', () => {
    expect(hexDigits(0xa5, 4)).toBe('00a5')
    expect(hex(0xa5n, 8)).toBe('0x000000a5')
    expect(hex(0)).toBe('0x0')
    expect(() => hexDigits(0x1_0000, 4)).toThrow('0x10000 does not fit in 4 hexadecimal digits')
    expect(() => hex(-1n)).toThrow('-1 has no hexadecimal form here')
    expect(() => hex(0.5)).toThrow(RangeError)
  })
})

describe('reading hexadecimal', () => {
  it.each([
    ['0', 0n],
    ['0xDEADB000', 0xdeadb000n],
    ['246577efa2254afa', 0x246577efa2254afan],
    ['0000_0000_0000_1001', 0x1001n],
    ['00000000_00003001', 0x3001n],
    ['0x7FFF_FFFF_FFFF_F000', 0x7fff_ffff_ffff_f000n],
    ['1_0000', 0x1_0000n],
    ['12345_0000', 0x1_2345_0000n],
  ])('%s', (text, value) => {
    expect(parseHex(text)).toBe(value)
  })

  it.each(['', '0x', 'xyz', '-1', ' 1', '1_00', '_0000', '0000_', '0000__0000', '0x0x1'])(
    "names the bad text '%s'",
    (text) => {
      expect(() => parseHex(text)).toThrow(new SyntaxError(`'${text}' is not a hexadecimal number`))
    },
  )

  it('reads back what was written', () => {
    fc.assert(
      fc.property(word, (value) => {
        expect(parseHex(hex(value, 16))).toBe(value)
        expect(parseHex(hexDigits(value))).toBe(value)
      }),
    )
  })

  it('gives a number where it is exact', () => {
    expect(parseHexNumber('0x1fffffffffffff')).toBe(Number.MAX_SAFE_INTEGER)
    expect(() => parseHexNumber('20000000000000')).toThrow("'20000000000000' is too large for a number")
  })
})

describe('words and double-words', () => {
  it('a COMPLETION_WAIT prints as drivers print it', () => {
    const words = wordsFromHex(['1000000123456789', 'a5'])
    expect(hexDwordsOfWords(words)).toEqual(['23456789', '10000001', '000000a5', '00000000'])
    expect(wordsFromHexDwords(['23456789', '10000001', 'a5', '0'])).toEqual(words)
    expect(hexOfWords(words)).toEqual(['1000000123456789', '00000000000000a5'])
  })

  it('a word is its two halves', () => {
    expect(dwordsOf(0x89abcdef_fedcba98n)).toEqual([0xfedcba98, 0x89abcdef])
    fc.assert(
      fc.property(word, (value) => {
        const [low, high] = dwordsOf(value)
        expect(wordOf(low, high)).toBe(value)
        expect(wordOf(low | 0, high | 0)).toBe(value)
      }),
    )
  })

  it('too many bits or half a word are refused', () => {
    expect(() => wordsFromHex(['10000000000000000'])).toThrow("'10000000000000000' has more than 64 bits")
    expect(() => wordsFromHexDwords(['100000000', '0'])).toThrow('more than 32 bits')
    expect(() => wordsFromHexDwords(['0'])).toThrow('1 double-words do not make whole quad-words')
  })
})
