/**
 * The command processor: takes one command from the ring and has it carried out.
 *
 * AMD 48882 rev 3.10, commands. A command that is not legal halts the queue with the head on it. The head moves when a
 * command has been carried out, so a COMPLETION_WAIT store comes after the effects of all commands before it.
 *
 * @packageDocumentation
 */
import type { SparseMemory } from '../memory/sparse-memory.js'
import { ringBytes } from '../registers.js'
import type { Registers } from '../registers.js'
import { CommandOutcome } from './command-outcome.js'
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
 * Carries out commands until nothing moves: no command, a queue that does not run, or a command that waits for a device.
 * The machine must be active.
 *
 * @param most - commands at most
 * @returns how many moved; an error that halts the queue counts
 */
export function runCommands(
  { memory, registers, commands, deferred }: CommandQueueParts,
  most: number,
): number {
  if (!registers.commandsRun) return 0
  // Nobody but software writes these registers, and it does not act meanwhile.
  const { words } = memory
  const headWord = registers.commandHeadWord
  const baseLo = words.array[registers.commandBaseWord]! & 0xfffff000
  const baseHi = words.array[registers.commandBaseWord + 1]!
  const inRing = ringBytes(baseHi) - 1
  const tail = words.array[registers.commandTailWord]! & inRing
  let head = words.array[headWord]! & inRing
  const { isOutside } = memory
  let word = 0
  let moved = 0
  while (moved < most && head !== tail) {
    const pool = words.array
    const lo = addOffset(baseLo, head)
    const hi = (baseHi & 0xfffff) + carry(baseLo, head)
    // The words of a page follow one another, but where others may write between two commands.
    word = moved > 0 && (lo & 0xff0) !== 0 && !isOutside ? (word + 4) | 0 : memory.wordOf(lo, hi)
    if (word < 0) {
      words.write(headWord, head)
      halt(registers, memory, commandHardwareError, lo, hi)
      return moved + 1
    }
    const w0 = pool[word]!
    const w1 = pool[word + 1]!
    const w2 = pool[word + 2]!
    const w3 = pool[word + 3]!
    const outcome =
      deferred === null
        ? commands.carryOut(w0, w1, w2, w3, lo, hi)
        : takeDeferring(commands, deferred, w0, w1, w2, w3, lo, hi)
    if (outcome === CommandOutcome.waits) break
    if (outcome !== CommandOutcome.done) {
      words.write(headWord, head)
      if (outcome === CommandOutcome.illegal) halt(registers, memory, illegalCommand, lo, hi)
      else halt(registers, memory, commandHardwareError, commands.failedLo, commands.failedHi)
      return moved + 1
    }
    head = (head + 16) & inRing
    moved += 1
  }
  // Software looks at the head when it acts again.
  if (moved > 0) words.write(headWord, head)
  return moved
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
): CommandOutcome {
  const opcode = w1 >>> 28
  if (((deferrable >>> opcode) & 1) === 1) {
    if (!commands.isLegal(w0, w1, w2, w3)) return CommandOutcome.illegal
    if (!deferred.put(commands, w0, w1, w2, w3, lo, hi)) return CommandOutcome.waits
    // Another command may have been carried out to make room.
    commands.lastOpcode = opcode
    return CommandOutcome.done
  }
  if (opcode === completionWait && !deferred.drain(commands)) return CommandOutcome.waits
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
