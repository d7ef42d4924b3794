/**
 * Bringing an interrupt table entry from the cache or from memory.
 *
 * AMD 48882 rev 3.10, interrupt remapping tables. Of a guest-mode entry, Destination and IsRun are never cached: they
 * are read from the table on each use, wherever the rest comes from.
 *
 * @packageDocumentation
 */
import type { SparseMemory } from '../memory/sparse-memory.js'
import { entrySource } from './interrupt-answer.js'
import type { InterruptTableCache } from './interrupt-cache.js'
import { tableRootHi, tableRootLo } from './interrupt-entry.js'
import type { InterruptSwitches } from './interrupt-switches.js'
import { guestMode, remapEnabled, uncachedFirst, uncachedLast } from './table-entry.js'

/** Told of each read of an interrupt table entry, by SPA, as int32 words. */
export interface InterruptTrace {
  read(kind: 'interrupt-table', lo: number, hi: number): void
}

/** See the file's comment. */
export class InterruptEntryReader {
  /** The entry that was read last: four words, of which a short entry has the first. */
  readonly entry = new Int32Array(4)
  /** Its SPA. */
  lo = 0
  hi = 0
  /** One of `entrySource`. */
  source: number = entrySource.none
  trace: InterruptTrace | null = null

  constructor(
    private readonly memory: SparseMemory,
    private readonly cache: InterruptTableCache,
    private readonly switches: InterruptSwitches,
  ) {}

  /**
   * Reads the entry of an index that is in the device's table.
   *
   * @param slot - word index of the device's table entry
   * @param usesCache - ask the cache, and fill it
   * @returns false if no memory answers at {@link lo} and {@link hi}
   */
  read(slot: number, deviceId: number, index: number, isLong: boolean, usesCache: boolean): boolean {
    const { entry, cache } = this
    const pool = this.memory.words.array
    const sum = (tableRootLo(pool, slot) >>> 0) + (index << (isLong ? 4 : 2))
    this.lo = sum | 0
    this.hi = tableRootHi(pool, slot) + (sum > 0xffffffff ? 1 : 0)
    this.source = entrySource.none
    const cached = usesCache ? cache.find(deviceId, index, isLong) : 0
    if (cached !== 0) return this.fromCache(pool, cached, isLong)
    const word = this.wordInMemory()
    if (word < 0) return false
    this.source = entrySource.memory
    entry[0] = pool[word]!
    for (let i = 1; i < 4; i++) entry[i] = isLong ? pool[word + i]! : 0
    if (usesCache) this.keep(deviceId, index, isLong)
    return true
  }

  private fromCache(pool: Int32Array, cached: number, isLong: boolean): boolean {
    const { entry } = this
    for (let i = 0; i < 4; i++) entry[i] = pool[cached + i]!
    if (isLong && (entry[0]! & guestMode) !== 0) {
      const word = this.wordInMemory()
      if (word < 0) return false
      entry[0]! |= pool[word]! & uncachedFirst
      entry[3]! |= pool[word + 3]! & uncachedLast
    }
    this.source = entrySource.cache
    return true
  }

  /** Word index of the table entry in memory, or -1. An entry does not cross a page. */
  private wordInMemory(): number {
    if (this.trace !== null) this.trace.read('interrupt-table', this.lo, this.hi)
    return this.memory.wordOf(this.lo, this.hi)
  }

  private keep(deviceId: number, index: number, isLong: boolean): void {
    const { entry } = this
    const first = entry[0]!
    const last = entry[3]!
    if ((first & remapEnabled) === 0 && this.switches.disabledEntry === 'not-cached') return
    const hasUncached = isLong && (first & guestMode) !== 0
    if (hasUncached) {
      entry[0] = first & ~uncachedFirst
      entry[3] = last & ~uncachedLast
    }
    this.cache.fill(deviceId, index, isLong, entry)
    entry[0] = first
    entry[3] = last
  }
}
