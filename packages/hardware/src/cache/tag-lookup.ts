/**
 * Looking up by (DomainID, PASID, address): one probe for each page size that the domain has entries of.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'
import { scopeIn, ScopeWord } from './domains.js'
import type { Domains } from './domains.js'
import * as entry from './entry.js'
import { FoundEntry } from './found-entry.js'

/** See the file's comment. Where the entry with a tag is, is for its subclasses to say. */
export abstract class TagLookup extends FoundEntry {
  protected constructor(
    words: Words,
    protected readonly domains: Domains,
  ) {
    super(words)
  }

  /** The record of a domain, for lookups and fills; valid for ever. */
  domainRecord(domainId: number): number {
    return this.domains.record(domainId)
  }

  /**
   * The entry that serves an address, the one with the smallest page if there are several.
   *
   * @param pool - the machine's words
   * @param record - {@link domainRecord} of `domainId`
   * @param pasid - `withoutPasid` for the host table alone
   * @returns the entry's word index, for readers such as `frameLoOf`, until the cache changes; -1 if there is none
   */
  lookupAt(
    pool: Int32Array,
    record: number,
    domainId: number,
    pasid: number,
    lo: number,
    hi: number,
  ): number {
    const scope = scopeIn(record, pasid)
    const tag = entry.tagOf(domainId, pasid)
    const tagHi = entry.tagHiOf(hi >>> 12, pasid)
    const pageLo = (lo >>> 12) | (hi << 20)
    for (let sizes = pool[scope + ScopeWord.sizesLo]!; sizes !== 0; sizes &= sizes - 1) {
      const bit = lowestBit(sizes)
      const at = this.findLive(pool, scope, pageLo & (-1 << bit), tagHi, tag | entry.sizeBits(12 + bit))
      if (at >= 0) return this.use(at)
    }
    return pool[scope + ScopeWord.sizesHi] === 0 ? -1 : this.lookupHuge(pool, scope, tagHi, tag)
  }

  /** The entry of 2^44 bytes or more that serves an address. */
  private lookupHuge(pool: Int32Array, scope: number, tagHi: number, tag: number): number {
    for (let sizes = pool[scope + ScopeWord.sizesHi]!; sizes !== 0; sizes &= sizes - 1) {
      const bit = lowestBit(sizes)
      const at = this.findLive(pool, scope, 0, tagHi & (-1 << bit), tag | entry.sizeBits(44 + bit))
      if (at >= 0) return this.use(at)
    }
    return -1
  }

  /** Whether {@link lookupAt} finds an entry; the readers then tell it. */
  lookup(record: number, domainId: number, pasid: number, lo: number, hi: number): boolean {
    const at = this.lookupAt(this.words.array, record, domainId, pasid, lo, hi)
    if (at < 0) return false
    this.found = at
    return true
  }

  /** The live entry with a tag, or -1. */
  protected abstract findLive(pool: Int32Array, scope: number, lo: number, hi: number, tag: number): number

  /** Takes note that an entry has answered, and returns it. */
  protected abstract use(at: number): number
}

/** Number of the lowest bit that is set. */
export const lowestBit = (bits: number): number => 31 - Math.clz32(bits & -bits)
