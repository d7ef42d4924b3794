/**
 * Hexadecimal text: how words are printed in manuals, kernel logs and test vectors.
 *
 * @packageDocumentation
 */

/**
 * The hexadecimal digits of an unsigned number, without a prefix, padded with zeros to `digits`.
 *
 * @throws RangeError for a negative or fractional number, or one that needs more than `digits`
 */
export function hexDigits(value: bigint | number, digits?: number): string {
  const isUnsigned = typeof value === 'bigint' ? value >= 0n : Number.isSafeInteger(value) && value >= 0
  if (!isUnsigned)
    throw new RangeError(`${value} has no hexadecimal form here: it is not an unsigned integer`)
  const text = value.toString(16)
  if (digits !== undefined && text.length > digits) {
    throw new RangeError(`0x${text} does not fit in ${digits} hexadecimal digits`)
  }
  return text.padStart(digits ?? 1, '0')
}

/** The same with the prefix `0x`. */
export const hex = (value: bigint | number, digits?: number): string => `0x${hexDigits(value, digits)}`

const hexadecimal = /^(?:0x)?([0-9a-f]+(?:_(?:[0-9a-f]{4})+)*)$/i

/**
 * Reads hexadecimal text of any length. The prefix `0x` is optional, and underscores may stand
 * wherever a multiple of four digits follows.
 *
 * @throws SyntaxError naming the text
 */
export function parseHex(text: string): bigint {
  const digits = hexadecimal.exec(text)?.[1]
  if (digits === undefined) throw new SyntaxError(`'${text}' is not a hexadecimal number`)
  return BigInt(`0x${digits.replaceAll('_', '')}`)
}

/**
 * Reads hexadecimal text as a number.
 *
 * @throws SyntaxError naming the text; RangeError beyond 2^53 - 1
 */
export function parseHexNumber(text: string): number {
  const value = Number(parseHex(text))
  if (!Number.isSafeInteger(value)) throw new RangeError(`'${text}' is too large for a number`)
  return value
}

/** A quad-word as two double-words, low half first, as drivers print it. */
export const dwordsOf = (word: bigint): readonly [low: number, high: number] => [
  Number(BigInt.asUintN(32, word)),
  Number(BigInt.asUintN(32, word >> 32n)),
]

/** A quad-word from its two double-words, low half first. */
export const wordOf = (low: number, high: number): bigint => (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)

/** Quad-words as 16 hexadecimal digits each, first word first. */
export const hexOfWords = (words: BigUint64Array): string[] =>
  Array.from(words, (word) => hexDigits(word, 16))

function parseSized(text: string, widthBits: number): bigint {
  const value = parseHex(text)
  if (value >> BigInt(widthBits) !== 0n) throw new RangeError(`'${text}' has more than ${widthBits} bits`)
  return value
}

/**
 * Quad-words from hexadecimal texts, first word first.
 *
 * @throws SyntaxError naming a bad text; RangeError for one of more than 64 bits
 */
export const wordsFromHex = (texts: readonly string[]): BigUint64Array =>
  BigUint64Array.from(texts, (text) => parseSized(text, 64))

/** Quad-words as double-words of 8 hexadecimal digits, low half of the first word first. */
export const hexDwordsOfWords = (words: BigUint64Array): string[] =>
  Array.from(words, dwordsOf).flatMap(([low, high]) => [hexDigits(low, 8), hexDigits(high, 8)])

/**
 * Quad-words from an even number of hexadecimal double-words, low half of the first word first.
 *
 * @throws SyntaxError naming a bad text; RangeError for one of more than 32 bits or an odd count
 */
export function wordsFromHexDwords(texts: readonly string[]): BigUint64Array {
  if (texts.length % 2 !== 0)
    throw new RangeError(`${texts.length} double-words do not make whole quad-words`)
  const dwords = Uint32Array.from(texts, (text) => Number(parseSized(text, 32)))
  return BigUint64Array.from({ length: texts.length / 2 }, (_, i) =>
    wordOf(dwords[2 * i] ?? 0, dwords[2 * i + 1] ?? 0),
  )
}
