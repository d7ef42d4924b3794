/**
 * Making a case that fails smaller while it still fails.
 *
 * @packageDocumentation
 */
import { arena } from './arena.js'
import type { DifferentialCase, Step } from './differential-case.js'

/** Tries that are made at most. */
const triesMax = 1500

/**
 * The smallest case that could be found.
 *
 * @param fails - whether a case still fails as the first one did
 */
export async function shrink(
  testCase: DifferentialCase,
  fails: (smaller: DifferentialCase) => Promise<boolean>,
): Promise<DifferentialCase> {
  let smallest = testCase
  let tries = 0
  for (;;) {
    let found: DifferentialCase | undefined
    for (const candidate of simplerThan(smallest)) {
      if (++tries > triesMax) return smallest
      if (await fails(candidate)) {
        found = candidate
        break
      }
    }
    if (found === undefined) return smallest
    smallest = found
  }
}

/** Simpler cases, those that leave out most first. */
export function* simplerThan(testCase: DifferentialCase): Generator<DifferentialCase> {
  for (const steps of shorter(testCase.steps)) yield { ...testCase, steps }
  for (const memory of shorter(testCase.memory)) yield { ...testCase, memory }
  yield* plainer(testCase)
  for (const [n, step] of testCase.steps.entries()) {
    for (const simpler of simplerSteps(step))
      yield { ...testCase, steps: replaced(testCase.steps, n, simpler) }
  }
  for (const [n, [address, value]] of testCase.memory.entries()) {
    for (const simpler of fewerBits(value)) {
      yield { ...testCase, memory: replaced(testCase.memory, n, [address, simpler] as const) }
    }
  }
}

/** The list without a half of it, a quarter, and so on down to single items. */
function* shorter<Item>(items: readonly Item[]): Generator<Item[]> {
  for (let length = items.length; length > 0; length = length === 1 ? 0 : Math.ceil(length / 2)) {
    for (let start = 0; start < items.length; start += length) {
      yield [...items.slice(0, start), ...items.slice(start + length)]
    }
  }
}

/** The usual start. */
function* plainer(testCase: DifferentialCase): Generator<DifferentialCase> {
  const usual: readonly Partial<DifferentialCase>[] = [
    { passing: false },
    { exclusionBase: 0n, exclusionLimit: 0n },
    { commandStart: 0 },
    { eventHead: 0, eventTail: 0 },
    { commandBase: BigInt(arena.commands) | (8n << 56n) },
    { eventBase: BigInt(arena.events) | (8n << 56n) },
  ]
  for (const part of usual) {
    const names = Object.keys(part) as (keyof DifferentialCase)[]
    if (names.some((name) => testCase[name] !== part[name])) yield { ...testCase, ...part }
  }
  for (const control of fewerBits(testCase.control)) yield { ...testCase, control }
}

function* simplerSteps(step: Step): Generator<Step> {
  switch (step.kind) {
    case 'commands':
      for (const commands of shorter(step.commands)) if (commands.length > 0) yield { ...step, commands }
      break
    case 'dma':
      if (step.bytes > 4) yield { ...step, bytes: 4 }
      for (const iova of fewerBits(step.iova)) yield { ...step, iova }
      break
    case 'store':
    case 'register':
      for (const value of fewerBits(step.value)) yield { ...step, value }
      break
    case 'restart':
      break
  }
}

/** The word with a half of its bits cleared, an eighth, and single ones. */
function* fewerBits(word: bigint): Generator<bigint> {
  for (const width of [64n, 32n, 8n, 1n]) {
    for (let at = 0n; at < 64n; at += width) {
      const mask = ((1n << width) - 1n) << at
      if ((word & mask) !== 0n) yield word & ~mask
    }
  }
}

const replaced = <Item>(items: readonly Item[], at: number, item: Item): Item[] =>
  items.map((each, n) => (n === at ? item : each))
