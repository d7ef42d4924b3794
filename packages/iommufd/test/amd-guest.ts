/** A guest with two devices of its own, nested on one vIOMMU, for tests of what passes between it and the host. */
import { domainId, encodeDte } from '@nestwalk/hardware'
import type { EndpointOptions } from '@nestwalk/hardware'
import { driverData, noData } from '../src/user-data.js'
import { guestGcr3, mapForGuest } from './amd-guest-tables.js'
import { AmdRig, readWrite } from './amd-rig.js'
import type { RigOptions } from './amd-rig.js'

/** DeviceIDs of the host, and those that the guest knows. */
export const [one, two] = [0x18, 0x20]
export const [virtualOne, virtualTwo] = [0x08, 0x10]

/** Where guest physical memory of 1 MiB begins. */
export const guestMemory = 0x4000_0000n

/** The guest's DomainID of both devices. */
export const guestDomainId = 5

const pasids = 16

const able = (deviceId: number): EndpointOptions => ({
  ...{ deviceId, pasids, atc: { capacity: 16 }, ats: false, pri: false },
  outstandingPageRequests: 32,
})

export interface Guest {
  readonly rig: AmdRig
  readonly parent: number
  readonly viommu: number
  readonly nested: number
}

/** The guest; its tables map 0x5000 to guest physical 0x6000 without PASID. */
export function guestWith(options: RigOptions = {}): Guest {
  const rig = AmdRig.create({ extensions: true, endpoints: [able(one), able(two)], ...options })
  const { backend } = rig
  const traits = { atsQueueDepth: 8, maxPasids: pasids, pageRequests: true }
  rig.run(rig.driver.probe(one, 1, 0, traits))
  rig.run(rig.driver.probe(two, 2, 0, traits))
  const device = rig.device(one)
  const parent = rig.run(backend.allocatePaging(device, { flags: 1, data: noData })).number
  rig.run(backend.map(parent, 0n, guestMemory, 0x10_0000n, readWrite))
  const offerRegion = (): bigint => 0x1000n
  const made = backend.createViommu({ device, parent, type: 3, data: noData, offerRegion })
  const viommu = rig.run(made).number
  rig.run(backend.addVdevice(viommu, rig.device(one), BigInt(virtualOne)))
  rig.run(backend.addVdevice(viommu, rig.device(two), BigInt(virtualTwo)))
  mapForGuest(rig.memory, guestMemory, 0x5000n, 0x6000n)
  const entry = encodeDte({
    ...{ valid: true, translationValid: true, guestValid: true, guestIoValid: true },
    ...{ gcr3Root: guestGcr3, domainId: domainId(guestDomainId), pageRequestsAllowed: true },
  })
  const data = driverData(3, new Uint8Array(entry.buffer))
  const nested = rig.run(backend.allocateNestedOnViommu(viommu, { flags: 0, data }))
  rig.run(backend.attach([one, two], 0, nested, undefined))
  return { rig, parent, viommu, nested }
}
