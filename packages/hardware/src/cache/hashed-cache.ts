/**
 * The hashed shape of a cache: it holds all that was filled, up to a capacity at which it is emptied.
 *
 * Wide invalidations cost nothing per entry: each scope carries the stamp of its last one, and an entry is live only if
 * it was filled later. What is dead stays in the table until room is needed.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'
import { Domains, ScopeWord } from './domains.js'
import { addContent, EntryWord, sizeOfTag } from './entry.js'
import { HashedTable } from './hashed-table.js'
import { TaggedCache } from './tagged-cache.js'

/** See the file's comment. */
export class HashedCache extends TaggedCache {
  private constructor(
    words: Words,
    domains: Domains,
    remembersGpas: boolean,
    private readonly table: HashedTable,
    /** Word of the stamp that fills and invalidations get. */
    private readonly stampWord: number,
    private readonly stampLimit: number,
  ) {
    super(words, domains, remembersGpas)
  }

  /** An empty cache. The arguments are as `checkGeometry` wants them. */
  static create(words: Words, capacityLog2: number, remembersGpas: boolean, stampLimit: number): HashedCache {
    words.activate()
    const table = HashedTable.create(words, capacityLog2, remembersGpas)
    const stampWord = words.allocate(1)
    words.write(stampWord, 1)
    const domains = Domains.create(words)
    const cache = new HashedCache(words, domains, remembersGpas, table, stampWord, stampLimit)
    const keySpace = words.newKeySpace()
    words.countLater((pool, sum) => {
      if (domains.live === 0) return
      cache.someLive((at) => {
        addContent(pool, at, keySpace, remembersGpas, sum)
        return false
      })
    })
    return cache
  }

  override forkOnto(words: Words): HashedCache {
    const { remembersGpas, stampWord, stampLimit } = this
    const domains = this.domains.forkOnto(words)
    const table = this.table.forkOnto(words)
    return new HashedCache(words, domains, remembersGpas, table, stampWord, stampLimit)
  }

  override invalidateAll(): void {
    if (this.domains.live === 0) return
    this.domains.eachScope((scope) => this.flush(scope))
    this.nextStamp()
  }

  override invalidateDomain(domainId: number): void {
    this.flush(this.domains.record(domainId))
    this.flush(this.domains.guestScope(domainId))
    this.nextStamp()
  }

  override invalidateGuest(domainId: number): void {
    this.flush(this.domains.guestScope(domainId))
    this.nextStamp()
  }

  protected override findLive(pool: Int32Array, scope: number, lo: number, hi: number, tag: number): number {
    const at = this.table.find(pool, lo, hi, tag)
    return at >= 0 && pool[at + EntryWord.filledAt]! > pool[scope + ScopeWord.flushedAt]! ? at : -1
  }

  protected override use(at: number): number {
    return at
  }

  protected override take(scope: number, lo: number, hi: number, tag: number): number {
    const { words } = this
    let at = this.table.find(words.array, lo, hi, tag)
    const isLive =
      at >= 0 && words.array[at + EntryWord.filledAt]! > words.array[scope + ScopeWord.flushedAt]!
    if (!isLive) {
      // What is dead is in the table too, so there are seldom live ones to be counted.
      if (this.table.used >= this.table.capacity && this.domains.live === this.table.capacity) {
        this.invalidateAll()
        // Entries may have changed places.
        at = this.table.find(words.array, lo, hi, tag)
      }
      if (at < 0) at = this.newEntry(lo, hi, tag)
      this.domains.count(scope, sizeOfTag(tag))
    }
    words.write(at + EntryWord.filledAt, words.array[this.stampWord]!)
    return at
  }

  protected override drop(at: number, scope: number): void {
    const left = this.words.array[scope + ScopeWord.live]! - 1
    this.words.writeTwo(at + EntryWord.filledAt, 0, scope + ScopeWord.live, left)
    if (left === 0) this.domains.forgetSizes(scope)
  }

  protected override sweep(isReached: (at: number) => boolean): void {
    this.someLive((at) => {
      if (isReached(at)) this.drop(at, this.scopeAt(at))
      return false
    })
  }

  protected override someLive(visit: (at: number) => boolean): boolean {
    const used = this.table.used
    for (let n = 0; n < used; n++) {
      const at = this.table.entryAt(n)
      if (this.isLive(at) && visit(at)) return true
    }
    return false
  }

  protected override get entriesToSweep(): number {
    return this.table.used
  }

  private newEntry(lo: number, hi: number, tag: number): number {
    if (this.table.isFull) this.table.compact((at) => this.isLive(at))
    return this.table.append(lo, hi, tag)
  }

  private scopeAt(at: number): number {
    return this.domains.scopeOf(this.words.array[at + EntryWord.tag]!)
  }

  private isLive(at: number): boolean {
    const pool = this.words.array
    return pool[at + EntryWord.filledAt]! > pool[this.scopeAt(at) + ScopeWord.flushedAt]!
  }

  /** Drops all entries of a scope: those filled from the next stamp on are live again. */
  private flush(scope: number): void {
    const { words, domains } = this
    const pool = words.array
    const live = pool[scope + ScopeWord.live]!
    if (live === 0) return
    domains.uncount(scope, live)
    words.write(scope + ScopeWord.flushedAt, pool[this.stampWord]!)
  }

  /** Moves the stamp on. When the stamps are used up, what is live gets the first one again. */
  private nextStamp(): void {
    const { words, table, stampWord } = this
    const next = words.array[stampWord]! + 1
    if (next < this.stampLimit) {
      words.write(stampWord, next)
      return
    }
    table.compact((at) => this.isLive(at))
    for (let n = 0; n < table.used; n++) words.write(table.entryAt(n) + EntryWord.filledAt, 1)
    this.domains.eachScope((scope) => words.write(scope + ScopeWord.flushedAt, 0))
    words.write(stampWord, 1)
  }
}
