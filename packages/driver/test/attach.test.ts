import { iova, spa } from '@nestwalk/bits'
import { decodeDte, nestingFeatures } from '@nestwalk/hardware'
import type { Dte } from '@nestwalk/hardware'
import { perHostTable } from '@nestwalk/driver'
import type { Outcome } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { guestEntry } from './guest-entry.js'
import { Machine, readWrite, withoutTables } from './machine.js'
import type { MachineOptions } from './machine.js'

const deviceId = 0x18
const upThenLow = ['00:03.0 upper', '00:03.0 lower']
const lowThenUp = ['00:03.0 lower', '00:03.0 upper']
const flush = ['DEVTAB 00:03.0', 'WAIT']
const twice = [...flush, ...flush]
/** PASID 0 is flushed, its entry cleared, flushed again, and then whatever the ID may have, before it is free. */
const privateTableGoes = [
  ...['PAGES 6 all PDE GN 0', 'WAIT', 'tables', 'PAGES 6 all PDE GN 0', 'WAIT'],
  ...['PAGES 6 all PDE', 'WAIT'],
]

/** A probed device, a nest parent (1), another host table (2), a guest table (3), and a vIOMMU (1) on the parent. */
function machineWithDomains(options: MachineOptions = {}): Machine {
  const machine = Machine.create(options)
  const { driver } = machine
  machine.run(driver.probe(deviceId, 1))
  machine.run(driver.allocateHostTable({ nestParent: true }))
  machine.run(driver.allocateHostTable())
  machine.run(driver.allocateGuestTable())
  machine.run(driver.createViommu(1))
  return machine
}

const [parent, host, guest, viommu] = [1, 2, 3, 1]

/** The device attached to domains one after the other. */
function on(...domains: number[]): Machine {
  const machine = machineWithDomains()
  machine.run(machine.driver.allocateNested(viommu, guestEntry(5)))
  machine.run(machine.driver.allocateNested(viommu, guestEntry(6)))
  machine.run(machine.driver.allocateNested(viommu, guestEntry(6, { guestPagingMode: 1 })))
  for (const domain of domains) machine.run(machine.driver.attach(deviceId, domain))
  return machine
}
const [nested, otherNested, fiveLevelNested] = [4, 5, 6]

const entryOf = (machine: Machine, id = deviceId): Dte =>
  decodeDte(BigUint64Array.from([...machine.entry(id)]))

