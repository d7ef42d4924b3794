/**
 * The driver's books: devices, domains, vIOMMUs, tags, free IDs and pages. Plain data that can be forked.
 *
 * @packageDocumentation
 */
import type { Spa } from '@nestwalk/bits'
import type { Domain, DomainNumber, NestedDomain } from './domain.js'
import type { DomainIdAllocator } from './domain-id.js'
import { InternalError } from './outcome.js'
import type { PageAllocator } from './page-allocator.js'
import type { DomainIdPolicy, TaggedDomain } from './policy.js'
import type { TagTable } from './tag-table.js'

/** A device behind one of the driver's IOMMUs. */
export interface Device {
  readonly deviceId: number
  /** IOMMU group. */
  readonly group: number
  /** Index of the IOMMU that it is behind. */
  readonly iommu: number
  readonly domain: Domain
  /** Key of the tag in the device's entry; absent while it is blocked. */
  readonly tagKey: string | undefined
}

/** A vIOMMU: one guest's DomainIDs on one nest parent. */
export interface Viommu {
  readonly number: number
  readonly parent: DomainNumber
  /**
   * For each guest DomainID the keys of the tags that stand for it, first come first, with the number of domains and
   * attachments behind each.
   */
  readonly slots: Map<number, Map<string, number>>
}

/** See the file's comment. */
export interface Books {
  readonly policy: DomainIdPolicy
  readonly deviceTable: Spa
  /** Highest DeviceID that the device table has an entry for. */
  readonly lastDeviceId: number
  /** Levels of the deepest host table that every IOMMU can walk; 0 without host tables. */
  readonly hostLevels: number
  readonly devices: Map<number, Device>
  readonly domains: Map<DomainNumber, Exclude<Domain, { kind: 'blocked' }>>
  readonly viommus: Map<number, Viommu>
  readonly tags: TagTable
  readonly ids: DomainIdAllocator
  pages: PageAllocator
  nextDomain: DomainNumber
  nextViommu: number
}

/** A copy that shares nothing that can change. */
export function forkBooks(books: Books): Books {
  return {
    ...books,
    devices: new Map(books.devices),
    domains: new Map([...books.domains].map(([number, domain]) => [number, { ...domain }])),
    viommus: new Map(
      [...books.viommus].map(([number, viommu]) => [
        number,
        { ...viommu, slots: new Map([...viommu.slots].map(([id, keys]) => [id, new Map(keys)])) },
      ]),
    ),
    tags: books.tags.fork(),
    ids: books.ids.fork(),
    pages: books.pages.fork(),
  }
}

/** What the future depends on, as plain data in a fixed order. */
export const snapshotBooks = (books: Books): unknown => [
  books.policy.letter,
  books.deviceTable,
  [...books.devices.values()].sort((a, b) => a.deviceId - b.deviceId),
  [...books.domains.values()].sort((a, b) => a.number - b.number),
  [...books.viommus.values()]
    .sort((a, b) => a.number - b.number)
    .map(({ number, parent, slots }) => [number, parent, [...slots].map(([id, keys]) => [id, [...keys]])]),
  books.tags.snapshot(),
  books.ids.snapshot(),
  books.pages.snapshot(),
  books.nextDomain,
  books.nextViommu,
]

/** The domain as the policy sees it. */
export function taggedDomain(domain: Exclude<Domain, { kind: 'blocked' }>): TaggedDomain {
  if (domain.kind === 'guest-table') return { table: domain.sameIdAs ?? domain.number, guest: undefined }
  if (domain.kind !== 'nested') return { table: domain.number, guest: undefined }
  const guest = { viommu: domain.viommu, domainId: domain.guestDomainId, nested: domain.number }
  return { table: domain.parent, guest }
}

/** The host table that a nested domain stands on. It cannot be freed before the domain is. */
export function parentOf(books: Books, nested: NestedDomain): Extract<Domain, { kind: 'host-table' }> {
  const parent = books.domains.get(nested.parent)
  if (parent?.kind !== 'host-table') throw new InternalError(`nested domain ${nested.number} lost its parent`)
  return parent
}

/** The devices attached to a domain or to a nested domain on it, by DeviceID. */
export const devicesOn = (books: Books, table: DomainNumber): Device[] =>
  [...books.devices.values()]
    .filter(({ domain }) => domain.kind !== 'blocked' && taggedDomain(domain).table === table)
    .sort((a, b) => a.deviceId - b.deviceId)

/** Whether a device is attached to exactly this domain. */
export const isAttached = (books: Books, number: DomainNumber): boolean =>
  [...books.devices.values()].some(({ domain }) => domain.kind !== 'blocked' && domain.number === number)
