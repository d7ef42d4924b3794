/** What a guest calls its devices: its invalidations of device TLBs reach the device that it means, and no other. */
import { iova } from '@nestwalk/bits'
import { deviceId as asDeviceId, pasid } from '@nestwalk/hardware'
import type { CommandFields } from '@nestwalk/hardware'
import { describe, expect, it } from 'vitest'
import { guestEntry, words } from './guest-entry.js'
import { Machine } from './machine.js'

const [one, other, elsewhere] = [0x18, 0x20, 0x28]
const [virtualOne, virtualOther] = [0x08, 0x10]

/** Two IOMMUs; two devices with TLBs behind the first, one behind the second; a vIOMMU on the first. */
function guest() {
  const machine = Machine.create({ iommus: 2 })
  const { driver } = machine
  machine.run(driver.probe(one, 1, 0, { atsQueueDepth: 8 }))
  machine.run(driver.probe(other, 2, 0, { atsQueueDepth: 4 }))
  machine.run(driver.probe(elsewhere, 3, 1))
  const parent = machine.run(driver.allocateHostTable({ nestParent: true }))
  const viommu = machine.run(driver.createViommu(parent, 0))
  return { machine, driver, parent, viommu }
}

const command = (fields: Partial<CommandFields<'InvalidateIotlbPages'>>): readonly [bigint, bigint] =>
  words({ kind: 'InvalidateIotlbPages', address: iova(0x5000n), ...fields })

describe('a virtual DeviceID', () => {
  it('means one device, and a device has one', () => {
    const { machine, driver, viommu } = guest()
    machine.run(driver.nameDevice(viommu, virtualOne, one))
    expect(machine.refusal(() => driver.nameDevice(viommu, virtualOne, other))).toBe(
      'EEXIST virtual-id-taken',
    )
    expect(machine.refusal(() => driver.nameDevice(viommu, virtualOther, one))).toBe(
      'EEXIST virtual-device-taken',
    )
    machine.run(driver.forgetName(viommu, virtualOne))
    machine.run(driver.nameDevice(viommu, virtualOther, one))
  })

  it.each([
    ['of a vIOMMU that there is not', 9, one, 'ENOENT no-such-viommu'],
    ['for a device that there is not', 1, 0x77, 'ENODEV no-such-device'],
    ['for a device behind another IOMMU', 1, elsewhere, 'EINVAL viommu-of-another-iommu'],
  ])('cannot be %s', (_name, viommu, deviceId, refusal) => {
    const { machine, driver } = guest()
    expect(machine.refusal(() => driver.nameDevice(viommu, virtualOne, deviceId))).toBe(refusal)
  })

  it.each([0x1_0000, -1, 0.5])('has 16 bits: %d is none', (virtualId) => {
    const { machine, driver, viommu } = guest()
    expect(machine.refusal(() => driver.nameDevice(viommu, virtualId, one))).toBe('EINVAL virtual-id-width')
    machine.run(driver.nameDevice(viommu, 0xffff, one))
  })

  it('may be 0, and is one of a single vIOMMU, however many there are', () => {
    const { machine, driver, viommu, parent } = guest()
    const second = machine.run(driver.createViommu(parent, 0))
    expect([viommu, second]).toEqual([1, 2])
    machine.run(driver.nameDevice(viommu, 0, one))
    expect(driver.virtualIdOf(viommu, one)).toBe(0)
    expect(machine.refusal(() => driver.nameDevice(second, virtualOne, one))).toBe(
      'EEXIST virtual-device-taken',
    )
    machine.run(driver.nameDevice(second, 0, other))
    expect([driver.virtualIdOf(viommu, other), driver.virtualIdOf(second, other)]).toEqual([undefined, 0])
  })

  it('can be asked for by the device, on the vIOMMU that gave it', () => {
    const { machine, driver, viommu, parent } = guest()
    const second = machine.run(driver.createViommu(parent, 0))
    machine.run(driver.nameDevice(viommu, virtualOther, other))
    machine.run(driver.nameDevice(viommu, virtualOne, one))
    expect(driver.virtualIdOf(viommu, one)).toBe(virtualOne)
    expect(driver.virtualIdOf(second, one)).toBeUndefined()
    expect(driver.virtualIdOf(9, one)).toBeUndefined()
    machine.run(driver.forgetName(viommu, virtualOne))
    expect(driver.virtualIdOf(viommu, one)).toBeUndefined()
  })

  it('that means nothing cannot be forgotten', () => {
    const { machine, driver, viommu } = guest()
    expect(machine.refusal(() => driver.forgetName(viommu, virtualOne))).toBe('ENOENT no-such-virtual-id')
    expect(machine.refusal(() => driver.forgetName(9, virtualOne))).toBe('ENOENT no-such-viommu')
  })
})