describe('the effects of a move, in order', () => {
  it('attach from blocked: the entry only', () => {
    expect(on().tell(on().driver.attach(deviceId, host))).toEqual([...upThenLow, ...twice])
  })

  const moves: readonly (readonly [string, number[], (machine: Machine) => Outcome<unknown>, string[]])[] = [
    ['blocked to a host table', [], ({ driver }) => driver.attach(deviceId, host), [...upThenLow, ...twice]],
    [
      'blocked to a guest table',
      [],
      ({ driver }) => driver.attach(deviceId, guest),
      ['tables', 'PAGES 6 all PDE GN 0', 'WAIT', ...upThenLow, ...twice],
    ],
    [
      'blocked to nested (state B)',
      [],
      ({ driver }) => driver.attach(deviceId, nested),
      [...upThenLow, ...twice],
    ],
    [
      'detach of a host table: entry first, then all pages of its ID with PDE',
      [host],
      ({ driver }) => driver.detach(deviceId),
      [...upThenLow, ...twice, 'PAGES 2 all PDE', 'WAIT'],
    ],
    [
      'detach of a guest table: entry first, then PASID 0 of its ID with PDE',
      [guest],
      ({ driver }) => driver.detach(deviceId),
      [...lowThenUp, ...twice, ...privateTableGoes],
    ],
    [
      'paging to paging: blocked in between',
      [parent],
      ({ driver }) => driver.attach(deviceId, host),
      [...upThenLow, ...twice, 'PAGES 1 all PDE', 'WAIT', ...upThenLow, ...twice],
    ],
    [
      'guest table to host table: blocked in between',
      [guest],
      ({ driver }) => driver.attach(deviceId, host),
      [...lowThenUp, ...twice, ...privateTableGoes, ...upThenLow, ...twice],
    ],
    [
      'replace, paging to paging: one update, then the pages of the old ID',
      [parent],
      ({ driver }) => driver.replace(deviceId, host),
      [...upThenLow, ...twice, 'PAGES 1 all PDE', 'WAIT'],
    ],
    [
      'parent to nested: directly, and the parent stays clean of flushes',
      [parent],
      ({ driver }) => driver.attach(deviceId, nested),
      [...upThenLow, ...twice],
    ],
    [
      'another paging domain to nested (state O): directly, and its ID is flushed',
      [host],
      ({ driver }) => driver.attach(deviceId, nested),
      [...upThenLow, ...twice, 'PAGES 2 all PDE', 'WAIT'],
    ],
    [
      'nested to parent: directly',
      [parent, nested],
      ({ driver }) => driver.attach(deviceId, parent),
      [...lowThenUp, ...twice],
    ],
    [
      'nested to nested of one guest level: one store',
      [nested],
      ({ driver }) => driver.attach(deviceId, otherNested),
      ['00:03.0 lower', ...flush],
    ],
    [
      'nested to nested of another guest level: blocked in between (U19)',
      [nested],
      ({ driver }) => driver.attach(deviceId, fiveLevelNested),
      ['00:03.0 lower', ...flush, ...upThenLow, ...twice],
    ],
    [
      'nested to blocked: the entry only, for the ID is still owned',
      [nested],
      ({ driver }) => driver.detach(deviceId),
      [...lowThenUp, ...twice],
    ],
    ['attach to the same domain: nothing', [host], ({ driver }) => driver.attach(deviceId, host), []],
    ['detach of a blocked device: nothing', [], ({ driver }) => driver.detach(deviceId), []],
  ]
  it.each(moves)('%s', (_name, path, move, lines) => {
    const machine = on(...path)
    expect(machine.tell(move(machine))).toEqual(lines)
  })

  it('nested to nested of one guest DomainID: the guest flushes what it has changed', () => {
    const machine = on(nested)
    const again = machine.run(machine.driver.allocateNested(viommu, guestEntry(5, { gcr3Root: 0x77000n })))
    expect(machine.tell(machine.driver.attach(deviceId, again))).toEqual(['00:03.0 lower', ...flush])
    expect(machine.tell(machine.driver.replace(deviceId, nested))).toEqual(['00:03.0 lower', ...flush])
  })

  it('between paging domains every request is refused until the second update', () => {
    const machine = on(parent)
    const moved = machine.driver.attach(deviceId, host)
    if (!moved.ok) throw new Error(moved.why)
    const seen: boolean[] = []
    for (const effect of moved.effects) {
      machine.carryOut([effect])
      const { valid, translationValid } = entryOf(machine)
      expect(valid).toBe(true)
      if (seen.at(-1) !== translationValid) seen.push(translationValid)
    }
    expect(seen).toEqual([true, false, true])
  })
})

describe('after a move the chip answers as a fresh walk does, under the tag of the books', () => {
  const page = { iova: 0x5abcn, deviceId }

  it.each([
    ['host to host', parent, host],
    ['host to guest', host, guest],
    ['guest to host', guest, parent],
  ])('%s', (_name, from, to) => {
    const machine = on()
    const { driver } = machine
    for (const domain of [parent, host, guest]) {
      const target = spa(BigInt(domain) * 0x10_0000n)
      machine.run(driver.map(domain, iova(0x5000n), target, 0x1000n, readWrite))
    }
    machine.run(driver.attach(deviceId, from))
    machine.iommu.request(page)
    for (const move of [() => driver.attach(deviceId, to), () => driver.replace(deviceId, from)]) {
      machine.run(move())
      const fresh = machine.iommu.walkFresh(page)
      if (fresh.kind !== 'translated') throw new Error('not mapped')
      expect(machine.iommu.request(page)).toMatchObject({ spa: fresh.spa, tag: fresh.tag })
      // A host table's ID is held by the domain too, a GCR3 table's by the table.
      const users = driver.tags.find(({ domainId }) => domainId === fresh.tag?.domainId)?.users
      expect(users).toBe(driver.device(deviceId)?.gcr3 === undefined ? 2 : 1)
    }
  })

  it('an ID that a device left has no entries in the IOTLB (I6)', () => {
    const machine = on(host)
    const { driver } = machine
    machine.run(driver.map(host, iova(0x5000n), spa(0x9000n), 0x1000n, readWrite))
    machine.iommu.request(page)
    expect(machine.iommu.iotlbEntries()).toHaveLength(1)
    machine.run(driver.detach(deviceId))
    expect(machine.iommu.iotlbEntries()).toEqual([])
  })
})

