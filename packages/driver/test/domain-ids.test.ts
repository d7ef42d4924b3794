/** How DomainIDs are handed out and made clean: lowest or rotating; on free, on allocation, in a quarantine; by quota. */
import { iova, spa } from '@nestwalk/bits'
import { allGapsBut, Driver, viommuMap, viommuMapLinux73 } from '@nestwalk/driver'
import type { DomainIdRules } from '@nestwalk/driver'
import { Iommu, SparseMemory } from '@nestwalk/hardware'
import { describe, expect, it } from 'vitest'
import { guestEntry } from './guest-entry.js'
import { Machine, readWrite, withoutTables } from './machine.js'
import type { MachineOptions } from './machine.js'

const deviceId = 0x18
const withRules = (rules: Partial<DomainIdRules>, more: MachineOptions = {}): Machine =>
  Machine.create({ domainIds: rules, lastDomainId: 6, ...more })

/** A host table that a device was on: something may be cached under its ID. */
function usedTable(machine: Machine): number {
  const { driver } = machine
  const table = machine.run(driver.allocateHostTable())
  machine.run(driver.map(table, iova(0x5000n), spa(0x9000n), 0x1000n, readWrite))
  if (driver.device(deviceId) === undefined) machine.run(driver.probe(deviceId, 1))
  machine.run(driver.attach(deviceId, table))
  machine.iommu.request({ deviceId, iova: 0x5000n })
  machine.run(driver.detach(deviceId))
  return table
}

const idOf = (machine: Machine, domain: number): number =>
  machine.driver.tags.find(({ key }) => key === `table ${domain}`)?.domainId ?? 0

/** The ID that the next domain gets. */
const nextId = (machine: Machine): number => idOf(machine, machine.run(machine.driver.allocateIdentity()))

describe('the next ID', () => {
  it('is the lowest that is free', () => {
    const machine = withRules({})
    const domains = [1, 2, 3].map(() => machine.run(machine.driver.allocateIdentity()))
    expect(domains.map((domain) => idOf(machine, domain))).toEqual([1, 2, 3])
    machine.run(machine.driver.freeDomain(domains[1]!))
    machine.run(machine.driver.freeDomain(domains[0]!))
    expect([1, 2, 3].map(() => nextId(machine))).toEqual([1, 2, 4])
  })

  it('follows the last one in rotation, and begins anew at the end', () => {
    const machine = withRules({ order: 'rotating' })
    const first = machine.run(machine.driver.allocateIdentity())
    machine.run(machine.driver.freeDomain(first))
    const domains = [1, 2, 3].map(() => machine.run(machine.driver.allocateIdentity()))
    expect(domains.map((domain) => idOf(machine, domain))).toEqual([2, 3, 4])
    machine.run(machine.driver.freeDomain(domains[0]!))
    machine.run(machine.driver.freeDomain(domains[2]!))
    expect([1, 2, 3, 4, 5].map(() => nextId(machine))).toEqual([5, 6, 1, 2, 4])
    expect(machine.refusal(() => machine.driver.allocateIdentity())).toMatch(/no-domain-id/)
  })

  it('is the same for a fork', () => {
    const machine = withRules({ order: 'rotating', cleaning: 'quarantine', quarantineLength: 2 })
    machine.run(machine.driver.freeDomain(usedTable(machine)))
    machine.run(machine.driver.allocateIdentity())
    const fork = machine.fork()
    const ids = [1, 2, 3, 4, 5].map(() => nextId(machine))
    expect([1, 2, 3, 4, 5].map(() => nextId(fork))).toEqual(ids)
    expect(fork.state()).toBe(machine.state())
  })
})

