/**
 * What a cache knows of each domain: how many entries it has there, of which sizes, and since when.
 *
 * A domain's record is two *scopes*, one of its host entries and one of its guest entries, which invalidations reach
 * apart. Records are made page by page as domains are met.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'
import { isGuestTag } from './entry.js'

/** Words of a scope. */
export const enum ScopeWord {
  /** Which page sizes its live entries may have: bit n for 2^(12 + n) bytes, then for 2^(44 + n). */
  sizesLo = 0,
  sizesHi = 1,
  /** Live entries. */
  live = 2,
  /** Hashed caches: an entry is live only if its stamp is higher. */
  flushedAt = 3,
}

const scopeWords = 4
const recordWords = 2 * scopeWords
const pageLog2 = 6

/** The scope of a record's entries with that PASID. */
export const scopeIn = (record: number, pasid: number): number => (pasid < 0 ? record : record + scopeWords)

/** See the file's comment. */
export class Domains {
  private constructor(
    private readonly words: Words,
    /** Pages of records; 0 where no domain was ever met. Shared by all forks, each with its own contents. */
    private readonly pages: Int32Array,
  ) {}

  static create(words: Words): Domains {
    return new Domains(words, new Int32Array(1 << (16 - pageLog2)))
  }

  forkOnto(words: Words): Domains {
    return new Domains(words, this.pages)
  }

  /** Live entries of all domains, added up: to be asked for seldom. */
  get live(): number {
    const pool = this.words.array
    let live = 0
    for (const page of this.pages) {
      if (page === 0) continue
      for (let i = 0; i < 2 << pageLog2; i++) live += pool[page + i * scopeWords + ScopeWord.live]!
    }
    return live
  }

  /** The record of a domain, valid for ever. */
  record(domainId: number): number {
    const at = domainId >>> pageLog2
    let page = this.pages[at]!
    if (page === 0) {
      page = this.words.allocate(recordWords << pageLog2)
      this.pages[at] = page
    }
    return page + (domainId & ((1 << pageLog2) - 1)) * recordWords
  }

  /** The scope that an entry with this tag word belongs to. */
  scopeOf(tag: number): number {
    return this.record(tag & 0xffff) + (isGuestTag(tag) ? scopeWords : 0)
  }

  guestScope(domainId: number): number {
    return this.record(domainId) + scopeWords
  }

  /** Counts a new live entry. */
  count(scope: number, sizeLog2: number): void {
    const { words } = this
    const pool = words.array
    const sizes = sizeLog2 < 44 ? scope + ScopeWord.sizesLo : scope + ScopeWord.sizesHi
    // Shift counts are taken modulo 32, so this is bit `sizeLog2 - 44` of the high word.
    words.write(sizes, pool[sizes]! | (1 << (sizeLog2 - 12)))
    words.write(scope + ScopeWord.live, pool[scope + ScopeWord.live]! + 1)
  }

  /** Counts live entries out. A scope without any has no sizes. */
  uncount(scope: number, count: number): void {
    const { words } = this
    const left = words.array[scope + ScopeWord.live]! - count
    words.write(scope + ScopeWord.live, left)
    if (left === 0) this.forgetSizes(scope)
  }

  /** Notes that a scope has no live entry any more. */
  forgetSizes(scope: number): void {
    this.words.write(scope + ScopeWord.sizesLo, 0)
    this.words.write(scope + ScopeWord.sizesHi, 0)
  }

  /** Visits both scopes of every domain that may have been met. */
  eachScope(visit: (scope: number) => void): void {
    for (const page of this.pages) {
      if (page === 0) continue
      for (let i = 0; i < 2 << pageLog2; i++) visit(page + i * scopeWords)
    }
  }
}
