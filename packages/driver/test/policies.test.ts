import { iova, spa } from '@nestwalk/bits'
import { decodeDte, domainId, pasid } from '@nestwalk/hardware'
import {
  allGapsBut,
  convergingGcr3,
  convergingMap,
  findPolicy,
  gaps,
  perDevice,
  perDeviceFanOut,
  perGroup,
  perHostTable,
  perNestedDomain,
  policies,
  sharedGcr3,
  viommuMap,
  viommuMapLinux73,
} from '@nestwalk/driver'
import type { DomainIdPolicy, Outcome } from '@nestwalk/driver'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { guestEntry, invalidation, words } from './guest-entry.js'
import { Machine, readWrite, told, withoutTables } from './machine.js'
import type { MachineOptions } from './machine.js'
import { runs } from './runs.js'

const devices = Array.from({ length: 8 }, (_, i) => 0x18 + i)
const [parent, viommu] = [1, 1]

/** A parent (1), a vIOMMU (1) on it, and devices from 0x18 up, two to a group. */
function machineOf(policy: DomainIdPolicy, options: MachineOptions = {}): Machine {
  const machine = Machine.create({ policy, ...options })
  devices.forEach((device, i) => machine.run(machine.driver.probe(device, 1 + (i >> 1))))
  machine.run(machine.driver.allocateHostTable({ nestParent: true }))
  machine.run(machine.driver.createViommu(parent))
  return machine
}

/**
 * The worked example on one IOMMU: 8 devices in 4 groups, one vIOMMU, 3 guest DomainIDs, 4 nested domains. Guest DomainID
 * 5 has two nested domains of two devices each, in two groups; 6 and 7 have one of two devices each.
 */
function workedExample(policy: DomainIdPolicy): Machine {
  const machine = machineOf(policy)
  ;[5, 5, 6, 7].forEach((guestDomainId, i) => {
    const gcr3Root = BigInt(i + 1) << 20n
    const nested = machine.run(machine.driver.allocateNested(viommu, guestEntry(guestDomainId, { gcr3Root })))
    for (const device of devices.slice(2 * i, 2 * i + 2)) machine.run(machine.driver.attach(device, nested))
  })
  return machine
}

const idOf = (machine: Machine, device: number): number =>
  decodeDte(BigUint64Array.from([...machine.entry(device)])).domainId

/** Which devices share a DomainID: for each device the number of the first one with the same. */
function sharing(machine: Machine): string {
  const ids = devices.map((device) => idOf(machine, device))
  return ids.map((id) => ids.indexOf(id)).join('')
}

function linesOf(machine: Machine, outcome: Outcome<unknown>): string[] {
  if (!outcome.ok) throw new Error(outcome.why)
  return outcome.effects.map((effect) => told(effect, machine.driver.deviceTable))
}

interface Row {
  readonly policy: DomainIdPolicy
  readonly ids: number
  readonly sharing: string
  /** Commands and waits of an unmap in the parent, and of a guest's invalidation of its DomainID 5. */
  readonly unmap: number
  readonly invalidation: number
}

const rows: readonly Row[] = [
  { policy: perGroup, ids: 4, sharing: '00224466', unmap: 4 + 1, invalidation: 1 + 1 },
  { policy: perDevice, ids: 8, sharing: '01234567', unmap: 8 + 1, invalidation: 1 + 1 },
  { policy: perDeviceFanOut, ids: 8, sharing: '01234567', unmap: 8 + 1, invalidation: 4 + 1 },
  { policy: perHostTable, ids: 1, sharing: '00000000', unmap: 1 + 1, invalidation: 1 + 1 },
  { policy: perNestedDomain, ids: 1 + 4, sharing: '00224466', unmap: 4 + 1, invalidation: 1 + 1 },
  // The parent's own ID is not flushed: nothing uses it.
  { policy: viommuMap, ids: 1 + 3, sharing: '00004466', unmap: 3 + 1, invalidation: 1 + 1 },
  // Nobody waits: the devices came straight from blocked and are on no list (gap U4).
  { policy: viommuMapLinux73, ids: 1 + 3, sharing: '00004466', unmap: 3, invalidation: 1 + 1 },
  { policy: sharedGcr3, ids: 1 + 3, sharing: '00004466', unmap: 3 + 1, invalidation: 1 + 1 },
  { policy: convergingMap, ids: 1 + 3, sharing: '00004466', unmap: 3 + 1, invalidation: 1 + 1 },
  { policy: convergingGcr3, ids: 1 + 3, sharing: '00004466', unmap: 3 + 1, invalidation: 1 + 1 },
]

