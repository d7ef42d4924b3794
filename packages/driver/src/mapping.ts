/**
 * Domains that own page tables: making and freeing them, mapping and unmapping.
 *
 * @packageDocumentation
 */
import { decodeEfr, registers } from '@nestwalk/hardware'
import type { IommuPort } from '@nestwalk/hardware'
import type { Iova, Spa } from '@nestwalk/bits'
import { isAttached } from './books.js'
import type { Books } from './books.js'
import type { DomainNumber, TableDomain } from './domain.js'
import { enterDomain, removeDomain } from './domain-entry.js'
import { allOfTag, flushGuestTable, flushHostTable } from './invalidation-plan.js'
import type { Reach } from './invalidation-plan.js'
import type { AddressRange } from './invalidation-range.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import { IotlbGather } from './iotlb-gather.js'
import { lookUp, tablesOf, visitEntries } from './page-table.js'
import type { TableEdit } from './page-table.js'
import type { Plan } from './plan.js'
import { guestFormat, hostFormat } from './table-format.js'
import { growTable } from './table-growth.js'
import { mapRange } from './table-map.js'
import type { Mapping } from './table-map.js'
import { unmapRange } from './table-unmap.js'

/** Levels of a fresh host table: 2^39 bytes, as Linux; it grows when a higher address is mapped. */
const firstHostLevels = 3
/** Linux uses one address bit less than guest tables decode, so that a table serves with and without PASID sign rule. */
const unusedGuestBits = 1

const edit = (books: Books, plan: Plan, domain: TableDomain): TableEdit =>
  domain.kind === 'host-table'
    ? { plan, pages: books.pages, format: hostFormat, root: domain.root, levels: domain.mode }
    : { plan, pages: books.pages, format: guestFormat, root: domain.root, levels: domain.levels }

/** What a host table is to be good for. */
export interface HostTableUse {
  /** Whether nested domains may be built on it. */
  readonly nestParent: boolean
  /** Whether hardware may be asked to mark what is written. */
  readonly canTrackDirty: boolean
}

/** Makes a domain with an empty host table. */
export function allocateHostTable(books: Books, plan: Plan, use: HostTableUse): DomainNumber | Refusal {
  const root = freshTable(books, plan, 'host table, top')
  if (typeof root !== 'bigint') return root
  return enterDomain(books, plan, {
    kind: 'host-table',
    number: books.nextDomain,
    ...use,
    root,
    mode: firstHostLevels,
    dirtyTracking: false,
  })
}

/** Why there cannot be tables in guest format of so many levels. */
export function whyNoGuestTable(port: IommuPort, levels: 4 | 5): Refusal | undefined {
  const efr = decodeEfr(port.readMmio(registers.efr.offset, 8))
  if (!efr.gtSup || !efr.gIoSup) {
    return refuse('EOPNOTSUPP', 'guest-tables-unsupported', 'the IOMMU lacks GTSup or GIoSup')
  }
  if (levels === 5 && efr.gats !== 1) {
    return refuse('EOPNOTSUPP', 'five-level-guest-tables', 'the IOMMU has no five-level guest tables')
  }
  return undefined
}

/**
 * Makes a domain with an empty table in guest format.
 *
 * @param sameIdAs - a domain whose DomainID this one shall carry too: a mistake that a guest may make
 */
export function allocateGuestTable(
  books: Books,
  plan: Plan,
  levels: 4 | 5,
  sameIdAs: DomainNumber | undefined,
): DomainNumber | Refusal {
  const root = freshTable(books, plan, 'guest table, top')
  if (typeof root !== 'bigint') return root
  return enterDomain(books, plan, { kind: 'guest-table', number: books.nextDomain, root, levels, sameIdAs })
}

/** Makes a process with an empty address space. */
export function allocateProcess(books: Books, plan: Plan, levels: 4 | 5): DomainNumber | Refusal {
  const root = freshTable(books, plan, 'process table, top')
  if (typeof root !== 'bigint') return root
  return enterDomain(books, plan, { kind: 'process', number: books.nextDomain, root, levels })
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
  flushDeferred(books, plan, domain)
  const tables = tablesOf(edit(books, plan, domain))
  for (const table of tables) books.pages.free(table)
  removeDomain(books, plan, domain)
  return undefined
}

/**
 * Maps a range. Hardware that does not cache absent entries needs no command; to other hardware the range has to be told.
 */
