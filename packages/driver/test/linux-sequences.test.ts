/**
 * What Linux 7.3 does, store by store and command by command, for each operation: drivers/iommu/amd/iommu.c, nested.c and
 * pasid.c. The policy is the one with all gaps.
 */
import { iova, spa } from '@nestwalk/bits'
import { viommuMapLinux73 } from '@nestwalk/driver'
import type { DeviceTraits, Effect, Outcome } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { guestEntry } from './guest-entry.js'
import { Machine, readWrite, told, withoutTables } from './machine.js'
import type { MachineOptions } from './machine.js'

const deviceId = 0x18
const [parent, host, guest, viommu] = [1, 2, 3, 1]
const [nested, otherNested, fiveLevelNested] = [4, 5, 6]
/** DomainIDs are handed out lowest first: three domains, then the two guest DomainIDs; the GCR3 table is next. */
const [parentId, hostId, nestedId, otherNestedId, gcr3Id] = [1, 2, 4, 5, 6]

const plain: Partial<DeviceTraits> = {}
const withAts: Partial<DeviceTraits> = { atsQueueDepth: 32 }
const withPasids: Partial<DeviceTraits> = { atsQueueDepth: 32, maxPasids: 256, pageRequests: true }
const withAlias: Partial<DeviceTraits> = { atsQueueDepth: 32, aliases: [0x20] }

/** One device, and the domains named above. */
function on(traits: Partial<DeviceTraits>, ...domains: number[]): Machine {
  return moved(machineWithDomains(traits), ...domains)
}

function machineWithDomains(traits: Partial<DeviceTraits>, options: MachineOptions = {}): Machine {
  const machine = Machine.create({ policy: viommuMapLinux73, ...options })
  const { driver } = machine
  machine.run(driver.probe(deviceId, 1, 0, traits))
  machine.run(driver.allocateHostTable({ nestParent: true, dirtyTracking: true }))
  machine.run(driver.allocateHostTable({ dirtyTracking: true }))
  machine.run(driver.allocateGuestTable())
  machine.run(driver.createViommu(parent))
  machine.run(driver.allocateNested(viommu, guestEntry(5)))
  machine.run(driver.allocateNested(viommu, guestEntry(6)))
  machine.run(driver.allocateNested(viommu, guestEntry(6, { guestPagingMode: 1 })))
  return machine
}

function moved(machine: Machine, ...domains: number[]): Machine {
  for (const domain of domains) machine.run(machine.driver.attach(deviceId, domain))
  return machine
}

/** The lines of an operation without those that fill tables. */
const linesOf = (machine: Machine, operation: (machine: Machine) => Outcome<unknown>): string[] =>
  withoutTables(machine.tell(operation(machine)))

const attach =
  (domain: number) =>
  ({ driver }: Machine): Outcome<unknown> =>
    driver.attach(deviceId, domain)
const detach = ({ driver }: Machine): Outcome<unknown> => driver.detach(deviceId)

// The pieces of which the kernel's sequences are made.
const upperFirst = ['00:03.0 upper', '00:03.0 lower', 'DEVTAB 00:03.0', 'WAIT']
const lowerFirst = ['00:03.0 lower', '00:03.0 upper', 'DEVTAB 00:03.0', 'WAIT']
const lowerOnly = ['00:03.0 lower']
const flushEntry = ['DEVTAB 00:03.0', 'WAIT']
const flushEntryAndTlb = ['DEVTAB 00:03.0', 'IOTLB 00:03.0 all', 'WAIT']
const pages = (...ids: number[]): string[] => [...ids.map((id) => `PAGES ${id} all PDE`), 'WAIT']
const pasidPages = (id: number, pasid = 0): string[] => [`PAGES ${id} all PDE GN ${pasid}`, 'WAIT']
const turn = (how: 'on' | 'off', ...features: string[]): string[] =>
  features.map((feature) => `${feature} 00:03.0 ${how}`)

type Case = readonly [
  name: string,
  machine: () => Machine,
  operation: (machine: Machine) => Outcome<unknown>,
  lines: readonly string[],
]

