/**
 * The driver's operations on domains with tables: mapping, and collecting what was written.
 *
 * @packageDocumentation
 */
import type { Iova, Spa } from '@nestwalk/bits'
import type { Books } from './books.js'
import { readDirty, setDirtyTracking } from './dirty-tracking.js'
import type { DomainNumber, HostTableDomain, TableDomain } from './domain.js'
import { DriverState, noDomain } from './driver-state.js'
import type { AddressRange } from './invalidation-range.js'
import { flushDeferred, lookUpIn, mapInto, pageIn, unmapFrom } from './mapping.js'
import { refuse } from './outcome.js'
import type { Outcome, Refusal } from './outcome.js'
import { Plan } from './plan.js'
import type { Rights } from './table-format.js'
import type { Mapping } from './table-map.js'

/** See the file's comment. */
export abstract class TableOperations extends DriverState {
  /** Maps `length` bytes from `from` in a domain to `to`, with the largest pages possible, or allowed. */
  map(
    domain: DomainNumber,
    from: Iova,
    to: Spa,
    length: bigint,
    rights: Rights & Pick<Mapping, 'largestLog2'>,
  ): Outcome<undefined> {
    const { read, write, ...sizes } = rights
    const mapping = { from, to, length, rights: { read, write }, ...sizes }
    return this.attempt((books, plan) => {
      const table = tableDomain(books, domain)
      return 'ok' in table ? table : mapInto(books, plan, table, mapping)
    })
  }

  /**
   * Unmaps; returns the bytes that were mapped. EINVAL if the range cuts a page.
   *
   * @param mode - 'lazy': hardware forgets at the next {@link flush}; until then devices may go on
   */
  unmap(
    domain: DomainNumber,
    from: Iova,
    length: bigint,
    mode: 'strict' | 'lazy' = 'strict',
  ): Outcome<bigint> {
    return this.attempt((books, plan) => {
      const table = tableDomain(books, domain)
      return 'ok' in table ? table : unmapFrom(books, plan, table, { from, length, isLazy: mode === 'lazy' })
    })
  }

  /** Makes hardware forget what was unmapped lazily. */
  flush(domain: DomainNumber): Outcome<undefined> {
    return this.attempt((books, plan) => {
      const table = tableDomain(books, domain)
      if ('ok' in table) return table
      flushDeferred(books, plan, table)
      return undefined
    })
  }

  /** Where an address of a domain leads, as its table stands in memory. */
  translate(domain: DomainNumber, address: Iova): bigint | undefined {
    const table = tableDomain(this.books, domain)
    return 'ok' in table ? undefined : lookUpIn(this.books, new Plan(this.place.memory), table, address)
  }

  /** First and last address of the page that an address of a domain lies in; `undefined` if it is not mapped. */
  pageAt(domain: DomainNumber, address: Iova): AddressRange | undefined {
    const table = tableDomain(this.books, domain)
    return 'ok' in table ? undefined : pageIn(this.books, new Plan(this.place.memory), table, address)
  }

  /** Has hardware mark the pages of a host table that are written, or not; old marks are cleared first. */
  setDirtyTracking(domain: DomainNumber, isOn: boolean): Outcome<undefined> {
    return this.attempt((books, plan) => {
      const table = trackingDomain(books, domain)
      if ('ok' in table) return table
      setDirtyTracking(books, plan, table, isOn)
      return undefined
    })
  }

  /**
   * The pages in a range, or reaching into it, that were written since their marks were last cleared, by address.
   *
   * @param clears - whether their marks are cleared now, and hardware made to set them again
   */
  readDirty(
    domain: DomainNumber,
    range: AddressRange,
    { clears = true }: { readonly clears?: boolean } = {},
  ): Outcome<readonly AddressRange[]> {
    return this.attempt((books, plan) => {
      const table = trackingDomain(books, domain)
      return 'ok' in table ? table : readDirty(books, plan, table, { range, clears })
    })
  }
}

function tableDomain(books: Books, number: DomainNumber): TableDomain | Refusal {
  const domain = books.domains.get(number)
  if (domain === undefined) return noDomain(number)
  if (domain.kind === 'host-table' || domain.kind === 'guest-table' || domain.kind === 'process')
    return domain
  return refuse('EINVAL', 'no-own-table', `domain ${number} is ${domain.kind}: it has no table to map into`)
}

function trackingDomain(books: Books, number: DomainNumber): HostTableDomain | Refusal {
  const domain = books.domains.get(number)
  if (domain === undefined) return noDomain(number)
  if (domain.kind === 'host-table' && domain.canTrackDirty) return domain
  return refuse('EOPNOTSUPP', 'no-dirty-tracking', `domain ${number} was not allocated for dirty tracking`)
}
