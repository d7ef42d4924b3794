/**
 * The set-associative shape of a cache: an entry has its place in one set, and makes another one go when that is full.
 *
 * The low bits of the page number, counted in pages of the entry's size, choose the set: pages that compete for a set
 * lie 2^`setsLog2` pages apart, whatever their DomainID and PASID. Invalidations look at every entry, and free what they
 * reach. A free way is taken first; else the way that was used last longest ago (LRU), the one filled longest ago (FIFO),
 * or one drawn by lot. A fill makes its entry the newest, also where it replaces one for the same page. Which way comes
 * next is part of the machine's state.
 *
 * @packageDocumentation
 */
import { mix } from '../memory/words.js'
import type { Words } from '../memory/words.js'
import { Domains, ScopeWord } from './domains.js'
import { addContent, EntryWord, entryWords, rememberingEntryWords, sizeOfTag } from './entry.js'
import { defaultSeed } from './geometry.js'
import type { SetAssociativeGeometry } from './geometry.js'
import { TaggedCache } from './tagged-cache.js'

/** See the file's comment. */
export class SetAssociativeCache extends TaggedCache {
  /** Words of an entry, and of a set. */
  private readonly stride: number
  private readonly setWords: number
  /** Words of a set before its entries: its ways from newest to oldest, if it keeps an order. */
  private readonly entriesAt: number
  /** Whether the sets keep their ways in an order. */
  private readonly isOrdered: boolean

  private constructor(
    words: Words,
    domains: Domains,
    remembersGpas: boolean,
    private readonly geometry: SetAssociativeGeometry,
    private readonly sets: number,
    /** Word of the generator's state, for random replacement. */
    private readonly lotWord: number,
  ) {
    super(words, domains, remembersGpas)
    const { ways, replacement } = geometry
    this.isOrdered = replacement !== 'random' && ways > 1
    this.stride = remembersGpas ? rememberingEntryWords : entryWords
    this.entriesAt = this.isOrdered ? ways : 0
    this.setWords = this.entriesAt + ways * this.stride
  }

  /** An empty cache. The geometry is as `checkGeometry` wants it. */
  static create(words: Words, geometry: SetAssociativeGeometry, remembersGpas: boolean): SetAssociativeCache {
    words.activate()
    const domains = Domains.create(words)
    const lotWord = words.allocate(1)
    const sets = words.allocate(0)
    const cache = new SetAssociativeCache(words, domains, remembersGpas, geometry, sets, lotWord)
    words.allocate(cache.setWords << geometry.setsLog2)
    words.countStretch(lotWord, 1, words.newKeySpace())
    const keySpace = words.newKeySpace()
    words.countLater((pool, sum) => cache.addSets(pool, sum, keySpace))
    if (geometry.replacement === 'random') cache.setLot((geometry.seed ?? defaultSeed) | 0)
    for (let set = sets; cache.isOrdered && set < cache.end; set += cache.setWords) {
      for (let way = 0; way < geometry.ways; way++) words.write(set + way, way)
    }
    return cache
  }

  override forkOnto(words: Words): SetAssociativeCache {
    const { remembersGpas, geometry, sets, lotWord } = this
    const domains = this.domains.forkOnto(words)
    return new SetAssociativeCache(words, domains, remembersGpas, geometry, sets, lotWord)
  }

  override invalidateAll(): void {
    if (this.domains.live !== 0) this.sweep(() => true)
  }

  override invalidateDomain(domainId: number): void {
    this.sweepScopes(this.domains.record(domainId), this.domains.guestScope(domainId))
  }

  override invalidateGuest(domainId: number): void {
    const scope = this.domains.guestScope(domainId)
    this.sweepScopes(scope, scope)
  }

  protected override findLive(pool: Int32Array, _: number, lo: number, hi: number, tag: number): number {
    const first = this.setOf(lo, hi, tag) + this.entriesAt
    const end = first + this.geometry.ways * this.stride
    for (let at = first; at < end; at += this.stride) {
      if (
        pool[at + EntryWord.pageLo] === lo &&
        pool[at + EntryWord.tag] === tag &&
        pool[at + EntryWord.pageHi] === hi
      )
        return at
    }
    return -1
  }

  protected override use(at: number): number {
    if (this.isOrdered && this.geometry.replacement === 'lru') this.makeNewest(at)
    return at
  }

  protected override take(scope: number, lo: number, hi: number, tag: number): number {
    const { words } = this
    const known = this.findLive(words.array, scope, lo, hi, tag)
    if (known >= 0) {
      if (this.isOrdered) this.makeNewest(known)
      return known
    }
    const set = this.setOf(lo, hi, tag)
    const at = set + this.entriesAt + this.wayToFill(set) * this.stride
    const old = words.array[at + EntryWord.tag]!
    if (old !== 0) this.domains.uncount(this.domains.scopeOf(old), 1)
    this.domains.count(scope, sizeOfTag(tag))
    words.write(at + EntryWord.pageLo, lo)
    words.write(at + EntryWord.pageHi, hi)
    words.write(at + EntryWord.tag, tag)
    if (this.isOrdered) this.makeNewest(at)
    return at
  }