const check = (cases: readonly Case[]): void => {
  it.each(cases)('%s', (_name, machine, operation, lines) => {
    expect(linesOf(machine(), operation)).toEqual(lines)
  })
}

describe('the update of a device table entry, by old and new entry', () => {
  check([
    [
      'without guest tables: the upper half, then the lower one',
      () => on(plain),
      attach(host),
      [...upperFirst, ...flushEntry],
    ],
    [
      'guest tables go: the lower half first, for it has GV',
      () => on(plain, nested),
      attach(host),
      [...lowerFirst, ...flushEntry, ...pages(nestedId)],
    ],
    [
      'other guest tables of one level: the lower half only',
      () => on(plain, nested),
      attach(otherNested),
      [...lowerOnly, ...flushEntry],
    ],
    [
      'another guest paging level: through a lower half of zeros, so V=0 (U19)',
      () => on(plain, nested),
      attach(fiveLevelNested),
      [...lowerOnly, ...flushEntry, ...upperFirst, ...flushEntry],
    ],
    [
      'the same backwards',
      () => on(plain, fiveLevelNested),
      attach(otherNested),
      [...lowerOnly, ...flushEntry, ...upperFirst, ...flushEntry],
    ],
    [
      'an alias is updated by the same procedure, then both are flushed, then the device TLB',
      () => on(withAlias),
      attach(host),
      [
        ...turn('on', 'ats'),
        ...upperFirst,
        ...['00:04.0 upper', '00:04.0 lower', 'DEVTAB 00:04.0', 'WAIT'],
        ...['DEVTAB 00:03.0', 'DEVTAB 00:04.0', 'IOTLB 00:03.0 all', 'WAIT'],
      ],
    ],
    [
      'an alias is taken through V=0 too',
      () => on({ aliases: [0x20] }, nested),
      attach(fiveLevelNested),
      [
        ...[...lowerOnly, ...flushEntry, ...upperFirst],
        ...['00:04.0 lower', 'DEVTAB 00:04.0', 'WAIT'],
        ...['00:04.0 upper', '00:04.0 lower', 'DEVTAB 00:04.0', 'WAIT'],
        ...['DEVTAB 00:03.0', 'DEVTAB 00:04.0', 'WAIT'],
      ],
    ],
  ])

  it('the zero of another guest paging level has V=0, and only the closing flush ends that', () => {
    const machine = on(plain, nested)
    const outcome = attach(fiveLevelNested)(machine)
    if (!outcome.ok) throw new Error(outcome.why)
    const seen = outcome.effects.map((effect) => {
      machine.carryOut([effect])
      return Number(machine.entry(deviceId)[0] & 1n)
    })
    expect(seen).toEqual([0, 0, 0, 0, 1, 1, 1, 1, 1])
  })
})

describe('attach from blocked', () => {
  check([
    ['a host table', () => on(plain), attach(host), [...upperFirst, ...flushEntry]],
    [
      'a host table, with ATS: it is on before the entry allows it, and nothing else is',
      () => on(withPasids),
      attach(host),
      [...turn('on', 'ats'), ...upperFirst, ...flushEntryAndTlb],
    ],
    [
      'a guest table: GCR3[0] is set and flushed before the entry names it',
      () => on(plain),
      attach(guest),
      [...pasidPages(gcr3Id), ...upperFirst, ...flushEntry],
    ],
    [
      'a guest table, with ATS, PASIDs and page requests',
      () => on(withPasids),
      attach(guest),
      [...pasidPages(gcr3Id), ...turn('on', 'pasid', 'ats', 'pri'), ...upperFirst, ...flushEntryAndTlb],
    ],
    [
      'nested: neither ATS nor anything else is turned on',
      () => on(withPasids),
      attach(nested),
      [...upperFirst, ...flushEntry],
    ],
  ])

  it.each([
    ['without PASIDs', withAts, turn('on', 'ats')],
    // The table is empty, so there is nothing to flush.
    ['with PASIDs', withPasids, turn('on', 'pasid', 'ats', 'pri')],
  ])('identity, %s', (_name, traits, features) => {
    const machine = on(traits)
    const identity = machine.run(machine.driver.allocateIdentity())
    expect(linesOf(machine, attach(identity))).toEqual([...features, ...upperFirst, ...flushEntryAndTlb])
  })
})

