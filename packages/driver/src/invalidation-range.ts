/**
 * Ranges as Linux puts them into invalidation commands: one power-of-two block that holds them.
 *
 * Linux drivers/iommu/amd/iommu.c, `build_inv_address`. The block may be far larger than the range.
 *
 * @packageDocumentation
 */
import { iova } from '@nestwalk/bits'
import type { Iova } from '@nestwalk/bits'
import { decodeSizeCode, encodeSizeCode } from '@nestwalk/hardware'

/** An inclusive range of addresses. */
export interface AddressRange {
  readonly first: bigint
  readonly last: bigint
}

/** All 64 bits of address. */
export const everything: AddressRange = { first: 0n, last: (1n << 64n) - 1n }

/** The fields of INVALIDATE_IOMMU_PAGES that say which addresses. */
export interface RangeFields {
  readonly size: boolean
  readonly address: Iova
}

/** Widest block that Linux codes as such; anything wider becomes "everything". */
const widestBlockLog2 = 52

/** The fields for the smallest aligned block around a range. */
export function rangeFields({ first, last }: AddressRange): RangeFields {
  const sizeLog2 = Math.max(12, (first ^ last).toString(2).length)
  const word =
    sizeLog2 > widestBlockLog2
      ? encodeSizeCode(0n, 64)
      : encodeSizeCode((first >> BigInt(sizeLog2)) << BigInt(sizeLog2), sizeLog2)
  return { size: (word & 1n) === 1n, address: iova(pageOf(word)) }
}

/** A range as the fewest aligned blocks that cover it and nothing else, by address. */
export function exactBlocks({ first, last }: AddressRange): AddressRange[] {
  const blocks: AddressRange[] = []
  for (let at = first; at <= last;) {
    let bytes = 4096n
    while (at % (2n * bytes) === 0n && at + 2n * bytes - 1n <= last) bytes *= 2n
    blocks.push({ first: at, last: at + bytes - 1n })
    at += bytes
  }
  return blocks
}

/** The range that such fields name. */
export function rangeOf({ size, address }: RangeFields): AddressRange {
  const { base, sizeLog2 } = decodeSizeCode(address | (size ? 1n : 0n))
  return { first: base, last: base + (1n << BigInt(sizeLog2)) - 1n }
}

const pageOf = (address: bigint): bigint => (address >> 12n) << 12n