it('a vIOMMU can go while nested domains are on another one of the same parent', () => {
  const { machine, driver, viommu, parent } = guest()
  const second = machine.run(driver.createViommu(parent, 0))
  machine.run(driver.allocateNested(viommu, guestEntry(5)))
  machine.run(driver.destroyViommu(second))
  expect(machine.refusal(() => driver.destroyViommu(second))).toBe('ENOENT no-such-viommu')
  expect(machine.refusal(() => driver.destroyViommu(viommu))).toBe('EBUSY viommu-in-use')
})

describe("a guest's INVALIDATE_IOTLB_PAGES", () => {
  function nestedGuest() {
    const made = guest()
    const { machine, driver, viommu } = made
    const nested = machine.run(driver.allocateNested(viommu, guestEntry(5)))
    for (const [virtualId, deviceId] of [
      [virtualOne, one],
      [virtualOther, other],
    ] as const) {
      machine.run(driver.nameDevice(viommu, virtualId, deviceId))
      machine.run(driver.attach(deviceId, nested))
    }
    return made
  }

  it('goes to the device that the guest means, with the queue of the host and the PASID of the guest', () => {
    const { driver, viommu } = nestedGuest()
    const asked = { deviceId: asDeviceId(virtualOther), queueId: 0x1234, maxPending: 77 }
    const outcome = driver.invalidateForGuest(viommu, [
      command({ ...asked, guestNested: true, pasid: pasid(0x12345) }),
    ])
    if (!outcome.ok) throw new Error(outcome.why)
    expect(outcome.value).toEqual({ handled: 1, refusal: undefined })
    expect(outcome.effects).toMatchObject([
      {
        kind: 'command',
        iommu: 0,
        command: { deviceId: other, queueId: other, maxPending: 4, pasid: 0x12345, guestNested: true },
      },
      { kind: 'wait', iommu: 0 },
    ])
  })

  it('needs nothing for a device whose TLB is off', () => {
    const { machine, driver, viommu } = nestedGuest()
    machine.run(driver.detach(one))
    const asked = { deviceId: asDeviceId(virtualOne) }
    expect(machine.tell(driver.invalidateForGuest(viommu, [command(asked)]))).toEqual([])
  })

  it('for a device that the guest has not is where its commands stop; those before it are done', () => {
    const { machine, driver, viommu } = nestedGuest()
    const commands = [virtualOne, 0x99, virtualOther].map((id) => command({ deviceId: asDeviceId(id) }))
    const outcome = driver.invalidateForGuest(viommu, commands)
    if (!outcome.ok) throw new Error(outcome.why)
    expect(outcome.value.handled).toBe(1)
    expect(outcome.value.refusal).toMatchObject({ errno: 'ENODEV', rule: 'no-such-virtual-device' })
    expect(machine.tell(outcome)).toEqual(['IOTLB 00:03.0 5000+1000', 'WAIT'])
  })

  it('with a reserved bit, or a PASID without GN, is refused', () => {
    const { driver, viommu } = nestedGuest()
    const [lo, hi] = command({ deviceId: asDeviceId(virtualOne) })
    const rules = [
      [lo, hi | 8n] as const,
      command({ deviceId: asDeviceId(virtualOne), pasid: pasid(3) }),
    ].map((each) => {
      const outcome = driver.invalidateForGuest(viommu, [each])
      return outcome.ok ? outcome.value.refusal?.rule : outcome.rule
    })
    expect(rules).toEqual(['guest-command-reserved-bits', 'guest-command-pasid'])
  })
})

it('a vIOMMU belongs to an IOMMU that there is', () => {
  const { machine, driver, parent } = guest()
  expect(machine.refusal(() => driver.createViommu(parent, 2))).toBe('ENODEV no-such-iommu')
})
