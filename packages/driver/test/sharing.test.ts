/** GCR3 tables that are one because they are equal, and groups whose members meet on one tag. */
import { iova, spa } from '@nestwalk/bits'
import {
  convergingGcr3,
  convergingMap,
  perHostTable,
  sharedGcr3,
  viommuMap,
  viommuMapLinux73,
} from '@nestwalk/driver'
import type { DeviceTraits, DomainIdPolicy, Effect, Outcome } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { answer, Machine, readWrite, told, withoutTables } from './machine.js'
import { entryOf } from './invariants/moment.js'
import { addGuest, frame, hostMachine, nest, page, put, same } from './virtual-machine.js'

const [one, other, third] = [0x18, 0x20, 0x28]
const [guest, process] = [1, 2]
const withPasids: Partial<DeviceTraits> = { maxPasids: 512, atsQueueDepth: 32 }
const [inDomain, inProcess] = [0x5000n, 0x6000n]

/** Devices on a guest table (1), and a process (2); the third device is behind the second IOMMU. */
function shared(policy: DomainIdPolicy = sharedGcr3, devices: readonly number[] = [one, other]): Machine {
  const machine = Machine.create({ policy, iommus: 2 })
  const { driver } = machine
  machine.run(driver.allocateGuestTable())
  machine.run(driver.allocateProcess())
  machine.run(driver.map(guest, iova(inDomain), spa(0x9000n), 0x1000n, readWrite))
  machine.run(driver.map(process, iova(inProcess), spa(0xa000n), 0x1000n, readWrite))
  for (const [group, device] of devices.entries()) {
    machine.run(driver.probe(device, group, device === third ? 1 : 0, withPasids))
    machine.run(driver.attach(device, guest))
  }
  return machine
}

const iommuOf = (machine: Machine, device: number) => machine.iommus[device === third ? 1 : 0]!

/** Where a request without PASID goes, and one with PASID 9. */
const reaches = (machine: Machine, device: number): string[] => [
  answer(iommuOf(machine, device).request({ deviceId: device, iova: inDomain })),
  answer(iommuOf(machine, device).request({ deviceId: device, iova: inProcess, pasid: 9 })),
]
const [bare, bound] = [
  ['translated 9000', 'fault'],
  ['translated 9000', 'translated a000'],
]

/** Carries an operation out effect by effect; what each device reaches after each, without repetitions. */
function watched(machine: Machine, outcome: Outcome<unknown>, devices: readonly number[]): string[][][] {
  if (!outcome.ok) throw new Error(outcome.why)
  const seen = devices.map((): string[][] => [])
  for (const effect of outcome.effects) {
    machine.carryOut([effect])
    devices.forEach((device, i) => {
      const now = reaches(machine, device)
      if (seen[i]!.at(-1)?.join() !== now.join()) seen[i]!.push(now)
    })
  }
  return seen
}

const linesOf = (machine: Machine, outcome: Outcome<unknown>): string[] =>
  withoutTables(machine.tell(outcome))
const isEntryStore = (effect: Effect, { driver }: Machine): boolean =>
  effect.kind === 'store' && /lower|upper/.test(told(effect, driver.deviceTable))
const entryStores = (machine: Machine, outcome: Outcome<unknown>): number =>
  outcome.ok ? outcome.effects.filter((each) => isEntryStore(each, machine)).length : 0

