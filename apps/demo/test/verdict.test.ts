import {
  allGapsBut,
  perDevice,
  perDeviceFanOut,
  perGroup,
  perHostTable,
  viommuMap,
  viommuMapLinux73,
} from '@nestwalk/driver'
import type { DomainIdPolicy, TaggedDomain } from '@nestwalk/driver'
import { findScenario, scenarios } from '@nestwalk/scenario'
import type { Action, MachineSpec, Scenario } from '@nestwalk/scenario'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { judge } from '../src/verdict.js'
import { shownPolicies } from '../src/verdict-table.js'
import type { JudgedDma, Judgement, Verdict } from '../src/verdict.js'

const named = (id: string): Scenario => {
  const scenario = findScenario(id)
  if (scenario === undefined) throw new Error(`there is no ${id}`)
  return scenario
}

const requests = ({ actions }: Judgement): JudgedDma[] =>
  actions.flatMap(({ events }) => events.flatMap((event) => (event.kind === 'dma' ? [event] : [])))

/** Columns: G, D, DF, S, M, M7. */
const columns = [perGroup, perDevice, perDeviceFanOut, perHostTable, viommuMap, viommuMapLinux73]

const expected: Readonly<Record<string, readonly Verdict[]>> = {
  S01: ['cross', 'ok', 'ok', 'cross', 'ok', 'ok'],
  S02: ['stale', 'stale', 'ok', 'ok', 'ok', 'ok'],
  S03: ['ok', 'ok', 'ok', 'ok', 'ok', 'ok'],
  S04: ['ok', 'ok', 'ok', 'ok', 'ok', 'ok'],
  S07: ['ok', 'ok', 'ok', 'ok', 'ok', 'leak'],
}

/** Where each verdict is known: a new policy or scenario needs a new row or column. */
it('the table of expected verdicts has every scenario and every policy', () => {
  expect(columns).toEqual(shownPolicies)
  expect(Object.keys(expected)).toEqual(scenarios.map(({ id }) => id))
})

describe.each(scenarios)('$id, $title', (scenario) => {
  it.each(
    columns.map((policy, i) => ({ policy, letter: policy.letter, verdict: expected[scenario.id]?.[i] })),
  )('is $verdict under $letter', ({ policy, verdict }) => {
    expect(judge(scenario, policy).verdict).toBe(verdict)
  })
})

describe('what a wrong answer was', () => {
  it('S01 under G: D2 gets the page of D1, from the entry that D1 filled', () => {
    const [first, second] = requests(judge(named('S01'), perGroup))
    expect(first).toMatchObject({ device: 'D1', from: 'walk', verdict: 'ok' })
    expect(second).toMatchObject({ device: 'D2', from: 'iotlb', filledBy: 'D1', verdict: 'cross' })
    expect(second?.tag).toEqual(first?.tag)
    expect(second?.got).toEqual(first?.got)
    expect(second?.expected).not.toEqual(first?.got)
  })

  it('S02 under D: the invalidation reached D1 and not D2, which writes to the page that the guest took away', () => {
    const told = requests(judge(named('S02'), perDevice)).map(({ device, write, got, verdict }) => [
      device,
      write,
      got.kind,
      verdict,
    ])
    expect(told).toEqual([
      ['D1', false, 'frame', 'ok'],
      ['D2', false, 'frame', 'ok'],
      ['D1', true, 'refused', 'ok'],
      ['D2', true, 'frame', 'stale'],
    ])
  })

  it('S03 under G: the mix-up stays in the VM, and bare metal would show it too', () => {
    const [first, second] = requests(judge(named('S03'), perGroup))
    expect(second?.got).toEqual(first?.got)
    expect(second).toMatchObject({ from: 'iotlb', owner: 'VM1', verdict: 'ok' })
    expect(second?.expected).not.toEqual(second?.got)
  })

  it('S07 under M7: VM2 reads the page of VM1', () => {
    const wrong = requests(judge(named('S07'), viommuMapLinux73)).filter(({ verdict }) => verdict !== 'ok')
    expect(wrong).toEqual([
      expect.objectContaining({ device: 'D2', vm: 'VM2', owner: 'VM1', filledBy: 'D1', verdict: 'leak' }),
    ])
  })
})

/** A policy made of M by another choice of key. */
const keyed = (letter: string, keyOfGuest: (guest: NonNullable<TaggedDomain['guest']>) => string) => {
  const keyOf = ({ table, guest }: TaggedDomain): string =>
    guest === undefined ? `table ${table}` : keyOfGuest(guest)
  const made: DomainIdPolicy = {
    ...viommuMap,
    letter,
    name: letter,
    keyOfDomain: keyOf,
    keyOfAttachment: (_device, domain) => keyOf(domain),
  }
  return made
}