describe('a nested entry', () => {
  it('is host-only again when the guest turns its tables off; the nested domain may go (S10, U6)', () => {
    const machine = on(parent, nested)
    expect(entryOf(machine)).toMatchObject({ guestValid: true, domainId: 4, mode: 3 })
    machine.run(machine.driver.attach(deviceId, parent))
    expect(entryOf(machine)).toMatchObject({ guestValid: false, gcr3Root: 0n, domainId: 1, mode: 3 })
    expect(machine.tell(machine.driver.freeDomain(nested))).toEqual(['PAGES 4 all PDE', 'WAIT'])
  })

  it.each([
    ['state P', [parent, nested]],
    ['state B', [nested]],
  ])(
    'gets the new root when its parent grows, and keeps its guest tables (S09, U7, U8): %s',
    (_name, path) => {
      const machine = on(...path)
      const { driver } = machine
      const before = entryOf(machine)
      const lines = machine.tell(driver.map(parent, iova(1n << 39n), spa(0x9000n), 0x1000n, readWrite))
      expect(withoutTables(lines)).toEqual(['00:03.0 lower', ...flush, 'PAGES 4 all PDE', 'WAIT', ...flush])
      const domain = driver.domain(parent)
      if (domain?.kind !== 'host-table') throw new Error('no host table')
      expect(entryOf(machine)).toEqual({ ...before, mode: 4, hostRoot: domain.root })
    },
  )

  it('is reached by an unmap of its parent, and waited for, though it came from blocked (S08, U4)', () => {
    const machine = on(nested)
    const { driver } = machine
    machine.run(driver.map(parent, iova(0x8000n), spa(0x9000n), 0x2000n, readWrite))
    const lines = machine.tell(driver.unmap(parent, iova(0x8000n), 0x2000n))
    expect(withoutTables(lines)).toEqual(['PAGES 4 8000+2000', 'WAIT'])
  })

  it('does not hide the parent: an unmap reaches the IDs of both, and of every nested domain', () => {
    const machine = on(parent, nested, otherNested)
    const { driver } = machine
    machine.run(driver.map(parent, iova(0x8000n), spa(0x9000n), 0x2000n, readWrite))
    const lines = machine.tell(driver.unmap(parent, iova(0x8000n), 0x2000n))
    const pages = [1, 4, 5].map((id) => `PAGES ${id} 8000+2000`)
    expect(withoutTables(lines)).toEqual([...pages, 'WAIT'])
  })
})

describe('a host table that grows under several devices', () => {
  it('rewrites the entry of each before anything beyond the old top is mapped', () => {
    const machine = on(host)
    const { driver } = machine
    machine.run(driver.probe(0x20, 2))
    machine.run(driver.attach(0x20, host))
    machine.run(driver.map(host, iova(1n << 48n), spa(0x9000n), 0x1000n, readWrite))
    for (const id of [deviceId, 0x20]) {
      expect(entryOf(machine, id)).toMatchObject({ mode: 5, domainId: 2, guestValid: false })
      expect(machine.iommu.request({ deviceId: id, iova: 1n << 48n })).toMatchObject({ spa: 0x9000n })
    }
    machine.run(driver.map(host, iova(1n << 57n), spa(0xa000n), 0x1000n, readWrite))
    for (const id of [deviceId, 0x20]) {
      expect(machine.iommu.request({ deviceId: id, iova: 1n << 57n })).toMatchObject({ spa: 0xa000n })
      machine.run(driver.detach(id))
      machine.run(driver.attach(id, host))
      expect(machine.iommu.request({ deviceId: id, iova: 1n << 57n })).toMatchObject({ spa: 0xa000n })
    }
  })
})

