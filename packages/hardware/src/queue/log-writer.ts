/**
 * Writing a log: the ring in memory into which hardware puts what software must know.
 *
 * AMD 48882 rev 3.10, event logging: one slot stays free; an entry that finds the ring full is lost, sets the
 * overflow bit and stops the log until software restarts it. A doubled log goes on in its other ring instead.
 *
 * @packageDocumentation
 */
import type { Log } from '../log.js'
import type { Memory } from '../memory/memory.js'
import { ringBytes } from '../registers.js'
import type { Registers } from '../registers.js'

/** What became of an entry. */
export const written = {
  /** It stands in the log. */
  kept: 0,
  /** The log does not run, or was full. */
  lost: 1,
  /** The ring moved on, but no memory answered there. */
  nowhere: 2,
} as const

/**
 * Writes one entry.
 *
 * @param bytes - 16, or 8 for the GA log, whose entries are the first two words alone
 * @returns one of {@link written}
 */
export function appendToLog(
  registers: Registers,
  memory: Memory,
  log: Log,
  bytes: 8 | 16,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
): number {
  if (!registers.runs(log)) return written.lost
  if (isFull(registers, log, bytes)) {
    if (!registers.overflow(log)) return written.lost
    if (isFull(registers, log, bytes)) {
      registers.overflow(log)
      return written.lost
    }
  }
  const ring = registers.ringOf(log)
  const mask = ringBytes(registers.hi(ring.base)) - 1
  const tail = registers.lo(ring.tail) & mask & -bytes
  const baseLo = registers.lo(ring.base) & 0xfffff000
  const lo = addOffset(baseLo, tail)
  const hi = (registers.hi(ring.base) & 0xfffff) + carry(baseLo, tail)
  // A posted write that no memory answers is lost without a trace; the pointer moves on all the same.
  const isStored = memory.store64(lo, hi, w0, w1)
  if (isStored && bytes === 16) memory.store64(lo + 8, hi, w2, w3)
  registers.set(ring.tail, (tail + bytes) & mask, 0)
  registers.report(log.interruptStatus, log.interruptEnable, log.line)
  return isStored ? written.kept : written.nowhere
}

/** Entries that software has not read yet. */
export function entriesWaiting(registers: Registers, log: Log, bytes: 8 | 16): number {
  const ring = registers.ringOf(log)
  const mask = ringBytes(registers.hi(ring.base)) - 1
  return ((registers.lo(ring.tail) - registers.lo(ring.head)) & mask & -bytes) / bytes
}

const isFull = (registers: Registers, log: Log, bytes: 8 | 16): boolean =>
  entriesWaiting(registers, log, bytes) === ringBytes(registers.hi(registers.ringOf(log).base)) / bytes - 1

/** Low word of a ring's base plus an offset; a ring needs no alignment beyond its page. */
export const addOffset = (baseLo: number, offset: number): number => (baseLo + offset) | 0

/** What the addition carries into the high word. */
export const carry = (baseLo: number, offset: number): number =>
  (baseLo >>> 0) + offset > 0xffffffff ? 1 : 0
