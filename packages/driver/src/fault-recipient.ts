/**
 * Who is to hear of what a device did: the guest that owns its tables, the domain that it is on, or the host alone.
 *
 * @packageDocumentation
 */
import { hasGap } from './books.js'
import type { Books } from './books.js'
import type { Device } from './device.js'
import type { DomainNumber, NestedDomain } from './domain.js'

export type Recipient =
  /** The host's own log. */
  | { readonly kind: 'host' }
  /** Whoever has mapped into a domain. */
  | { readonly kind: 'domain'; readonly domain: DomainNumber }
  /** The guest behind a vIOMMU. It knows the device by another ID, and the nested domain by its own DomainID. */
  | {
      readonly kind: 'viommu'
      readonly viommu: number
      /** The host's DeviceID. */
      readonly deviceId: number
      readonly guestDomainId: number
    }

export const host: Recipient = { kind: 'host' }

/** The device that has a DeviceID: as its own, or else as an alias. */
export function deviceWith(books: Books, deviceId: number): Device | undefined {
  const own = books.devices.get(deviceId)
  if (own !== undefined) return own
  return [...books.devices.values()].find(({ aliases }) => aliases.includes(deviceId))
}

/** The nested domain that a device is on, if its guest hears of the device. Gap U13: no guest hears of anything. */
export const guestDomainOf = (books: Books, { domain }: Device): NestedDomain | undefined =>
  domain.kind === 'nested' && !hasGap(books, 'U13') ? domain : undefined

export const toGuest = ({ deviceId }: Device, { viommu, guestDomainId }: NestedDomain): Recipient => ({
  kind: 'viommu',
  ...{ viommu, deviceId, guestDomainId },
})