it('a policy is found by letter or name, in upper or lower case', () => {
  expect(rows.map(({ policy }) => policy)).toEqual(policies)
  for (const { letter, name } of policies) {
    expect(findPolicy(letter.toLowerCase())?.name).toBe(name)
    expect(findPolicy(name.toUpperCase())?.letter).toBe(letter)
  }
  expect(findPolicy('Q')).toBeUndefined()
})

it('all gaps but some are the others, and nothing else', () => {
  const others = Object.keys(gaps).filter((gap) => gap !== 'U5' && gap !== 'U14')
  expect([...allGapsBut('U5', 'U14')]).toEqual(others)
  expect([...allGapsBut()]).toEqual(Object.keys(gaps))
})

describe.each(rows)('the worked example under $policy.letter', (row) => {
  it(`has ${row.ids} IDs, shared as ${row.sharing}`, () => {
    const machine = workedExample(row.policy)
    expect(machine.driver.tags).toHaveLength(row.ids)
    expect(sharing(machine)).toBe(row.sharing)
  })

  it('every DomainID in an entry is one that the books have, on the right IOMMU and table (I5, I7)', () => {
    const machine = workedExample(row.policy)
    const { driver } = machine
    for (const device of devices) {
      const tag = driver.tags.find((each) => each.domainId === idOf(machine, device))
      expect(tag).toMatchObject({ key: driver.device(device)?.tagKey, iommus: [0], tables: [parent] })
    }
  })

  it(`sends ${row.unmap} commands for an unmap in the parent: one for each ID in use (O3)`, () => {
    const machine = workedExample(row.policy)
    machine.run(machine.driver.map(parent, iova(0x8000n), spa(0x9000n), 0x1000n, readWrite))
    const lines = withoutTables(linesOf(machine, machine.driver.unmap(parent, iova(0x8000n), 0x1000n)))
    const ids = [...new Set(devices.map((device) => idOf(machine, device)))].sort((a, b) => a - b)
    const pages = ids.map((id) => `PAGES ${id} 8000+1000`)
    expect(lines).toEqual(row.policy === viommuMapLinux73 ? pages : [...pages, 'WAIT'])
    expect(lines).toHaveLength(row.unmap)
  })

  it(`sends ${row.invalidation} commands for a guest's invalidation of a DomainID of four devices`, () => {
    const machine = workedExample(row.policy)
    const lines = linesOf(machine, machine.driver.invalidateForGuest(viommu, [invalidation(5)]))
    const ids = [...new Set(devices.slice(0, 4).map((device) => idOf(machine, device)))]
    const reached = ids.slice(0, row.invalidation - 1)
    expect(lines).toEqual([...reached.map((id) => `PAGES ${id} 5000+1000 GN 0`), 'WAIT'])
  })

  it('satisfies O1, no merge, if and only if devices of one ID have one guest DomainID', () => {
    const machine = workedExample(row.policy)
    const guestIds = ['5', '5', '5', '5', '6', '6', '7', '7']
    const merged = devices.some((a, i) =>
      devices.some((b, j) => idOf(machine, a) === idOf(machine, b) && guestIds[i] !== guestIds[j]),
    )
    expect(merged).toBe(row.policy === perHostTable)
  })

  it('gives every ID back when all devices, nested domains, vIOMMU and parent are gone', () => {
    const machine = workedExample(row.policy)
    for (const device of devices) machine.run(machine.driver.detach(device))
    for (const nested of [2, 3, 4, 5]) machine.run(machine.driver.freeDomain(nested))
    machine.run(machine.driver.destroyViommu(viommu))
    machine.run(machine.driver.freeDomain(parent))
    expect(machine.driver.tags).toEqual([])
    machine.run(machine.driver.allocateHostTable())
    machine.run(machine.driver.attach(0x18, 6))
    expect(idOf(machine, 0x18)).toBe(1)
  })
})

