/**
 * What is left to do for the domain that a device was on, once its entry says otherwise.
 *
 * @packageDocumentation
 */
import { hasGap, listedOn } from './books.js'
import type { Books } from './books.js'
import type { Device } from './device.js'
import type { Domain, DomainNumber } from './domain.js'
import { taggedDomain } from './books.js'
import { leaveTable } from './gcr3-sharing.js'
import {
  allOfTag,
  bindingsOf,
  flushBindings,
  flushDevice,
  flushTagOn,
  iommusOf,
  Waits,
} from './invalidation-plan.js'
import { everything } from './invalidation-range.js'
import type { Plan } from './plan.js'
import { dropTag } from './tag-holding.js'

const why = 'a device leaves the domain'

/** `before` and `after` are the device as it was and as it is. */
export function leaveDomain(books: Books, plan: Plan, before: Device, after: Device): void {
  const { domain, tagKey, gcr3 } = before
  if (domain.kind === 'blocked' || tagKey === undefined) return
  if (hasGap(books, 'U3')) flushRecorded(books, plan, before, after)
  else flushLeft(books, plan, before, after)
  if (gcr3 !== undefined) {
    // Two domains with equal tables have one, which the device then does not leave.
    if (after.gcr3 !== gcr3) leaveTable(books, plan, before, gcr3)
  } else dropTag(books, plan, tagKey, domain)
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

/** The kernel flushes a paging domain whenever a device leaves it; besides, a tag that now means something else. */
function flushLeft(books: Books, plan: Plan, before: Device, after: Device): void {
  const { domain: old, tagKey, gcr3 } = before
  const tag = tagKey === undefined ? undefined : books.tags.get(tagKey)
  if (tag === undefined || old.kind === 'blocked') return
  if (gcr3 !== undefined) {
    // A table that nobody else has goes with its tag, which is then flushed.
    if (hasGap(books, 'U17') && old.kind === 'guest-table') flushUsers(books, plan, old.number)
    return
  }
  const staysOnTable = after.domain.kind === 'nested' && after.domain.parent === old.number
  const changedMeaning = after.tagKey === tagKey && !translateAlike(old, after.domain)
  if ((old.kind === 'host-table' && !staysOnTable) || changedMeaning) {
    const waits = new Waits(plan)
    const because = old.kind === 'host-table' ? why : 'the tables behind the DomainID changed'
    for (const iommu of tag.iommus) waits.add(flushTagOn(plan, iommu, tag, allOfTag, because))
    // Until here the device's own TLB may have been filled from what the ID meant before.
    if (changedMeaning) waits.add(flushDevice(plan, after, { range: everything }, because))
    waits.wait()
  }
}

/**
 * Gap U3: Linux flushes the domain that it has recorded, which is not always the one that the device was on; and the ID
 * in the old entry only if nothing is recorded.
 */
function flushRecorded(books: Books, plan: Plan, before: Device, after: Device): void {
  const { recorded, tagKey } = before
  if (after.domain.kind === 'nested' && after.recorded === recorded) return
  if (recorded !== undefined) {
    flushAll(books, plan, recorded)
    return
  }
  const tag = tagKey === undefined ? undefined : books.tags.get(tagKey)
  if (tag === undefined || after.domain.kind === 'blocked') return
  flushTagOn(plan, before.iommu, tag, allOfTag, 'the old entry carried the ID')
  plan.wait(before.iommu)
}

/** Linux's `amd_iommu_domain_flush_all`: every ID of a domain, and the TLBs of the devices still on it. */
function flushAll(books: Books, plan: Plan, number: DomainNumber): void {
  if (books.domains.get(number)?.kind === 'guest-table') {
    flushUsers(books, plan, number)
    return
  }
  const waits = new Waits(plan)
  for (const tag of books.tags.ofTable(number)) {
    for (const iommu of iommusOf(books, tag)) waits.add(flushTagOn(plan, iommu, tag, allOfTag, why))
  }
  for (const device of listedOn(books, number)) {
    waits.add(flushDevice(plan, device, { range: everything }, why))
  }
  waits.wait()
}

/** PASID 0 of each table that has the domain behind it. */
function flushUsers(books: Books, plan: Plan, number: DomainNumber): void {
  const waits = new Waits(plan)
  flushBindings(plan, books, bindingsOf(books, number), allOfTag, why, waits)
  waits.wait()
}