  protected override drop(at: number, scope: number): void {
    this.domains.uncount(scope, 1)
    this.words.write(at + EntryWord.tag, 0)
    this.tidy(this.setAround(at))
  }

  protected override sweep(isReached: (at: number) => boolean): void {
    const { words, domains, stride } = this
    for (let set = this.sets; set < this.end; set += this.setWords) {
      let dropped = 0
      for (let at = set + this.entriesAt; at < set + this.setWords; at += stride) {
        const tag = words.array[at + EntryWord.tag]!
        if (tag === 0 || !isReached(at)) continue
        domains.uncount(domains.scopeOf(tag), 1)
        words.write(at + EntryWord.tag, 0)
        dropped++
      }
      if (dropped > 0) this.tidy(set)
    }
  }

  /** Set by set, in each from the newest to the oldest. */
  protected override someLive(visit: (at: number) => boolean): boolean {
    const pool = this.words.array
    for (let set = this.sets; set < this.end; set += this.setWords) {
      for (let rank = 0; rank < this.geometry.ways; rank++) {
        const at = this.entryOf(set, rank)
        if (pool[at + EntryWord.tag] !== 0 && visit(at)) return true
      }
    }
    return false
  }

  protected override get entriesToSweep(): number {
    return this.geometry.ways << this.geometry.setsLog2
  }

  private get end(): number {
    return this.sets + (this.setWords << this.geometry.setsLog2)
  }

  /** Drops all entries of two scopes, if there are any. */
  private sweepScopes(one: number, other: number): void {
    const pool = this.words.array
    if (pool[one + ScopeWord.live] === 0 && pool[other + ScopeWord.live] === 0) return
    this.sweep((at) => {
      const scope = this.domains.scopeOf(pool[at + EntryWord.tag]!)
      return scope === one || scope === other
    })
  }

  /** The set that a tag belongs to. */
  private setOf(lo: number, hi: number, tag: number): number {
    const bit = sizeOfTag(tag) - 12
    const pageHi = hi & 0xfffff
    const low = bit >= 32 ? pageHi >>> (bit - 32) : bit === 0 ? lo : (lo >>> bit) | (pageHi << (32 - bit))
    return this.sets + (low & ((1 << this.geometry.setsLog2) - 1)) * this.setWords
  }

  /** The set that an entry lies in. */
  private setAround(at: number): number {
    return at - ((at - this.sets) % this.setWords)
  }

  /** The entry that is the n-th newest of a set; where no order is kept, the n-th. */
  private entryOf(set: number, rank: number): number {
    const way = this.isOrdered ? this.words.array[set + rank]! : rank
    return set + this.entriesAt + way * this.stride
  }

  /** Which way a new entry goes to. */
  private wayToFill(set: number): number {
    const pool = this.words.array
    const { ways } = this.geometry
    // Free ways come last in the order.
    if (this.isOrdered) return pool[set + ways - 1]!
    for (let way = 0; way < ways; way++) {
      if (pool[set + this.entriesAt + way * this.stride + EntryWord.tag] === 0) return way
    }
    return this.geometry.replacement === 'random' ? this.draw() : 0
  }

  private makeNewest(at: number): void {
    const { words } = this
    const pool = words.array
    const set = this.setAround(at)
    const way = (at - set - this.entriesAt) / this.stride
    if (pool[set] === way) return
    let word = set
    for (let next = way; ; word++) {
      const here = pool[word]!
      words.write(word, next)
      if (here === way) break
      next = here
    }
  }

  /** Moves free ways to the end of a set's order. */
  private tidy(set: number): void {
    if (!this.isOrdered) return
    const { words } = this
    const { ways } = this.geometry
    const free: number[] = []
    let live = 0
    for (let rank = 0; rank < ways; rank++) {
      const way = words.array[set + rank]!
      if (words.array[set + this.entriesAt + way * this.stride + EntryWord.tag] === 0) free.push(way)
      else words.write(set + live++, way)
    }
    for (const way of free) words.write(set + live++, way)
  }

  /** Adds the live entries to a fingerprint, each with the set that it is in and its place in that set's order. */
  private addSets(pool: Int32Array, sum: Int32Array, keySpace: number): void {
    if (this.domains.live === 0) return
    for (let set = this.sets; set < this.end; set += this.setWords) {
      for (let rank = 0; rank < this.geometry.ways; rank++) {
        const at = this.entryOf(set, rank)
        if (pool[at + EntryWord.tag] === 0) continue
        addContent(pool, at, mix(set - this.sets, rank, 0, keySpace), this.remembersGpas, sum)
      }
    }
  }

  /** A way by lot: a linear congruential generator, of whose state the high half counts. */
  private draw(): number {
    const state = (Math.imul(this.words.array[this.lotWord]!, 1664525) + 1013904223) | 0
    this.setLot(state)
    return (state >>> 16) % this.geometry.ways
  }

  private setLot(state: number): void {
    this.words.write(this.lotWord, state)
  }
}
