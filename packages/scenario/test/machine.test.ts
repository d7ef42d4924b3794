import { policies, viommuMap } from '@nestwalk/driver'
import { findScenario, isSameAnswer, Machine, readGuestEntry, scenarios } from '@nestwalk/scenario'
import type { Action, Answer, MachineEvent, MachineSpec, Scenario } from '@nestwalk/scenario'
import { describe, expect, it } from 'vitest'

const policy = viommuMap

const named = (id: string): Scenario => {
  const scenario = findScenario(id)
  if (scenario === undefined) throw new Error(`there is no ${id}`)
  return scenario
}

const perform = (machine: Machine, actions: readonly Action[]): MachineEvent[] =>
  actions.flatMap((action) => machine.perform(action))

/** A machine after the setup of a scenario. */
function prepared({ machine: spec, setup }: Scenario, options = { policy }): Machine {
  const machine = Machine.create(spec, options)
  perform(machine, setup)
  return machine
}

/** The first VM of a machine. */
function firstVm(machine: Machine) {
  const [vm] = machine.vms
  if (vm === undefined) throw new Error('the machine has no VM')
  return vm
}

const x = 0x4020_3000n
const readX: Action = { do: 'dma', device: 'D1', gva: x, write: false }
const unmapX = { do: 'guest-unmap', vm: 'VM1', domain: 'A', gva: x } as const

const everyRun = scenarios.flatMap((scenario) =>
  policies.map((each) => ({ id: scenario.id, letter: each.letter, scenario, policy: each })),
)

describe.each(everyRun)('$id under $letter', ({ scenario, policy: each }) => {
  it('a fork made after the setup ends as the original does, and neither disturbs the other', () => {
    const machine = prepared(scenario, { policy: each })
    const start = machine.fingerprint()
    const [fork, untouched] = [machine.fork(), machine.fork()]
    expect(fork.fingerprint()).toBe(start)
    const forkEvents = perform(fork, scenario.run)
    expect(machine.fingerprint()).toBe(start)
    expect(perform(machine, scenario.run)).toEqual(forkEvents)
    expect(machine.fingerprint()).toBe(fork.fingerprint())
    // Going back is going on with the fork that was made before.
    expect(untouched.fingerprint()).toBe(start)
    expect(perform(untouched, scenario.run)).toEqual(forkEvents)
    expect(untouched.fingerprint()).toBe(fork.fingerprint())
  })
})

describe('a fingerprint', () => {
  it('is the same for machines with the same history', () => {
    const [a, b] = [prepared(named('S02')), prepared(named('S02'))]
    expect(a.fingerprint()).toBe(b.fingerprint())
  })

  it('changes with every action of a scenario', () => {
    const { machine: spec, setup, run } = named('S07')
    const machine = Machine.create(spec, { policy })
    const seen = [machine.fingerprint()]
    for (const action of [...setup, ...run]) {
      machine.perform(action)
      seen.push(machine.fingerprint())
    }
    expect(new Set(seen).size).toBe(seen.length)
  })

  it('changes with the request that fills the IOTLB, and not with the one that hits it', () => {
    const machine = prepared(named('S02'))
    const empty = machine.fingerprint()
    machine.perform(readX)
    const filled = machine.fingerprint()
    expect(filled).not.toBe(empty)
    expect(machine.perform(readX)).toMatchObject([{ from: 'iotlb' }])
    expect(machine.fingerprint()).toBe(filled)
  })

  it('does not change when it is asked what a device should get', () => {
    const machine = prepared(named('S01'))
    const before = machine.fingerprint()
    const answers = ['D1', 'D2'].map((device) => machine.expected(device, x, true))
    expect(machine.expected('D1', 0x1000n, false)).toEqual({ kind: 'refused' })
    expect(machine.fingerprint()).toBe(before)
    expect(['D1', 'D2'].map((device) => machine.dma(device, x, true).got)).toEqual(answers)
  })
})

describe('steps', () => {
  it('one by one lead where an action leads at once', () => {
    const [stepped, atOnce] = [prepared(named('S02')), prepared(named('S02'))]
    stepped.begin(unmapX)
    const events: MachineEvent[] = []
    for (let event = stepped.step(); event !== undefined; event = stepped.step()) events.push(event)
    expect(atOnce.perform(unmapX)).toEqual(events)
    expect(stepped.fingerprint()).toBe(atOnce.fingerprint())
    expect(stepped.step()).toBeUndefined()
  })

  it('can be forked between any two, and each fork comes to the same end', () => {
    const machine = prepared(named('S02'))
    perform(machine, [readX])
    machine.begin(unmapX)
    const forks: Machine[] = []
    do forks.push(machine.fork())
    while (machine.step() !== undefined)
    expect(forks.length).toBeGreaterThan(8)
    const between = forks.map((fork) => fork.fingerprint())
    expect(new Set(between.slice(0, -1)).size).toBe(forks.length - 1)
    for (const fork of forks) {
      fork.settle()
      expect(fork.fingerprint()).toBe(machine.fingerprint())
    }
  })
})

