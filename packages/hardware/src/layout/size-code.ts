/**
 * Sizes coded in address bits: the position of the lowest clear bit, from bit 12 up.
 *
 * Invalidation commands and host leaves with NextLevel 7 share the idea. If `p` is that bit, the size
 * is 2^(p+1) and the base is the address with bits p:12 cleared: the code overlaps the address.
 *
 * These are the readable reference functions; nothing here is meant for a hot path.
 *
 * @packageDocumentation
 */

/** A naturally aligned block of 2^`sizeLog2` bytes. */
export interface Block {
  readonly base: bigint
  readonly sizeLog2: number
}

const sizeFlag = 1n
const frameMask = 0xffff_ffff_ffff_f000n

/** Address bits that code a size above 4 KiB: ones from bit 12 up to two below the size. */
const onesBelow = (sizeLog2: number): bigint => (1n << BigInt(sizeLog2 - 1)) - (1n << 12n)

function checkBlock({ base, sizeLog2 }: Block, smallestLog2: number, largestLog2: number): void {
  if (!Number.isInteger(sizeLog2) || sizeLog2 < smallestLog2 || sizeLog2 > largestLog2) {
    throw new RangeError(`2^${sizeLog2} bytes cannot be coded: only 2^${smallestLog2} to 2^${largestLog2}`)
  }
  if (base < 0n || base >> 64n !== 0n || BigInt.asUintN(sizeLog2, base) !== 0n) {
    throw new RangeError(`0x${base.toString(16)} is not the base of a block of 2^${sizeLog2} bytes`)
  }
}

/** The lowest clear bit from bit 12 up; `limit` if all below it are set. */
function lowestClearBit(value: bigint, limit: number): number {
  let bit = 12
  while (bit < limit && (value >> BigInt(bit)) & 1n) bit++
  return bit
}

/**
 * The upper word of an invalidation command for one block: Address[63:12] and S, other flags clear.
 *
 * @param base - aligned to the size
 * @param sizeLog2 - 12 to 64; 64 is everything
 * @throws RangeError for a base or size that cannot be coded
 */
export function encodeSizeCode(base: bigint, sizeLog2: number): bigint {
  checkBlock({ base, sizeLog2 }, 12, 64)
  return sizeLog2 === 12 ? base : base | onesBelow(sizeLog2) | sizeFlag
}

/**
 * The block that the upper word of an invalidation command names; bits 11:1 play no part.
 *
 * An address of all ones with S set is undefined in the manual and read as everything, as software
 * that uses it means it.
 */
export function decodeSizeCode(hiWord: bigint): Block {
  if ((hiWord & sizeFlag) === 0n) return { base: hiWord & frameMask, sizeLog2: 12 }
  const lowestClear = lowestClearBit(hiWord, 63)
  const sizeLog2 = lowestClear + 1
  return { base: ((hiWord & frameMask) >> BigInt(sizeLog2)) << BigInt(sizeLog2), sizeLog2 }
}

/**
 * The frame field (bits 51:12, in place) of a host leaf with NextLevel 7.
 *
 * @param base - aligned to the size, 52 bits
 * @param sizeLog2 - 13 to 52; which of them a level admits is the walk's business
 * @throws RangeError for a base or size that cannot be coded
 */
export function encodeLeafFrame(base: bigint, sizeLog2: number): bigint {
  checkBlock({ base, sizeLog2 }, 13, 52)
  if (base >> 52n !== 0n) throw new RangeError(`0x${base.toString(16)} is not a 52-bit address`)
  return base | onesBelow(sizeLog2)
}

/**
 * The block that the frame field of a host leaf with NextLevel 7 names. Address bits above 51 count
 * as clear, so a frame of all ones reads as 2^53 bytes, which no level admits.
 */
export function decodeLeafFrame(frame: bigint): Block {
  const sizeLog2 = lowestClearBit(frame, 52) + 1
  return { base: (BigInt.asUintN(52, frame) >> BigInt(sizeLog2)) << BigInt(sizeLog2), sizeLog2 }
}
