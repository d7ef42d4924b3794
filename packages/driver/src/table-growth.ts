/**
 * A host table that grows: a new top on the old one, and the entries of all devices that name the old top.
 *
 * Linux drivers/iommu/amd/iommu.c, `amd_iommu_change_top`: the entries are changed before the new top is in use, and
 * what was cached through the old one stays right, for it is a part of the new. The flushes are Linux's all the same.
 *
 * @packageDocumentation
 */
import type { Spa } from '@nestwalk/bits'
import { decodeDte } from '@nestwalk/hardware'
import { entryAddress } from './bring-up.js'
import { hasGap, listedOn, renewDomain, taggedDomain, usersOf } from './books.js'
import type { Books } from './books.js'
import type { Device } from './device.js'
import { flushEntry, loadEntry, storeEntry } from './dte-update.js'
import type { HostTableDomain } from './domain.js'
import { allOfTag, flushDevice, Waits } from './invalidation-plan.js'
import { everything, rangeFields } from './invalidation-range.js'
import type { Plan } from './plan.js'
import { placesOf, programDevice } from './programmed-entry.js'
import { hostFormat } from './table-format.js'
import { keyFor } from './tag-holding.js'

/** Puts a cleared page on top of a table. */
export function growTable(books: Books, plan: Plan, domain: HostTableDomain, page: Spa): void {
  plan.store(page, hostFormat.pointer(domain.root, domain.mode), 'new top, first entry')
  domain.root = page
  domain.mode += 1
  renewDomain(books, domain)
  const grown = devicesWithTop(books, domain)
  for (const device of grown) changeTop(books, plan, device, domain)
  const waits = new Waits(plan)
  for (const device of grown) {
    for (const place of placesOf(books, device)) flushEntry(plan, place, 'the table has a new top')
    flushDevice(plan, device, { range: everything }, 'the table has a new top')
    waits.add(device.iommu)
  }
  waits.wait()
}

/** The devices whose entries are changed. */
function devicesWithTop(books: Books, { number }: HostTableDomain): Device[] {
  const listed = listedOn(books, number)
  // Gap U8: a device that is not listed keeps the old top. It goes on, but faults on whatever is mapped now.
  if (hasGap(books, 'U8')) return hasGap(books, 'U7') ? listed : listed.filter((each) => isUser(each, number))
  const users = usersOf(books, number)
  if (!hasGap(books, 'U7')) return users
  return [...users, ...listed.filter((each) => !isUser(each, number))]
}

const isUser = ({ domain }: Device, table: number): boolean =>
  domain.kind !== 'blocked' && taggedDomain(domain).table === table

function changeTop(books: Books, plan: Plan, device: Device, domain: HostTableDomain): void {
  const before = decodeDte(loadEntry(plan, entryAddress(books.deviceTable, device.deviceId)))
  const isNested = device.domain.kind !== 'host-table'
  const isLost = isNested && hasGap(books, 'U7') && device.recorded === domain.number
  if (isLost) loseGuestTables(books, plan, device, domain)
  else programDevice(books, plan, device)
  if (before.domainId === 0) return
  plan.command(
    device.iommu,
    {
      kind: 'InvalidateIommuPages',
      domainId: before.domainId,
      directories: true,
      ...rangeFields(allOfTag.range),
    },
    'the old entry carried the ID',
  )
  plan.wait(device.iommu)
  copyToAliases(books, plan, device)
}

/** Linux's `clone_aliases`: the entry of a device as it stands, into the entries of its aliases. */
function copyToAliases(books: Books, plan: Plan, device: Device): void {
  const [own, ...aliases] = placesOf(books, device)
  for (const alias of aliases) storeEntry(plan, alias, loadEntry(plan, own.address), 'blocked')
}

/**
 * Gap U7: a listed device gets the entry of the domain that Linux has recorded for it, whatever it is on: what the guest
 * meant for its own tables is taken for a guest physical address from now on.
 */
function loseGuestTables(books: Books, plan: Plan, device: Device, domain: HostTableDomain): void {
  const key = keyFor(books, device, domain)
  books.tags.noteIommu(key, device.iommu)
  programDevice(books, plan, { ...device, domain, tagKey: key, gcr3: undefined })
}
