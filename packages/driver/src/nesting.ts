/**
 * Nesting: vIOMMUs, what a guest calls its devices, and nested domains.
 *
 * Linux drivers/iommu/amd/nested.c and iommufd.c.
 *
 * @packageDocumentation
 */
import { decodeEfr, registers } from '@nestwalk/hardware'
import type { IommuPort } from '@nestwalk/hardware'
import { isAttached } from './books.js'
import type { Books } from './books.js'
import { guestEntryOf } from './device-entry.js'
import type { DomainNumber, NestedDomain } from './domain.js'
import { enterDomain, removeDomain } from './domain-entry.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { Plan } from './plan.js'

/** Makes a vIOMMU on a nest parent, for devices behind one IOMMU, and returns its number. */
export function createViommu(books: Books, parent: DomainNumber, iommu: number): number | Refusal {
  const domain = books.domains.get(parent)
  if (domain === undefined) return refuse('ENOENT', 'no-such-domain', `there is no domain ${parent}`)
  if (domain.kind !== 'host-table' || !domain.nestParent) {
    return refuse('EINVAL', 'nest-parent-required', `domain ${parent} was not allocated as a nest parent`)
  }
  const number = books.nextViommu
  books.nextViommu += 1
  books.viommus.set(number, { number, parent, iommu, virtualDevices: new Map(), slots: new Map() })
  return number
}

/** Tells which device of the host a guest means by a DeviceID. EINVAL beyond 16 bits; EEXIST if that ID, or the device, has its meaning already. */
export function nameDevice(
  books: Books,
  viommuNumber: number,
  virtualId: number,
  deviceId: number,
): Refusal | undefined {
  const viommu = books.viommus.get(viommuNumber)
  if (viommu === undefined) return noViommu(viommuNumber)
  const device = books.devices.get(deviceId)
  if (device === undefined) return refuse('ENODEV', 'no-such-device', `device ${deviceId} is not known`)
  if (device.iommu !== viommu.iommu) {
    return refuse('EINVAL', 'viommu-of-another-iommu', `device ${deviceId} is behind IOMMU ${device.iommu}`)
  }
  if (!Number.isInteger(virtualId) || virtualId < 0 || virtualId > 0xffff) {
    return refuse('EINVAL', 'virtual-id-width', `a DeviceID of a guest has 16 bits, ${virtualId} has more`)
  }
  if (viommu.virtualDevices.has(virtualId)) {
    return refuse('EEXIST', 'virtual-id-taken', `the guest's device ${virtualId} is another device`)
  }
  if ([...books.viommus.values()].some((each) => [...each.virtualDevices.values()].includes(deviceId))) {
    return refuse('EEXIST', 'virtual-device-taken', `device ${deviceId} has a virtual DeviceID`)
  }
  viommu.virtualDevices.set(virtualId, deviceId)
  return undefined
}

/** Takes a virtual DeviceID's meaning away. */
export function forgetName(books: Books, viommuNumber: number, virtualId: number): Refusal | undefined {
  const viommu = books.viommus.get(viommuNumber)
  if (viommu === undefined) return noViommu(viommuNumber)
  if (viommu.virtualDevices.delete(virtualId)) return undefined
  return refuse('ENOENT', 'no-such-virtual-id', `the vIOMMU has no device ${virtualId}`)
}

export const noViommu = (number: number): Refusal =>
  refuse('ENOENT', 'no-such-viommu', `there is no vIOMMU ${number}`)

/** Removes a vIOMMU that no nested domain needs any more. */
export function destroyViommu(books: Books, number: number): Refusal | undefined {
  if (!books.viommus.has(number)) return noViommu(number)
  const user = [...books.domains.values()].find(
    (domain) => domain.kind === 'nested' && domain.viommu === number,
  )
  if (user !== undefined) {
    return refuse('EBUSY', 'viommu-in-use', `nested domain ${user.number} is on the vIOMMU`)
  }
  books.viommus.delete(number)
  return undefined
}

/** What is wrong with a guest's device table entry, by the rules and in the order of nested.c. */
export function checkGuestEntry(guestEntry: readonly bigint[], port: IommuPort): Refusal | undefined {
  const entry = guestEntryOf({ guestEntry })
  if (entry.mode !== 0 || entry.hostRoot !== 0n) {
    return refuse('EINVAL', 'guest-entry-without-host-table', 'Mode and host root of a guest entry must be 0')
  }
  if (entry.valid && entry.guestValid && entry.gcr3Root === 0n) {
    return refuse('EINVAL', 'gcr3-root-required', 'a valid guest entry with GV needs a GCR3 root')
  }
  if (entry.guestPagingMode > 1) {
    return refuse('EINVAL', 'guest-paging-mode', `GuestPagingMode ${entry.guestPagingMode} is reserved`)
  }
  if (entry.gcr3Levels === 3) return refuse('EINVAL', 'gcr3-levels', 'GLX 3 is reserved')
  const { gats } = decodeEfr(port.readMmio(registers.efr.offset, 8))
  if (entry.guestPagingMode === 1 && gats !== 1) {
    return refuse('EOPNOTSUPP', 'five-level-guest-tables', 'the IOMMU has no five-level guest tables')
  }
  return undefined
}

/** Makes a nested domain of a checked guest entry and returns its number. */
export function allocateNested(
  books: Books,
  plan: Plan,
  viommuNumber: number,
  guestEntry: readonly bigint[],
): DomainNumber | Refusal {
  const viommu = books.viommus.get(viommuNumber)
  if (viommu === undefined) return noViommu(viommuNumber)
  const domain: NestedDomain = {
    kind: 'nested',
    number: books.nextDomain,
    parent: viommu.parent,
    viommu: viommuNumber,
    guestEntry: guestEntry.slice(0, 4),
    guestDomainId: guestEntryOf({ guestEntry }).domainId,
  }
  return enterDomain(books, plan, domain)
}

/** Frees a nested domain that no device is attached to. */
export function freeNested(books: Books, plan: Plan, domain: NestedDomain): Refusal | undefined {
  if (isAttached(books, domain.number)) {
    return refuse('EBUSY', 'domain-in-use', `a device is attached to nested domain ${domain.number}`)
  }
  removeDomain(books, plan, domain)
  return undefined
}