describe('detach', () => {
  check([
    [
      'a host table: entry, then all pages of the domain',
      () => on(plain, host),
      detach,
      [...upperFirst, ...flushEntry, ...pages(hostId)],
    ],
    [
      'a host table, with ATS: that is off first, so no device TLB is flushed',
      () => on(withAts, host),
      detach,
      [...turn('off', 'ats'), ...upperFirst, ...flushEntry, ...pages(hostId)],
    ],
    [
      'a guest table: the domain’s flush, and once more as GCR3[0] is cleared; the ID goes without a flush of its own',
      () => on(plain, guest),
      detach,
      [...lowerFirst, ...flushEntry, ...pasidPages(gcr3Id), ...pasidPages(gcr3Id)],
    ],
    [
      'a guest table, with ATS, PASIDs and page requests',
      () => on(withPasids, guest),
      detach,
      [
        ...turn('off', 'ats', 'pasid', 'pri'),
        ...lowerFirst,
        ...flushEntry,
        ...pasidPages(gcr3Id),
        ...pasidPages(gcr3Id),
      ],
    ],
    [
      'a nest parent: its own ID and every live nested one',
      () => on(plain, parent),
      detach,
      [...upperFirst, ...flushEntry, ...pages(parentId, nestedId, otherNestedId)],
    ],
    [
      'host to host is detach and attach, blocked in between',
      () => on(withAts, host),
      attach(parent),
      [
        ...[...turn('off', 'ats'), ...upperFirst, ...flushEntry, ...pages(hostId)],
        ...[...turn('on', 'ats'), ...upperFirst, ...flushEntryAndTlb],
      ],
    ],
    ['the same domain again: nothing', () => on(withAts, host), attach(host), []],
  ])

  it('identity with PASIDs: the table’s ID gets no flush of its own', () => {
    const machine = on(withPasids)
    const identity = machine.run(machine.driver.allocateIdentity())
    machine.run(attach(identity)(machine))
    const lines = linesOf(machine, detach)
    expect(lines.slice(0, 9)).toEqual([...turn('off', 'ats', 'pasid', 'pri'), ...lowerFirst, ...flushEntry])
    // DomainID 6 is the identity domain's, 7 the table's.
    expect(lines.filter((line) => line.startsWith('PAGES 7'))).toEqual([])
  })

  it('identity without PASIDs: all pages of its ID', () => {
    const machine = on(plain)
    const identity = machine.run(machine.driver.allocateIdentity())
    machine.run(attach(identity)(machine))
    expect(linesOf(machine, detach)).toEqual([...upperFirst, ...flushEntry, ...pages(6)])
  })

  it('reaches the device TLBs of the others on the domain, and the IDs of their GCR3 tables', () => {
    const lines = [host, guest].map((domain) => {
      const machine = machineWithDomains(withAts)
      machine.run(machine.driver.probe(0x28, 2, 0, withAts))
      moved(machine, domain)
      machine.run(machine.driver.attach(0x28, domain))
      return linesOf(machine, detach).slice(turn('off', 'ats').length + lowerFirst.length + flushEntry.length)
    })
    expect(lines).toEqual([
      ['PAGES 2 all PDE', 'IOTLB 00:05.0 all', 'WAIT'],
      [
        ...['PAGES 6 all PDE GN 0', 'PAGES 7 all PDE GN 0', 'IOTLB 00:05.0 all GN 0', 'WAIT'],
        ...pasidPages(gcr3Id),
      ],
    ])
  })
})

