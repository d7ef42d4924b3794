/**
 * The driver's books: devices, domains, vIOMMUs, tags, free IDs and pages. Plain data that can be forked.
 *
 * @packageDocumentation
 */
import type { Spa } from '@nestwalk/bits'
import type { KnownIommu } from './bring-up.js'
import type { SystemDefault } from './default-domain.js'
import type { Device } from './device.js'
import type { Discovery } from './discovery.js'
import { isSameDomain } from './domain.js'
import type { DomainNumber, HostTableDomain, NestedDomain, NumberedDomain } from './domain.js'
import type { DomainIdAllocator } from './domain-id.js'
import type { Abilities } from './feature-negotiation.js'
import type { Gap } from './gap.js'
import type { Gcr3Table } from './gcr3-table.js'
import type { Mutant } from './mutant.js'
import { InternalError } from './outcome.js'
import type { PageAllocator } from './page-allocator.js'
import type { PendingGroup } from './page-request.js'
import type { DomainIdPolicy, TaggedDomain } from './policy.js'
import type { TagTable } from './tag-table.js'

/** A vIOMMU: one guest's DomainIDs on one nest parent. */
export interface Viommu {
  readonly number: number
  readonly parent: DomainNumber
  /** The IOMMU that its devices are behind. */
  readonly iommu: number
  /** DeviceIDs of the host by those that the guest uses. */
  readonly virtualDevices: Map<number, number>
  /**
   * For each guest DomainID the keys of the tags that stand for it, first come first, with the number of domains and
   * attachments behind each.
   */
  readonly slots: Map<number, Map<string, number>>
}

/** See the file's comment. */
export interface Books extends Abilities {
  readonly policy: DomainIdPolicy
  /** The IOMMUs, in order: what they are, and where their rings and logs lie. */
  readonly iommus: readonly KnownIommu[]
  /** What firmware says about devices. */
  readonly firmware: Pick<Discovery, 'ranges' | 'unityMaps' | 'findings'>
  readonly deviceTable: Spa
  /** Highest DeviceID that the device table has an entry for. */
  readonly lastDeviceId: number
  /** Mistakes that the driver makes because it was asked to. */
  readonly mutants: ReadonlySet<Mutant>
  /** What devices are on once they are probed. */
  readonly systemDefault: SystemDefault
  /** The default domain of each IOMMU group that has one. */
  readonly defaultDomains: Map<number, DomainNumber>
  /** The identity domain of all groups that have it as their default. */
  identityDomain: DomainNumber | undefined
  /** Entries of another kernel that are still in force: their DomainIDs by DeviceID, 0 for none. */
  readonly inherited: Map<number, number>
  readonly devices: Map<number, Device>
  readonly domains: Map<DomainNumber, NumberedDomain>
  readonly gcr3Tables: Map<number, Gcr3Table>
  readonly viommus: Map<number, Viommu>
  readonly tags: TagTable
  readonly ids: DomainIdAllocator
  /** Tables to be freed once what was unmapped lazily is flushed, by domain; with an entry there is something to flush. */
  readonly deferred: Map<DomainNumber, readonly Spa[]>
  /** Page requests that somebody has been asked to answer, by DeviceID; devices without any are not in it. */
  readonly pageRequests: Map<number, readonly PendingGroup[]>
  pages: PageAllocator
  nextDomain: DomainNumber
  nextViommu: number
  nextGcr3: number
}

/** A copy that shares nothing that can change. */
export function forkBooks(books: Books): Books {
  return {
    ...books,
    defaultDomains: new Map(books.defaultDomains),
    inherited: new Map(books.inherited),
    devices: new Map(books.devices),
    gcr3Tables: new Map(books.gcr3Tables),
    domains: new Map([...books.domains].map(([number, domain]) => [number, { ...domain }])),
    viommus: new Map(
      [...books.viommus].map(([number, viommu]) => [
        number,
        {
          ...viommu,
          virtualDevices: new Map(viommu.virtualDevices),
          slots: new Map([...viommu.slots].map(([id, keys]) => [id, new Map(keys)])),
        },
      ]),
    ),
    tags: books.tags.fork(),
    ids: books.ids.fork(),
    deferred: new Map(books.deferred),
    pageRequests: new Map(books.pageRequests),
    pages: books.pages.fork(),
  }
}