describe('a verdict is computed, whatever the policy', () => {
  const byGuestIdAlone = keyed('guest', ({ domainId }) => `guest DomainID ${domainId}`)
  const perNested = keyed('N', ({ nested }) => `nested ${nested}`)
  const perNestedFanOut: DomainIdPolicy = { ...perNested, letter: 'NF', guestInvalidation: 'all' }

  it('a map by guest DomainID alone, without the vIOMMU, makes S04 a leak and leaves S01 and S02 right', () => {
    expect(judge(named('S04'), byGuestIdAlone).verdict).toBe('leak')
    expect(judge(named('S01'), byGuestIdAlone).verdict).toBe('ok')
    expect(judge(named('S02'), byGuestIdAlone).verdict).toBe('ok')
  })

  it('an ID for each nested domain makes S02 stale unless invalidations fan out', () => {
    expect(judge(named('S02'), perNested).verdict).toBe('stale')
    expect(judge(named('S02'), perNestedFanOut).verdict).toBe('ok')
    expect(judge(named('S01'), perNested).verdict).toBe('ok')
  })

  it('one ID for everybody makes S04 a leak', () => {
    const one = keyed('one', () => 'one')
    expect(judge(named('S04'), one).verdict).toBe('leak')
  })

  it('flushing freed IDs is all that M7 lacks in S07', () => {
    const mended: DomainIdPolicy = { ...viommuMapLinux73, gaps: allGapsBut('U2') }
    expect(judge(named('S07'), mended).verdict).toBe('ok')
  })

  it('the letter and the name of a policy decide nothing', () => {
    const disguised: DomainIdPolicy = { ...perGroup, letter: viommuMap.letter, name: viommuMap.name }
    expect(judge(named('S01'), disguised).verdict).toBe('cross')
  })
})

describe('what it costs', () => {
  // groups; devices; devices; host tables; host tables and guest DomainIDs.
  it.each([
    { id: 'S01', ids: [1, 2, 2, 1, 1 + 2, 1 + 2] },
    { id: 'S02', ids: [2, 2, 2, 1, 1 + 1, 1 + 1] },
    { id: 'S03', ids: [1, 2, 2, 1, 1 + 1, 1 + 1] },
    { id: 'S04', ids: [2, 2, 2, 2, 2 + 2, 2 + 2] },
  ])('$id takes as many DomainIDs as each policy has keys', ({ id, ids }) => {
    expect(columns.map((policy) => judge(named(id), policy).domainIds)).toEqual(ids)
  })

  it('S01 needs no command while it runs: nothing is invalidated', () => {
    expect(columns.map((policy) => judge(named('S01'), policy).commands)).toEqual([0, 0, 0, 0, 0, 0])
  })

  it('S02 needs one invalidation and a wait; with fan-out one for each device', () => {
    expect(columns.map((policy) => judge(named('S02'), policy).commands)).toEqual([2, 2, 2 + 1, 2, 2, 2])
  })
})

interface Renaming {
  readonly deviceIds: readonly number[]
  readonly virtualIds: readonly number[]
  readonly names: readonly string[]
  readonly firstGroup: number
  /** The guests make domains that nobody uses first, so their DomainIDs are others. */
  readonly unusedDomains: number
  /** Added to guest-virtual and guest-physical addresses, in pages. */
  readonly gvaShift: bigint
  readonly gpaShift: bigint
}

/** The same scenario with other names, numbers and addresses. */
function renamed({ machine, setup, run, ...rest }: Scenario, to: Renaming): Scenario {
  const nameOf = (name: string): string => to.names[name.endsWith('1') ? 0 : 1] ?? name
  const vmNameOf = (name: string): string => `${nameOf(name)}'s`
  const spec: MachineSpec = {
    devices: machine.devices.map(({ name, group }, i) => ({
      name: nameOf(name),
      deviceId: to.deviceIds[i] ?? 0,
      group: group + to.firstGroup,
    })),
    vms: machine.vms.map(({ name, devices }) => ({
      name: vmNameOf(name),
      devices: devices.map((each, i) => ({ name: nameOf(each.name), virtualId: to.virtualIds[i] ?? 0 })),
    })),
  }
  const change = (action: Action): Action => ({
    ...action,
    ...('vm' in action ? { vm: vmNameOf(action.vm) } : {}),
    ...('device' in action ? { device: nameOf(action.device) } : {}),
    ...('gva' in action ? { gva: action.gva + (to.gvaShift << 12n) } : {}),
    ...('gpa' in action ? { gpa: action.gpa + (to.gpaShift << 12n) } : {}),
  })
  const unused = spec.vms.flatMap(({ name }) =>
    Array.from({ length: to.unusedDomains }, (_, i): Action => ({
      do: 'guest-domain',
      vm: name,
      domain: `unused ${i}`,
    })),
  )
  return { ...rest, machine: spec, setup: [...unused, ...setup.map(change)], run: run.map(change) }
}

const twoIds = (): fc.Arbitrary<number[]> =>
  fc.uniqueArray(fc.integer({ min: 0, max: 0xff }), { minLength: 2, maxLength: 2 })

const renamings: fc.Arbitrary<Renaming> = fc.record({
  deviceIds: twoIds(),
  virtualIds: twoIds(),
  names: fc.constantFrom(['D2', 'D1'], ['disk', 'network'], ['', ' ']),
  firstGroup: fc.integer({ min: 0, max: 1000 }),
  unusedDomains: fc.integer({ min: 0, max: 3 }),
  gvaShift: fc.bigInt({ min: 0n, max: 0x7_0000_0000n }),
  gpaShift: fc.bigInt({ min: 0n, max: 0x800n }),
})

/** What a judgement says, without names. */
const shapeOf = (judgement: Judgement): unknown => [
  judgement.verdict,
  judgement.domainIds,
  judgement.commands,
  requests(judgement).map(({ from, verdict }) => [from, verdict]),
]

it('other names, numbers and addresses for the same things change no verdict and no cost', () => {
  const cases = fc.record({
    scenario: fc.constantFrom(...scenarios),
    policy: fc.constantFrom(...columns),
    renaming: renamings,
  })
  fc.assert(
    fc.property(cases, ({ scenario, policy, renaming }) => {
      const [before, after] = [scenario, renamed(scenario, renaming)].map((each) => judge(each, policy))
      if (before === undefined || after === undefined) return
      expect(shapeOf(after)).toEqual(shapeOf(before))
    }),
    { numRuns: 60 },
  )
})