describe('a nested device in state P: its parent is the recorded domain', () => {
  const state = (): Machine => on(withAts, parent, nested)

  it('comes there by the entry alone, with ATS on', () => {
    expect(linesOf(on(withAts, parent), attach(nested))).toEqual([...upperFirst, ...flushEntryAndTlb])
  })

  const leaves = [
    ...[...turn('off', 'ats'), ...lowerFirst, ...flushEntry],
    ...pages(parentId, nestedId, otherNestedId),
  ]
  check([
    ['to blocked: the detach of the parent, with the flush of every live nested ID', state, detach, leaves],
    ['to the parent: nothing (U6)', state, attach(parent), []],
    [
      'to another paging domain: detach of the parent, then attach',
      state,
      attach(host),
      [...leaves, ...turn('on', 'ats'), ...upperFirst, ...flushEntryAndTlb],
    ],
    [
      'to another nested domain: the entry alone',
      state,
      attach(otherNested),
      [...lowerOnly, ...flushEntryAndTlb],
    ],
  ])
})

describe('a nested device in state B: it came from blocked, and nothing is recorded', () => {
  const state = (): Machine => on(withAts, nested)
  const arrives = [...turn('on', 'ats'), ...lowerFirst, ...flushEntryAndTlb, ...pages(nestedId)]
  check([
    ['to blocked: the entry alone (U2)', state, detach, [...lowerFirst, ...flushEntry]],
    [
      'to the parent: a whole attach, which finds the nested ID and flushes it',
      state,
      attach(parent),
      arrives,
    ],
    ['to another paging domain: the same, never blocked in between', state, attach(host), arrives],
    [
      'to a guest table of as many levels: the same, and only the lower half changes',
      () => on(withAts, fiveLevelNested),
      attach(guest),
      [
        ...[...pasidPages(gcr3Id), ...turn('on', 'ats'), ...lowerOnly, ...flushEntryAndTlb],
        ...pages(otherNestedId),
      ],
    ],
    [
      'to a guest table of more levels: the same, through V=0 (U19)',
      state,
      attach(guest),
      [
        ...[...pasidPages(gcr3Id), ...turn('on', 'ats'), ...lowerOnly, ...flushEntry, ...upperFirst],
        ...[...flushEntryAndTlb, ...pages(nestedId)],
      ],
    ],
    ['to another nested domain: the entry alone', state, attach(otherNested), [...lowerOnly, ...flushEntry]],
  ])
})

describe('a nested device in state O: another paging domain is recorded', () => {
  const state = (): Machine => on(withAts, host, nested)

  it('comes there by the entry alone, with ATS on; what it leaves is not flushed', () => {
    expect(linesOf(on(withAts, host), attach(nested))).toEqual([...upperFirst, ...flushEntryAndTlb])
  })

  const leaves = [...turn('off', 'ats'), ...lowerFirst, ...flushEntry, ...pages(hostId)]
  check([
    ['to blocked: the detach of that domain; the nested ID is not flushed', state, detach, leaves],
    [
      'to the parent: detach of that domain, then attach, which finds a blocked entry',
      state,
      attach(parent),
      [...leaves, ...turn('on', 'ats'), ...upperFirst, ...flushEntryAndTlb],
    ],
    ['to that domain: nothing (U6)', state, attach(host), []],
    [
      'to another nested domain: the entry alone',
      state,
      attach(otherNested),
      [...lowerOnly, ...flushEntryAndTlb],
    ],
  ])
})

