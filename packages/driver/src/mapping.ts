/**
 * Domains that own page tables: making and freeing them, mapping and unmapping.
 *
 * @packageDocumentation
 */
import { decodeEfr, registers } from '@nestwalk/hardware'
import type { IommuPort } from '@nestwalk/hardware'
import type { Iova, Spa } from '@nestwalk/bits'
import { entryFor } from './attach.js'
import { entryAddress } from './bring-up.js'
import { devicesOn, isAttached, taggedDomain } from './books.js'
import type { Books } from './books.js'
import type { DomainNumber, GuestTableDomain, HostTableDomain } from './domain.js'
import { enterDomain, removeDomain } from './domain-entry.js'
import { updateEntry } from './dte-update.js'
import { flushTable } from './invalidation-plan.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import { lookUp, mapRange, tablesOf, unmapRange } from './page-table.js'
import type { TableEdit } from './page-table.js'
import type { Plan } from './plan.js'
import { guestFormat, hostFormat } from './table-format.js'
import type { Rights } from './table-format.js'

export type TableDomain = HostTableDomain | GuestTableDomain

/** Levels of a fresh host table: 2^39 bytes, as Linux; it grows when a higher address is mapped. */
const firstHostLevels = 3
/** Linux uses one address bit less than guest tables decode, so that a table serves with and without PASID sign rule. */
const unusedGuestBits = 1

const edit = (books: Books, plan: Plan, domain: TableDomain): TableEdit =>
  domain.kind === 'host-table'
    ? { plan, pages: books.pages, format: hostFormat, root: domain.root, levels: domain.mode }
    : { plan, pages: books.pages, format: guestFormat, root: domain.root, levels: domain.levels }

/** Makes a domain with an empty host table. */
export function allocateHostTable(books: Books, plan: Plan, nestParent: boolean): DomainNumber | Refusal {
  const root = freshTable(books, plan, 'host table, top')
  if (typeof root !== 'bigint') return root
  return enterDomain(books, {
    kind: 'host-table',
    number: books.nextDomain,
    nestParent,
    root,
    mode: firstHostLevels,
  })
}

/**
 * Makes a domain with an empty guest-format table behind a GCR3 table with one entry, that of PASID 0.
 *
 * @param sameIdAs - a domain whose DomainID this one shall carry too: a mistake that a guest may make
 */
export function allocateGuestTable(
  books: Books,
  plan: Plan,
  port: IommuPort,
  levels: 4 | 5,
  sameIdAs: DomainNumber | undefined,
): DomainNumber | Refusal {
  const efr = decodeEfr(port.readMmio(registers.efr.offset, 8))
  if (!efr.gtSup || !efr.gIoSup) {
    return refuse('EOPNOTSUPP', 'guest-tables-unsupported', 'the IOMMU lacks GTSup or GIoSup')
  }
  if (levels === 5 && efr.gats !== 1) {
    return refuse('EOPNOTSUPP', 'five-level-guest-tables', 'the IOMMU has no five-level guest tables')
  }
  const gcr3Root = freshTable(books, plan, 'GCR3 table')
  if (typeof gcr3Root !== 'bigint') return gcr3Root
  const root = freshTable(books, plan, 'guest table, top')
  if (typeof root !== 'bigint') return root
  plan.store(gcr3Root, root | 1n, 'GCR3 entry of PASID 0')
  return enterDomain(books, {
    kind: 'guest-table',
    number: books.nextDomain,
    gcr3Root,
    root,
    levels,
    sameIdAs,
  })
}

function freshTable(books: Books, plan: Plan, what: string): Spa | Refusal {
  const page = books.pages.take()
  if (page === undefined) return refuse('ENOMEM', 'no-table-page', `no page is left for a ${what}`)
  plan.clearPage(page, what)
  return page
}