describe('an ID that was in use is made clean', () => {
  const flush = ['PAGES 1 all PDE', 'WAIT']

  it('when it becomes free', () => {
    const machine = withRules({})
    const table = usedTable(machine)
    expect(withoutTables(machine.tell(machine.driver.freeDomain(table)))).toEqual(flush)
    expect(machine.tell(machine.driver.allocateIdentity())).toEqual([])
  })

  it('when somebody else gets it', () => {
    const machine = withRules({ cleaning: 'on-allocate' })
    const table = usedTable(machine)
    expect(machine.tell(machine.driver.freeDomain(table))).toEqual([])
    expect(machine.tell(machine.driver.allocateIdentity())).toEqual(flush)
    expect(machine.tell(machine.driver.allocateIdentity())).toEqual([])
  })

  it('with the others that are kept back, with one wait, when there are enough', () => {
    const machine = withRules({ cleaning: 'quarantine', quarantineLength: 3 })
    const tables = [1, 2, 3].map(() => usedTable(machine))
    expect(machine.tell(machine.driver.freeDomain(tables[0]!))).toEqual([])
    expect(machine.tell(machine.driver.freeDomain(tables[1]!))).toEqual([])
    expect(nextId(machine)).toBe(4)
    expect(machine.tell(machine.driver.freeDomain(tables[2]!))).toEqual([
      ...['PAGES 1 all PDE', 'PAGES 2 all PDE', 'PAGES 3 all PDE', 'WAIT'],
    ])
    expect(nextId(machine)).toBe(1)
  })

  it('with the others that are kept back, when there is no other ID left', () => {
    const machine = withRules({ cleaning: 'quarantine' }, { lastDomainId: 2 })
    machine.run(machine.driver.freeDomain(usedTable(machine)))
    machine.run(machine.driver.freeDomain(usedTable(machine)))
    expect(machine.tell(machine.driver.allocateIdentity())).toEqual([
      ...['PAGES 1 all PDE', 'PAGES 2 all PDE', 'WAIT'],
    ])
    expect(nextId(machine)).toBe(2)
    expect(machine.refusal(() => machine.driver.allocateIdentity())).toMatch(/no-domain-id/)
  })

  it.each(['on-allocate', 'quarantine'] as const)('never under gap U2: %s', (cleaning) => {
    const machine = withRules({ cleaning, quarantineLength: 1 }, { policy: viommuMapLinux73 })
    machine.run(machine.driver.freeDomain(usedTable(machine)))
    expect(machine.tell(machine.driver.allocateIdentity())).toEqual([])
  })

  it('not at all if nobody ever used it', () => {
    const machine = withRules({ cleaning: 'quarantine', quarantineLength: 1 })
    const domain = machine.run(machine.driver.allocateIdentity())
    expect(machine.tell(machine.driver.freeDomain(domain))).toEqual([])
    expect(nextId(machine)).toBe(1)
  })
})

describe('a vIOMMU', () => {
  function guestOf(rules: Partial<DomainIdRules>, policy = viommuMap) {
    const machine = Machine.create({ domainIds: rules, policy })
    const parent = machine.run(machine.driver.allocateHostTable({ nestParent: true }))
    const [one, other] = [1, 2].map(() => machine.run(machine.driver.createViommu(parent)))
    return { machine, one: one!, other: other! }
  }

  it('may own as many IDs as its quota; another one is not concerned, and what is given back counts no more (I20)', () => {
    const { machine, one, other } = guestOf({ quotaPerViommu: 3 })
    const { driver } = machine
    const nested = [5, 6, 7].map((id) => machine.run(driver.allocateNested(one, guestEntry(id))))
    const more = () => driver.allocateNested(one, guestEntry(8))
    expect(machine.refusal(more)).toBe('ENOSPC viommu-quota')
    // A DomainID that has one of the host's already needs no more.
    machine.run(driver.allocateNested(one, guestEntry(7, { gcr3Root: 0x7000n })))
    machine.run(driver.allocateNested(other, guestEntry(8)))
    machine.run(driver.freeDomain(nested[0]!))
    machine.run(more())
  })

  it.each([
    ['U14 open', viommuMapLinux73, true],
    ['U14 closed', { ...viommuMapLinux73, gaps: allGapsBut('U14') }, false],
  ])('with gap %s: more than its quota: %s', (_name, policy, isAllowed) => {
    const { machine, one } = guestOf({ quotaPerViommu: 1 }, policy)
    machine.run(machine.driver.allocateNested(one, guestEntry(5)))
    expect(machine.driver.allocateNested(one, guestEntry(6)).ok).toBe(isAllowed)
  })
})

it.each([
  [{ quotaPerViommu: 0 }, 'quotaPerViommu 0 is not a number from 1 up'],
  [{ quarantineLength: 1.5 }, 'quarantineLength 1.5 is not a number from 1 up'],
])('rules that cannot be are refused: %o', (domainIds, message) => {
  const memory = SparseMemory.create(2 ** 30)
  const ports = [Iommu.create({ memory })]
  const pages = { first: spa(0x100000n), pages: 100 }
  expect(() => Driver.create({ ports, memory, pages, lastDeviceId: 0xff, domainIds })).toThrow(message)
})