describe('equal GCR3 tables', () => {
  it('are one table with one DomainID, whichever groups its devices are in (R1, R3)', () => {
    const machine = shared()
    expect(machine.driver.gcr3Tables).toHaveLength(1)
    expect(machine.driver.gcr3Tables[0]).toMatchObject({ devices: [one, other] })
    const [a, b] = [one, other].map((device) => entryOf(machine, device))
    expect(a).toEqual(b)
    // One for the domain, one for the process, one for the table.
    expect(machine.driver.tags).toHaveLength(3)
  })

  it('need no store but the entry for the next device', () => {
    const machine = shared(sharedGcr3, [one])
    machine.run(machine.driver.probe(other, 7, 0, withPasids))
    expect(machine.tell(machine.driver.attach(other, guest))).toEqual([
      ...['pasid 00:04.0 on', 'ats 00:04.0 on', '00:04.0 upper', '00:04.0 lower', 'DEVTAB 00:04.0', 'WAIT'],
      ...['DEVTAB 00:04.0', 'IOTLB 00:04.0 all', 'WAIT'],
    ])
  })

  it('are two as Linux has it (U17)', () => {
    const { driver } = shared(viommuMapLinux73)
    expect(driver.gcr3Tables).toHaveLength(2)
    expect(driver.tags).toHaveLength(2 + 2)
  })

  it('are flushed once for each IOMMU after an unmap: 2 + 8 + 2 for 8 devices; 8 + 8 + 2 as Linux has it', () => {
    const counts = [sharedGcr3, viommuMapLinux73].map((policy) => {
      const machine = shared(policy, [])
      const { driver } = machine
      for (let i = 0; i < 8; i++) {
        machine.run(driver.probe(0x80 + i, i >> 1, i >> 2, { maxPasids: 65535, atsQueueDepth: 32 }))
        machine.run(driver.attach(0x80 + i, guest))
        machine.run(driver.attachPasid([0x80 + i], 9, process))
      }
      const unmap = linesOf(machine, driver.unmap(guest, iova(inDomain), 0x1000n)).length
      const range = linesOf(machine, driver.unmap(process, iova(inProcess), 0x1000n)).length
      // One ID of the process is no part of the example.
      const ids = driver.tags.length - 1
      return { ids, pages: driver.gcr3Tables.flatMap(({ pages }) => pages).length, unmap, range }
    })
    expect(counts).toEqual([
      { ids: 2, pages: 2, unmap: 12, range: 12 },
      { ids: 9, pages: 16, unmap: 18, range: 24 },
    ])
  })
})

describe('a process for devices that share a table', () => {
  it('for all of them: the table is changed in place, and flushed once on each IOMMU', () => {
    const machine = shared(sharedGcr3, [one, other, third])
    const before = [one, other, third].map((device) => machine.entry(device))
    const outcome = machine.driver.attachPasid([one, other, third], 9, process)
    expect(outcome.ok && outcome.effects.flatMap((each) => ('iommu' in each ? [each.iommu] : []))).toEqual([
      ...[0, 1],
      ...[0, 0, 1],
      ...[0, 1],
    ])
    expect(linesOf(machine, outcome)).toEqual([
      ...['PAGES 3 all PDE GN 9', 'PAGES 3 all PDE GN 9'],
      ...['00:03.0', '00:04.0', '00:05.0'].map((device) => `IOTLB ${device} all GN 9`),
      ...['WAIT', 'WAIT'],
    ])
    expect([one, other, third].map((device) => machine.entry(device))).toEqual(before)
    for (const device of [one, other, third]) expect(reaches(machine, device)).toEqual(bound)
  })

  it('for one of them: it is moved to a table of its own first; the other never has the PASID (S15, I12)', () => {
    const machine = shared()
    const untouched = machine.entry(other)
    const [mover, stayer] = watched(machine, machine.driver.attachPasid([one], 9, process), [one, other])
    // Never without its own translations, and never blocked.
    expect(mover).toEqual([bare, bound])
    expect(stayer).toEqual([bare])
    expect(machine.entry(other)).toEqual(untouched)
    expect(machine.driver.gcr3Tables.map(({ devices }) => devices)).toEqual([[other], [one]])
    expect(entryOf(machine, one).domainId).not.toBe(entryOf(machine, other).domainId)
  })

  it('is switched to by one store of 128 bits, with root and DomainID in it (S25)', () => {
    const machine = shared()
    const outcome = machine.driver.attachPasid([one], 9, process)
    if (!outcome.ok) throw new Error(outcome.why)
    const stores = outcome.effects.filter((each) => isEntryStore(each, machine))
    expect(stores.map((each) => told(each, machine.driver.deviceTable))).toEqual(['00:03.0 lower'])
    // All of the new table is in memory before.
    const at = outcome.effects.indexOf(stores[0]!)
    const later = outcome.effects.slice(at).filter(({ kind }) => kind === 'store' || kind === 'fill')
    expect(later).toHaveLength(1)
  })

  it('for the other one too: the tables are equal again, and one; its DomainID is clean and free', () => {
    const machine = shared()
    const { driver } = machine
    machine.run(driver.attachPasid([one], 9, process))
    const left = entryOf(machine, other).domainId
    const [mover, stayer] = watched(machine, driver.attachPasid([other], 9, process), [other, one])
    // Nobody else has the other table: its entry is set in place, first of all.
    expect(mover).toEqual([bound])
    expect(stayer).toEqual([bound])
    expect(driver.gcr3Tables).toHaveLength(1)
    const ids = [one, other].map((device) => entryOf(machine, device).domainId)
    expect(ids[0]).toBe(ids[1])
    const gone = driver.tags.some(({ domainId }) => domainId === left) ? [] : [left]
    for (const iommu of machine.iommus) {
      expect(iommu.iotlbEntries().filter(({ domainId }) => gone.includes(domainId as never))).toEqual([])
    }
  })

  it('taken from one of them: that one is split off, and has it no more', () => {
    const machine = shared()
    const { driver } = machine
    machine.run(driver.attachPasid([one, other], 9, process))
    const [mover, stayer] = watched(machine, driver.detachPasid([one], 9), [one, other])
    expect(mover).toEqual([bound, bare])
    expect(stayer).toEqual([bound])
  })

  it('in two groups of devices at once goes to each table as it stands', () => {
    const machine = shared(sharedGcr3, [one, other, third])
    const { driver } = machine
    machine.run(driver.attachPasid([one], 9, process))
    const also = machine.run(driver.allocateProcess())
    machine.run(driver.attachPasid([one, other, third], 10, also))
    expect(driver.gcr3Tables.map(({ devices, entries }) => [devices, [...entries.keys()]])).toEqual([
      [
        [other, third],
        [0, 10],
      ],
      [[one], [0, 9, 10]],
    ])
  })
})

