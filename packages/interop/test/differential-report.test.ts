import { expect, test } from 'vitest'
import {
  agreedDifferences,
  agreedLines,
  differenceLines,
  notGeneratedLines,
  summaryLines,
} from '../src/index.js'
import type { Departure, Verdict } from '../src/index.js'
import { caseOf, dma } from './differential-cases.js'

const names = Object.keys(agreedDifferences) as Departure[]

test('the agreed differences fit the terminal, and those that showed most come first', () => {
  const lines = agreedLines(new Map(names.map((name, n) => [name, n + 1])))
  expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(80)
  expect(lines[0]).toBe(`     ${names.length}  ${names.at(-1) ?? ''}`)
  expect(lines.filter((line) => line.includes('hardware: '))).toHaveLength(names.length)
  expect(lines.filter((line) => line.includes('QEMU: '))).toHaveLength(names.length)
})

test('what is not generated fits the terminal', () => {
  expect(Math.max(...notGeneratedLines().map(({ length }) => length))).toBeLessThanOrEqual(80)
})

test('the summary counts, and tells the speed', () => {
  const result = {
    cases: 200,
    same: 50,
    agreed: 149,
    failed: 1,
    found: [],
    counts: new Map(),
    requests: 900,
    seconds: 4,
  }
  expect(summaryLines(result)).toEqual([
    '200 cases, 900 DMA requests, 4.0 s: 3000 cases a minute',
    '50 alike, 149 with agreed differences, 1 not explained',
  ])
})

test('a difference names the step and both sides, and not without end', () => {
  const testCase = caseOf([dma(0x5008n, true, 8)])
  const discrepancy = { step: 1, what: 'status', one: '0x1a', other: '0x18' }
  const verdict: Extract<Verdict, { kind: 'difference' }> = {
    kind: 'difference',
    between: 'our chip and the manual',
    discrepancies: [discrepancy, { ...discrepancy, step: undefined, what: 'word at 0x200000' }],
  }
  expect(differenceLines(testCase, verdict)).toEqual([
    'by hand: our chip and the manual differ',
    '  step 1, write of 8 bytes by 00:03.0 at 0x5008: status',
    '    our chip: 0x1a',
    '    the manual: 0x18',
    '  at the end: word at 0x200000',
    '    our chip: 0x1a',
    '    the manual: 0x18',
  ])
  const many = { ...verdict, discrepancies: Array.from({ length: 40 }, () => discrepancy) }
  expect(differenceLines(testCase, many).at(-1)).toBe('  and 34 more')
})