describe('several IOMMUs', () => {
  it('are flushed and waited for where the ID may have entries, and nowhere else', () => {
    const machine = machineWithDomains({ iommus: 3 })
    const { driver } = machine
    machine.run(driver.probe(0x20, 2, 2))
    machine.run(driver.map(host, iova(0x8000n), spa(0x9000n), 0x2000n, readWrite))
    machine.run(driver.attach(deviceId, host))
    machine.run(driver.attach(0x20, host))
    const unmapped = driver.unmap(host, iova(0x8000n), 0x2000n)
    if (!unmapped.ok) throw new Error(unmapped.why)
    const where = unmapped.effects.flatMap((each) => ('iommu' in each ? [`${each.kind} ${each.iommu}`] : []))
    expect(where).toEqual(['command 0', 'command 2', 'wait 0', 'wait 2'])
  })

  it('that are not behind a device are not told of its entry', () => {
    const machine = machineWithDomains({ iommus: 2 })
    machine.run(machine.driver.probe(0x20, 2, 1))
    const moved = machine.driver.attach(0x20, host)
    if (!moved.ok) throw new Error(moved.why)
    expect(new Set(moved.effects.flatMap((each) => ('iommu' in each ? [each.iommu] : [])))).toEqual(
      new Set([1]),
    )
  })
})

describe('what is refused changes nothing (I21)', () => {
  it('devices', () => {
    const machine = on()
    const { driver } = machine
    expect(machine.refusal(() => driver.probe(deviceId, 7))).toBe('EEXIST device-known')
    expect(machine.refusal(() => driver.probe(0x20, 7, 1))).toBe('ENODEV no-such-iommu')
    expect(machine.refusal(() => driver.probe(0x100, 7))).toBe('ENODEV no-device-table-entry')
    expect(machine.refusal(() => driver.attach(0x20, host))).toBe('ENODEV no-such-device')
    expect(machine.refusal(() => driver.detach(0x20))).toBe('ENODEV no-such-device')
    expect(machine.refusal(() => driver.attach(deviceId, 77))).toBe('ENOENT no-such-domain')
    expect(machine.refusal(() => driver.replace(deviceId, 77))).toBe('ENOENT no-such-domain')
  })

  it('a domain is not freed while a device is on it', () => {
    for (const domain of [parent, host, guest, nested]) {
      const machine = on(domain)
      expect(machine.refusal(() => machine.driver.freeDomain(domain))).toBe('EBUSY domain-in-use')
    }
    const machine = on()
    const identity = machine.run(machine.driver.allocateIdentity())
    machine.run(machine.driver.attach(deviceId, identity))
    expect(machine.refusal(() => machine.driver.freeDomain(identity))).toBe('EBUSY domain-in-use')
    machine.run(machine.driver.detach(deviceId))
    machine.run(machine.driver.freeDomain(identity))
    expect(machine.refusal(() => machine.driver.freeDomain(identity))).toBe('ENOENT no-such-domain')
  })

  it('a nest parent outlives its vIOMMUs, a vIOMMU its nested domains, a nested domain its devices (S11)', () => {
    const machine = on(nested)
    const { driver } = machine
    const order: readonly (readonly [() => Outcome<unknown>, string])[] = [
      [() => driver.freeDomain(nested), 'EBUSY domain-in-use'],
      [() => driver.destroyViommu(viommu), 'EBUSY viommu-in-use'],
      [() => driver.freeDomain(parent), 'EBUSY domain-in-use'],
    ]
    for (const [operation, refused] of order) expect(machine.refusal(operation)).toBe(refused)
    machine.run(driver.detach(deviceId))
    for (const domain of [nested, otherNested, fiveLevelNested]) machine.run(driver.freeDomain(domain))
    expect(machine.refusal(() => driver.freeDomain(parent))).toBe('EBUSY domain-in-use')
    machine.run(driver.destroyViommu(viommu))
    machine.run(driver.freeDomain(parent))
    expect(machine.refusal(() => driver.freeDomain(parent))).toBe('ENOENT no-such-domain')
    expect(machine.refusal(() => driver.destroyViommu(viommu))).toBe('ENOENT no-such-viommu')
    expect(machine.refusal(() => driver.allocateNested(viommu, guestEntry(5)))).toBe('ENOENT no-such-viommu')
    expect(machine.refusal(() => driver.invalidateForGuest(viommu, []))).toBe('ENOENT no-such-viommu')
  })

  it('a vIOMMU needs a nest parent', () => {
    const machine = on()
    for (const domain of [host, guest, nested]) {
      expect(machine.refusal(() => machine.driver.createViommu(domain))).toBe('EINVAL nest-parent-required')
    }
    expect(machine.refusal(() => machine.driver.createViommu(77))).toBe('ENOENT no-such-domain')
  })

  const without = (efr: bigint, efr2 = 0n): MachineOptions => ({
    features: { efr: nestingFeatures.efr & ~efr, efr2: nestingFeatures.efr2 & ~efr2 },
  })
  it.each([
    ['GTSup', without(1n << 4n)],
    ['GIoSup', without(1n << 48n)],
    ['GCR3TRPModeSup (S33)', without(0n, 8n)],
  ])('a nest parent needs %s', (_name, options) => {
    const machine = Machine.create(options)
    const { driver } = machine
    expect(machine.refusal(() => driver.allocateHostTable({ nestParent: true }))).toBe(
      'EOPNOTSUPP nesting-unsupported',
    )
    machine.run(driver.allocateHostTable())
  })

  it.each([
    ['GTSup', without(1n << 4n)],
    ['GIoSup', without(1n << 48n)],
  ])('a guest table needs %s', (_name, options) => {
    const machine = Machine.create(options)
    expect(machine.refusal(() => machine.driver.allocateGuestTable())).toBe(
      'EOPNOTSUPP guest-tables-unsupported',
    )
  })

  it('a guest table of five levels needs GATS 1', () => {
    const machine = Machine.create(without(3n << 12n))
    const refusal = machine.refusal(() => machine.driver.allocateGuestTable({ levels: 5 }))
    expect(refusal).toBe('EOPNOTSUPP five-level-guest-tables')
    machine.run(machine.driver.allocateGuestTable({ levels: 4 }))
  })

  it('a host table needs host translation: HATS 3 is none', () => {
    const features = { efr: nestingFeatures.efr | (3n << 10n), efr2: nestingFeatures.efr2 }
    const machine = Machine.create({ features })
    expect(machine.refusal(() => machine.driver.allocateHostTable())).toBe(
      'EOPNOTSUPP host-tables-unsupported',
    )
  })
})

