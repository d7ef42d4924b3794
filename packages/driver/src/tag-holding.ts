/**
 * Taking tags and giving them back: from the first user to the last, and clean in between.
 *
 * @packageDocumentation
 */
import type { DomainId } from '@nestwalk/hardware'
import { hasGap, taggedDomain } from './books.js'
import type { Books, Viommu } from './books.js'
import type { Device } from './device.js'
import type { NumberedDomain } from './domain.js'
import type { UsedId } from './domain-id.js'
import { allOfTag, flushTagOn, flushTags, Waits } from './invalidation-plan.js'
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
export function holdTag(books: Books, plan: Plan, key: string, domain: NumberedDomain): Tag | Refusal {
  const refused = whyOverQuota(books, key, domain)
  if (refused !== undefined) return refused
  const tag = acquireTag(books, plan, key, taggedDomain(domain).table)
  if ('ok' in tag) return tag
  if (domain.kind === 'nested') count(viommuOf(books, domain.viommu), domain.guestDomainId, key, 1)
  return tag
}

/** Takes one use of a tag. A key that has none yet gets a DomainID, clean. */
export function acquireTag(books: Books, plan: Plan, key: string, table: number | undefined): Tag | Refusal {
  const tag = books.tags.acquire(key, table, () => takeId(books, plan))
  return tag ?? refuse('ENOSPC', 'no-domain-id', 'all DomainIDs are taken')
}

function takeId(books: Books, plan: Plan): DomainId | undefined {
  let used = books.ids.allocate()
  if (used === undefined && books.ids.keptBack > 0) {
    cleanKept(books, plan)
    used = books.ids.allocate()
  }
  if (used !== undefined) cleanIds(plan, [used], 'the DomainID gets another user')
  return used?.id
}

/** Gap U14: a vIOMMU may own as many as there are. */
function whyOverQuota(books: Books, key: string, domain: NumberedDomain): Refusal | undefined {
  if (domain.kind !== 'nested' || hasGap(books, 'U14') || books.tags.get(key) !== undefined) return undefined
  const { quotaPerViommu } = books.ids.rules
  const owned = new Set(
    [...viommuOf(books, domain.viommu).slots.values()].flatMap((keys) => [...keys.keys()]),
  )
  if (owned.size < quotaPerViommu) return undefined
  return refuse('ENOSPC', 'viommu-quota', `the vIOMMU owns ${quotaPerViommu} DomainIDs already`)
}

/** Gives a tag back, see {@link releaseTag}. */
export function dropTag(books: Books, plan: Plan, key: string, domain: NumberedDomain): void {
  if (domain.kind === 'nested') count(viommuOf(books, domain.viommu), domain.guestDomainId, key, -1)
  releaseTag(books, plan, key)
}

/** Drops one use of a tag. Its ID is free once its last user has left, and clean before anybody else can use it. */
export function releaseTag(books: Books, plan: Plan, key: string): void {
  const tag = books.tags.release(key)
  if (tag?.users !== 0) return
  // Gap U2: whoever gets the ID next may be served what is still cached under it.
  const isClean = hasGap(books, 'U2') || tag.iommus.length === 0
  if (isClean) books.ids.release(tag.domainId, [])
  else if (books.ids.rules.cleaning === 'on-free') {
    flushTags(plan, [tag], allOfTag, 'the DomainID is about to be free')
    books.ids.release(tag.domainId, [])
  } else {
    books.ids.release(tag.domainId, tag.iommus)
    if (books.ids.keptBack >= books.ids.rules.quarantineLength) cleanKept(books, plan)
  }
}

/** Makes all IDs clean that are kept back, with one wait for each IOMMU. */
function cleanKept(books: Books, plan: Plan): void {
  cleanIds(plan, books.ids.takeKept(), 'the DomainID leaves the quarantine')
}

function cleanIds(plan: Plan, ids: readonly UsedId[], why: string): void {
  const waits = new Waits(plan)
  for (const { id, uncleanOn } of ids) {
    for (const iommu of uncleanOn) waits.add(flushTagOn(plan, iommu, { domainId: id }, allOfTag, why))
  }
  waits.wait()
}

/** Counts the domains and attachments by which a tag stands for a DomainID of a guest; without any it does not. */
function count({ slots }: Viommu, guestDomainId: DomainId, key: string, more: 1 | -1): void {
  const keys = slots.get(guestDomainId) ?? new Map<string, number>()
  const held = (keys.get(key) ?? 0) + more
  if (held > 0) keys.set(key, held)
  else keys.delete(key)
  if (keys.size > 0) slots.set(guestDomainId, keys)
  else slots.delete(guestDomainId)
}

function viommuOf(books: Books, number: number): Viommu {
  const viommu = books.viommus.get(number)
  if (viommu === undefined) throw new InternalError(`vIOMMU ${number} went before its nested domains`)
  return viommu
}