/** What the future depends on, as plain data in a fixed order. */
export const snapshotBooks = (books: Books): unknown => [
  books.policy.letter,
  books.deviceTable,
  [...books.defaultDomains],
  books.identityDomain,
  [...books.inherited],
  [...books.devices.values()].sort((a, b) => a.deviceId - b.deviceId).map(plainly),
  // Numbers only rise: these are in order.
  [...books.domains.values()],
  [...books.viommus.values()].map(({ number, parent, iommu, virtualDevices, slots }) => [
    ...[number, parent, iommu, [...virtualDevices]],
    [...slots].map(([id, keys]) => [id, [...keys]]),
  ]),
  [...books.gcr3Tables.values()].map((table) => ({ ...table, entries: [...table.entries] })),
  books.tags.snapshot(),
  books.ids.snapshot(),
  [...books.deferred],
  [...books.pageRequests].sort(([a], [b]) => a - b),
  books.pages.snapshot(),
  books.nextDomain,
  books.nextViommu,
  books.nextGcr3,
]

const plainly = (device: Device): unknown => ({
  ...device,
  processes: [...device.processes],
  features: [...device.features].sort(),
  parked: device.parked && [
    device.parked.domain,
    [...device.parked.processes],
    [...device.parked.features].sort(),
  ],
})

/** Whether the driver does at a point what Linux 7.3 does there. */
export const hasGap = (books: Books, gap: Gap): boolean => books.policy.gaps?.has(gap) ?? false

/** The domain as the policy sees it. */
export function taggedDomain(domain: NumberedDomain): TaggedDomain {
  if (domain.kind === 'guest-table') return { table: domain.sameIdAs ?? domain.number, guest: undefined }
  if (domain.kind !== 'nested') return { table: domain.number, guest: undefined }
  const guest = { viommu: domain.viommu, domainId: domain.guestDomainId, nested: domain.number }
  return { table: domain.parent, guest }
}

/** The host table that a nested domain, or a vIOMMU, stands on. It cannot be freed before. */
export function parentOf(
  books: Books,
  child: Pick<NestedDomain | Viommu, 'number' | 'parent'>,
): HostTableDomain {
  const parent = books.domains.get(child.parent)
  if (parent?.kind !== 'host-table') throw new InternalError(`what stands on domain ${child.parent} lost it`)
  return parent
}

/** Shows a domain as it is now to the devices that are on it, or will be again after their reset. */
export function renewDomain(books: Books, domain: HostTableDomain): void {
  for (const [deviceId, device] of books.devices) {
    const { parked } = device
    if (isSameDomain(device.domain, domain)) books.devices.set(deviceId, { ...device, domain })
    else if (parked !== undefined && isSameDomain(parked.domain, domain)) {
      books.devices.set(deviceId, { ...device, parked: { ...parked, domain } })
    }
  }
}

const byDeviceId = (a: Device, b: Device): number => a.deviceId - b.deviceId

/** The devices whose requests end in a table: attached to its domain, or to a nested domain on it. By DeviceID. */
export const usersOf = (books: Books, table: DomainNumber): Device[] =>
  [...books.devices.values()]
    .filter(({ domain }) => domain.kind !== 'blocked' && taggedDomain(domain).table === table)
    .sort(byDeviceId)

/** The devices on the list of a paging domain, by DeviceID. */
export const listedOn = (books: Books, domain: DomainNumber): Device[] =>
  [...books.devices.values()].filter(({ recorded }) => recorded === domain).sort(byDeviceId)

/** Whether a device is attached to exactly this domain, as a whole or with a PASID. */
export const isAttached = (books: Books, number: DomainNumber): boolean =>
  [...books.devices.values()].some(
    (device) => isOn(device, number) || (device.parked !== undefined && isOn(device.parked, number)),
  )

const isOn = ({ domain, processes }: Pick<Device, 'domain' | 'processes'>, number: DomainNumber): boolean =>
  (domain.kind !== 'blocked' && domain.number === number) || [...processes.values()].includes(number)