describe('the founding example (S01): two guest DomainIDs in one group', () => {
  it.each([
    ['G', true],
    ['S', true],
    ['D', false],
    ['DF', false],
    ['M', false],
    ['M7', false],
  ])('%s: the two devices share a DomainID: %s', (letter, shared) => {
    const machine = machineOf(findPolicy(letter)!)
    devices.slice(0, 2).forEach((device, i) => {
      const nested = machine.run(machine.driver.allocateNested(viommu, guestEntry(5 + i)))
      machine.run(machine.driver.attach(device, nested))
    })
    expect(idOf(machine, 0x18) === idOf(machine, 0x19)).toBe(shared)
  })
})

describe('the group is not the source of the tag of a host table (R1, R2)', () => {
  it.each([
    ['M', [1, 1, 1]],
    ['S', [1, 1, 1]],
    ['G', [1, 1, 2]],
    ['D', [1, 2, 3]],
  ])('%s: three devices of two groups on one table have IDs %j', (letter, ids) => {
    const machine = machineOf(findPolicy(letter)!)
    for (const device of [0x18, 0x19, 0x1a]) machine.run(machine.driver.attach(device, parent))
    expect([0x18, 0x19, 0x1a].map((device) => idOf(machine, device))).toEqual(ids)
  })
})

it('an ID that stands for several tables is reached by the changes of each (O3)', () => {
  const machine = machineOf(perGroup)
  const { driver } = machine
  const other = machine.run(driver.allocateHostTable())
  machine.run(driver.attach(0x18, parent))
  machine.run(driver.attach(0x19, other))
  for (const domain of [parent, other]) {
    machine.run(driver.map(domain, iova(0x8000n), spa(0x9000n), 0x1000n, readWrite))
    const lines = withoutTables(machine.tell(driver.unmap(domain, iova(0x8000n), 0x1000n)))
    expect(lines).toEqual(['PAGES 1 8000+1000', 'WAIT'])
  }
})

describe('the map of a vIOMMU', () => {
  it('is a function: one guest DomainID has one host ID, whatever the GCR3 root (S03, I4)', () => {
    const machine = machineOf(viommuMap)
    for (const i of [0, 1, 2]) {
      const gcr3Root = BigInt(i + 1) << 12n
      machine.run(machine.driver.allocateNested(viommu, guestEntry(9, { gcr3Root })))
    }
    expect(machine.driver.tags.map(({ domainId, users }) => [domainId, users])).toEqual([
      [1, 1],
      [2, 3],
    ])
  })

  it('has an image of its own: two vIOMMUs with one guest DomainID never share a host ID (S04, S05)', () => {
    const machine = machineOf(viommuMap)
    const { driver } = machine
    const other = machine.run(driver.createViommu(parent))
    const nested = [viommu, other].map((each) => machine.run(driver.allocateNested(each, guestEntry(7))))
    nested.forEach((each, i) => machine.run(driver.attach(devices[i]!, each)))
    expect([idOf(machine, 0x18), idOf(machine, 0x19)]).toEqual([2, 3])
    machine.run(driver.map(parent, iova(0x8000n), spa(0x9000n), 0x1000n, readWrite))
    const unmap = withoutTables(linesOf(machine, driver.unmap(parent, iova(0x8000n), 0x1000n)))
    expect(unmap).toEqual(['PAGES 2 8000+1000', 'PAGES 3 8000+1000', 'WAIT'])
    const guest = linesOf(machine, driver.invalidateForGuest(other, [invalidation(7)]))
    expect(guest).toEqual(['PAGES 3 5000+1000 GN 0', 'WAIT'])
  })

  it('takes any guest DomainID, 0 and 65535 among them', () => {
    const machine = machineOf(viommuMap)
    const { driver } = machine
    ;[0, 0xffff].forEach((id, i) => {
      machine.run(driver.attach(devices[i]!, machine.run(driver.allocateNested(viommu, guestEntry(id)))))
      const lines = linesOf(machine, driver.invalidateForGuest(viommu, [invalidation(id)]))
      expect(lines).toEqual([`PAGES ${2 + i} 5000+1000 GN 0`, 'WAIT'])
    })
  })
})

