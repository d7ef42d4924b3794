/**
 * What software can write to registers, and what else a write does.
 *
 * AMD 48882 rev 3.10, MMIO registers; of a chip without hardware vIOMMU.
 *
 * @packageDocumentation
 */
import { register } from '../arena.js'

/** Bits of each register that software can write. */
const writable: Readonly<Record<number, bigint>> = {
  [register.deviceTable]: 0x000f_ffff_ffff_f1ffn,
  [register.commandBase]: 0x0f0f_ffff_ffff_f000n,
  [register.eventBase]: 0x0f0f_ffff_ffff_f000n,
  [register.pprBase]: 0x0f0f_ffff_ffff_f000n,
  // Bits 49, 57 are reserved, and 60 needs a hardware vIOMMU.
  [register.control]: 0xedfd_ffff_ffff_ffffn,
  [register.exclusionBase]: 0x000f_ffff_ffff_f003n,
  [register.exclusionLimit]: 0x000f_ffff_ffff_f000n,
  [register.commandHead]: 0x7fff0n,
  [register.commandTail]: 0x7fff0n,
  [register.eventHead]: 0x7fff0n,
  [register.eventTail]: 0x7fff0n,
  [register.pprHead]: 0x7fff0n,
  [register.pprTail]: 0x7fff0n,
}

/** What a write to a base register clears. */
const pointers: Readonly<Record<number, readonly number[]>> = {
  [register.commandBase]: [register.commandHead, register.commandTail],
  [register.eventBase]: [register.eventHead, register.eventTail],
  [register.pprBase]: [register.pprHead, register.pprTail],
}

export const writableBits = (offset: number): bigint => writable[offset] ?? 0n

export const pointersOf = (offset: number): readonly number[] => pointers[offset] ?? []