describe('a table of three devices', () => {
  it('has them in order, however they came', () => {
    const machine = shared(sharedGcr3, [third, one, other])
    expect(machine.driver.gcr3Tables).toMatchObject([{ devices: [one, other, third] }])
  })

  it('that two of them leave for a process is left by both, each with its TLB flushed and waited for', () => {
    const machine = shared(sharedGcr3, [one, other, third])
    const { driver } = machine
    const lines = linesOf(machine, driver.attachPasid([one, other], 9, process))
    expect(lines.filter((line) => line.includes('GN 9'))).toEqual([
      ...['IOTLB 00:03.0 all GN 9', 'IOTLB 00:04.0 all GN 9'],
    ])
    for (const [i, line] of lines.entries()) if (line.includes('GN 9')) expect(lines[i + 1]).toBe('WAIT')
    expect([one, other, third].map((device) => reaches(machine, device))).toEqual([bound, bound, bare])
    expect(driver.gcr3Tables.map(({ devices }) => devices)).toEqual([[third], [one, other]])
    // The last of them goes from the table that it was on alone, and there is one table again.
    machine.run(driver.detachPasid([one, other], 9))
    expect(driver.gcr3Tables).toMatchObject([{ devices: [one, other, third] }])
  })

  it('is not flushed on an IOMMU where one of them stays, though another is elsewhere', () => {
    const machine = shared(sharedGcr3, [one, other, third])
    const lines = linesOf(machine, machine.driver.detach(one))
    expect(lines.filter((line) => line.startsWith('PAGES'))).toEqual([])
    expect(machine.driver.tags.at(-1)).toMatchObject({ iommus: [0, 1] })
  })
})

it('equal tables that Linux keeps apart stay apart when they are to be merged (U17)', () => {
  const machine = shared(viommuMapLinux73)
  expect(machine.tell(machine.driver.mergeTables())).toEqual([])
  expect(machine.driver.gcr3Tables.map(({ devices }) => devices)).toEqual([[one], [other]])
})

it.each([sharedGcr3, viommuMapLinux73])('the pages of a table come back with it: $letter', (policy) => {
  const machine = Machine.create({ policy, lastDeviceId: 0x1f, pages: { first: spa(0x100000n), pages: 24 } })
  const { driver } = machine
  machine.run(driver.allocateGuestTable())
  machine.run(driver.allocateProcess())
  machine.run(driver.probe(one, 1, 0, { maxPasids: 0x1000 }))
  for (let i = 0; i < 20; i++) {
    machine.run(driver.attach(one, guest))
    for (const pasid of [9, 600]) machine.run(driver.attachPasid([one], pasid, process))
    for (const pasid of [9, 600]) machine.run(driver.detachPasid([one], pasid))
    machine.run(driver.detach(one))
  }
})