it('a guest DomainID whose last nested domain is freed leaves no trace in the map', () => {
  const states = [5, 6].map((id) => {
    const machine = machineOf(viommuMap)
    const nested = machine.run(machine.driver.allocateNested(viommu, guestEntry(id)))
    machine.run(machine.driver.attach(0x18, nested))
    machine.run(machine.driver.detach(0x18))
    machine.run(machine.driver.freeDomain(nested))
    return machine.state()
  })
  expect(states[0]).toBe(states[1])
})

describe('re-use of a DomainID', () => {
  /** A device was on guest DomainID 5 (host ID 2), then moves to 6, and the first nested domain is freed (S07). */
  function freed(policy: DomainIdPolicy): { machine: Machine; lines: string[] } {
    const machine = machineOf(policy)
    const { driver } = machine
    const [one, other] = [5, 6].map((id) => machine.run(driver.allocateNested(viommu, guestEntry(id))))
    machine.run(driver.attach(0x18, one!))
    machine.run(driver.attach(0x18, other!))
    return { machine, lines: machine.tell(driver.freeDomain(one!)) }
  }

  it('M: the freed ID is flushed, and that is waited for, before anybody can get it (O4, I6)', () => {
    expect(freed(viommuMap).lines).toEqual(['PAGES 2 all PDE', 'WAIT'])
  })

  it('M7: it is not (U2)', () => {
    expect(freed(viommuMapLinux73).lines).toEqual([])
  })

  it.each([viommuMap, viommuMapLinux73])('$letter: the lowest free ID is handed out next', (policy) => {
    const { machine } = freed(policy)
    const { driver } = machine
    machine.run(driver.allocateNested(viommu, guestEntry(8)))
    machine.run(driver.allocateNested(viommu, guestEntry(9)))
    expect(driver.tags.map(({ key, domainId }) => [key.at(-1), domainId])).toEqual([
      ['1', 1],
      ['8', 2],
      ['6', 3],
      ['9', 4],
    ])
  })

  it('M: an ID that was never in an entry has nothing to flush', () => {
    const machine = machineOf(viommuMap)
    const nested = machine.run(machine.driver.allocateNested(viommu, guestEntry(5)))
    expect(machine.tell(machine.driver.freeDomain(nested))).toEqual([])
  })

  it.each([perGroup, perDevice, perDeviceFanOut])(
    '$letter: the ID of the last attachment is flushed',
    (policy) => {
      const machine = machineOf(policy)
      const { driver } = machine
      const nested = machine.run(driver.allocateNested(viommu, guestEntry(5)))
      machine.run(driver.attach(0x18, nested))
      expect(machine.tell(driver.detach(0x18)).slice(-2)).toEqual(['PAGES 1 all PDE', 'WAIT'])
      expect(driver.tags).toEqual([])
    },
  )

  it('a device that keeps its ID but not its tables has it flushed', () => {
    for (const policy of [perGroup, perDevice, perHostTable]) {
      const machine = machineOf(policy)
      const { driver } = machine
      const [one, other] = [5, 6].map((id) => machine.run(driver.allocateNested(viommu, guestEntry(id))))
      machine.run(driver.attach(0x18, one!))
      expect(machine.tell(driver.attach(0x18, other!)).slice(-2)).toEqual(['PAGES 1 all PDE', 'WAIT'])
      expect(machine.tell(driver.attach(0x18, parent)).slice(-2)).toEqual(['PAGES 1 all PDE', 'WAIT'])
      expect(idOf(machine, 0x18)).toBe(1)
    }
  })
})