describe('unmap', () => {
  /** A device for each line of the list, which is the IOMMU that it is behind; all on one domain. */
  function crowd(domain: number, where: readonly number[], traits: Partial<DeviceTraits>): Machine {
    const machine = machineWithDomains(plain, { iommus: 2 })
    where.forEach((iommu, i) => {
      machine.run(machine.driver.probe(0x40 + i, 10 + i, iommu, traits))
      machine.run(machine.driver.attach(0x40 + i, domain))
    })
    machine.run(machine.driver.map(domain, iova(0x8000n), spa(0x9000n), 0x4000n, readWrite))
    return machine
  }

  /** Lines with the IOMMU that each command and wait goes to in front. */
  function placed(machine: Machine, outcome: Outcome<unknown>): string[] {
    if (!outcome.ok) throw new Error(outcome.why)
    const line = (effect: Effect): string[] =>
      'iommu' in effect ? [`${effect.iommu}: ${told(effect, machine.driver.deviceTable)}`] : []
    return outcome.effects.flatMap(line)
  }

  const unmap = (machine: Machine, domain: number): string[] =>
    placed(machine, machine.driver.unmap(domain, iova(0x8000n), 0x2000n))

  it('in a host table: each IOMMU once, each device TLB once, each IOMMU waits', () => {
    expect(unmap(crowd(host, [0, 1, 0], withAts), host)).toEqual([
      ...['0: PAGES 2 8000+2000', '1: PAGES 2 8000+2000'],
      ...['0: IOTLB 00:08.0 8000+2000', '1: IOTLB 00:08.1 8000+2000', '0: IOTLB 00:08.2 8000+2000'],
      ...['0: WAIT', '1: WAIT'],
    ])
  })

  it('in a nest parent: the IDs of nested domains come after its own, on the IOMMU of the vIOMMU', () => {
    expect(unmap(crowd(parent, [1, 0], plain), parent)).toEqual([
      ...['0: PAGES 1 8000+2000', '1: PAGES 1 8000+2000'],
      ...['0: PAGES 4 8000+2000', '0: PAGES 5 8000+2000'],
      ...['0: WAIT', '1: WAIT'],
    ])
  })

  it('in a nest parent: device TLBs are flushed by guest physical range (U10)', () => {
    const machine = on(withAts, parent, nested)
    machine.run(machine.driver.map(parent, iova(0x8000n), spa(0x9000n), 0x1000n, readWrite))
    expect(linesOf(machine, ({ driver }) => driver.unmap(parent, iova(0x8000n), 0x1000n))).toEqual([
      ...['PAGES 1 8000+1000', 'PAGES 4 8000+1000', 'PAGES 5 8000+1000', 'IOTLB 00:03.0 8000+1000', 'WAIT'],
    ])
  })

  it('in a nest parent whose devices all came from blocked: nobody waits (U4), no device TLB (U5)', () => {
    const machine = on(withAts, nested)
    machine.run(machine.driver.map(parent, iova(0x8000n), spa(0x9000n), 0x1000n, readWrite))
    expect(linesOf(machine, ({ driver }) => driver.unmap(parent, iova(0x8000n), 0x1000n))).toEqual([
      ...['PAGES 4 8000+1000', 'PAGES 5 8000+1000'],
    ])
  })

  it('in a guest table: each device once, each device TLB once, each IOMMU waits', () => {
    expect(unmap(crowd(guest, [0, 1], withAts), guest)).toEqual([
      ...['0: PAGES 6 8000+2000 GN 0', '1: PAGES 7 8000+2000 GN 0'],
      ...['0: IOTLB 00:08.0 8000+2000 GN 0', '1: IOTLB 00:08.1 8000+2000 GN 0'],
      ...['0: WAIT', '1: WAIT'],
    ])
  })

  it('in a guest table with 32 devices on two IOMMUs: 32 + 32 + 2 commands', () => {
    const where = Array.from({ length: 32 }, (_, i) => i % 2)
    const lines = unmap(crowd(guest, where, withAts), guest)
    const count = (word: string): number => lines.filter((line) => line.includes(word)).length
    expect([count('PAGES'), count('IOTLB'), count('WAIT'), lines.length]).toEqual([32, 32, 2, 66])
  })

  it('with table pages freed has PDE; the range is rounded up to one aligned power of two', () => {
    const machine = on(plain, host)
    const { driver } = machine
    machine.run(driver.map(host, iova(0x3000n), spa(0x9000n), 0x3000n, readWrite))
    machine.run(driver.map(host, iova(0x20_0000n), spa(0x40_1000n), 0x20_0000n, readWrite))
    // 3000h to 5FFFh need 0 to 7FFFh.
    expect(linesOf(machine, () => driver.unmap(host, iova(0x3000n), 0x3000n))).toEqual([
      ...['PAGES 2 0+8000', 'WAIT'],
    ])
    // Pages of 4 KiB fill a table page, which goes with them.
    expect(linesOf(machine, () => driver.unmap(host, iova(0x20_0000n), 0x20_0000n))).toEqual([
      ...['PAGES 2 200000+200000 PDE', 'WAIT'],
    ])
  })

  it('lazily sends nothing; the flush then takes the whole domain', () => {
    const machine = on(withAts, host)
    const { driver } = machine
    machine.run(driver.map(host, iova(0x8000n), spa(0x9000n), 0x1000n, readWrite))
    expect(linesOf(machine, () => driver.unmap(host, iova(0x8000n), 0x1000n, 'lazy'))).toEqual([])
    expect(linesOf(machine, () => driver.flush(host))).toEqual([
      ...['PAGES 2 all PDE', 'IOTLB 00:03.0 all', 'WAIT'],
    ])
  })

  it('map sends nothing', () => {
    const machine = on(withAts, host)
    const map = ({ driver }: Machine): Outcome<unknown> =>
      driver.map(host, iova(0x8000n), spa(0x9000n), 0x1000n, readWrite)
    expect(linesOf(machine, map)).toEqual([])
  })

  it('map flushes the new range with PDE where absent entries may be cached', () => {
    const machine = moved(machineWithDomains(plain, { npCache: true }), host)
    const map = ({ driver }: Machine): Outcome<unknown> =>
      driver.map(host, iova(0x8000n), spa(0x9000n), 0x1000n, readWrite)
    expect(linesOf(machine, map)).toEqual(['PAGES 2 8000+1000 PDE', 'WAIT'])
  })
})

