/** What a driver tells of itself and of its IOMMUs, operations inside of a transaction, and what it is not asked for twice. */
import { iova, spa } from '@nestwalk/bits'
import { nestingFeatures } from '@nestwalk/hardware'
import { convergingMap, perDevice, sharedGcr3, viommuMap } from '@nestwalk/driver'
import type { DomainIdPolicy } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { sameContent } from '../src/gcr3-table.js'
import type { Gcr3Content } from '../src/gcr3-table.js'
import { guestEntry } from './guest-entry.js'
import { entryOf } from './invariants/moment.js'
import { Machine, readWrite, withoutTables } from './machine.js'

const deviceId = 0x18

describe('a driver tells', () => {
  it('what its IOMMUs can do together, and the feature registers of each', () => {
    const otherFeatures = { efr: nestingFeatures.efr & ~(1n << 52n), efr2: nestingFeatures.efr2 }
    const { driver } = Machine.create({ iommus: 2, features: nestingFeatures, otherFeatures })
    expect(driver.abilities).toMatchObject({ nesting: true, guestTables: true, hostLevels: 6 })
    expect([...driver.abilities.dirtyIommus]).toEqual([0])
    expect(driver.featureRegisters(0)).toEqual(nestingFeatures)
    expect(driver.featureRegisters(1)).toEqual(otherFeatures)
    expect(() => driver.featureRegisters(2)).toThrow('there is no IOMMU 2')
    expect(driver.policy).toBe(viommuMap)
    expect(driver.iommus).toHaveLength(2)
  })

  it('which devices a group has, by DeviceID', () => {
    const machine = Machine.create()
    for (const [device, group] of [
      [0x20, 7],
      [0x18, 7],
      [0x28, 8],
    ] as const) {
      machine.run(machine.driver.probe(device, group))
    }
    const members = (group: number): number[] =>
      machine.driver.groupMembers(group).map((each) => each.deviceId)
    expect([members(7), members(8), members(9)]).toEqual([[0x18, 0x20], [0x28], []])
    expect(machine.refusal(() => machine.driver.attachGroup(9, 1))).toBe('ENOENT no-such-domain')
    machine.run(machine.driver.allocateIdentity())
    expect(machine.refusal(() => machine.driver.attachGroup(9, 1))).toBe('ENODEV no-such-group')
  })

  it('that a process needs what a guest table needs', () => {
    const features = { efr: nestingFeatures.efr & ~(1n << 4n), efr2: nestingFeatures.efr2 }
    const machine = Machine.create({ features })
    expect(machine.refusal(() => machine.driver.allocateProcess())).toBe(
      'EOPNOTSUPP guest-tables-unsupported',
    )
  })
})

describe('in a transaction', () => {
  it('operations that need no copy of the books join in, and go with the rest of it', () => {
    const machine = Machine.create()
    const { driver } = machine
    machine.run(driver.probe(deviceId, 1))
    const all = (isRefused: boolean) =>
      driver.transaction(() => {
        const parent = driver.allocateHostTable({ nestParent: true })
        if (!parent.ok) return parent
        const viommu = driver.createViommu(parent.value)
        if (!viommu.ok) return viommu
        const nested = driver.allocateNested(viommu.value, guestEntry(5))
        if (!nested.ok) return nested
        expect([parent, viommu, nested].map(({ effects }) => effects)).toEqual([[], [], []])
        const attached = driver.attach(deviceId, isRefused ? 77 : nested.value)
        return attached.ok ? nested.value : attached
      })
    expect(machine.refusal(() => all(true))).toBe('ENOENT no-such-domain')
    const nested = machine.run(all(false))
    expect(driver.device(deviceId)?.domain).toMatchObject({ kind: 'nested', number: nested })
    expect(entryOf(machine, deviceId).guestValid).toBe(true)
  })

  it('another one is a part of it', () => {
    const machine = Machine.create()
    const { driver } = machine
    const outer = driver.transaction(() => {
      const inner = driver.transaction(() => {
        const made = driver.allocateHostTable()
        return made.ok ? made.value : made
      })
      if (!inner.ok) return inner
      expect(inner.effects).toEqual([])
      const mapped = driver.map(inner.value, iova(0x5000n), spa(0x9000n), 0x1000n, readWrite)
      return mapped.ok ? inner.value : mapped
    })
    expect(driver.translate(machine.run(outer), iova(0x5abcn))).toBe(0x9abcn)
    const refused = machine.refusal(() =>
      driver.transaction(() => {
        const inner = driver.transaction(() => {
          const made = driver.allocateHostTable()
          if (!made.ok) return made
          const attached = driver.attach(deviceId, made.value)
          return attached.ok ? undefined : attached
        })
        return inner.ok ? undefined : inner
      }),
    )
    expect(refused).toBe('ENODEV no-such-device')
    expect(driver.domain(2)).toBeUndefined()
  })
})

