/**
 * The domains of the mock IOMMU, and what can be done with them without a device.
 *
 * @packageDocumentation
 */
import type { AddressRange, DomainNumber } from '../backend.js'
import { accept, isRefusal } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { Journal } from './journal.js'
import type { MockDomain, MockNested, MockPaging } from './mock-domain.js'
import {
  mapPiece,
  markEntryDirty,
  pageOf,
  readDirtyEntries,
  translateByte,
  unmapPiece,
} from './mock-paging.js'
import { Numbered } from './numbered.js'

/** Accepted, with nothing to say. */
export const done = accept(undefined)

/** See the file's comment; the rest of the driver is built upon it. */
export class MockDomains {
  protected readonly journal = new Journal()
  protected domains = new Numbered<MockDomain>('mock domain')

  transaction<T>(operations: () => T | Refusal): Outcome<T> {
    return this.journal.run(operations)
  }

  freeDomain(domain: DomainNumber): Outcome<undefined> {
    this.domains.remove(domain, this.journal)
    return done
  }

  map(
    domain: DomainNumber,
    iova: bigint,
    physical: bigint,
    length: bigint,
    rights: { readonly read: boolean; readonly write: boolean },
    largestPage?: bigint,
  ): Outcome<undefined> {
    const mapping = { iova, physical, length, rights, largestPage }
    return mapPiece(this.paging(domain), this.journal, mapping) ?? done
  }

  unmap(domain: DomainNumber, iova: bigint, length: bigint): Outcome<bigint> {
    const bytes = unmapPiece(this.paging(domain), this.journal, iova, length)
    return isRefusal(bytes) ? bytes : accept(BigInt(bytes))
  }

  translate(domain: DomainNumber, iova: bigint): bigint | undefined {
    return translateByte(this.paging(domain), iova)
  }

  pageAt(domain: DomainNumber, iova: bigint): AddressRange | undefined {
    return pageOf(this.paging(domain), iova)
  }

  /** Old marks go when tracking is turned on. */
  setDirtyTracking(domain: DomainNumber, isOn: boolean): Outcome<undefined> {
    const paging = this.paging(domain)
    const wasOn = paging.isTracking
    paging.isTracking = isOn
    this.journal.changed(() => (paging.isTracking = wasOn))
    if (isOn) readDirtyEntries(paging, this.journal, paging.paging.aperture, true)
    return done
  }

  readDirty(domain: DomainNumber, range: AddressRange, clears: boolean): Outcome<readonly AddressRange[]> {
    return accept(readDirtyEntries(this.paging(domain), this.journal, range, clears))
  }

  /** Whether dirty tracking has been turned on. */
  isTrackingDirty(domain: DomainNumber): boolean {
    return this.paging(domain).isTracking
  }

  /** As a store of a device would: the entry that holds the address becomes dirty, if there is one. */
  markDirty(domain: DomainNumber, iova: bigint): void {
    markEntryDirty(this.paging(domain), this.journal, iova)
  }

  /** The four words that stand in for the TLB of a nested domain. */
  iotlb(domain: DomainNumber): Uint32Array {
    return this.nested(domain).iotlb.slice()
  }

  protected paging(number: DomainNumber): MockPaging {
    const domain = this.domains.get(number)
    if (domain.kind !== 'paging') throw new RangeError(`mock domain ${number} is nested and has no table`)
    return domain
  }

  protected nested(number: DomainNumber): MockNested {
    const domain = this.domains.get(number)
    if (domain.kind !== 'nested') throw new RangeError(`mock domain ${number} is not nested`)
    return domain
  }

  /** Words that are about to change. */
  protected keepForUndo(words: Uint32Array): void {
    const before = words.slice()
    this.journal.changed(() => words.set(before))
  }
}