describe('growth of a host table', () => {
  const grow =
    (domain: number) =>
    ({ driver }: Machine): Outcome<unknown> =>
      driver.map(domain, iova(1n << 39n), spa(0x9000n), 0x1000n, readWrite)

  check([
    [
      'each device gets a whole entry, with a flush of the ID that it carries; then all entries are flushed again',
      () => on(withAts, host),
      grow(host),
      [...upperFirst, ...flushEntryAndTlb, ...pages(hostId), ...flushEntryAndTlb],
    ],
    [
      'a nested device in state P gets an entry of the parent alone, and loses its own ID (U7)',
      () => on(withAts, parent, nested),
      grow(parent),
      [...lowerFirst, ...flushEntryAndTlb, ...pages(nestedId), ...flushEntryAndTlb],
    ],
    ['a nested device in state B is not touched (U8)', () => on(withAts, nested), grow(parent), []],
    [
      'of two devices: one entry after the other, then all flushes, then one wait',
      () => {
        const machine = on(plain, host)
        machine.run(machine.driver.probe(0x20, 2))
        machine.run(machine.driver.attach(0x20, host))
        return machine
      },
      grow(host),
      [
        ...[...upperFirst, ...flushEntry, ...pages(hostId)],
        ...[...upperFirst, ...flushEntry].map((line) => line.replace('00:03.0', '00:04.0')),
        ...[...pages(hostId), 'DEVTAB 00:03.0', 'DEVTAB 00:04.0', 'WAIT'],
      ],
    ],
    [
      'an alias is copied twice',
      () => on(withAlias, host),
      grow(host),
      [
        ...upperFirst,
        ...['00:04.0 upper', '00:04.0 lower', 'DEVTAB 00:04.0', 'WAIT'],
        ...['DEVTAB 00:03.0', 'DEVTAB 00:04.0', 'IOTLB 00:03.0 all', 'WAIT'],
        ...pages(hostId),
        ...['00:04.0 upper', '00:04.0 lower', 'DEVTAB 00:04.0', 'WAIT'],
        ...['DEVTAB 00:03.0', 'DEVTAB 00:04.0', 'IOTLB 00:03.0 all', 'WAIT'],
      ],
    ],
  ])
})