describe('a process that comes and goes on one of two devices (S17)', () => {
  const cycles = 5

  /** Stores into device table entries, with and without the merge that was asked for in the end. */
  function thrash(policy: DomainIdPolicy): {
    stores: number
    merge: number
    tables: number
    stayer: string[][]
  } {
    const machine = shared(policy)
    const { driver } = machine
    const stayer: string[][] = []
    let stores = 0
    for (let i = 0; i < cycles; i++) {
      for (const toggle of [
        () => driver.attachPasid([one], 9, process),
        () => driver.detachPasid([one], 9),
      ]) {
        const outcome = toggle()
        stores += entryStores(machine, outcome)
        stayer.push(...watched(machine, outcome, [other])[0]!)
      }
    }
    const asked = driver.mergeTables()
    const merge = entryStores(machine, asked)
    machine.run(asked)
    expect([reaches(machine, one), reaches(machine, other)]).toEqual([bare, bare])
    return {
      stores,
      merge,
      tables: driver.gcr3Tables.length,
      stayer: [...new Set(stayer.map(String))].map((each) => each.split(',')),
    }
  }

  it('merged at once, it is moved each time', () => {
    expect(thrash(sharedGcr3)).toEqual({ stores: 2 * cycles, merge: 0, tables: 1, stayer: [bare] })
  })

  it('merged when asked for, it is moved once, and back once', () => {
    const policy: DomainIdPolicy = { ...sharedGcr3, merging: 'when-asked' }
    expect(thrash(policy)).toEqual({ stores: 1, merge: 1, tables: 1, stayer: [bare] })
  })
})

describe('a shared table that leaves an IOMMU', () => {
  it('is flushed there, and no more after that', () => {
    const machine = shared(sharedGcr3, [one, third])
    const { driver } = machine
    reaches(machine, third)
    expect(machine.iommus[1]!.iotlbEntries()).toHaveLength(1)
    const outcome = driver.detach(third)
    expect(linesOf(machine, outcome).slice(-2)).toEqual(['PAGES 3 all PDE', 'WAIT'])
    expect(outcome.ok && outcome.effects.at(-2)).toMatchObject({ kind: 'command', iommu: 1 })
    expect(machine.iommus[1]!.iotlbEntries()).toEqual([])
    const unmap = driver.unmap(guest, iova(inDomain), 0x1000n)
    expect(unmap.ok && unmap.effects.flatMap((each) => ('iommu' in each ? [each.iommu] : []))).toEqual([
      0, 0, 0,
    ])
  })

  it('is not flushed while another of its devices is there', () => {
    const machine = shared()
    expect(linesOf(machine, machine.driver.detach(one)).filter((line) => line.startsWith('PAGES'))).toEqual(
      [],
    )
  })

  it('is gone with the last device, its DomainID clean', () => {
    const machine = shared()
    const { driver } = machine
    machine.run(driver.detach(one))
    reaches(machine, other)
    expect(linesOf(machine, driver.detach(other)).slice(-2)).toEqual(['PAGES 3 all PDE', 'WAIT'])
    expect(machine.iommu.iotlbEntries()).toEqual([])
    expect(driver.gcr3Tables).toEqual([])
  })
})

it('a device that moves between domains with equal tables stays on its table', () => {
  const machine = shared(sharedGcr3, [])
  const { driver } = machine
  machine.run(driver.probe(one, 1, 0, withPasids))
  const identities = [0, 1].map(() => machine.run(driver.allocateIdentity()))
  for (const identity of identities) machine.run(driver.replace(one, identity))
  expect(driver.gcr3Tables).toMatchObject([{ devices: [one] }])
  machine.run(driver.attachPasid([one], 9, process))
  expect(reaches(machine, one)).toEqual(['translated 5000', 'translated a000'])
  machine.run(driver.detachPasid([one], 9))
  machine.run(driver.detach(one))
  expect(driver.gcr3Tables).toEqual([])
})

