/**
 * The GA log: interrupts for guest processors that are not running.
 *
 * AMD 48882 rev 3.10, guest virtual APIC log. Hardware keeps a copy of the tail where software can read it cheaply.
 *
 * @packageDocumentation
 */
import { gaLog } from '../log.js'
import type { Memory } from '../memory/memory.js'
import { mmio } from '../mmio.js'
import type { Registers } from '../registers.js'
import { appendToLog, written } from './log-writer.js'

/** Writes one entry of 64 bits. */
export function logGuestInterrupt(registers: Registers, memory: Memory, lo: number, hi: number): void {
  if (appendToLog(registers, memory, gaLog, 8, lo, hi, 0, 0) === written.lost) return
  const copyLo = registers.lo(mmio.gaTailAddress)
  const copyHi = registers.hi(mmio.gaTailAddress)
  // An address of zero: software did not ask for a copy.
  if ((copyLo | copyHi) !== 0) memory.store64(copyLo, copyHi, registers.lo(mmio.gaTail), 0)
}
