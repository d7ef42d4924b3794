/**
 * The command processor: takes one command from the ring and has it carried out.
 *
 * AMD 48882 rev 3.10, commands. A command that is not legal halts the queue with the head on it. The head moves when a
 * command has been carried out, so a COMPLETION_WAIT store comes after the effects of all commands before it.
 *
 * @packageDocumentation
 */
import type { SparseMemory } from '../memory/sparse-memory.js'
import { mmio } from '../mmio.js'
import { ringBytes } from '../registers.js'
import type { Registers } from '../registers.js'
import { commandOutcome } from './commands.js'
import type { Commands } from './commands.js'
import type { DeferredCommands } from './deferred-commands.js'
import { logEvent } from './event-log.js'
import { addOffset, carry } from './log-writer.js'

/** What the queue works on. */
export interface CommandQueueParts {
  readonly memory: SparseMemory
  readonly registers: Registers
  readonly commands: Commands
  /** Null: every command is carried out as it is fetched. */
  readonly deferred: DeferredCommands | null
}

/** Opcodes of a wait, and of the invalidations that may be put off until then: 2 to 5, and 8. */
const completionWait = 1
const deferrable = 0b1_0011_1100

/** Event words by what went wrong: ILLEGAL_COMMAND_ERROR, or COMMAND_HARDWARE_ERROR with type 1, master abort. */
const illegalCommand = 0x50000000
const commandHardwareError = 0x62000000

const event = new Int32Array(4)

/**
 * Carries out the next command. The machine must be active.
 *
 * @returns false if nothing moved: no command, a queue that does not run, or a command that waits for a device
 */
export function stepCommand({ memory, registers, commands, deferred }: CommandQueueParts): boolean {
  if (!registers.commandsRun) return false
  const size = ringBytes(registers.hi(mmio.commandBase))
  const head = registers.lo(mmio.commandHead) & (size - 1)
  if (head === (registers.lo(mmio.commandTail) & (size - 1))) return false
  const baseLo = registers.lo(mmio.commandBase) & 0xfffff000
  const lo = addOffset(baseLo, head)
  const hi = (registers.hi(mmio.commandBase) & 0xfffff) + carry(baseLo, head)
  const word = memory.wordOf(lo, hi)
  if (word < 0) {
    halt(registers, memory, commandHardwareError, lo, hi)
    return true
  }
  const pool = memory.words.array
  const w0 = pool[word]!
  const w1 = pool[word + 1]!
  const w2 = pool[word + 2]!
  const w3 = pool[word + 3]!
  const outcome =
    deferred === null
      ? commands.carryOut(w0, w1, w2, w3, lo, hi)
      : takeDeferring(commands, deferred, w0, w1, w2, w3, lo, hi)
  switch (outcome) {
    case commandOutcome.done:
      registers.set(mmio.commandHead, (head + 16) & (size - 1), 0)
      return true
    case commandOutcome.waits:
      return false
    case commandOutcome.illegal:
      halt(registers, memory, illegalCommand, lo, hi)
      return true
    default:
      halt(registers, memory, commandHardwareError, commands.failedLo, commands.failedHi)
      return true
  }
}

/** Puts an invalidation off; a wait has those before it carried out first. */
function takeDeferring(
  commands: Commands,
  deferred: DeferredCommands,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
  lo: number,
  hi: number,
): number {
  const opcode = w1 >>> 28
  if (((deferrable >>> opcode) & 1) === 1) {
    if (!commands.isLegal(w0, w1, w2, w3)) return commandOutcome.illegal
    return deferred.put(commands, w0, w1, w2, w3, lo, hi) ? commandOutcome.done : commandOutcome.waits
  }
  if (opcode === completionWait && !deferred.drain(commands)) return commandOutcome.waits
  return commands.carryOut(w0, w1, w2, w3, lo, hi)
}

/** Stops the queue with the head where it is, and tells software. */
function halt(registers: Registers, memory: SparseMemory, code: number, lo: number, hi: number): void {
  event[0] = 0
  event[1] = code
  event[2] = lo
  event[3] = hi
  registers.haltCommands()
  logEvent(registers, memory, event)
}
