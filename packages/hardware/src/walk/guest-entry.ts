/**
 * Bits of guest (v2) table entries, and which of them must be zero.
 *
 * AMD 48882 rev 3.10, guest page tables: the long-mode format of AMD64.
 *
 * @packageDocumentation
 */

/** Bits of the low word. */
export const present = 0x01
export const writable = 0x02
export const user = 0x04
export const accessed = 0x20
export const dirty = 0x40
export const pageSize = 0x80
/** NX, in the high word. */
export const noExecute = -0x80000000

/** Reserved address bits of a 2 MiB leaf, 20:13, and of a 1 GiB leaf, 29:13. */
const reserved2M = 0x001fe000
const reserved1G = 0x3fffe000

/** Bits of the low word that must be zero in a leaf of `level`; from level 4 on there are no leaves. */
export function reservedInLeaf(level: number): number {
  if (level === 1) return 0
  if (level === 2) return reserved2M
  return level === 3 ? reserved1G : -1
}
