import { describe, expect, it } from 'vitest'
import vectors from '../vectors/ivrs.json' with { type: 'json' }
import { encodeIvrs, ivrsRules, lintIvrs } from '../src/ivrs/index.js'
import type { Ivrs, IvrsRule } from '../src/ivrs/index.js'
import { differing, negative, positive, several } from './ivrs-lint-cases.js'
import { ivhd10, ivhd11, ivmd, table } from './ivrs-tables.js'

const rulesOf = (ivrs: Ivrs | Uint8Array): IvrsRule[] => lintIvrs(ivrs).map(({ rule }) => rule)

describe('lint', () => {
  it('has nothing to say about a sound table', () => {
    expect(lintIvrs(table())).toEqual([])
    expect(lintIvrs(encodeIvrs(table([ivhd10(), ivhd11(), ivmd()])))).toEqual([])
  })

  it.each(positive)('finds %s', (rule, ivrs, offset, path) => {
    const findings = lintIvrs(ivrs)
    expect(findings).toEqual([
      { severity: ivrsRules[rule], rule, where: { offset, path }, message: findings[0]?.message },
    ])
    expect(findings[0]?.message).toMatch(/.{15}[:;] .{10}/)
  })

  it.each(negative)('does not find %s where it is not', (_, ivrs) => {
    expect(rulesOf(ivrs)).toEqual([])
  })

  it.each(several)('finds %j', (rules, ivrs) => {
    expect(rulesOf(ivrs)).toEqual(rules)
  })

  it('has tables with and without a finding for each rule', () => {
    const found = [...positive.map(([rule]) => rule), ...several.flatMap(([rules]) => rules)]
    expect(Object.keys(ivrsRules).filter((rule) => !found.includes(rule as IvrsRule))).toEqual([])
    const absent = negative.map(([rule]) => rule)
    expect(Object.keys(ivrsRules).filter((rule) => !absent.includes(rule as IvrsRule))).toEqual([])
  })

  it('finds the same in a value as in its bytes', () => {
    for (const [, ivrs] of [...positive, ...negative]) {
      if (!(ivrs instanceof Uint8Array)) expect(lintIvrs(encodeIvrs(ivrs))).toEqual(lintIvrs(ivrs))
    }
  })

  it('refuses a value that cannot be encoded', () => {
    expect(() => lintIvrs(table([], { revision: -1 }))).toThrow(RangeError)
  })

  it.each(differing)('tells what definitions of an IOMMU differ in: %s', (name, low, high) => {
    expect(lintIvrs(table([low, high]))).toMatchObject([
      {
        rule: 'ivhd-disagree',
        message: expect.stringMatching(
          new RegExp(` describe IOMMU 00:00.2 but differ in ${name}: `),
        ) as string,
      },
    ])
  })

  it('finds in the samples what is odd in them', () => {
    const sample = (index: number): Uint8Array => {
      const rows = vectors.vectors[index]?.rows ?? []
      return Uint8Array.from(
        rows.flatMap(([hex = '']) => hex.split(' ').map((byte) => Number.parseInt(byte, 16))),
      )
    }
    // The range of the first sample has a reserved bit in its data byte, and so it overlaps another.
    expect(rulesOf(sample(0))).toEqual(['reserved-bits', 'range-overlap'])
    expect(rulesOf(sample(1))).toEqual(['reserved-bits', 'reserved-bits', 'features'])
    expect(new Set(rulesOf(sample(2)))).toEqual(
      new Set<IvrsRule>([
        'reserved-bits',
        'address-sizes',
        'unknown-block',
        'ivhd-types-differ',
        'mmio-alignment',
        'capability-offset',
        'features',
        'unknown-entry',
        'entry-length',
        'no-devices',
        'no-ioapic',
        'ivmd-alignment',
        'ivmd-length',
        'ivmd-flags',
      ]),
    )
  })
})
