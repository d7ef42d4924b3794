/** Costs counted in the rings against the formulas on paper; the worked example has figures of its own. */
import { findPolicy, policies } from '@nestwalk/driver'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  checkSetting,
  hostOwnedCost,
  hostOwnedFormula,
  nestedCost,
  nestedFormula,
  workedExample,
} from '../src/index.js'
import type { CostSetting } from '../src/index.js'

const policy = (letter: string) => {
  const found = findPolicy(letter)
  if (found === undefined) throw new Error(`there is no policy ${letter}`)
  return found
}

describe('the worked example', () => {
  it.each([
    ['G', 4, 14, 7],
    ['D', 8, 18, 9],
    ['S', 1, 12, 6],
    ['M', 4, 15, 6],
    ['N', 5, 16, 7],
  ])(
    'under %s: %i DomainIDs, %i commands for a stage-2 unmap, %i for a stage-1 unmap',
    (letter, ...figures) => {
      const [domainIds, stage2Unmap, stage1Unmap] = figures
      expect(nestedCost(policy(letter), workedExample)).toEqual({ domainIds, stage2Unmap, stage1Unmap })
    },
  )

  it('with tables of the host, each device its own', () => {
    const cost = { domainIds: 9, gcr3Pages: 16, unmap: 18, processUnmap: 24 }
    expect(hostOwnedCost(policy('M'), workedExample)).toEqual(cost)
  })

  it('with tables of the host, equal ones shared', () => {
    const cost = { domainIds: 2, gcr3Pages: 2, unmap: 12, processUnmap: 12 }
    expect(hostOwnedCost(policy('X'), workedExample)).toEqual(cost)
  })
})

const settings = fc
  .record({
    devices: fc.integer({ min: 1, max: 12 }),
    seeds: fc.array(fc.nat(), { minLength: 5, maxLength: 5 }),
  })
  .map(({ devices, seeds }): CostSetting => {
    const within = (low: number, high: number, seed: number): number => low + (seed % (high - low + 1))
    const [a = 0, b = 0, c = 0, d = 0, e = 0] = seeds
    const groups = within(1, devices, a)
    const iommus = within(1, groups, b)
    const onFirst = Array.from({ length: groups }, (_, n) => n).filter(
      (n) => Math.floor((n * iommus) / groups) === 0,
    ).length
    const [sharingGroups, atsDevices] = [within(1, onFirst, c), within(0, devices, d)]
    return { devices, groups, iommus, sharingGroups, atsDevices, processes: within(1, 3, e) }
  })

describe('in any setting the chips take as many commands as the formula says', () => {
  const withFormula = policies.filter(({ letter }) => nestedFormula(letter, workedExample) !== undefined)
  it('there is a formula for every policy but M7', () => {
    expect(policies.filter((each) => !withFormula.includes(each)).map(({ letter }) => letter)).toEqual(['M7'])
  })

  it.each(withFormula.map((each) => [each.letter, each] as const))('%s', (letter, each) => {
    fc.assert(
      fc.property(settings, (setting) => {
        expect(nestedCost(each, setting)).toEqual(nestedFormula(letter, setting))
        const isShared = each.gaps?.has('U17') !== true
        if (letter !== 'S')
          expect(hostOwnedCost(each, setting)).toMatchObject(hostOwned(letter, isShared, setting))
      }),
      { numRuns: 12 },
    )
  })
})

/** A policy that gives IDs by device or group has none for a domain as such. */
function hostOwned(letter: string, isShared: boolean, setting: CostSetting) {
  const formula = hostOwnedFormula(isShared, setting)
  const own = ['G', 'D', 'DF'].includes(letter) ? 0 : 1
  return { ...formula, domainIds: formula.domainIds - 1 + own }
}

it('many PASIDs need pages for each 512 of them, once if tables are shared', () => {
  const setting = { ...workedExample, processes: 1100 }
  expect(hostOwnedCost(policy('X'), setting)).toMatchObject({ gcr3Pages: 4, processUnmap: 12 })
  expect(hostOwnedCost(policy('M'), setting)).toMatchObject({ gcr3Pages: 32, processUnmap: 24 })
})

it.each([
  [{ devices: 0 }, 'devices 0 is not a whole number from 1 to 64'],
  [{ devices: 65 }, 'devices 65 is not'],
  [{ groups: 9 }, 'groups 9 is not a whole number from 1 to 8'],
  [{ iommus: 5 }, 'iommus 5 is not a whole number from 1 to 4'],
  [{ atsDevices: -1 }, 'atsDevices -1 is not'],
  [{ sharingGroups: 3 }, 'sharingGroups 3 is not a whole number from 1 to 2'],
  [{ processes: 1.5 }, 'processes 1.5 is not'],
])('a setting that cannot be is refused: %o', (change, message) => {
  expect(() => checkSetting({ ...workedExample, ...change })).toThrow(message)
})
