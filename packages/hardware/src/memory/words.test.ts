import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Words } from './words.js'

/** One machine of a program: the words under test, and what a plain copy of each store says they hold. */
interface Machine {
  readonly words: Words
  readonly plain: Map<number, number>
}

/** `who` picks a machine, `what` does something with it. */
type Step =
  | {
      readonly what: 'store' | 'storeKeyed'
      readonly who: number
      readonly word: number
      readonly value: number
    }
  | { readonly what: 'fork' | 'drop' | 'allocate'; readonly who: number }

const wordCount = 40

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      what: fc.constant('store' as const),
      who: fc.nat(7),
      word: fc.nat(wordCount - 1),
      value: fc.oneof(fc.constant(0), fc.integer({ min: -3, max: 3 }), fc.integer()),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      what: fc.constantFrom('fork' as const, 'drop' as const, 'allocate' as const),
      who: fc.nat(7),
    }),
  },
)

/** The upper half of the words counts in the fingerprint, the lower half does not. */
const isKeyed = (word: number): boolean => word >= wordCount / 2

function perform(machines: Machine[], each: Step): void {
  const at = each.who % machines.length
  const { words, plain } = machines[at]!
  if (each.what === 'store') {
    const { word, value } = each
    words.activate()
    if (isKeyed(word)) words.writeKeyed(word, value, word * 4, 5)
    else words.write(word, value)
    plain.set(word, value)
  } else if (each.what === 'fork') {
    if (machines.length < 8) machines.push({ words: words.fork(), plain: new Map(plain) })
  } else if (each.what === 'drop') {
    if (machines.length > 1) machines.splice(at, 1)
  } else {
    words.allocate(3)
  }
}

function expectPlain({ words, plain }: Machine): void {
  const array = words.activate()
  const actual = Array.from(array.subarray(0, wordCount))
  expect(actual).toEqual(Array.from({ length: wordCount }, (_, word) => plain.get(word) ?? 0))
}

/** The fingerprint of a machine made anew, with only what counts. */
function fingerprintOf(plain: ReadonlyMap<number, number>): readonly [number, number] {
  const words = Words.create()
  words.allocate(wordCount)
  words.activate()
  for (const [word, value] of plain) if (isKeyed(word)) words.writeKeyed(word, value, word * 4, 5)
  return words.fingerprint()
}

function newMachine(): Machine {
  const words = Words.create()
  words.allocate(wordCount)
  return { words, plain: new Map() }
}

describe('the words of a machine and its forks', { timeout: 120_000 }, () => {
  it('hold what a plain copy would, whichever fork is asked in whichever order', () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 120 }),
        fc.array(fc.nat(7), { maxLength: 12 }),
        (steps, order) => {
          const machines = [newMachine()]
          for (const each of steps) {
            perform(machines, each)
            expectPlain(machines[each.who % machines.length]!)
          }
          for (const who of order) expectPlain(machines[who % machines.length]!)
          machines.forEach(expectPlain)
        },
      ),
      { numRuns: 400 },
    )
  })

  it('have the fingerprint of their contents, whatever way led to them', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const machines = [newMachine()]
        for (const each of steps) perform(machines, each)
        for (const { words, plain } of machines) expect(words.fingerprint()).toEqual(fingerprintOf(plain))
      }),
      { numRuns: 400 },
    )
  })

  it('have the fingerprint of a fork at the moment of the fork', () => {
    const { words } = newMachine()
    words.writeKeyed(30, 7, 30, 5)
    const before = words.fingerprint()
    const fork = words.fork()
    expect(fork.fingerprint()).toEqual(before)
    words.activate()
    words.writeKeyed(30, 8, 30, 5)
    expect(words.fingerprint()).not.toEqual(before)
    expect(fork.fingerprint()).toEqual(before)
  })

  it('are zero where a fork reserved them and another did not write', () => {
    const { words } = newMachine()
    const fork = words.fork()
    const first = fork.allocate(100_000)
    fork.activate()
    fork.write(first + 99_999, 5)
    expect(words.activate()[first + 99_999]).toBe(0)
    expect(fork.activate()[first + 99_999]).toBe(5)
  })

  it('need room for what changed since a fork, not for how often it changed', () => {
    const { words } = newMachine()
    const fork = words.fork()
    words.activate()
    const before = process.memoryUsage().arrayBuffers
    for (let i = 1; i <= 4_000_000; i++) words.write(i % wordCount, i)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 << 20)
    expect(Array.from(fork.activate().subarray(0, wordCount)).every((value) => value === 0)).toBe(true)
    expect(words.activate()[4_000_000 % wordCount]).toBe(4_000_000)
  })

  it('lose none of many words that changed since a fork', () => {
    const words = Words.create()
    const count = 200_000
    const first = words.allocate(count)
    const fork = words.fork()
    words.activate()
    for (let i = 0; i < count; i++) words.write(first + i, i + 1)
    expect(fork.activate().every((value) => value === 0)).toBe(true)
    const pool = words.activate()
    for (let i = 0; i < count; i++) if (pool[first + i] !== i + 1) expect(pool[first + i]).toBe(i + 1)
  })

  it('need no room for forks that nobody keeps', () => {
    const { words } = newMachine()
    for (let i = 1; i <= 200_000; i++) {
      const fork = words.fork()
      fork.activate()
      fork.write(i % wordCount, i)
      words.activate()
      words.write((i + 1) % wordCount, -i)
    }
    expect(words.activate().length).toBe(1 << 15)
    expect(words.activate()[1]).toBe(-200_000)
  })
})
