/** The books as plain data: states that differ in anything that matters later are told apart, and only those. */
import { iova, spa } from '@nestwalk/bits'
import { nestingFeatures } from '@nestwalk/hardware'
import type { PageRequest } from '@nestwalk/hardware'
import { describe, expect, it } from 'vitest'
import { guestEntry } from './guest-entry.js'
import { asText, Machine, readWrite } from './machine.js'
import { allPageRequests } from './reports.js'

const [one, other] = [0x18, 0x20]
type Step = (machine: Machine) => void

/** What the books say after some steps on a machine of two IOMMUs. */
function books(...steps: readonly Step[]): string {
  const machine = Machine.create({ iommus: 2, features: nestingFeatures })
  for (const step of steps) step(machine)
  return asText(machine.driver.snapshot())
}

const probe =
  (deviceId: number, group = deviceId): Step =>
  (machine) =>
    machine.run(
      machine.driver.probe(deviceId, group, 0, { atsQueueDepth: 8, maxPasids: 16, pageRequests: true }),
    )
const parent: Step = (machine) => machine.run(machine.driver.allocateHostTable({ nestParent: true }))
const viommu =
  (iommu = 0): Step =>
  (machine) =>
    machine.run(machine.driver.createViommu(1, iommu))
const nested =
  (guestDomainId: number, fields = {}): Step =>
  (machine) =>
    machine.run(machine.driver.allocateNested(1, guestEntry(guestDomainId, fields)))
const attach =
  (deviceId: number, domain: number): Step =>
  (machine) =>
    machine.run(machine.driver.attach(deviceId, domain))
const named =
  (virtualId: number): Step =>
  (machine) =>
    machine.run(machine.driver.nameDevice(1, virtualId, one))

/** The device asks its guest, whose answer is awaited. */
const asks =
  (request: Partial<PageRequest>): Step =>
  (machine) => {
    const common = { deviceId: one, pasid: 4, address: 0x8000n, read: true, group: 3, last: true }
    expect(machine.iommu.pageRequest({ ...common, ...request })).toBe('logged')
    allPageRequests(machine)
  }
const mapped =
  (address: bigint): Step =>
  (machine) =>
    machine.run(machine.driver.map(1, iova(address), spa(address), 0x1000n, readWrite))
const lazilyUnmapped =
  (address: bigint): Step =>
  (machine) =>
    machine.run(machine.driver.unmap(1, iova(address), 0x1000n, 'lazy'))
const withProcess: readonly Step[] = [
  probe(one),
  (machine) => machine.run(machine.driver.allocateGuestTable()),
  (machine) => machine.run(machine.driver.allocateProcess()),
  attach(one, 1),
]
const bound =
  (pasid: number): Step =>
  (machine) =>
    machine.run(machine.driver.attachPasid([one], pasid, 2))
const inGuest = [probe(one), probe(other), parent, viommu()].concat(
  nested(5, { pageRequestsAllowed: true }),
  attach(one, 2),
  attach(other, 2),
)

describe('two states are told apart if they differ in', () => {
  const pairs: readonly (readonly [string, readonly Step[], readonly Step[]])[] = [
    ['the group of a device', [probe(one, 1)], [probe(one, 2)]],
    [
      'what may be done with a domain',
      [(machine) => machine.run(machine.driver.allocateHostTable())],
      [(machine) => machine.run(machine.driver.allocateHostTable({ dirtyTracking: true }))],
    ],
    ['the IOMMU of a vIOMMU', [parent, viommu(0)], [parent, viommu(1)]],
    [
      'the virtual DeviceID of a device',
      [probe(one), parent, viommu(), named(8)],
      [probe(one), parent, viommu(), named(9)],
    ],
    [
      'a request that waits for its answer',
      [...inGuest, asks({ group: 3 })],
      [...inGuest, asks({ group: 4 })],
    ],
    [
      'what hardware may still know of a page that was unmapped',
      [parent, mapped(0x1000n)],
      [parent, mapped(0x1000n), mapped(0x2000n), lazilyUnmapped(0x2000n)],
    ],
    ['the PASID of a process', [...withProcess, bound(4)], [...withProcess, bound(5)]],
    [
      'whether a device is blocked or is being reset',
      [probe(one), parent, attach(one, 1), (machine) => machine.run(machine.driver.detach(one))],
      [probe(one), parent, attach(one, 1), (machine) => machine.run(machine.driver.beginReset(one))],
    ],
    [
      'what a device goes back to after its reset',
      [probe(one), parent, parent, attach(one, 1), (machine) => machine.run(machine.driver.beginReset(one))],
      [probe(one), parent, parent, attach(one, 2), (machine) => machine.run(machine.driver.beginReset(one))],
    ],
  ]
  it.each(pairs)('%s', (_name, steps, others) => {
    expect(books(...steps)).not.toBe(books(...others))
    expect(books(...steps)).toBe(books(...steps))
  })
})

describe('it does not matter later', () => {
  it('which device was probed first', () => {
    expect(books(probe(one), probe(other))).toBe(books(probe(other), probe(one)))
  })

  it('which device asked first', () => {
    const both = [asks({ deviceId: one }), asks({ deviceId: other })]
    expect(books(...inGuest, ...both)).toBe(books(...inGuest, ...both.reverse()))
  })
})
