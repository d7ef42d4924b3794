import { expect, test } from 'vitest'
import { arena, arenaDevices } from '../src/differential/arena.js'
import type { DifferentialCase } from '../src/differential/differential-case.js'
import { generateCase } from '../src/differential/generate/generate.js'
import { readCase, writeCase } from '../src/differential/case-file.js'
import { SeededRandom } from '../src/differential/seeded-random.js'
import { InteropError } from '../src/index.js'

const many = (seed: number, count: number): DifferentialCase[] =>
  Array.from({ length: count }, (_, n) => generateCase(seed, n))

test('a seed and a number give the same case for ever', () => {
  expect(many(9, 40)).toEqual(many(9, 40))
})

test('other seeds and numbers give other cases', () => {
  const texts = [...many(1, 40), ...many(2, 40)].map((each) => writeCase({ ...each, origin: '' }))
  expect(new Set(texts).size).toBe(texts.length)
})

test('chance is the same on every machine', () => {
  const random = new SeededRandom(1, 2)
  expect([random.word(), random.word(), random.word()]).toEqual([3895822562, 3217130052, 1452878975])
})

test('chance is fair enough', () => {
  const random = new SeededRandom(4, 4)
  const seen = Array.from({ length: 8 }, () => 0)
  for (let n = 0; n < 8000; n++) {
    const at = random.below(8)
    seen[at] = (seen[at] ?? 0) + 1
  }
  expect(Math.min(...seen)).toBeGreaterThan(850)
  expect(random.shuffled([1, 2, 3, 4, 5]).sort()).toEqual([1, 2, 3, 4, 5])
  expect(() => random.pick([])).toThrow(RangeError)
})

test('cases have all that there is to compare', () => {
  const cases = many(1, 400)
  const steps = cases.flatMap((each) => each.steps)
  for (const kind of ['commands', 'restart', 'store', 'register', 'dma']) {
    expect(steps.filter((step) => step.kind === kind).length, kind).toBeGreaterThan(10)
  }
  const opcodes = new Set(
    steps.flatMap((step) => (step.kind === 'commands' ? step.commands.map(([lo]) => Number(lo >> 60n)) : [])),
  )
  expect([...opcodes]).toEqual(expect.arrayContaining([0, 1, 2, 3, 4, 5, 6, 7, 8]))
  expect(Math.max(...opcodes)).toBeGreaterThan(8)
  const devices = new Set(steps.flatMap((step) => (step.kind === 'dma' ? [step.device] : [])))
  expect(devices.size).toBe(arenaDevices.length)
  const modes = new Set(
    cases.flatMap(({ memory }) =>
      memory
        .filter(([address]) => address < BigInt(arena.deviceTablesEnd) && (address & 31n) === 0n)
        .map(([, q0]) => Number((q0 >> 9n) & 7n)),
    ),
  )
  expect([...modes].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
  const levels = new Set(
    cases.flatMap(({ memory }) =>
      memory
        .filter(([address]) => address >= BigInt(arena.tables))
        .map(([, entry]) => Number((entry >> 9n) & 7n)),
    ),
  )
  expect([...levels].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
})

test('a DMA is of whole words in one page', () => {
  for (const { steps } of many(6, 200)) {
    for (const step of steps) {
      if (step.kind !== 'dma') continue
      expect(step.iova % 4n).toBe(0n)
      expect((step.iova & 0xfffn) + BigInt(step.bytes)).toBeLessThanOrEqual(0x1000n)
    }
  }
})

test('a case is the same after it was written and read', () => {
  for (const testCase of many(3, 60)) expect(readCase(writeCase(testCase))).toEqual(testCase)
})

const text = (change: (document: Record<string, unknown>) => void): string => {
  const document = JSON.parse(writeCase(generateCase(3, 1))) as Record<string, unknown>
  change(document)
  return JSON.stringify(document)
}

test.each([
  ['no JSON', 'hello', 'the case cannot be read'],
  ['another file', '{"format":"pcap"}', 'it is no nestwalk-qemu-case 1'],
  ['a list', '[]', 'it is no nestwalk-qemu-case 1'],
  ['no steps', text((all) => delete all['steps']), 'steps is no list'],
  ['a word that is too long', text((all) => (all['control'] = '0x10000000000000000')), 'control has no word'],
  ['a number for a word', text((all) => (all['deviceTable'] = 5)), 'deviceTable has no word'],
  ['half an offset', text((all) => (all['eventHead'] = 0.5)), 'eventHead has no number'],
  ['an unknown step', text((all) => (all['steps'] = [{ kind: 'jump' }])), 'step 0 is of no kind'],
  [
    'an unknown device',
    text((all) => (all['steps'] = [{ kind: 'dma', device: '09:00.0', iova: '0x0', write: true, bytes: 4 }])),
    'step 0 is of a device that there is not',
  ],
  [
    'DMA across a page',
    text(
      (all) => (all['steps'] = [{ kind: 'dma', device: '00:03.0', iova: '0xffc', write: true, bytes: 8 }]),
    ),
    'step 0 is not 4, 8, 12 or 16 bytes of one page',
  ],
  [
    'a register that is not aligned',
    text((all) => (all['steps'] = [{ kind: 'register', offset: '0x1c', bytes: 8, value: '0x0' }])),
    'step 0 is no aligned access',
  ],
])('%s is told of in one sentence', (_, content, why) => {
  expect(() => readCase(content)).toThrow(InteropError)
  expect(() => readCase(content)).toThrow(why)
})
