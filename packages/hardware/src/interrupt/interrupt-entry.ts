/**
 * The upper half of a device table entry: what becomes of the device's interrupts.
 *
 * AMD 48882 rev 3.10, device table entry, bits 255:128. The half has a valid bit of its own, IV, and counts whatever
 * V and TV say. All functions take the words of the machine and the place of the entry's first word.
 *
 * @packageDocumentation
 */

/** Control over fixed and arbitrated interrupts, DTE.IntCtl. */
export const interruptControl = { abort: 0, forward: 1, remap: 2, reserved: 3 } as const

/** Longest table: 2^11 entries. */
export const tableLengthLog2Max = 11

/** Bits of word 5. */
const reservedQ2Hi = 0x00300000
export const initPass = 1 << 24
export const externalPass = 1 << 25
export const nmiPass = 1 << 26
/** Bits of words 6 and 7. */
const reservedQ3Lo = 0x00007fff
const virtualImu = 0x00008000
const reservedQ3Hi = 0x003f0000

/** IV: the half counts. */
export const interruptValid = (pool: Int32Array, at: number): boolean => (pool[at + 4]! & 1) !== 0

/** IntTabLen: log2 of the entries; above {@link tableLengthLog2Max} it is illegal. */
export const tableLengthLog2 = (pool: Int32Array, at: number): number => (pool[at + 4]! >>> 1) & 15

/** IG: interrupts without an entry are not logged. */
export const ignoresUnmapped = (pool: Int32Array, at: number): boolean => (pool[at + 4]! & 0x20) !== 0

/** IntTabRoot, low word: SPA bits 31:6. */
export const tableRootLo = (pool: Int32Array, at: number): number => pool[at + 4]! & ~0x3f

/** IntTabRoot, high word: SPA bits 51:32. */
export const tableRootHi = (pool: Int32Array, at: number): number => pool[at + 5]! & 0xfffff

/** IntCtl, one of {@link interruptControl}. */
export const interruptControlOf = (pool: Int32Array, at: number): number => (pool[at + 5]! >>> 28) & 3

/** Whether a pass bit is set: {@link initPass}, {@link externalPass} or {@link nmiPass}. */
export const passes = (pool: Int32Array, at: number, kind: number): boolean => (pool[at + 5]! & kind) !== 0

/**
 * Whether a reserved bit of the half is set. GuestPagingMode belongs to memory requests, and HPTMode to no bit that is
 * known to be reserved: neither is looked at.
 *
 * @param takesVirtualImu - vImuEn may be set
 */
export const hasReservedBits = (pool: Int32Array, at: number, takesVirtualImu: boolean): boolean =>
  (pool[at + 5]! & reservedQ2Hi) !== 0 ||
  (pool[at + 6]! & (takesVirtualImu ? reservedQ3Lo : reservedQ3Lo | virtualImu)) !== 0 ||
  (pool[at + 7]! & reservedQ3Hi) !== 0
