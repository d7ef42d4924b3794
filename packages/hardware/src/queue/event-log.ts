/**
 * The event log: the ring in memory into which hardware writes what went wrong.
 *
 * AMD 48882 rev 3.10, event logging: one slot stays free; an event that finds the log full is lost, sets
 * EventOverflow and stops the log until software restarts it.
 *
 * @packageDocumentation
 */
import type { Memory } from '../memory/memory.js'
import { controlLo, mmio, ringBytes, status } from '../registers.js'
import type { Registers } from '../registers.js'

/** Writes the event in `event` (four words, lowest first) to the log. False if it was lost. */
export function logEvent(registers: Registers, memory: Memory, event: Int32Array): boolean {
  if (!registers.eventsRun) return false
  const size = ringBytes(registers.hi(mmio.eventBase))
  const tail = registers.lo(mmio.eventTail) & (size - 1)
  const next = (tail + 16) & (size - 1)
  if (next === (registers.lo(mmio.eventHead) & (size - 1))) {
    registers.stopEvents()
    registers.report(status.eventOverflow, controlLo.eventIntEn)
    return false
  }
  const baseLo = registers.lo(mmio.eventBase) & 0xfffff000
  const baseHi = registers.hi(mmio.eventBase) & 0xfffff
  const at = addOffset(baseLo, tail)
  const hi = baseHi + carry(baseLo, tail)
  // A posted write that no memory answers is lost without a trace; the pointer moves on all the same.
  const isStored = memory.store64(at, hi, event[0]!, event[1]!)
  if (isStored) memory.store64(at + 8, hi, event[2]!, event[3]!)
  registers.set(mmio.eventTail, next, 0)
  registers.report(status.eventLogInt, controlLo.eventIntEn)
  return isStored
}

/** Low word of a ring's base plus an offset; a ring needs no alignment beyond its page. */
export const addOffset = (baseLo: number, offset: number): number => (baseLo + offset) | 0

/** What the addition carries into the high word. */
export const carry = (baseLo: number, offset: number): number =>
  (baseLo >>> 0) + offset > 0xffffffff ? 1 : 0
