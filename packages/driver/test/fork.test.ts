import { iova, spa } from '@nestwalk/bits'
import { registers } from '@nestwalk/hardware'
import { policies } from '@nestwalk/driver'
import type { Outcome } from '@nestwalk/driver'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { guestEntry, invalidation } from './guest-entry.js'
import { asText, Machine, readWrite } from './machine.js'
import { runs } from './runs.js'

const devices = [0x18, 0x19, 0x20]

/** Small operations by number: most of them are accepted, the others must change nothing. */
const operations: readonly ((machine: Machine) => Outcome<unknown>)[] = [
  ...devices.flatMap((device) => [
    ...[1, 2, 3, 4, 5].map(
      (domain) =>
        ({ driver }: Machine) =>
          driver.attach(device, domain),
    ),
    ({ driver }: Machine) => driver.replace(device, 1),
    ({ driver }: Machine) => driver.replace(device, 2),
    ({ driver }: Machine) => driver.detach(device),
  ]),
  ...[1, 2].flatMap((domain) => [
    ({ driver }: Machine) => driver.map(domain, iova(0x5000n), spa(0x9000n), 0x3000n, readWrite),
    ({ driver }: Machine) => driver.map(domain, iova(1n << 39n), spa(0x9000n), 0x1000n, readWrite),
    ({ driver }: Machine) => driver.unmap(domain, iova(0n), 1n << 30n),
    ({ driver }: Machine) => driver.unmap(domain, iova(0n), 1n << 40n),
    ({ driver }: Machine) => driver.unmap(domain, iova(0n), 1n << 39n, 'lazy'),
    ({ driver }: Machine) => driver.flush(domain),
    ({ driver }: Machine) => driver.setDirtyTracking(domain, true),
    ({ driver }: Machine) => driver.readDirty(domain, { first: 0n, last: 1n << 40n }),
  ]),
  ({ driver }) => driver.allocateNested(1, guestEntry(7)),
  ({ driver }) => driver.allocateNested(1, guestEntry(8)),
  ({ driver }) => driver.allocateHostTable(),
  ({ driver }) => driver.takeEvents(0),
  ({ driver }) => driver.takePageRequests(0),
  ({ driver }) => driver.allocateGuestTable(),
  ({ driver }) => driver.invalidateForGuest(1, [invalidation(7), invalidation(8)]),
  ...[4, 5, 6].map(
    (domain) =>
      ({ driver }: Machine) =>
        driver.freeDomain(domain),
  ),
]

function prepared(letter: number): Machine {
  const machine = Machine.create({
    policy: policies[letter]!,
    pages: { first: spa(0x100000n), pages: 64 },
  })
  devices.forEach((device, i) => machine.run(machine.driver.probe(device, 1 + (i >> 1))))
  machine.run(machine.driver.allocateHostTable({ nestParent: true, dirtyTracking: true }))
  machine.run(machine.driver.allocateGuestTable())
  machine.run(machine.driver.createViommu(1))
  machine.run(machine.driver.allocateNested(1, guestEntry(7)))
  return machine
}

/** Carries operations out, with a request of each device after each, and tells how the machine stands. */
function play(machine: Machine, history: readonly number[]): string {
  for (const number of history) {
    const before = machine.state()
    const outcome = operations[number]!(machine)
    if (outcome.ok) machine.carryOut(outcome.effects)
    else expect(machine.state()).toBe(before)
    for (const device of devices) {
      machine.iommu.request({ deviceId: device, iova: 0x6abcn, write: true })
      machine.iommu.pageRequest({ deviceId: device, address: 0x6000n, group: 1, last: true })
    }
  }
  return machine.state()
}

const history = fc.array(fc.nat({ max: operations.length - 1 }), { maxLength: 12 })
const policy = fc.nat({ max: policies.length - 1 })

describe('a machine that is forked', () => {
  it('goes on as one that was not: equal histories end in equal states', () => {
    fc.assert(
      fc.property(policy, history, history, (letter, first, then) => {
        const [one, other] = [prepared(letter), prepared(letter)]
        play(one, first)
        const fork = one.fork()
        expect(play(fork, then)).toBe(play(other, [...first, ...then]))
        expect(play(one, then)).toBe(fork.state())
      }),
      { numRuns: runs(12), endOnFailure: true },
    )
  })

  it('and its fork do not see each other', () => {
    fc.assert(
      fc.property(policy, history, history, history, (letter, first, here, there) => {
        const one = prepared(letter)
        play(one, first)
        const before = one.state()
        const fork = one.fork()
        const end = play(fork, there)
        expect(one.state()).toBe(before)
        play(one, here)
        expect(fork.state()).toBe(end)
      }),
      { numRuns: runs(12), endOnFailure: true },
    )
  })

  it('between any two effects of an operation carries the rest of them out on both sides', () => {
    const machine = prepared(4)
    machine.run(machine.driver.attach(0x18, 1))
    const moved = machine.driver.attach(0x18, 2)
    if (!moved.ok) throw new Error(moved.why)
    const ends = moved.effects.map((effect, i) => {
      const fork = machine.fork()
      const rest = moved.effects.slice(i)
      // In the middle of a wait: its command is queued, hardware has not taken it.
      if (effect.kind === 'wait') fork.driver.apply(effect)
      const again = fork.fork()
      again.carryOut(rest)
      expect(fork.state()).not.toBe(again.state())
      machine.carryOut([effect])
      return again.state()
    })
    expect(new Set(ends)).toEqual(new Set([machine.state()]))
  })

  it('keeps a snapshot that was taken of it as it was', () => {
    const machine = prepared(4)
    machine.run(machine.driver.attach(0x18, 1))
    const snapshot = machine.driver.snapshot()
    const text = asText(snapshot)
    play(machine, [...operations.keys()])
    expect(asText(snapshot)).toBe(text)
    expect(asText(machine.driver.snapshot())).not.toBe(text)
  })
})

it('the same driver on other hardware needs nothing but the port and the memory', () => {
  const machine = prepared(4)
  const seen: string[] = []
  const { iommu } = machine
  const driver = machine.driver.fork({
    memory: machine.memory,
    ports: [
      {
        readMmio: (offset, bytes) => (seen.push(`read ${offset}`), iommu.readMmio(offset, bytes)),
        writeMmio: (offset, bytes, value) => {
          seen.push(`write ${offset}`)
          iommu.writeMmio(offset, bytes, value)
        },
        takeInterrupt: () => iommu.takeInterrupt(),
      },
    ],
  })
  const attached = driver.attach(0x18, 1)
  if (!attached.ok) throw new Error(attached.why)
  for (const effect of attached.effects) while (!driver.apply(effect)) iommu.step()
  const { commandHead, commandTail } = registers
  expect(new Set(seen)).toEqual(new Set([`read ${commandHead.offset}`, `write ${commandTail.offset}`]))
})