describe('the IDs in use', () => {
  it('are the lowest ones at every allocation, after any history of allocating and freeing', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 30 }), { maxLength: 60 }), (choices) => {
        const machine = Machine.create({ pages: { first: spa(0x100000n), pages: 16 } })
        const live = new Map<number, number>()
        for (const choice of choices) {
          const domains = [...live.keys()]
          const victim = domains[choice]
          if (victim === undefined) {
            const number = machine.run(machine.driver.allocateIdentity())
            let id = 1
            while ([...live.values()].includes(id)) id += 1
            live.set(number, id)
          } else {
            machine.run(machine.driver.freeDomain(victim))
            live.delete(victim)
          }
          const ids = [...live.values()].sort((a, b) => a - b)
          expect(machine.driver.tags.map((tag) => tag.domainId as number)).toEqual(ids)
        }
      }),
      { numRuns: runs(30) },
    )
  })

  it('run out: ENOSPC, no map entry is left behind, and a freed ID helps (S19)', () => {
    const machine = machineOf(viommuMap, { lastDomainId: 3 })
    const { driver } = machine
    const [one] = [5, 6].map((id) => machine.run(driver.allocateNested(viommu, guestEntry(id))))
    expect(machine.refusal(() => driver.allocateNested(viommu, guestEntry(7)))).toBe('ENOSPC no-domain-id')
    expect(machine.refusal(() => driver.allocateHostTable())).toBe('ENOMEM no-domain-id')
    expect(machine.refusal(() => driver.allocateIdentity())).toBe('ENOSPC no-domain-id')
    expect(linesOf(machine, driver.invalidateForGuest(viommu, [invalidation(7)]))).toEqual([])
    // A guest DomainID that has its entry already needs no ID.
    const shared = machine.run(driver.allocateNested(viommu, guestEntry(5, { gcr3Root: 0x2000n })))
    machine.run(driver.freeDomain(one!))
    expect(machine.refusal(() => driver.allocateNested(viommu, guestEntry(7)))).toBe('ENOSPC no-domain-id')
    machine.run(driver.freeDomain(shared))
    machine.run(driver.allocateNested(viommu, guestEntry(7)))
    expect(driver.tags.map((tag) => tag.domainId as number)).toEqual([1, 2, 3])
  })

  it("run out when a device is attached, if the ID is the device's: it stays where it was", () => {
    const machine = machineOf(perDevice, { lastDomainId: 2 })
    const { driver } = machine
    machine.run(driver.attach(0x18, parent))
    machine.run(driver.attach(0x19, parent))
    expect(machine.refusal(() => driver.attach(0x1a, parent))).toBe('ENOSPC no-domain-id')
    // A device that has an ID can still move.
    const nested = machine.run(driver.allocateNested(viommu, guestEntry(5)))
    machine.run(driver.attach(0x19, nested))
    machine.run(driver.detach(0x18))
    machine.run(driver.attach(0x1a, nested))
    expect([idOf(machine, 0x19), idOf(machine, 0x1a)]).toEqual([2, 1])
  })

  it('may be from 1 to 65535', () => {
    for (const lastDomainId of [0, 65536, 1.5]) {
      expect(() => Machine.create({ lastDomainId })).toThrow(RangeError)
    }
  })
})

