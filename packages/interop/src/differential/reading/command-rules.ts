/**
 * Which commands are legal: by the manual, and by QEMU.
 *
 * AMD 48882 rev 3.10, commands: every bit that a command does not list has to be zero.
 *
 * @packageDocumentation
 */

export const opcode = {
  completionWait: 1,
  invalidateDevtabEntry: 2,
  invalidatePages: 3,
  invalidateIotlbPages: 4,
  invalidateInterruptTable: 5,
  prefetch: 6,
  completePpr: 7,
  invalidateAll: 8,
} as const

export const opcodeOf = (lo: bigint): number => Number(lo >> 60n)

/** Bits that have to be zero, in the low and the high quad-word. */
type Reserved = readonly [lo: bigint, hi: bigint]

const everything = 0xffff_ffff_ffff_ffffn
const namesDevice: Reserved = [0x0fff_ffff_ffff_0000n, everything]

/** Of the chip without InvIotlbTypeSup. */
const byManual: Readonly<Record<number, Reserved>> = {
  [opcode.completionWait]: [0x0ff0_0000_0000_0000n, 0n],
  [opcode.invalidateDevtabEntry]: namesDevice,
  [opcode.invalidatePages]: [0x0fff_0000_fff0_0000n, 0xff8n],
  [opcode.invalidateIotlbPages]: [0n, 0xffan],
  [opcode.invalidateInterruptTable]: namesDevice,
  [opcode.prefetch]: [0x0ff0_0000_00ff_0000n, 0xfean],
  [opcode.completePpr]: [0x0ff0_0000_ffff_0000n, 0xffff_0e00_ffff_fffbn],
  [opcode.invalidateAll]: [0x0fff_ffff_ffff_ffffn, everything],
}

const byQemu: Readonly<Record<number, Reserved>> = {
  ...byManual,
  [opcode.invalidateIotlbPages]: [0n, 0xfcan],
  [opcode.completePpr]: [0x0ff0_0000_ffff_0000n, 0xffff_0000_ffff_fffbn],
}

/** PASID of the commands that must not have one without GN. */
const pasidBits: Readonly<Record<number, bigint>> = {
  [opcode.invalidatePages]: 0xf_ffffn,
  [opcode.invalidateIotlbPages]: 0x0fff_0000_00ff_0000n,
  [opcode.prefetch]: 0x000f_ffff_0000_0000n,
}

const guestNested = 4n

export function isLegalByManual(lo: bigint, hi: bigint): boolean {
  const hasPasid = (lo & (pasidBits[opcodeOf(lo)] ?? 0n)) !== 0n
  return isClear(byManual, lo, hi) && !(hasPasid && !isGuestNested(hi))
}

export const isLegalByQemu = (lo: bigint, hi: bigint): boolean => isClear(byQemu, lo, hi)

function isClear(reserved: Readonly<Record<number, Reserved>>, lo: bigint, hi: bigint): boolean {
  const bits = reserved[opcodeOf(lo)]
  return bits !== undefined && (lo & bits[0]) === 0n && (hi & bits[1]) === 0n
}

/** The addresses that an invalidation names. */
export interface AddressRange {
  readonly first: bigint
  readonly sizeLog2: number
}

/** Without S a page; with S a block that the lowest zero bit from bit 12 on tells the size of. */
export function rangeOf(hi: bigint): AddressRange {
  if ((hi & 1n) === 0n) return { first: (hi >> 12n) << 12n, sizeLog2: 12 }
  let bit = 12n
  while (bit < 63n && ((hi >> bit) & 1n) === 1n) bit++
  return { first: (hi >> (bit + 1n)) << (bit + 1n), sizeLog2: Number(bit) + 1 }
}

export const isGuestNested = (hi: bigint): boolean => (hi & guestNested) !== 0n
