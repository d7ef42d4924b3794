/**
 * The event log: what went wrong, for software to read.
 *
 * AMD 48882 rev 3.10, event logging. Events of hardware errors are held in registers too.
 *
 * @packageDocumentation
 */
import { eventLog } from '../log.js'
import type { Memory } from '../memory/memory.js'
import type { Registers } from '../registers.js'
import { eventCode } from '../walk/fault.js'
import { appendToLog, written } from './log-writer.js'

/** Writes the event in `event` (four words, lowest first) to the log. False if it was lost. */
export function logEvent(registers: Registers, memory: Memory, event: Int32Array): boolean {
  const w0 = event[0]!
  const w1 = event[1]!
  const w2 = event[2]!
  const w3 = event[3]!
  if (isHardwareError(w1 >>> 28)) registers.holdHardwareEvent(w0, w1, w2, w3)
  return appendToLog(registers, memory, eventLog, 16, w0, w1, w2, w3) === written.kept
}

const isHardwareError = (code: number): boolean =>
  code === eventCode.devTabHardwareError ||
  code === eventCode.pageTabHardwareError ||
  code === eventCode.commandHardwareError