describe('tables are never one where', () => {
  /** How many tables two devices have. */
  function tablesOf(
    traits: readonly Partial<DeviceTraits>[],
    domains: (machine: Machine) => readonly number[],
  ): number {
    const machine = shared(sharedGcr3, [])
    const numbers = domains(machine)
    traits.forEach((each, i) => {
      machine.run(machine.driver.probe(0x80 + i, i, 0, each))
      machine.run(machine.driver.attach(0x80 + i, numbers[i]!))
    })
    return machine.driver.gcr3Tables.length
  }
  const [small, large] = [{ maxPasids: 512 }, { maxPasids: 513 }]

  it('GLX differs', () => {
    expect(tablesOf([small, large], () => [guest, guest])).toBe(2)
    expect(tablesOf([small, { maxPasids: 2 }], () => [guest, guest])).toBe(1)
    expect(tablesOf([large, { maxPasids: 0x40000 }], () => [guest, guest])).toBe(1)
  })

  it('the domains differ, or the levels of their tables', () => {
    const two = ({ driver }: Machine, levels: 4 | 5, run: Machine['run']): number[] => [
      guest,
      run(driver.allocateGuestTable({ levels })),
    ]
    expect(tablesOf([small, small], (machine) => two(machine, 4, (each) => machine.run(each)))).toBe(2)
    expect(tablesOf([small, small], (machine) => two(machine, 5, (each) => machine.run(each)))).toBe(2)
  })

  it('one is beside identity and the other is not, which differ in GIoV (S32)', () => {
    const machine = shared(sharedGcr3, [one])
    const { driver } = machine
    machine.run(driver.probe(other, 7, 0, withPasids))
    machine.run(driver.attach(other, machine.run(driver.allocateIdentity())))
    machine.run(driver.attachPasid([one], 9, process))
    machine.run(driver.attachPasid([other], 9, process))
    expect(driver.gcr3Tables.map(({ shape }) => shape.usesPasidZero)).toEqual([true, false])
    expect(entryOf(machine, one).domainId).not.toBe(entryOf(machine, other).domainId)
    // Without PASID the one goes through the guest table, and the other passes as it is.
    expect(reaches(machine, one)).toEqual(bound)
    expect(reaches(machine, other)).toEqual(['translated 5000', 'translated a000'])
  })
})