describe('a process behind a PASID', () => {
  /** A device on a guest table (its GCR3 table has DomainID 6) and a process (domain 7, DomainID 7). */
  function bound(...pasids: number[]): Machine {
    const machine = on(withPasids, guest)
    machine.run(machine.driver.allocateProcess())
    for (const pasid of pasids) machine.run(machine.driver.attachPasid([deviceId], pasid, process))
    return machine
  }
  const process = 7
  const pasidFlush = (pasid: number, dev = '00:03.0', id = gcr3Id): string[] => [
    `PAGES ${id} all PDE GN ${pasid}`,
    `IOTLB ${dev} all GN ${pasid}`,
    'WAIT',
  ]

  it('is entered, and that PASID flushed', () => {
    const machine = bound()
    expect(machine.tell(machine.driver.attachPasid([deviceId], 9, process))).toEqual([
      'tables',
      ...pasidFlush(9),
    ])
  })

  it('is cleared, and that PASID flushed', () => {
    const machine = bound(9)
    expect(machine.tell(machine.driver.detachPasid([deviceId], 9))).toEqual(['tables', ...pasidFlush(9)])
  })

  it('goes to several devices one after the other', () => {
    const machine = bound()
    machine.run(machine.driver.probe(0x28, 1, 0, withPasids))
    machine.run(machine.driver.attach(0x28, guest))
    expect(machine.tell(machine.driver.attachPasid([deviceId, 0x28], 9, process))).toEqual([
      ...['tables', ...pasidFlush(9)],
      ...['tables', ...pasidFlush(9, '00:05.0', 8)],
    ])
  })

  it('that unmaps: one flush, one device TLB and one wait for each device and PASID', () => {
    const machine = bound(9, 10)
    machine.run(machine.driver.map(process, iova(0x8000n), spa(0x9000n), 0x4000n, readWrite))
    expect(linesOf(machine, ({ driver }) => driver.unmap(process, iova(0x8000n), 0x1000n))).toEqual([
      ...['PAGES 6 8000+1000 GN 9', 'IOTLB 00:03.0 8000+1000 GN 9', 'WAIT'],
      ...['PAGES 6 8000+1000 GN 10', 'IOTLB 00:03.0 8000+1000 GN 10', 'WAIT'],
    ])
  })

  it('is refused where the kernel refuses it', () => {
    const machine = bound(9)
    const { driver } = machine
    const refused = (pasid: number, device = deviceId): string =>
      machine.refusal(() => driver.attachPasid([device], pasid, process)).split(' ')[0]!
    // Replacing, PASID 0, a PASID beyond the device's.
    expect([refused(9), refused(0), refused(256)]).toEqual(['EOPNOTSUPP', 'EINVAL', 'EINVAL'])
    // PASIDs are not enabled: it is on a host table, or has none.
    for (const [at, traits] of [
      [0x28, withPasids],
      [0x29, plain],
    ] as const) {
      machine.run(driver.probe(at, 2, 0, traits))
      machine.run(driver.attach(at, host))
      expect(refused(1, at)).toBe('EINVAL')
    }
    // The entry has one guest paging level, and the process has tables of five.
    machine.run(driver.probe(0x2a, 2, 0, withPasids))
    machine.run(driver.attach(0x2a, machine.run(driver.allocateGuestTable({ levels: 4 }))))
    expect(refused(1, 0x2a)).toBe('EINVAL')
    // A table in host format cannot stand behind a PASID.
    expect(machine.refusal(() => driver.attachPasid([deviceId], 1, host)).split(' ')[0]).toBe('EOPNOTSUPP')
  })
})