export function mapInto(
  books: Books,
  plan: Plan,
  domain: TableDomain,
  mapping: Mapping,
): Refusal | undefined {
  const { from, to, length } = mapping
  if (((from | to | length) & 0xfffn) !== 0n || length <= 0n) {
    return refuse('EINVAL', 'page-aligned', 'address, target and length must be multiples of 4096')
  }
  const last = from + length - 1n
  if ((to + length - 1n) >> 52n !== 0n) {
    return refuse('EOVERFLOW', 'target', `0x${(to + length - 1n).toString(16)} has more than 52 bits`)
  }
  const refused = makeReach(books, plan, domain, last) ?? mapRange(edit(books, plan, domain), mapping)
  if (refused !== undefined || !books.npCache) return refused
  flush(
    books,
    plan,
    domain,
    { range: { first: from, last }, directories: true },
    'absent entries may be cached',
  )
  return undefined
}

/** Makes a table reach up to an address, if it can. */
function makeReach(books: Books, plan: Plan, domain: TableDomain, last: bigint): Refusal | undefined {
  if (last >> 64n !== 0n) return beyond(last)
  if (domain.kind !== 'host-table') {
    return last >> BigInt(12 + 9 * domain.levels - unusedGuestBits) === 0n ? undefined : beyond(last)
  }
  while (last >> BigInt(12 + 9 * domain.mode) !== 0n) {
    if (domain.mode >= books.hostLevels) return beyond(last)
    const page = freshTable(books, plan, 'host table, new top')
    if (typeof page !== 'bigint') return page
    growTable(books, plan, domain, page)
  }
  return undefined
}

const beyond = (last: bigint): Refusal =>
  refuse('EOVERFLOW', 'aperture', `0x${last.toString(16)} is above what the table can translate`)

/** A range to unmap, and when hardware is to forget it. */
export interface Unmapping {
  readonly from: bigint
  readonly length: bigint
  /** Whether that can wait for {@link flushDeferred}. Until then devices may go on using what was mapped. */
  readonly isLazy: boolean
}

/** Unmaps a range, flushes, and frees the tables that became empty. Returns the number of bytes unmapped. */
export function unmapFrom(
  books: Books,
  plan: Plan,
  domain: TableDomain,
  { from, length, isLazy }: Unmapping,
): bigint | Refusal {
  if (((from | length) & 0xfffn) !== 0n || length <= 0n) {
    return refuse('EINVAL', 'page-aligned', 'address and length must be multiples of 4096')
  }
  const rules = { swallowsGaps: !books.npCache, losesRanges: books.mutants.has('S31') }
  // Linux never defers on an emulated IOMMU, where a flush of everything costs the most.
  const defers = isLazy && !books.npCache
  const gather = new IotlbGather(rules, ({ range, tables }) => {
    if (defers) {
      books.deferred.set(domain.number, [...(books.deferred.get(domain.number) ?? []), ...tables])
      return
    }
    flush(books, plan, domain, { range, directories: tables.length > 0 }, 'a mapping went away')
    for (const table of tables) books.pages.free(table)
  })
  const bytes = unmapRange(edit(books, plan, domain), { first: from, last: from + length - 1n }, gather)
  gather.sync()
  return bytes
}

/** Makes hardware forget all that was unmapped from a domain lazily, and frees the tables. */
export function flushDeferred(books: Books, plan: Plan, domain: TableDomain): void {
  const tables = books.deferred.get(domain.number)
  if (tables === undefined) return
  flush(books, plan, domain, allOfTag, 'mappings went away')
  for (const table of tables) books.pages.free(table)
  books.deferred.delete(domain.number)
}

function flush(books: Books, plan: Plan, domain: TableDomain, reach: Reach, why: string): void {
  if (domain.kind === 'host-table') flushHostTable(plan, books, domain.number, reach, why)
  else flushGuestTable(plan, books, domain, reach, why)
}

/** Where an address of a domain leads; `undefined` if it is not mapped. */
export const lookUpIn = (books: Books, plan: Plan, domain: TableDomain, address: Iova): bigint | undefined =>
  lookUp(edit(books, plan, domain), address)

/** First and last address of the page that an address of a domain lies in; `undefined` if it is not mapped. */
export const pageIn = (
  books: Books,
  plan: Plan,
  domain: TableDomain,
  address: Iova,
): AddressRange | undefined =>
  visitEntries(edit(books, plan, domain), { first: address, last: address }, ({ entry, reach }) =>
    entry.kind === 'leaf' ? reach : undefined,
  )
