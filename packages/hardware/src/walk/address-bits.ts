/**
 * Bits of 64-bit addresses held as two int32 words: table indices, widths, page masks.
 *
 * Levels are numbered as the manual numbers them: level 1 maps 4 KiB pages, level 6 is the top of a 64-bit host
 * table. Shift counts are taken modulo 32: hence the cases, and hence bits of the high word are shifted by their whole
 * number.
 *
 * @packageDocumentation
 */

/**
 * What of an address, low word, is the page: all but bits 11:0. A negative number, since 0xfffff000 is none that fits an
 * int32: to mask with it would make an address a double.
 */
export const frameMask = -0x1000

/** Lowest address bit that a table of `level` indexes: 12, 21, 30, 39, 48, 57. */
export const levelShift = (level: number): number => 3 + 9 * level

/** Index into a table of `level`: nine bits, seven at level 6. */
export const levelIndex = (level: number, lo: number, hi: number): number =>
  indexFrom(levelShift(level), lo, hi)

/**
 * Index into a table that is indexed by the address bits from `shift` on, for walks that count the shift down.
 *
 * @param shift - 12 to 57
 */
export const indexFrom = (shift: number, lo: number, hi: number): number =>
  // Shift counts are taken modulo 32. Where the index lies in the low word, `hi` is shifted out of the nine bits. Each
  // branch is masked by itself, so that neither is an unsigned number for the compiler.
  shift < 32 ? ((lo >>> shift) | (hi << -shift)) & 511 : (hi >>> shift) & 511

/** Whether any of the address bits from `bit` to 63 is set. */
export function anyBitFrom(bit: number, lo: number, hi: number): boolean {
  if (bit >= 64) return false
  if (bit >= 32) return hi >>> bit !== 0
  return hi !== 0 || lo >>> bit !== 0
}

/** Whether any of the address bits from `from` to `to - 1` is set. */
export function anyBitBetween(from: number, to: number, lo: number, hi: number): boolean {
  return (lo & lowMaskLo(to) & ~lowMaskLo(from)) !== 0 || (hi & lowMaskHi(to) & ~lowMaskHi(from)) !== 0
}

/** Low word of a mask of the bits below `bit`, 0 to 64. */
export const lowMaskLo = (bit: number): number => (bit >= 32 ? -1 : ~(-1 << bit))

/** High word of a mask of the bits below `bit`, 0 to 64. */
export const lowMaskHi = (bit: number): number => (bit <= 32 ? 0 : bit >= 64 ? -1 : ~(-1 << bit))

/** Whether bits 63 to `bit` are all equal: the address is sign-extended from there. */
export function isSignExtended(bit: number, lo: number, hi: number): boolean {
  if (bit >= 32) {
    const top = hi >> bit
    return top === 0 || top === -1
  }
  const top = lo >> bit
  return (top === 0 && hi === 0) || (top === -1 && hi === -1)
}

/**
 * Size that the address field of an entry or a command encodes by its trailing ones: log2 of the bytes.
 *
 * The lowest zero bit from bit 12 up, p, stands for a size of 2^(p + 1). `hiBits` says how many bits of the high word
 * belong to the field; a field of ones alone gives 33 + `hiBits`.
 */
export function trailingOnesSizeLog2(lo: number, hi: number, hiBits: number): number {
  const zerosLo = ~lo & frameMask
  if (zerosLo !== 0) return 32 - Math.clz32(zerosLo & -zerosLo)
  const zerosHi = ~hi & lowMaskLo(hiBits)
  if (zerosHi !== 0) return 64 - Math.clz32(zerosHi & -zerosHi)
  return 33 + hiBits
}