describe('dirty tracking', () => {
  const toggle =
    (domain: number, isOn = true) =>
    ({ driver }: Machine): Outcome<unknown> =>
      driver.setDirtyTracking(domain, isOn)

  check([
    [
      'on: HAD in place, the entry flushed without a wait, then the whole domain',
      () => on(withAts, host),
      toggle(host),
      [...['DEVTAB 00:03.0', 'IOTLB 00:03.0 all'], ...['PAGES 2 all PDE', 'IOTLB 00:03.0 all', 'WAIT']],
    ],
    [
      'on, with an alias: its entry is flushed',
      () => on(withAlias, host),
      toggle(host),
      [
        ...['DEVTAB 00:03.0', 'DEVTAB 00:04.0', 'IOTLB 00:03.0 all'],
        ...['PAGES 2 all PDE', 'IOTLB 00:03.0 all', 'WAIT'],
      ],
    ],
    [
      'on, of a parent in state P: every live nested ID is flushed',
      () => on(withAts, parent, nested),
      toggle(parent),
      [
        ...['DEVTAB 00:03.0', 'IOTLB 00:03.0 all'],
        ...['PAGES 1 all PDE', 'PAGES 4 all PDE', 'PAGES 5 all PDE', 'IOTLB 00:03.0 all', 'WAIT'],
      ],
    ],
    ['on, of a parent in state B: nothing (U9)', () => on(withAts, nested), toggle(parent), []],
    ['on, without a device: nothing', () => on(plain), toggle(host), []],
  ])

  it('an alias keeps its entry without HAD', () => {
    const machine = on(withAlias, host)
    const had = (id: number): bigint => (machine.entry(id)[0] >> 7n) & 3n
    machine.run(toggle(host)(machine))
    expect([had(deviceId), had(0x20)]).toEqual([3n, 0n])
  })

  it('reading and clearing flushes the range that was read', () => {
    const machine = on(withAts, host)
    const { driver } = machine
    machine.run(driver.map(host, iova(0x8000n), spa(0x9000n), 0x4000n, readWrite))
    machine.run(driver.setDirtyTracking(host, true))
    machine.iommu.request({ deviceId, iova: 0x8000n, write: true })
    const read = driver.readDirty(host, { first: iova(0x8000n), last: iova(0x8fffn) })
    expect(withoutTables(machine.tell(read))).toEqual([
      ...['PAGES 2 8000+1000', 'IOTLB 00:03.0 8000+1000', 'WAIT'],
    ])
    expect(read).toMatchObject({ value: [{ first: 0x8000n, last: 0x8fffn }] })
  })
})

describe('reset of a device', () => {
  const begin = ({ driver }: Machine): Outcome<unknown> => driver.beginReset(deviceId)

  it('on a host table: a detach, then an attach', () => {
    const machine = on(withAts, host)
    expect(linesOf(machine, begin)).toEqual([
      ...turn('off', 'ats'),
      ...upperFirst,
      ...flushEntry,
      ...pages(hostId),
    ])
    expect(linesOf(machine, ({ driver }) => driver.endReset(deviceId))).toEqual([
      ...turn('on', 'ats'),
      ...upperFirst,
      ...flushEntryAndTlb,
    ])
  })

  it('of a nested one in state P: the detach of the parent, then the entry alone: state B (U11)', () => {
    const machine = on(withAts, parent, nested)
    expect(linesOf(machine, begin)).toEqual([
      ...[...turn('off', 'ats'), ...lowerFirst, ...flushEntry],
      ...pages(parentId, nestedId, otherNestedId),
    ])
    expect(linesOf(machine, ({ driver }) => driver.endReset(deviceId))).toEqual([
      ...upperFirst,
      ...flushEntry,
    ])
    expect(linesOf(machine, detach)).toEqual([...lowerFirst, ...flushEntry])
  })

  it('with a process: its PASID goes with the table, and comes back', () => {
    const machine = on(withPasids, guest)
    const { driver } = machine
    const process = machine.run(driver.allocateProcess())
    machine.run(driver.attachPasid([deviceId], 9, process))
    expect(linesOf(machine, begin)).toContain('PAGES 6 all PDE GN 9')
    expect(linesOf(machine, () => driver.endReset(deviceId)).slice(-3)).toEqual([
      ...['PAGES 6 all PDE GN 9', 'IOTLB 00:03.0 all GN 9', 'WAIT'],
    ])
  })

  it('meanwhile neither it nor its group may be moved, nor a PASID attached', () => {
    const machine = on(withPasids, guest)
    const { driver } = machine
    machine.run(driver.probe(0x28, 1, 0, withPasids))
    machine.run(driver.attach(0x28, guest))
    const process = machine.run(driver.allocateProcess())
    machine.run(driver.beginReset(deviceId))
    const attempts = [
      () => driver.attach(deviceId, host),
      () => driver.attach(0x28, host),
      () => driver.attachGroup(1, host),
      () => driver.attachPasid([0x28], 9, process),
    ]
    expect(attempts.map((attempt) => machine.refusal(attempt).split(' ')[0])).toEqual(
      Array.from({ length: 4 }, () => 'EBUSY'),
    )
  })
})