describe('processes are refused', () => {
  function bound(lastDomainId?: number): Machine {
    const machine = Machine.create({
      policy: sharedGcr3,
      ...(lastDomainId === undefined ? {} : { lastDomainId }),
    })
    const { driver } = machine
    machine.run(driver.allocateGuestTable())
    machine.run(driver.allocateProcess())
    for (const id of [deviceId, 0x20]) {
      machine.run(driver.probe(id, 1, 0, { maxPasids: 16 }))
      machine.run(driver.attach(id, 1))
    }
    machine.run(driver.attachPasid([deviceId, 0x20], 4, 2))
    return machine
  }

  it('where device, PASID or domain is not there', () => {
    const machine = bound()
    const { driver } = machine
    expect(machine.refusal(() => driver.attachPasid([deviceId], 5, 77))).toBe('ENOENT no-such-domain')
    expect(machine.refusal(() => driver.attachPasid([deviceId, 0x28], 5, 2))).toBe('ENODEV no-such-device')
    expect(machine.refusal(() => driver.detachPasid([deviceId, 0x28], 4))).toBe('ENODEV no-such-device')
    expect(machine.refusal(() => driver.detachPasid([deviceId], 5))).toBe('ENOENT no-such-pasid')
    for (const pasid of [0, -1, 1.5, 16]) {
      expect(machine.refusal(() => driver.attachPasid([deviceId], pasid, 2))).toBe('EINVAL pasid-range')
    }
    expect(machine.refusal(() => driver.attachPasid([deviceId], 4, 2))).toBe('EOPNOTSUPP pasid-taken')
    machine.run(driver.attachPasid([deviceId], 15, 2))
    machine.run(driver.detachPasid([deviceId], 15))
    expect(machine.refusal(() => driver.attach(deviceId, 2))).toBe('EINVAL pasid-required')
  })

  it('to one of two devices that share a table, if no DomainID is left for a table of its own', () => {
    // One each for the domain, the process and the table.
    const machine = bound(3)
    const { driver } = machine
    expect(machine.refusal(() => driver.detachPasid([deviceId], 4))).toBe('ENOSPC no-domain-id')
    expect(machine.refusal(() => driver.attachPasid([deviceId], 5, 2))).toBe('ENOSPC no-domain-id')
    machine.run(driver.detachPasid([deviceId, 0x20], 4))
  })

  it('nothing, if one of the devices refuses (I21)', () => {
    const machine = bound()
    const { driver } = machine
    machine.run(driver.probe(0x28, 2, 0, { maxPasids: 8 }))
    machine.run(driver.attach(0x28, 1))
    expect(machine.refusal(() => driver.attachPasid([deviceId, 0x20, 0x28], 9, 2))).toBe('EINVAL pasid-range')
  })
})

