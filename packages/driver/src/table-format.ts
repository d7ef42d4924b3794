/**
 * The two page-table formats that the driver writes, as answers to the same few questions.
 *
 * @packageDocumentation
 */
import { spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'

/** What a mapping allows. Guest-format entries cannot refuse reads. */
export interface Rights {
  readonly read: boolean
  readonly write: boolean
}

/** What an entry is. */
export type TableEntry =
  | { readonly kind: 'empty' }
  | { readonly kind: 'table'; readonly table: Spa; readonly level: number }
  | { readonly kind: 'leaf'; readonly address: bigint; readonly sizeLog2: number }

/** See the file's comment. Levels are the manual's: level 1 maps 4 KiB pages. */
export interface TableFormat {
  readonly name: string
  /** Page sizes, log2 of bytes, largest first. */
  readonly sizesLog2: readonly number[]
  /** The entry that points to a table of `level`. */
  pointer(table: Spa, level: number): bigint
  /** The entry for a page of one of the sizes, aligned to it. */
  leaf(address: bigint, sizeLog2: number, rights: Rights): bigint
  /** What an entry of a table of `level` is. */
  parse(entry: bigint, level: number): TableEntry
}

/** Lowest address bit that a table of `level` indexes. */
export const levelShift = (level: number): number => 3 + 9 * level

/** The level whose tables hold the leaves of a size. */
export const levelOfSize = (sizeLog2: number): number => Math.floor((sizeLog2 - 3) / 9)

const frameMask = 0x000f_ffff_ffff_f000n
const empty: TableEntry = { kind: 'empty' }

/** The address field of a page larger than its level's own: trailing ones below its top zero. */
const sizedFrame = (address: bigint, sizeLog2: number): bigint =>
  address | ((1n << BigInt(sizeLog2 - 1)) - 4096n)

/** Host (v1) entries: PR 0, NextLevel 11:9, FC 60, IR 61, IW 62. Linux sets FC in every leaf, IR and IW in directories. */
export const hostFormat: TableFormat = {
  name: 'host (v1)',
  // Every power of two up to 2^51, but 512 GiB, which shipping hardware translates wrongly.
  sizesLog2: Array.from({ length: 40 }, (_, i) => 51 - i).filter((size) => size !== 39),
  pointer: (table, level) => table | 1n | (BigInt(level) << 9n) | (3n << 61n),
  leaf(address, sizeLog2, { read, write }) {
    const isOwnSize = levelShift(levelOfSize(sizeLog2)) === sizeLog2
    const frame = isOwnSize ? address : sizedFrame(address, sizeLog2) | (7n << 9n)
    return frame | 1n | (1n << 60n) | (read ? 1n << 61n : 0n) | (write ? 1n << 62n : 0n)
  },
  parse(entry, level) {
    if ((entry & 1n) === 0n) return empty
    const nextLevel = Number((entry >> 9n) & 7n)
    const frame = entry & frameMask
    if (nextLevel === 0) return { kind: 'leaf', address: frame, sizeLog2: levelShift(level) }
    if (nextLevel !== 7) return { kind: 'table', table: spa(frame), level: nextLevel }
    const ones = frame | 0xfffn
    const sizeLog2 = (ones ^ (ones + 1n)).toString(2).length
    return { kind: 'leaf', address: (frame >> BigInt(sizeLog2)) << BigInt(sizeLog2), sizeLog2 }
  },
}

/** D of a host leaf: hardware sets it when it writes through the entry. */
export const hostDirtyMark = 1n << 6n

/** IW of a host leaf: writes may pass. */
export const hostWritePass = 1n << 62n

/** Guest (v2) entries, as x86: P 0, R/W 1, U/S 2, A 5, D 6, PS 7. Linux presets A, and D where writing is allowed. */
export const guestFormat: TableFormat = {
  name: 'guest (v2)',
  sizesLog2: [30, 21, 12],
  pointer: (table) => table | 0x27n,
  leaf: (address, sizeLog2, { write }) => address | (write ? 0x67n : 0x25n) | (sizeLog2 > 12 ? 0x80n : 0n),
  parse(entry, level) {
    if ((entry & 1n) === 0n) return empty
    const frame = entry & frameMask
    const isLeaf = level === 1 || (entry & 0x80n) !== 0n
    if (!isLeaf) return { kind: 'table', table: spa(frame), level: level - 1 }
    const sizeLog2 = levelShift(level)
    return { kind: 'leaf', address: (frame >> BigInt(sizeLog2)) << BigInt(sizeLog2), sizeLog2 }
  },
}
