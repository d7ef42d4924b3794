/**
 * Attaching devices to domains: tags, the device table entry, and what has to be flushed behind it.
 *
 * @packageDocumentation
 */
import { entryAddress } from './bring-up.js'
import { parentOf, taggedDomain } from './books.js'
import type { Books, Device, Viommu } from './books.js'
import { blockedEntry, guestTableEntry, hostTableEntry, identityEntry, nestedEntry } from './device-entry.js'
import { blocked } from './domain.js'
import type { Domain } from './domain.js'
import { updateEntry } from './dte-update.js'
import { allOfTag, flushTags } from './invalidation-plan.js'
import { InternalError, refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { Plan } from './plan.js'
import type { Tag } from './tag-table.js'

type RealDomain = Exclude<Domain, { kind: 'blocked' }>

/** Key of the tag for a device on a domain. */
const keyFor = (books: Books, device: Device, domain: RealDomain): string => {
  const tagged = taggedDomain(domain)
  return books.policy.keyOfDomain(tagged) ?? books.policy.keyOfAttachment(device, tagged)
}

/** Whether two domains may share cached translations: the same table, and the same guest tables on top if any. */
function translateAlike(a: Domain, b: Domain): boolean {
  if (a.kind === 'blocked' || b.kind === 'blocked') return false
  const [one, other] = [taggedDomain(a), taggedDomain(b)]
  return (
    one.table === other.table &&
    one.guest?.viommu === other.guest?.viommu &&
    one.guest?.domainId === other.guest?.domainId
  )
}

/** Takes a tag for a domain or an attachment. For a nested domain the vIOMMU learns that it stands for its guest ID. */
export function holdTag(books: Books, key: string, domain: RealDomain): Tag | Refusal {
  const tagged = taggedDomain(domain)
  const tag = books.tags.acquire(key, tagged.table, books.ids)
  if (tag === undefined) return refuse('ENOSPC', 'no-domain-id', 'all DomainIDs are taken')
  const slot = slotOf(books, domain)
  if (slot !== undefined) slot.set(key, (slot.get(key) ?? 0) + 1)
  return tag
}

/** Gives a tag back. Its ID is free once its last user has left, and flushed first if the policy wants it so. */
export function dropTag(books: Books, plan: Plan, key: string, domain: RealDomain): void {
  const slot = slotOf(books, domain)
  const held = slot?.get(key)
  if (slot !== undefined && held !== undefined) {
    if (held === 1) slot.delete(key)
    else slot.set(key, held - 1)
    forgetEmptySlot(books, domain)
  }
  const tag = books.tags.release(key)
  if (tag?.users !== 0) return
  if (books.policy.flushesFreedIds) flushTags(plan, [tag], allOfTag, 'the DomainID is about to be free')
  books.ids.release(tag.domainId)
}

function slotOf(books: Books, domain: RealDomain): Map<string, number> | undefined {
  if (domain.kind !== 'nested') return undefined
  const { slots } = viommuOf(books, domain.viommu)
  const slot = slots.get(domain.guestDomainId) ?? new Map<string, number>()
  slots.set(domain.guestDomainId, slot)
  return slot
}

function forgetEmptySlot(books: Books, domain: RealDomain): void {
  if (domain.kind !== 'nested') return
  const { slots } = viommuOf(books, domain.viommu)
  if (slots.get(domain.guestDomainId)?.size === 0) slots.delete(domain.guestDomainId)
}

function viommuOf(books: Books, number: number): Viommu {
  const viommu = books.viommus.get(number)
  if (viommu === undefined) throw new InternalError(`vIOMMU ${number} went before its nested domains`)
  return viommu
}

/** The entry for a device on a domain. */
export function entryFor(books: Books, domain: Domain, tag: Tag | undefined): BigUint64Array {
  if (domain.kind === 'blocked' || tag === undefined) return blockedEntry()
  switch (domain.kind) {
    case 'identity':
      return identityEntry(tag.domainId)
    case 'host-table':
      return hostTableEntry(domain, tag.domainId)
    case 'guest-table':
      return guestTableEntry(domain, tag.domainId)
    case 'nested':
      return nestedEntry(domain, parentOf(books, domain), tag.domainId)
  }
}

/**
 * Moves a device to a domain with one update of its entry.
 *
 * The new tag is in the books before the entry is written, so that an unmap meanwhile reaches it; the old one is given
 * back afterwards.
 */
export function moveDevice(books: Books, plan: Plan, device: Device, domain: Domain): Refusal | undefined {
  const key = domain.kind === 'blocked' ? undefined : keyFor(books, device, domain)
  let tag: Tag | undefined
  if (domain.kind !== 'blocked' && key !== undefined) {
    const held = holdTag(books, key, domain)
    if ('ok' in held) return held
    tag = held
    books.tags.noteIommu(key, device.iommu)
  }
  const place = {
    deviceId: device.deviceId,
    iommu: device.iommu,
    address: entryAddress(books.deviceTable, device.deviceId),
  }
  updateEntry(plan, place, entryFor(books, domain, tag))
  books.devices.set(device.deviceId, { ...device, domain, tagKey: key })
  leave(books, plan, device, domain, key)
  return undefined
}

/** What is left to do for the domain that a device was on. */
function leave(books: Books, plan: Plan, device: Device, next: Domain, nextKey: string | undefined): void {
  const { domain: old, tagKey } = device
  if (old.kind === 'blocked' || tagKey === undefined) return
  const tag = books.tags.get(tagKey)
  const ownsTable = old.kind === 'host-table' || old.kind === 'guest-table'
  const staysOnTable = next.kind === 'nested' && next.parent === old.number
  if (tag !== undefined && ownsTable && !staysOnTable) {
    // The kernel flushes a paging domain whenever a device leaves it.
    flushTags(plan, [tag], { ...allOfTag, guest: old.kind === 'guest-table' }, 'a device leaves the domain')
  } else if (tag !== undefined && nextKey === tagKey && !translateAlike(old, next)) {
    flushTags(plan, [tag], allOfTag, 'the tables behind the DomainID changed')
  }
  dropTag(books, plan, tagKey, old)
}

/**
 * Attaches a device, by the kernel's rule: from one paging domain to another through blocked, so that its requests are
 * refused in between; to and from a nested domain directly.
 */
export function attachDevice(books: Books, plan: Plan, device: Device, domain: Domain): Refusal | undefined {
  const through =
    device.domain.kind !== 'blocked' && device.domain.kind !== 'nested' && domain.kind !== 'nested'
  if (!through || domain.kind === 'blocked') return moveDevice(books, plan, device, domain)
  const refused = moveDevice(books, plan, device, blocked)
  if (refused !== undefined) return refused
  const parked = books.devices.get(device.deviceId)
  return parked === undefined ? undefined : moveDevice(books, plan, parked, domain)
}
