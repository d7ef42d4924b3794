/**
 * All that a chip remembers for its hardware vIOMMU: what a fork of the chip needs besides the words themselves.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'
import { GuestRecords } from './guest-records.js'
import { MapCache } from './map-cache.js'

/** What the hardware vIOMMU of a chip is like. */
export interface VirtualOptions {
  /** Guests that can be in use at one time, 1 to 65536. Default 64. */
  readonly guests?: number
  /** Entries of the cache of map entries: a power of two up to 65536, or 0 for none. Default 64. */
  readonly mapCacheEntries?: number
}

/** See the file's comment. */
export class VirtualState {
  private constructor(
    readonly guests: GuestRecords,
    readonly mapCache: MapCache,
  ) {}

  /** @throws RangeError for an option that is out of its limits */
  static create(words: Words, { guests = 64, mapCacheEntries = 64 }: VirtualOptions = {}): VirtualState {
    return new VirtualState(GuestRecords.create(words, guests), MapCache.create(words, mapCacheEntries))
  }

  forkOnto(words: Words): VirtualState {
    return new VirtualState(this.guests.forkOnto(words), this.mapCache.forkOnto(words))
  }
}