describe('the rules for a guest entry, in their order', () => {
  const rules: readonly (readonly [string, Partial<Dte>, string])[] = [
    ['Mode must be 0', { mode: 4 }, 'EINVAL guest-entry-without-host-table'],
    ['the host root must be 0', { hostRoot: spa(0x1000n) }, 'EINVAL guest-entry-without-host-table'],
    ['V and GV need a GCR3 root', { gcr3Root: 0n }, 'EINVAL gcr3-root-required'],
    ['GuestPagingMode 2 is reserved', { guestPagingMode: 2 }, 'EINVAL guest-paging-mode'],
    ['GuestPagingMode 3 is reserved', { guestPagingMode: 3 }, 'EINVAL guest-paging-mode'],
    ['GLX 3 is reserved', { gcr3Levels: 3 }, 'EINVAL gcr3-levels'],
    ['Mode comes first', { mode: 1, gcr3Root: 0n, gcr3Levels: 3 }, 'EINVAL guest-entry-without-host-table'],
    ['the root comes before the levels', { gcr3Root: 0n, guestPagingMode: 3 }, 'EINVAL gcr3-root-required'],
    ['the guest level comes before GLX', { guestPagingMode: 2, gcr3Levels: 3 }, 'EINVAL guest-paging-mode'],
  ]
  it.each(rules)('%s', (_name, fields, refused) => {
    const machine = machineWithDomains()
    const attempt = (): Outcome<unknown> => machine.driver.allocateNested(viommu, guestEntry(5, fields))
    expect(machine.refusal(attempt)).toBe(refused)
  })

  it('five levels need a host with five levels; a reserved GLX is told first', () => {
    const features = { efr: nestingFeatures.efr & ~(3n << 12n), efr2: nestingFeatures.efr2 }
    const machine = machineWithDomains({ features })
    const five =
      (fields: Partial<Dte> = {}) =>
      () =>
        machine.driver.allocateNested(viommu, guestEntry(5, { guestPagingMode: 1, ...fields }))
    expect(machine.refusal(five())).toBe('EOPNOTSUPP five-level-guest-tables')
    expect(machine.refusal(five({ gcr3Levels: 3 }))).toBe('EINVAL gcr3-levels')
    machine.run(machine.driver.allocateNested(viommu, guestEntry(5)))
  })

  const accepted: readonly (readonly [string, Partial<Dte>])[] = [
    ['a GCR3 root of 0 if V=0', { valid: false, gcr3Root: 0n }],
    ['a GCR3 root of 0 if GV=0', { guestValid: false, gcr3Root: 0n }],
    ['a GCR3 root with only its lowest bit', { gcr3Root: 0x1000n }],
    ['a GCR3 root with only its highest bit', { gcr3Root: 1n << 51n }],
    ['TV=0', { translationValid: false }],
    ['IR=0 and IW=0', { readAllowed: false, writeAllowed: false }],
    ['GLX 2', { gcr3Levels: 2 }],
  ]
  it.each(accepted)('%s is accepted', (_name, fields) => {
    const machine = machineWithDomains()
    machine.run(machine.driver.allocateNested(viommu, guestEntry(5, fields)))
  })
})

