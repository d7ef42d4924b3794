/**
 * A piece of a mock page table that one call mapped, and the entries that it consists of.
 *
 * @packageDocumentation
 */

/** Addresses from `first` to below `end`, mapped to as many from `physical` on. Never changed once made. */
export interface Segment {
  readonly first: number
  readonly end: number
  readonly physical: number
  /** READ 1, WRITE 2. */
  readonly rights: number
  /** Sizes that its entries may have, ascending. */
  readonly entryBytes: readonly number[]
}

/** One entry of the table: its first byte and the one after its last. */
export interface Entry {
  readonly first: number
  readonly end: number
}

/**
 * The entry that holds an address of a segment.
 *
 * Mapping takes the largest page that address, physical address and the rest of the length allow, then the next. That
 * covers the segment with the largest aligned blocks that lie inside it, so the one around an address is found without
 * walking there. Blocks must be aligned on both sides: the two sides' distance is a multiple of the size.
 */
export function entryAt(segment: Segment, address: number): Entry {
  const { first, end, physical, entryBytes } = segment
  for (let i = entryBytes.length - 1; i >= 0; i--) {
    const bytes = entryBytes[i] ?? 0
    const start = address - (address % bytes)
    if (start >= first && start + bytes <= end && (physical - first) % bytes === 0) {
      return { first: start, end: start + bytes }
    }
  }
  throw new RangeError(`${address} is not in a segment of whole pages`)
}

/** The part of a segment between two borders of entries: it consists of the same entries. */
export const partOf = (segment: Segment, first: number, end: number): Segment => ({
  ...segment,
  first,
  end,
  physical: segment.physical + (first - segment.first),
})
