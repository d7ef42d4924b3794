/**
 * Default domains: what a group of devices is on while nobody has asked for anything else.
 *
 * Linux drivers/iommu/iommu.c, `iommu_setup_default_domain`, and drivers/iommu/amd/iommu.c, `amd_iommu_def_domain_type`.
 *
 * @packageDocumentation
 */
import { iova } from '@nestwalk/bits'
import type { Books } from './books.js'
import type { Device } from './device.js'
import { blocked } from './domain.js'
import type { Domain, DomainNumber, TableDomain } from './domain.js'
import { enterDomain } from './domain-entry.js'
import { allocateGuestTable, allocateHostTable, mapInto } from './mapping.js'
import { InternalError } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { Plan } from './plan.js'
import { mapsForDevice, missingMaps } from './unity-map.js'
import type { UnityMap } from './unity-map.js'

/**
 * What the system wants devices to be on: physical addresses; a domain with a table, one for each group; or nothing, as if
 * all of them had been given to users of VFIO. Then there are no default domains at all.
 */
export type SystemDefault = 'identity' | 'dma' | 'blocked'

/**
 * The kind of default domain for a device: what comes from outside the machine gets no physical addresses, and what has
 * PASIDs gets them, for on a DMA domain it could not use processes.
 */
export function defaultKindFor(
  system: Exclude<SystemDefault, 'blocked'>,
  { isUntrusted, maxPasids }: Pick<Device, 'isUntrusted' | 'maxPasids'>,
): 'identity' | 'dma' {
  if (isUntrusted) return 'dma'
  return maxPasids > 0 ? 'identity' : system
}

/**
 * The default domain of a device's group, made if the device is the first of it, which decides of which kind it is; with
 * the unity maps of the device in it. To be asked once for each device.
 */
export function prepareDefault(books: Books, plan: Plan, device: Device): Domain | Refusal {
  if (books.systemDefault === 'blocked') return blocked
  if (!books.defaultDomains.has(device.group)) {
    const made = makeDefault(books, plan, defaultKindFor(books.systemDefault, device))
    if (typeof made !== 'number') return made
    books.defaultDomains.set(device.group, made)
  }
  const domain = defaultDomainOf(books, device)
  // An identity domain has every map there is.
  if (domain.kind !== 'host-table' && domain.kind !== 'guest-table') return domain
  return putUnityMaps(books, plan, domain, device) ?? domain
}

/** The default domain of a device's group. */
export function defaultDomainOf(books: Books, { group }: Device): Domain {
  const number = books.defaultDomains.get(group)
  if (number === undefined) return blocked
  const domain = books.domains.get(number)
  if (domain === undefined || domain.kind === 'process') {
    throw new InternalError(`the default domain of group ${group} is gone`)
  }
  return domain
}

/** Whether a domain is kept for a group, or for all. */
export const isDefaultDomain = (books: Books, number: DomainNumber): boolean =>
  number === books.identityDomain || [...books.defaultDomains.values()].includes(number)

function makeDefault(books: Books, plan: Plan, kind: 'identity' | 'dma'): DomainNumber | Refusal {
  if (kind === 'identity') return identityForAll(books, plan)
  const { hostLevels, guestLevels } = books
  if (hostLevels > 0) return allocateHostTable(books, plan, { nestParent: false, canTrackDirty: false })
  return allocateGuestTable(books, plan, guestLevels, undefined)
}

function identityForAll(books: Books, plan: Plan): DomainNumber | Refusal {
  if (books.identityDomain !== undefined) return books.identityDomain
  const number = enterDomain(books, plan, { kind: 'identity', number: books.nextDomain })
  if (typeof number === 'number') books.identityDomain = number
  return number
}

function putUnityMaps(books: Books, plan: Plan, domain: TableDomain, device: Device): Refusal | undefined {
  const mapsOf = ({ deviceId }: Device): UnityMap[] => mapsForDevice(books.firmware.unityMaps, deviceId)
  const present = [...books.devices.values()]
    .filter(({ group, deviceId }) => group === device.group && deviceId !== device.deviceId)
    .flatMap(mapsOf)
  for (const { start, byteLength, rights } of missingMaps(mapsOf(device), present)) {
    const range = { from: iova(start), to: start, length: byteLength, rights }
    const refused = mapInto(books, plan, domain, range)
    if (refused !== undefined) return refused
  }
  return undefined
}
