/**
 * Taking tags and giving them back: from the first user to the last, and clean in between.
 *
 * @packageDocumentation
 */
import { hasGap, taggedDomain } from './books.js'
import type { Books, Viommu } from './books.js'
import type { Device } from './device.js'
import type { NumberedDomain } from './domain.js'
import { allOfTag, flushTags } from './invalidation-plan.js'
import { InternalError, refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { Plan } from './plan.js'
import type { Tag } from './tag-table.js'

/** Key of the tag for a device on a domain. */
export const keyFor = (books: Books, device: Device, domain: NumberedDomain): string => {
  const tagged = taggedDomain(domain)
  return books.policy.keyOfDomain(tagged) ?? books.policy.keyOfAttachment(device, tagged)
}

/** Takes a tag for a domain or an attachment. For a nested domain the vIOMMU learns that it stands for its guest ID. */
export function holdTag(books: Books, key: string, domain: NumberedDomain): Tag | Refusal {
  const slot = slotOf(books, domain)
  const tag = books.tags.acquire(key, taggedDomain(domain).table, books.ids)
  if (tag === undefined) {
    forgetEmptySlot(books, domain)
    return noDomainId
  }
  if (slot !== undefined) slot.set(key, (slot.get(key) ?? 0) + 1)
  return tag
}

export const noDomainId = refuse('ENOSPC', 'no-domain-id', 'all DomainIDs are taken')

/** Gives a tag back, see {@link releaseTag}. */
export function dropTag(books: Books, plan: Plan, key: string, domain: NumberedDomain): void {
  const slot = slotOf(books, domain)
  const held = slot?.get(key)
  if (slot !== undefined && held !== undefined) {
    if (held === 1) slot.delete(key)
    else slot.set(key, held - 1)
    forgetEmptySlot(books, domain)
  }
  releaseTag(books, plan, key)
}

/** Drops one use of a tag. Its ID is free once its last user has left, and clean before anybody else can get it. */
export function releaseTag(books: Books, plan: Plan, key: string): void {
  const tag = books.tags.release(key)
  if (tag?.users !== 0) return
  // Gap U2: whoever gets the ID next may be served what is still cached under it.
  if (!hasGap(books, 'U2')) flushTags(plan, [tag], allOfTag, 'the DomainID is about to be free')
  books.ids.release(tag.domainId)
}

function slotOf(books: Books, domain: NumberedDomain): Map<string, number> | undefined {
  if (domain.kind !== 'nested') return undefined
  const { slots } = viommuOf(books, domain.viommu)
  const slot = slots.get(domain.guestDomainId) ?? new Map<string, number>()
  slots.set(domain.guestDomainId, slot)
  return slot
}

function forgetEmptySlot(books: Books, domain: NumberedDomain): void {
  if (domain.kind !== 'nested') return
  const { slots } = viommuOf(books, domain.viommu)
  if (slots.get(domain.guestDomainId)?.size === 0) slots.delete(domain.guestDomainId)
}

function viommuOf(books: Books, number: number): Viommu {
  const viommu = books.viommus.get(number)
  if (viommu === undefined) throw new InternalError(`vIOMMU ${number} went before its nested domains`)
  return viommu
}