describe('GCR3 tables are equal', () => {
  const shape = { levelsLessOne: 0, guestLevels: 4, usesPasidZero: true }
  const table = (entries: readonly (readonly [number, number])[], changes = {}): Gcr3Content => ({
    shape: { ...shape, ...changes },
    entries: new Map(entries),
  })
  const one = table([
    [0, 1],
    [9, 2],
  ])

  it('if shape and entries are, in whatever order these were made', () => {
    expect(sameContent(one, { ...one })).toBe(true)
    expect(
      sameContent(
        one,
        table([
          [9, 2],
          [0, 1],
        ]),
      ),
    ).toBe(true)
    expect(sameContent(table([]), table([]))).toBe(true)
  })

  it.each([
    [
      'another domain',
      table([
        [0, 1],
        [9, 3],
      ] as const),
    ],
    [
      'another PASID',
      table([
        [0, 1],
        [8, 2],
      ] as const),
    ],
    ['one less', table([[0, 1]])],
    [
      'one more',
      table([
        [0, 1],
        [9, 2],
        [10, 2],
      ] as const),
    ],
    [
      'levels of the table',
      table(
        [
          [0, 1],
          [9, 2],
        ] as const,
        { levelsLessOne: 1 },
      ),
    ],
    [
      'levels of the guest tables',
      table(
        [
          [0, 1],
          [9, 2],
        ] as const,
        { guestLevels: 5 },
      ),
    ],
    [
      'what requests without PASID do',
      table(
        [
          [0, 1],
          [9, 2],
        ] as const,
        { usesPasidZero: false },
      ),
    ],
    ['what these do, with the same entries at hand', { ...one, shape: { ...shape, usesPasidZero: false } }],
  ])('not if they differ in %s', (_what, other) => {
    expect([sameContent(one, other), sameContent(other, one)]).toEqual([false, false])
  })
})

it('bits that the platform wants may be fewer than four words', () => {
  const machine = Machine.create()
  const sysMgt = 3n << 40n
  machine.run(machine.driver.probe(deviceId, 1, 0, { persistentBits: [0n, sysMgt] }))
  expect(machine.entry(deviceId)).toEqual([1n, sysMgt, 0n, 0n])
})

it('an attach that finds the device on the list of the domain still needs a DomainID for it (U6)', () => {
  const policy: DomainIdPolicy = {
    ...perDevice,
    keyOfAttachment: (_device, { table, guest }) => `${table} ${guest?.domainId ?? 'host'}`,
    gaps: new Set(['U3', 'U6', 'U17']),
  }
  const machine = Machine.create({ policy, lastDomainId: 2 })
  const { driver } = machine
  machine.run(driver.probe(deviceId, 1))
  machine.run(driver.probe(0x20, 2))
  machine.run(driver.allocateHostTable({ nestParent: true }))
  machine.run(driver.createViommu(1))
  machine.run(driver.allocateNested(1, guestEntry(5)))
  machine.run(driver.allocateIdentity())
  for (const domain of [1, 2]) machine.run(driver.attach(deviceId, domain))
  machine.run(driver.attach(0x20, 3))
  expect(machine.refusal(() => driver.attach(deviceId, 1))).toBe('ENOSPC no-domain-id')
  machine.run(driver.detach(0x20))
  // It counts as attached, and its entry is as it was.
  const before = machine.entry(deviceId)
  machine.run(driver.attach(deviceId, 1))
  expect(machine.entry(deviceId)).toEqual(before)
  machine.run(driver.freeDomain(2))
})

it('a table that grows under a device in conflict leaves its entry blocked, without an ID to flush', () => {
  const machine = Machine.create({ policy: convergingMap })
  const { driver } = machine
  for (const _ of [1, 2]) machine.run(driver.allocateHostTable())
  for (const [i, id] of [deviceId, 0x20].entries()) {
    machine.run(driver.probe(id, 1, 0, { aliases: [0x28] }))
    machine.run(driver.attach(id, i + 1))
  }
  const grown = driver.map(1, iova(1n << 39n), spa(0x9000n), 0x1000n, readWrite)
  const lines = withoutTables(machine.tell(grown))
  expect(lines.filter((line) => line.startsWith('PAGES'))).toEqual([])
  for (const id of [deviceId, 0x20, 0x28]) expect(machine.entry(id)[0]).toBe(1n)
  machine.run(driver.attach(0x20, 1))
  for (const id of [deviceId, 0x20, 0x28])
    expect(entryOf(machine, id)).toMatchObject({ mode: 4, domainId: 1 })
})
