/** A device that is reset: blocked meanwhile, and then back on what it was on, as that is by then. */
import { iova, spa } from '@nestwalk/bits'
import { decodeDte } from '@nestwalk/hardware'
import { convergingMap, sharedGcr3, viommuMap } from '@nestwalk/driver'
import type { DeviceTraits, DomainIdPolicy, Outcome } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { guestEntry } from './guest-entry.js'
import { entryOf } from './invariants/moment.js'
import { answer, Machine, readWrite } from './machine.js'

const [deviceId, other, alias] = [0x18, 0x20, 0x28]
const high = 1n << 39n
const begin = ({ driver }: Machine): Outcome<undefined> => driver.beginReset(deviceId)
const end = ({ driver }: Machine): Outcome<undefined> => driver.endReset(deviceId)

/** A device on a host table (1) for dirty tracking, in reset. */
function inReset(): Machine {
  const machine = Machine.create()
  const { driver } = machine
  machine.run(driver.probe(deviceId, 1))
  machine.run(driver.allocateHostTable({ dirtyTracking: true }))
  machine.run(driver.attach(deviceId, 1))
  machine.run(begin(machine))
  return machine
}

it('begins once and ends once', () => {
  const machine = inReset()
  expect(machine.refusal(() => begin(machine))).toBe('EBUSY member-in-reset')
  machine.run(end(machine))
  expect(machine.refusal(() => end(machine))).toBe('EINVAL not-in-reset')
  machine.run(begin(machine))
})

it('of a blocked device changes nothing in its entry', () => {
  const machine = Machine.create()
  machine.run(machine.driver.probe(deviceId, 1, 0, { atsQueueDepth: 32 }))
  const before = machine.entry(deviceId)
  machine.run(begin(machine))
  expect(machine.driver.device(deviceId)?.parked?.domain).toEqual({ kind: 'blocked' })
  expect(machine.tell(end(machine))).toEqual([])
  expect(machine.entry(deviceId)).toEqual(before)
  expect(machine.driver.device(deviceId)).toMatchObject({ domain: { kind: 'blocked' }, parked: undefined })
})

it('keeps what the device was on, which can be freed once the device has gone', () => {
  const machine = inReset()
  const { driver } = machine
  expect(machine.refusal(() => driver.freeDomain(1))).toBe('EBUSY domain-in-use')
  machine.run(driver.unplug(deviceId))
  expect(driver.device(deviceId)).toBeUndefined()
  machine.run(driver.freeDomain(1))
})

describe('leaves a device as it was', () => {
  const withTlb: Partial<DeviceTraits> = { atsQueueDepth: 32, maxPasids: 16 }
  const [parent, nested, guest, identity] = [1, 2, 3, 4]

  function on(domain: number, traits: Partial<DeviceTraits>, policy = viommuMap): Machine {
    const machine = Machine.create({ policy })
    const { driver } = machine
    machine.run(driver.probe(deviceId, 1, 0, traits))
    machine.run(driver.allocateHostTable({ nestParent: true }))
    machine.run(driver.createViommu(parent))
    machine.run(driver.allocateNested(1, guestEntry(5)))
    machine.run(driver.allocateGuestTable())
    machine.run(driver.allocateIdentity())
    machine.run(driver.attach(deviceId, domain))
    return machine
  }

  it.each([
    ['a host table', parent],
    ['a nested domain', nested],
    ['a guest table', guest],
    ['identity', identity],
  ])('on %s', (_name, domain) => {
    for (const traits of [{}, withTlb]) {
      const machine = on(domain, traits, sharedGcr3)
      const { driver } = machine
      const [device, entry] = [driver.device(deviceId), machine.entry(deviceId)]
      machine.run(begin(machine))
      expect(entryOf(machine, deviceId)).toMatchObject({ valid: true, translationValid: false })
      machine.run(end(machine))
      // Its GCR3 table is another one, and the same again.
      expect({ ...driver.device(deviceId), gcr3: device?.gcr3, tagKey: device?.tagKey }).toEqual(device)
      const root = { gcr3Root: decodeDte(BigUint64Array.from([...entry])).gcr3Root }
      expect({ ...entryOf(machine, deviceId), ...root }).toEqual(decodeDte(BigUint64Array.from([...entry])))
    }
  })

  it('with each of its features turned on once, before its entry is written', () => {
    for (const [domain, features] of [
      [parent, ['ats']],
      [nested, ['pasid', 'ats']],
    ] as const) {
      const machine = on(domain, withTlb)
      machine.run(begin(machine))
      const lines = machine.tell(end(machine))
      expect(lines.slice(0, features.length + 1)).toEqual([
        ...features.map((feature) => `${feature} 00:03.0 on`),
        '00:03.0 upper',
      ])
      expect(lines.filter((line) => line.endsWith('on'))).toHaveLength(features.length)
    }
  })
})

