/**
 * How software meets an IOMMU: registers to read and write, interrupts to take. Tables and rings lie in memory.
 *
 * The chip presents a port to the host's driver; a VMM's virtual IOMMU presents the same port to the guest's.
 *
 * @packageDocumentation
 */
import type { InterruptMessage } from './interrupt-message.js'

/** Width of a register access in bytes. */
export type AccessBytes = 4 | 8

/** See the file's comment. Offsets are from the start of the MMIO region; reserved or absent registers read as zero. */
export interface IommuPort {
  readMmio(offset: number, bytes: AccessBytes): bigint
  writeMmio(offset: number, bytes: AccessBytes, value: bigint): void
  /** The next interrupt that the IOMMU raised for itself; undefined when there is none. */
  takeInterrupt(): InterruptMessage | undefined
}