describe('a group', () => {
  const [a, b] = [0x30, 0x31]
  const [nestedA, nestedB] = [2, 3]
  const [frameOfA, frameOfB] = ['40080000', '40090000']

  /** Two members of one group under a guest that has two nested domains; both are on the first. */
  function pair(policy: DomainIdPolicy, traits: readonly Partial<DeviceTraits>[] = [{}, {}]): Machine {
    const machine = hostMachine(policy)
    const { driver } = machine
    machine.run(driver.probe(a, 40, 0, traits[0]))
    machine.run(driver.probe(b, 40, 0, traits[1]))
    const owner = addGuest(machine, 0x4000_0000n)
    nest(machine, owner, 5)
    nest(machine, owner, 6)
    for (const device of [a, b]) put(machine, device, nestedA)
    return machine
  }
  const states = ({ driver }: Machine): string[] => driver.groupState(40).map(({ state }) => state)
  const leads = (machine: Machine, device: number, address = page): string =>
    answer(machine.iommu.request({ deviceId: device, iova: address }))

  it.each([viommuMap, convergingMap])(
    '$letter: members follow their own entries, and converge with them (S13)',
    (policy) => {
      const machine = pair(policy)
      const { driver } = machine
      expect(states(machine)).toEqual(['common', 'common'])
      machine.run(driver.attach(a, nestedB))
      expect(states(machine)).toEqual(['own', 'own'])
      const [idOfA, idOfB] = [a, b].map((device) => entryOf(machine, device).domainId)
      expect(idOfA).not.toBe(idOfB)
      for (const device of [a, b]) expect(leads(machine, device)).toBe(`translated ${frameOfA}`)
      machine.run(driver.attach(b, nestedB))
      expect(states(machine)).toEqual(['common', 'common'])
      expect(entryOf(machine, a).domainId).toBe(entryOf(machine, b).domainId)
      expect(entryOf(machine, a).domainId).toBe(idOfA)
    },
  )

  it('does not wait for a member that is being reset, or gone; the member comes back to its own key', () => {
    const machine = pair(convergingMap)
    const { driver } = machine
    machine.run(driver.beginReset(a))
    expect(states(machine)).toEqual(['out', 'common'])
    machine.run(driver.attach(b, nestedB))
    expect(states(machine)).toEqual(['out', 'common'])
    machine.run(driver.endReset(a))
    expect(states(machine)).toEqual(['own', 'own'])
    machine.run(driver.unplug(a))
    expect(states(machine)).toEqual(['common'])
  })

  it('under CX converges on one table as soon as its members’ tables are equal', () => {
    const machine = shared(convergingGcr3, [])
    const { driver } = machine
    for (const device of [a, b]) {
      machine.run(driver.probe(device, 40, 0, withPasids))
      machine.run(driver.attach(device, guest))
    }
    expect(states(machine)).toEqual(['common', 'common'])
    machine.run(driver.attachPasid([a], 9, process))
    expect(states(machine)).toEqual(['own', 'own'])
    machine.run(driver.attachPasid([b], 9, process))
    expect(states(machine)).toEqual(['common', 'common'])
    expect(driver.gcr3Tables).toHaveLength(1)
  })

  describe('whose members share a DeviceID (S14)', () => {
    const alias = 0x38
    const sharing = [{ aliases: [alias] }, { aliases: [alias] }]
    const conflicts = ({ driver }: Machine): (readonly number[])[] =>
      driver.groupState(40).map(({ conflictsWith }) => conflictsWith)

    it('has one translation while they agree', () => {
      const machine = pair(convergingMap, sharing)
      expect(conflicts(machine)).toEqual([[], []])
      for (const device of [a, b, alias]) expect(leads(machine, device)).toBe(`translated ${frameOfA}`)
    })

    it('CM: passes nothing while they differ, tells so, and goes on when they agree', () => {
      const machine = pair(convergingMap, sharing)
      const { driver } = machine
      machine.run(driver.attach(a, nestedB))
      expect(conflicts(machine)).toEqual([[b], [a]])
      for (const device of [a, b, alias]) {
        expect(leads(machine, device)).toBe('fault')
        expect(machine.entry(device)).toEqual(machine.entry(alias))
      }
      machine.run(driver.attach(b, nestedB))
      expect(conflicts(machine)).toEqual([[], []])
      for (const device of [a, b, alias]) expect(leads(machine, device)).toBe(`translated ${frameOfA}`)
      expect(entryOf(machine, alias).domainId).toBe(entryOf(machine, a).domainId)
    })

    it.each([
      ['CM: the other goes on', convergingMap, `translated ${frameOfA}`],
      ['M: what they share is blocked with it, as Linux has it', viommuMap, 'fault'],
    ])('when one leaves, %s', (_name, policy, atAlias) => {
      const machine = pair(policy, sharing)
      machine.run(machine.driver.detach(a))
      expect(leads(machine, a)).toBe('fault')
      expect(leads(machine, b)).toBe(`translated ${frameOfA}`)
      expect(leads(machine, alias)).toBe(atAlias)
    })

    it('M: the last one decides, so that one member may be translated by the other’s tables', () => {
      const machine = pair(viommuMap, sharing)
      machine.run(machine.driver.attach(a, nestedB))
      expect(conflicts(machine)).toEqual([[b], [a]])
      expect(entryOf(machine, alias).domainId).toBe(entryOf(machine, a).domainId)
      expect(entryOf(machine, alias).domainId).not.toBe(entryOf(machine, b).domainId)
    })
  })

  it('has the guest’s frames at both addresses', () => {
    const machine = pair(viommuMap)
    expect([frame, same].map((each) => (0x4000_0000n + each).toString(16))).toEqual([frameOfA, frameOfB])
    expect(leads(machine, a, same)).toBe(`translated ${frameOfB}`)
  })
})

it('tables of one domain under S have one DomainID whatever is in them, which is its mistake (I11)', () => {
  const machine = shared(perHostTable)
  machine.run(machine.driver.attachPasid([one], 9, process))
  reaches(machine, one)
  // The other device never got the process, but is served from what the first one cached.
  expect(reaches(machine, other)).toEqual(bound)
})