describe('what changes meanwhile is in the entry afterwards', () => {
  it('the new top of the table', () => {
    const machine = inReset()
    machine.run(machine.driver.map(1, iova(high), spa(0x9000n), 0x1000n, readWrite))
    machine.run(end(machine))
    expect(entryOf(machine, deviceId).mode).toBe(4)
    expect(answer(machine.iommu.request({ deviceId, iova: high }))).toBe('translated 9000')
  })

  it('dirty tracking', () => {
    const machine = inReset()
    machine.run(machine.driver.setDirtyTracking(1, true))
    machine.run(end(machine))
    expect(entryOf(machine, deviceId).hostAccessDirty).toBe(3)
  })

  it('a table that a device is not to come back to is not its business', () => {
    const machine = inReset()
    const { driver } = machine
    const another = machine.run(driver.allocateHostTable({ dirtyTracking: true }))
    machine.run(driver.map(another, iova(high), spa(0x9000n), 0x1000n, readWrite))
    machine.run(driver.setDirtyTracking(another, true))
    machine.run(end(machine))
    expect(entryOf(machine, deviceId)).toMatchObject({ mode: 3, hostAccessDirty: 0, domainId: 1 })
  })
})

it('an entry that is written anew as a conflict ends has the dirty tracking of its table', () => {
  const machine = Machine.create({ policy: convergingMap })
  const { driver } = machine
  machine.run(driver.allocateHostTable({ dirtyTracking: true }))
  machine.run(driver.allocateHostTable())
  for (const id of [deviceId, other]) {
    machine.run(driver.probe(id, 1, 0, { aliases: [alias] }))
    machine.run(driver.attach(id, 1))
  }
  machine.run(driver.setDirtyTracking(1, true))
  for (const domain of [2, 1]) machine.run(driver.attach(deviceId, domain))
  for (const id of [deviceId, other, alias]) expect(entryOf(machine, id).hostAccessDirty).toBe(3)
})

describe('processes', () => {
  const withPasids: Partial<DeviceTraits> = { maxPasids: 1024, atsQueueDepth: 32 }
  const [guest, process, pasid] = [1, 2, 600]

  /** A device on a guest table (1) with a process (2), and its neighbour on the same with the same. */
  function bound(policy: DomainIdPolicy, pages = 4096): Machine {
    const machine = Machine.create({ policy, lastDeviceId: 0x7f, pages: { first: spa(0x100000n), pages } })
    const { driver } = machine
    machine.run(driver.allocateGuestTable())
    machine.run(driver.allocateProcess())
    machine.run(driver.map(process, iova(0x6000n), spa(0xa000n), 0x1000n, readWrite))
    for (const [group, id] of [deviceId, other].entries()) {
      machine.run(driver.probe(id, group, 0, withPasids))
      machine.run(driver.attach(id, guest))
      machine.run(driver.attachPasid([id], pasid, process))
    }
    return machine
  }
  const reaches = ({ iommu }: Machine, id = deviceId): string =>
    answer(iommu.request({ deviceId: id, iova: 0x6000n, pasid }))

  it.each([viommuMap, sharedGcr3])('$letter: are away meanwhile, and back afterwards', (policy) => {
    const machine = bound(policy)
    const { driver } = machine
    const tables = driver.gcr3Tables.length
    for (const id of [deviceId, other]) machine.run(driver.attachPasid([id], pasid + 1, process))
    expect(reaches(machine)).toBe('translated a000')
    machine.run(begin(machine))
    expect([reaches(machine), reaches(machine, other)]).toEqual(['fault', 'translated a000'])
    expect(machine.refusal(() => driver.freeDomain(process))).toBe('EBUSY domain-in-use')
    expect([...driver.device(deviceId)!.processes]).toEqual([])
    machine.run(end(machine))
    expect([reaches(machine), reaches(machine, other)]).toEqual(['translated a000', 'translated a000'])
    expect([...driver.device(deviceId)!.processes]).toEqual([
      [pasid, process],
      [pasid + 1, process],
    ])
    expect(driver.gcr3Tables).toHaveLength(tables)
  })

  it('that no page is left for stay away with the device, and nothing has changed', () => {
    const machine = bound(viommuMap, 64)
    const { driver } = machine
    machine.run(begin(machine))
    // The table of the device took three pages: a top, one for PASID 0, one for the process.
    const taken: number[] = []
    for (;;) {
      const made = driver.allocateHostTable()
      if (!made.ok) break
      taken.push(machine.run(made))
    }
    for (const free of [0, 1, 2]) {
      if (free > 0) machine.run(driver.freeDomain(taken.pop()!))
      expect(machine.refusal(() => end(machine))).toBe('ENOMEM no-table-page')
    }
    machine.run(driver.freeDomain(taken.pop()!))
    machine.run(end(machine))
    expect(reaches(machine)).toBe('translated a000')
  })

  it('keep a device from being moved', () => {
    const machine = bound(sharedGcr3)
    const { driver } = machine
    const host = machine.run(driver.allocateHostTable())
    const moves = [
      () => driver.attach(deviceId, host),
      () => driver.replace(deviceId, host),
      () => driver.detach(deviceId),
    ]
    for (const move of moves) expect(machine.refusal(move)).toBe('EBUSY pasids-attached')
    machine.run(driver.attach(deviceId, guest))
    machine.run(driver.detachPasid([deviceId], pasid))
    for (const move of moves) machine.run(move())
  })

  it('go with a device that goes', () => {
    for (const policy of [viommuMap, sharedGcr3]) {
      const machine = bound(policy)
      machine.run(machine.driver.unplug(deviceId))
      expect(machine.driver.gcr3Tables.map(({ devices }) => devices)).toEqual([[other]])
      expect(reaches(machine)).toBe('fault')
    }
  })
})