describe('a guest table under the ID of another one', () => {
  it('shares its tag; its own unmaps reach the shared ID; the other one cannot go first', () => {
    const machine = machineWithDomains({ policy: perHostTable })
    const { driver } = machine
    const same = machine.run(driver.allocateGuestTable({ sameIdAs: guest }))
    machine.run(driver.attach(deviceId, same))
    expect(entryOf(machine).domainId).toBe(3)
    machine.run(driver.map(same, iova(0x5000n), spa(0x9000n), 0x1000n, readWrite))
    const lines = machine.tell(driver.unmap(same, iova(0x5000n), 0x1000n))
    expect(withoutTables(lines)).toEqual(['PAGES 3 5000+1000 GN 0', 'WAIT'])
    expect(machine.refusal(() => driver.freeDomain(guest))).toBe('EBUSY domain-in-use')
    machine.run(driver.detach(deviceId))
    machine.run(driver.freeDomain(same))
    machine.run(driver.freeDomain(guest))
  })

  it('that is itself under the ID of a third one, has the ID of that', () => {
    const machine = machineWithDomains({ policy: perHostTable })
    const { driver } = machine
    const second = machine.run(driver.allocateGuestTable({ sameIdAs: guest }))
    const third = machine.run(driver.allocateGuestTable({ sameIdAs: second }))
    machine.run(driver.attach(deviceId, third))
    expect(entryOf(machine).domainId).toBe(3)
    expect(machine.refusal(() => driver.allocateGuestTable({ sameIdAs: host }))).toBe('ENOENT no-such-domain')
  })

  it('is not to be had where GCR3 tables have IDs of their own', () => {
    const machine = machineWithDomains()
    expect(machine.refusal(() => machine.driver.allocateGuestTable({ sameIdAs: guest }))).toBe(
      'EOPNOTSUPP same-id-unsupported',
    )
  })
})

describe('a transaction', () => {
  it('has the effects of its operations in order', () => {
    const [one, other] = [on(), on()]
    const joint = one.driver.transaction(() => {
      one.driver.attach(deviceId, host)
      one.driver.map(host, iova(0x5000n), spa(0x9000n), 0x1000n, readWrite)
      return undefined
    })
    one.run(joint)
    other.run(other.driver.attach(deviceId, host))
    other.run(other.driver.map(host, iova(0x5000n), spa(0x9000n), 0x1000n, readWrite))
    expect(one.state()).toBe(other.state())
  })

  it('that is refused, or ends with an exception, changes nothing', () => {
    const machine = on()
    const { driver } = machine
    const refused = machine.refusal(() =>
      driver.transaction(() => {
        driver.attach(deviceId, host)
        const outcome = driver.attach(deviceId, 77)
        return outcome.ok ? undefined : outcome
      }),
    )
    expect(refused).toBe('ENOENT no-such-domain')
    const before = machine.state()
    const broken = (): Outcome<undefined> =>
      driver.transaction(() => {
        driver.attach(deviceId, host)
        throw new RangeError('of the caller')
      })
    expect(broken).toThrow('of the caller')
    expect(machine.state()).toBe(before)
    machine.run(driver.attach(deviceId, host))
  })
})
