/**
 * What a machine shows of a case: registers after each step, the events of each step, and memory at the end.
 *
 * @packageDocumentation
 */
import { pageBytes } from './arena.js'
import { ringAddress, ringBytes } from './differential-case.js'
import type { DifferentialCase, Step } from './differential-case.js'
import { sampledRegisters } from './operations.js'

export interface LoggedEvent {
  readonly lo: bigint
  readonly hi: bigint
}

export const codeOf = ({ lo }: LoggedEvent): number => Number(lo >> 60n)
export const deviceOf = ({ lo }: LoggedEvent): number => Number(lo & 0xffffn)

export interface StepObservation {
  readonly commandHead: bigint
  readonly eventTail: bigint
  readonly status: bigint
  /** The register that the step wrote. */
  readonly readBack: bigint | undefined
  /** What was logged since the step before. */
  readonly events: readonly LoggedEvent[]
}

/** See the file's comment. */
export interface Observation {
  readonly steps: readonly StepObservation[]
  /** Quad-words outside the event log that are not as they were at the start, by address. */
  readonly words: ReadonlyMap<number, bigint>
}

/** Memory at the end, and what it was at the start. */
export interface MemoryAtEnd {
  readonly after: Buffer
  readonly before: Buffer
  /** Every page that may differ. */
  readonly pages: Iterable<number>
}

/** @param readings - what was read, in order */
export function observe(
  testCase: DifferentialCase,
  readings: readonly bigint[],
  memory: MemoryAtEnd,
): Observation {
  const log = new LogReader(testCase, memory.after)
  let next = 0
  const steps = testCase.steps.map((step): StepObservation => {
    const [commandHead = 0n, eventTail = 0n, status = 0n, readBack] = readings.slice(
      next,
      next + readingsOf(step),
    )
    next += readingsOf(step)
    return { commandHead, eventTail, status, readBack, events: log.readTo(eventTail) }
  })
  return { steps, words: changedWords(testCase, memory) }
}

const readingsOf = (step: Step): number => sampledRegisters.length + (step.kind === 'register' ? 1 : 0)

/** Reads a log from where it began. */
class LogReader {
  private tail: bigint
  private readonly inRing: bigint
  private readonly isRunning: boolean

  constructor(
    private readonly testCase: DifferentialCase,
    private readonly memory: Buffer,
  ) {
    this.inRing = BigInt(ringBytes(testCase.eventBase) - 16)
    this.tail = BigInt(testCase.eventTail) & this.inRing
    // Where software writes the log's registers itself, the tail says nothing about entries.
    const isWritten = testCase.steps.some(({ kind }) => kind === 'register')
    const end = Number(ringAddress(testCase.eventBase)) + ringBytes(testCase.eventBase)
    this.isRunning = !isWritten && end <= memory.length
  }

  readTo(tail: bigint): LoggedEvent[] {
    const events: LoggedEvent[] = []
    if (!this.isRunning) return events
    while (this.tail !== (tail & this.inRing)) {
      const at = Number(ringAddress(this.testCase.eventBase) + this.tail)
      events.push({ lo: this.memory.readBigUInt64LE(at), hi: this.memory.readBigUInt64LE(at + 8) })
      this.tail = (this.tail + 16n) & this.inRing
    }
    return events
  }
}

/** A page by words of 32 bits. */
const wordsOf = (memory: Buffer, at: number): Uint32Array =>
  new Uint32Array(memory.buffer, memory.byteOffset + at, pageBytes / 4)

function changedWords(
  testCase: DifferentialCase,
  { after, before, pages }: MemoryAtEnd,
): Map<number, bigint> {
  const words = new Map<number, bigint>()
  const log = Number(ringAddress(testCase.eventBase))
  const logEnd = log + ringBytes(testCase.eventBase)
  for (const page of [...pages].sort((a, b) => a - b)) {
    const at = page * pageBytes
    if (at >= log && at < logEnd) continue
    if (after.compare(before, at, at + pageBytes, at, at + pageBytes) === 0) continue
    const now = wordsOf(after, at)
    const then = wordsOf(before, at)
    for (let n = 0; n < now.length; n += 2) {
      if (now[n] === then[n] && now[n + 1] === then[n + 1]) continue
      words.set(at + n * 4, after.readBigUInt64LE(at + n * 4))
    }
  }
  return words
}
