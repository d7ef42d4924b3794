/** A host with guests on it: their memory, their tables, and devices that make real DMA. */
import { iova, spa } from '@nestwalk/bits'
import type { Dte, EndpointOptions } from '@nestwalk/hardware'
import type { DomainIdPolicy } from '@nestwalk/driver'
import { guestEntry } from './guest-entry.js'
import { mapForGuest } from './guest-tables.js'
import { Machine, readWrite } from './machine.js'
import type { MachineOptions } from './machine.js'

/** Devices below the first IOMMU, but for the last one, which is below the second. */
export const [first, second, elsewhere] = [0x18, 0x20, 0x28]

/** A guest's page, guest virtual and guest physical, and the two at one address. */
export const [page, frame, same] = [0x7000_0000n, 0x8_0000n, 0x9_0000n]

const endpointOf = (deviceId: number): EndpointOptions => ({
  ...{ deviceId, pasids: 256, atc: { capacity: 64 }, ats: false, pri: false, outstandingPageRequests: 8 },
})

/** A guest: its nest parent, its vIOMMU, and where its memory begins in the system's. */
export interface Guest {
  readonly parent: number
  readonly viommu: number
  readonly base: bigint
}

/** See the file's comment. The devices are known, each in a group of its own, and can do ATS. */
export function hostMachine(policy: DomainIdPolicy, options: MachineOptions = {}): Machine {
  const machine = Machine.create({
    ...{ policy, iommus: 2, endpoints: [first, second, elsewhere].map(endpointOf) },
    ...options,
  })
  for (const [group, device] of [first, second, elsewhere].entries()) {
    const iommu = device === elsewhere ? 1 : 0
    machine.run(machine.driver.probe(device, group, iommu, { atsQueueDepth: 32 }))
  }
  return machine
}

/** Adds a guest whose tables map {@link page} to {@link frame} and {@link same} to itself. */
export function addGuest(machine: Machine, base: bigint, dirtyTracking = false): Guest {
  const { driver } = machine
  const parent = machine.run(driver.allocateHostTable({ nestParent: true, dirtyTracking }))
  const guest = { parent, viommu: machine.run(driver.createViommu(parent)), base }
  // Tables of the guest in one piece; its pages one by one, so that each can be unmapped.
  machine.run(driver.map(parent, iova(0x1_0000n), spa(base + 0x1_0000n), 0x1_0000n, readWrite))
  for (const at of [frame, same]) {
    machine.run(driver.map(parent, iova(at), spa(base + at), 0x1000n, readWrite))
  }
  mapForGuest(machine.memory, base, page, frame)
  mapForGuest(machine.memory, base, same, same)
  return guest
}

/** A nested domain of a guest. */
export const nest = (machine: Machine, { viommu }: Guest, id: number, fields: Partial<Dte> = {}): number =>
  machine.run(machine.driver.allocateNested(viommu, guestEntry(id, fields)))

/** Attaches a device to domains one after the other. */
export function put(machine: Machine, device: number, ...domains: number[]): void {
  for (const domain of domains) machine.run(machine.driver.attach(device, domain))
}

/** Lets the chips do all that is queued, whoever waits for it. */
export function drain(machine: Machine): void {
  while (machine.advance()) continue
}

/** One access of a device: the address that it ends at, or `refused`. */
export function dma(machine: Machine, device: number, address: bigint, write = false): string {
  const endpoint = machine.endpoints.find(({ deviceId }) => deviceId === device)!
  const answer = endpoint.dma(machine.iommus[device === elsewhere ? 1 : 0]!, { iova: address, write })
  return answer.kind === 'done' ? answer.address.toString(16) : 'refused'
}