/** Frees a domain with a table, and the table. */
export function freeTable(books: Books, plan: Plan, domain: TableDomain): Refusal | undefined {
  const inUse =
    isAttached(books, domain.number) ||
    [...books.viommus.values()].some(({ parent }) => parent === domain.number) ||
    [...books.domains.values()].some(
      (other) => other.kind === 'guest-table' && other.sameIdAs === domain.number,
    )
  if (inUse) return refuse('EBUSY', 'domain-in-use', `domain ${domain.number} is in use`)
  const tables = tablesOf(edit(books, plan, domain))
  if (domain.kind === 'guest-table') tables.push(domain.gcr3Root)
  for (const table of tables) books.pages.free(table)
  removeDomain(books, plan, domain)
  return undefined
}

/** Maps a range. No command is needed: not-present entries are not cached. */
export function mapInto(
  books: Books,
  plan: Plan,
  domain: TableDomain,
  range: { readonly from: Iova; readonly to: Spa; readonly length: bigint; readonly rights: Rights },
): Refusal | undefined {
  const { from, to, length } = range
  if (((from | to | length) & 0xfffn) !== 0n || length <= 0n) {
    return refuse('EINVAL', 'page-aligned', 'address, target and length must be multiples of 4096')
  }
  const last = from + length - 1n
  if (last >> 64n !== 0n) return beyond(last)
  if ((to + length - 1n) >> 52n !== 0n) {
    return refuse('EOVERFLOW', 'target', `0x${(to + length - 1n).toString(16)} has more than 52 bits`)
  }
  if (domain.kind === 'guest-table') {
    if (last >> BigInt(12 + 9 * domain.levels - unusedGuestBits) !== 0n) return beyond(last)
  } else {
    while (last >> BigInt(12 + 9 * domain.mode) !== 0n) {
      if (domain.mode >= books.hostLevels) return beyond(last)
      const refused = grow(books, plan, domain)
      if (refused !== undefined) return refused
    }
  }
  return mapRange(edit(books, plan, domain), range)
}

const beyond = (last: bigint): Refusal =>
  refuse('EOVERFLOW', 'aperture', `0x${last.toString(16)} is above what the table can translate`)

/** Puts a level on top of a host table. Every entry that names the old top is rewritten, nested ones too. */
function grow(books: Books, plan: Plan, domain: HostTableDomain): Refusal | undefined {
  const root = freshTable(books, plan, 'host table, new top')
  if (typeof root !== 'bigint') return root
  plan.store(root, hostFormat.pointer(domain.root, domain.mode), 'new top, first entry')
  domain.root = root
  domain.mode += 1
  for (const device of devicesOn(books, domain.number)) {
    // A device that is on the table itself still has the domain as it was.
    const on = device.domain.kind === 'nested' ? device.domain : domain
    books.devices.set(device.deviceId, { ...device, domain: on })
    const tag = device.tagKey === undefined ? undefined : books.tags.get(device.tagKey)
    const address = entryAddress(books.deviceTable, device.deviceId)
    updateEntry(plan, { deviceId: device.deviceId, iommu: device.iommu, address }, entryFor(books, on, tag))
  }
  return undefined
}

/** Unmaps a range, flushes, and frees the tables that became empty. Returns the number of bytes unmapped. */
export function unmapFrom(
  books: Books,
  plan: Plan,
  domain: TableDomain,
  from: Iova,
  length: bigint,
): bigint | Refusal {
  if (((from | length) & 0xfffn) !== 0n || length <= 0n) {
    return refuse('EINVAL', 'page-aligned', 'address and length must be multiples of 4096')
  }
  const unmapped = unmapRange(edit(books, plan, domain), { first: from, last: from + length - 1n })
  if ('ok' in unmapped) return unmapped
  const { bytes, range, tables } = unmapped
  if (range === undefined) return bytes
  const reach = { range, directories: tables.length > 0, guest: domain.kind === 'guest-table' }
  flushTable(plan, books, taggedDomain(domain).table, reach, 'a mapping went away')
  for (const table of tables) books.pages.free(table)
  return bytes
}

/** Where an address of a domain leads; `undefined` if it is not mapped. */
export const lookUpIn = (books: Books, plan: Plan, domain: TableDomain, address: Iova): bigint | undefined =>
  lookUp(edit(books, plan, domain), address)
