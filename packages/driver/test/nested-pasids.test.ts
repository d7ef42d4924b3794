/**
 * A nested device whose guest uses PASIDs: the host does not know which, and no command drops what a device TLB has of all
 * of them, so that the device is made to forget by turning its ATS off.
 */
import { iova, spa } from '@nestwalk/bits'
import { allGapsBut, viommuMap } from '@nestwalk/driver'
import type { DomainIdPolicy } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { guestEntry } from './guest-entry.js'
import { mapForGuest } from './guest-tables.js'
import { Machine, readWrite, withoutTables } from './machine.js'
import type { MachineOptions } from './machine.js'

const [device, plain] = [0x18, 0x20]
const [memoryOfGuest, page, frame] = [0x4000_0000n, 0x7000_0000n, 0x8_0000n]
const [parent, nested, otherNested, other] = [1, 2, 3, 4]
const pasid = 4

/** A nest parent (1), nested domains (2, 3) of one guest, a host table (4); a device with PASIDs and one without, nested. */
function nestedMachine(policy: DomainIdPolicy = viommuMap, options: MachineOptions = {}): Machine {
  const endpoints = [device, plain].map((deviceId) => ({
    ...{ deviceId, pasids: 16, atc: { capacity: 16 }, ats: false, pri: false, outstandingPageRequests: 8 },
  }))
  const machine = Machine.create({ policy, endpoints, ...options })
  const { driver } = machine
  machine.run(driver.allocateHostTable({ nestParent: true }))
  machine.run(driver.createViommu(parent))
  for (const id of [5, 6]) machine.run(driver.allocateNested(1, guestEntry(id)))
  machine.run(driver.allocateHostTable())
  machine.run(driver.map(parent, iova(0x1_0000n), spa(memoryOfGuest + 0x1_0000n), 0x1_0000n, readWrite))
  machine.run(driver.map(parent, iova(frame), spa(memoryOfGuest + frame), 0x1000n, readWrite))
  mapForGuest(machine.memory, memoryOfGuest, page, frame, pasid)
  machine.run(driver.probe(device, 1, 0, { atsQueueDepth: 32, maxPasids: 16 }))
  machine.run(driver.probe(plain, 2, 0, { atsQueueDepth: 32 }))
  for (const id of [device, plain]) machine.run(driver.attach(id, nested))
  return machine
}

const dma = (machine: Machine): string => {
  const answer = machine.endpoints[0]!.dma(machine.iommu, { iova: page, pasid })
  return answer.kind === 'done' ? answer.address.toString(16) : 'refused'
}
const cached = (machine: Machine): number => machine.endpoints[0]!.entries().length

it('forgets what it had of any PASID when a page of its guest goes (I8, I9)', () => {
  const machine = nestedMachine()
  expect([dma(machine), cached(machine)]).toEqual(['40080000', 1])
  const unmapped = machine.driver.unmap(parent, iova(frame), 0x1000n)
  expect(withoutTables(machine.tell(unmapped))).toEqual([
    ...['ats 00:03.0 off', 'PAGES 2 80000+1000'],
    // The other one has a command for its TLB: through guest tables any of its addresses may have led there.
    ...['IOTLB 00:04.0 all', 'WAIT', 'ats 00:03.0 on'],
  ])
  expect([dma(machine), cached(machine)]).toEqual(['refused', 0])
})

it('has its ATS cycled once, however many blocks an exact flush has', () => {
  const machine = nestedMachine(viommuMap, { npCache: true })
  const { driver } = machine
  machine.run(driver.map(parent, iova(0x5000n), spa(0x9000n), 0x3000n, readWrite))
  expect(withoutTables(machine.tell(driver.unmap(parent, iova(0x5000n), 0x3000n)))).toEqual([
    'ats 00:03.0 off',
    ...['PAGES 2 5000+1000', 'IOTLB 00:04.0 all', 'PAGES 2 6000+2000', 'IOTLB 00:04.0 all'],
    ...['WAIT', 'ats 00:03.0 on'],
  ])
})

describe('that moves', () => {
  it('forgets when it leaves its guest', () => {
    const machine = nestedMachine()
    machine.run(machine.driver.map(other, iova(page), spa(0x9000n), 0x1000n, readWrite))
    expect([dma(machine), cached(machine)]).toEqual(['40080000', 1])
    const lines = machine.tell(machine.driver.attach(device, other))
    expect(lines.filter((line) => line.startsWith('ats') || line.startsWith('pasid'))).toEqual([
      ...['pasid 00:03.0 off', 'ats 00:03.0 off', 'ats 00:03.0 on'],
    ])
    // Off before the entry changes, and on when all that it could ask for is new.
    expect(lines.indexOf('ats 00:03.0 off')).toBeLessThan(lines.findIndex((line) => /lower|upper/.test(line)))
    expect(lines.at(-1)).toBe('ats 00:03.0 on')
    expect(cached(machine)).toBe(0)
  })

  it('does not need to between nested domains of one guest: its invalidations are the guest’s business', () => {
    const machine = nestedMachine()
    const lines = machine.tell(machine.driver.attach(device, otherNested))
    expect(lines.filter((line) => line.startsWith('ats'))).toEqual([])
  })

  it('forgets between the guests of two vIOMMUs', () => {
    const machine = nestedMachine()
    const { driver } = machine
    const viommu = machine.run(driver.createViommu(parent))
    const elsewhere = machine.run(driver.allocateNested(viommu, guestEntry(5)))
    const lines = machine.tell(driver.attach(device, elsewhere))
    expect(lines.filter((line) => line.startsWith('ats'))).toEqual(['ats 00:03.0 off', 'ats 00:03.0 on'])
  })

  it('has nothing to forget once it is blocked: its ATS is off', () => {
    const machine = nestedMachine()
    expect([dma(machine), cached(machine)]).toEqual(['40080000', 1])
    const lines = machine.tell(machine.driver.detach(device))
    expect(lines.filter((line) => line.startsWith('ats'))).toEqual(['ats 00:03.0 off'])
    expect(cached(machine)).toBe(0)
  })

  it('without a TLB has nothing to forget', () => {
    const machine = nestedMachine()
    const { driver } = machine
    machine.run(driver.probe(0x28, 3, 0, { maxPasids: 16 }))
    machine.run(driver.attach(0x28, nested))
    expect([...driver.device(0x28)!.features]).toEqual(['pasid'])
    expect(machine.tell(driver.attach(0x28, other)).filter((line) => line.includes('ats'))).toEqual([])
    machine.run(driver.attach(0x28, nested))
    const unmapped = machine.tell(driver.unmap(parent, iova(frame), 0x1000n))
    expect(unmapped.filter((line) => line.startsWith('ats'))).toEqual(['ats 00:03.0 off', 'ats 00:03.0 on'])
  })
})

it('is refused under gap U15, where PASIDs are on in it', () => {
  const machine = Machine.create({ policy: { ...viommuMap, gaps: allGapsBut('U20') } })
  const { driver } = machine
  machine.run(driver.allocateHostTable({ nestParent: true }))
  machine.run(driver.createViommu(parent))
  machine.run(driver.allocateNested(1, guestEntry(5)))
  machine.run(driver.allocateGuestTable())
  machine.run(driver.probe(device, 1, 0, { maxPasids: 16 }))
  machine.run(driver.attach(device, 3))
  expect(machine.refusal(() => driver.attach(device, nested))).toBe('EINVAL pasid-enabled')
  machine.run(driver.detach(device))
  machine.run(driver.attach(device, nested))
})