describe('a window', () => {
  const devices = ['D1', 'D2']
  const old = (machine: Machine): Answer => machine.expected('D1', x, true)

  it('of an unmap under M: requests between any two steps get the old answer or the new one, afterwards the new', () => {
    const machine = prepared(named('S02'))
    perform(machine, [readX])
    const allowed = [old(machine), { kind: 'refused' } as const]
    expect(allowed[0]?.kind).toBe('frame')
    machine.begin(unmapX)
    const kinds = new Set<string>()
    do {
      const fork = machine.fork()
      for (const device of devices) {
        const { got } = fork.dma(device, x, true)
        kinds.add(got.kind)
        expect(allowed.some((answer) => isSameAnswer(answer, got))).toBe(true)
      }
      // What such a request has put into the caches does not outlive the unmap either.
      fork.settle()
      for (const device of devices) expect(fork.dma(device, x, true).got).toEqual({ kind: 'refused' })
    } while (machine.step() !== undefined)
    expect([...kinds].sort()).toEqual(['frame', 'refused'])
    for (const device of devices) expect(machine.dma(device, x, true).got).toEqual({ kind: 'refused' })
  })

  it('of an unmap under M is the same when every step is followed by requests', () => {
    const machine = prepared(named('S02'))
    const before = old(machine)
    machine.begin(unmapX)
    const answers: Answer[] = []
    do answers.push(...devices.map((device) => machine.dma(device, x, true).got))
    while (machine.step() !== undefined)
    const firstNew = answers.findIndex(({ kind }) => kind === 'refused')
    expect(answers.slice(0, firstNew).every((answer) => isSameAnswer(answer, before))).toBe(true)
    expect(answers.slice(firstNew).every(({ kind }) => kind === 'refused')).toBe(true)
  })
})

it('the two guests of S04 did choose the same DomainID', () => {
  const machine = prepared(named('S04'))
  const ids = machine.vms.map((vm) => readGuestEntry(vm, 0x8)?.domainId)
  expect(ids).toEqual([1, 1])
  expect(machine.vms.map((vm) => readGuestEntry(vm, 0x8)?.gcr3Root)[0]).toBeGreaterThan(0n)
})

it('the guest of S03 gave one DomainID to two GCR3 tables', () => {
  const machine = prepared(named('S03'))
  const [first, second] = [0x8, 0x10].map((id) => readGuestEntry(firstVm(machine), id))
  expect(first?.domainId).toBe(second?.domainId)
  expect(first?.gcr3Root).not.toBe(second?.gcr3Root)
})

it('a device is blocked until its guest attaches it', () => {
  const machine = Machine.create(named('S01').machine, { policy })
  expect(machine.dma('D1', x, false)).toMatchObject({
    got: { kind: 'refused' },
    expected: { kind: 'refused' },
  })
})

describe('the whole-group rule', () => {
  it("refuses S01's second attach with EINVAL, and the device stays on the tables of its group (U16)", () => {
    const { machine: spec, setup } = named('S01')
    const machine = Machine.create(spec, { policy, groupRule: 'whole-group' })
    const events = setup.map((action) => machine.perform(action))
    const refusals = events.map((each) =>
      each.flatMap((event) =>
        event.kind === 'vmm' && event.errno !== undefined ? [`${event.what}: ${event.errno}`] : [],
      ),
    )
    expect(refusals.slice(0, -1).flat()).toEqual([])
    // The guest invalidates its entry twice, so its VMM tries twice.
    expect(refusals.at(-1)).toEqual(Array<string>(2).fill('attach to the nested HWPT: EINVAL'))
    // The VMM detaches it, but a group is blocked with its last member only.
    const [first, second] = ['D1', 'D2'].map((device) => machine.dma(device, x, false))
    expect(first?.got).toEqual(first?.expected)
    expect(second?.got).toEqual(first?.got)
    expect(second?.expected).not.toEqual(second?.got)
  })
})

describe('a name that is not there, or is taken, is a RangeError that says it', () => {
  const wrong: readonly (readonly [string, Action])[] = [
    ['VM9', { do: 'guest-domain', vm: 'VM9', domain: 'A' }],
    ['VM9', { do: 'guest-detach', vm: 'VM9', device: 'D1' }],
    ['A already', { do: 'guest-domain', vm: 'VM1', domain: 'A' }],
    ['Q', { do: 'guest-map', vm: 'VM1', domain: 'Q', gva: 0n, gpa: 0n }],
    ['Q', { do: 'guest-unmap', vm: 'VM1', domain: 'Q', gva: 0n }],
    ['Q', { do: 'guest-attach', vm: 'VM1', device: 'D1', domain: 'Q' }],
    ['Q', { do: 'guest-replace', vm: 'VM1', device: 'D1', domain: 'Q' }],
    ['Q', { do: 'guest-domain', vm: 'VM1', domain: 'B', sameIdAs: 'Q' }],
    ['D9', { do: 'guest-attach', vm: 'VM1', device: 'D9', domain: 'A' }],
    ['D2', { do: 'guest-attach', vm: 'VM1', device: 'D2', domain: 'A' }],
    ['D2', { do: 'guest-detach', vm: 'VM1', device: 'D2' }],
    ['D9', { do: 'dma', device: 'D9', gva: 0n, write: false }],
  ]

  it.each(wrong)('%s in %o', (name, action) => {
    const machine = prepared(named('S04'))
    const before = machine.fingerprint()
    const act = (): unknown => machine.perform(action)
    expect(act).toThrow(RangeError)
    expect(act).toThrow(new RegExp(`\\b${name}\\b`))
    expect(machine.fingerprint()).toBe(before)
  })

  const { devices } = named('S04').machine
  const vm = (name: string, ...names: readonly string[]) => ({
    name,
    devices: names.map((each, i) => ({ name: each, virtualId: i })),
  })
  const machines: readonly (readonly [string, MachineSpec, RegExp])[] = [
    ['a device that the machine does not have', { devices, vms: [vm('VM1', 'D9')] }, /VM1 is given D9/],
    ['a VM without a device', { devices, vms: [vm('VM1')] }, /VM1 has no device/],
    ['too many VMs', { devices, vms: Array.from({ length: 8 }, (_, i) => vm(`VM${i}`, 'D1')) }, /8 VMs/],
  ]

  it.each(machines)('%s', (_what, spec, message) => {
    const create = (): unknown => Machine.create(spec, { policy })
    expect(create).toThrow(RangeError)
    expect(create).toThrow(message)
  })
})