describe('an invalidation of a guest', () => {
  it('of a DomainID that no nested domain has reaches nothing, though a host ID may have its number (S27)', () => {
    const machine = workedExample(viommuMap)
    for (const id of [1, 2, 3, 4, 99]) {
      const outcome = machine.driver.invalidateForGuest(viommu, [invalidation(id)])
      expect(outcome).toMatchObject({ value: { handled: 1, refusal: undefined }, effects: [] })
    }
  })

  it('keeps range, PASID, GN and PDE, and changes the DomainID only', () => {
    const machine = workedExample(viommuMap)
    const asked = {
      ...{ kind: 'InvalidateIommuPages' as const, domainId: domainId(6), pasid: pasid(0x12345) },
      ...{ guestNested: true, directories: true, size: true, address: iova(0x7fff_f000n) },
    }
    const outcome = machine.driver.invalidateForGuest(viommu, [words(asked)])
    const sent = outcome.ok && outcome.effects[0]?.kind === 'command' ? outcome.effects[0].command : undefined
    expect(sent).toMatchObject({ ...asked, domainId: 3 })
    expect(words(sent!)).toEqual(words({ ...asked, domainId: domainId(3) }))
  })

  it('of several commands is handled up to the first bad one, with one wait at the end', () => {
    const machine = workedExample(viommuMap)
    const bad = words({ kind: 'CompletionWait' })
    const commands = [invalidation(5), invalidation(99), invalidation(7, 3), bad, invalidation(6)]
    const outcome = machine.driver.invalidateForGuest(viommu, commands)
    expect(outcome).toMatchObject({ value: { handled: 3, refusal: { errno: 'EOPNOTSUPP' } } })
    expect(linesOf(machine, outcome)).toEqual(['PAGES 2 5000+1000 GN 0', 'PAGES 4 5000+1000 GN 3', 'WAIT'])
  })

  it.each([
    ['another kind', words({ kind: 'InvalidateIommuAll' }), 'EOPNOTSUPP guest-command-kind'],
    ['an unknown opcode', [0xf000_0000_0000_0000n, 0n], 'EOPNOTSUPP guest-command-kind'],
    ['a reserved bit, low', [0x3000_0005_0010_0000n, 0n], 'EINVAL guest-command-reserved-bits'],
    ['a reserved bit, high', [0x3000_0005_0000_0000n, 8n], 'EINVAL guest-command-reserved-bits'],
    ['a PASID without GN', [0x3000_0005_0000_0001n, 0n], 'EINVAL guest-command-pasid'],
  ] as const)('with %s is refused', (_name, [lo, hi], refused) => {
    const machine = workedExample(viommuMap)
    const outcome = machine.driver.invalidateForGuest(viommu, [[lo, hi]])
    if (!outcome.ok) throw new Error(outcome.why)
    const { handled, refusal } = outcome.value
    expect([handled, `${refusal!.errno} ${refusal!.rule}`, outcome.effects]).toEqual([0, refused, []])
  })

  it('reaches the next host ID once the first one is gone: D has one slot for each guest DomainID', () => {
    const machine = machineOf(perDevice)
    const { driver } = machine
    const nested = machine.run(driver.allocateNested(viommu, guestEntry(5)))
    for (const device of [0x18, 0x19]) machine.run(driver.attach(device, nested))
    expect(linesOf(machine, driver.invalidateForGuest(viommu, [invalidation(5)]))[0]).toMatch(/^PAGES 1 /)
    machine.run(driver.detach(0x18))
    expect(linesOf(machine, driver.invalidateForGuest(viommu, [invalidation(5)]))[0]).toMatch(/^PAGES 2 /)
    machine.run(driver.detach(0x19))
    expect(linesOf(machine, driver.invalidateForGuest(viommu, [invalidation(5)]))).toEqual([])
  })

  it('still reaches the ID of a device that left for blocked, as long as the nested domain lives (O2, I16)', () => {
    const machine = machineOf(viommuMap)
    const { driver } = machine
    const nested = machine.run(driver.allocateNested(viommu, guestEntry(5)))
    machine.run(driver.attach(0x18, nested))
    machine.run(driver.detach(0x18))
    expect(linesOf(machine, driver.invalidateForGuest(viommu, [invalidation(5)]))).toEqual([
      'PAGES 2 5000+1000 GN 0',
      'WAIT',
    ])
  })
})
