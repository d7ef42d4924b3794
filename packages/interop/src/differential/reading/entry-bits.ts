/**
 * Bits of device table entries and host table entries, as quad-words.
 *
 * AMD 48882 rev 3.10, device table entry and I/O page tables. Written anew rather than taken from the chip: what checks
 * the chip must not share its mistakes.
 *
 * @packageDocumentation
 */

export const rights = { read: 1n, write: 2n } as const

/** IR and IW of an entry: {@link rights}. */
export const rightsOf = (entry: bigint): bigint => (entry >> 61n) & 3n

export const modeOf = (q0: bigint): number => Number((q0 >> 9n) & 7n)

/** NextLevel lies where a device's entry has Mode. */
export const nextLevelOf = (entry: bigint): number => Number((entry >> 9n) & 7n)

export const frameOf = (entry: bigint): bigint => entry & 0xf_ffff_ffff_f000n

export const isPresent = (entry: bigint): boolean => (entry & 1n) === 1n

/** log2 of what one entry of a table covers; levels count from 1. */
export const shiftOf = (level: number): number => 3 + 9 * level

export const indexOf = (iova: bigint, level: number): bigint => (iova >> BigInt(shiftOf(level))) & 0x1ffn

/** The page that an address is in, put at another place. */
export function placed(frame: bigint, iova: bigint, sizeLog2: number): bigint {
  const inPage = (1n << BigInt(sizeLog2)) - 1n
  return (frame & ~inPage) | (iova & inPage)
}

/** log2 of the size that a frame codes by its lowest zero bit, from bit 12 on. */
export function codedSizeLog2(entry: bigint, lastBit: number): number {
  let bit = 12
  while (bit <= lastBit && ((entry >> BigInt(bit)) & 1n) === 1n) bit++
  return bit + 1
}

/** Reserved bits: of a directory 60:52, of a leaf 58:52. */
export const directoryReserved = 0x1ff0_0000_0000_0000n
export const leafReserved = 0x07f0_0000_0000_0000n

export const dte = {
  valid: 1n,
  translationValid: 2n,
  /** Reserved bits of the first quad-word: 6:2 and 63. */
  reserved: 0x8000_0000_0000_007cn,
  /** PPR, GPRP and GIoV, whose features the arena's chip does not have. */
  absentFeatures: 0x0070_0000_0000_0000n,
  guestValid: 1n << 55n,
  /** GV, GLX and the first part of the GCR3 root. */
  guestFields: 0x1f80_0000_0000_0000n,
  hostAccessDirty: 3n << 7n,
  hostAccessDirtyReserved: 2n << 7n,
} as const

/** Second quad-word. */
export const dte1 = {
  domain: 0xffffn,
  suppressFurther: 1n << 33n,
  suppressAll: 1n << 34n,
  mayBeExcluded: 1n << 39n,
  secureAts: 1n << 42n,
  /** The other two parts of the GCR3 root. */
  guestFields: 0xffff_f800_ffff_0000n,
} as const

/** GuestPagingMode, in the third quad-word. */
export const guestPagingOf = (q2: bigint): bigint => (q2 >> 54n) & 3n

export const guestLevelsOf = (q0: bigint): bigint => ((q0 >> 56n) & 3n) + 1n

/** Codes of the events. */
export const eventCode = {
  illegalDeviceEntry: 1,
  pageFault: 2,
  deviceTableError: 3,
  pageTableError: 4,
  illegalCommand: 5,
  commandError: 6,
} as const
