/**
 * The cache of map entries: which host's ID stands for an ID that a guest uses.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software. That entries are cached is told
 * there, how many and by what is not: this cache is direct-mapped. It holds mapped IDs alone, and only RESET_VMMIO and
 * the map control registers drop anything from it.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'

/** The two maps of a guest. */
export const mapKind = { device: 0, domain: 1 } as const

/** Words of a slot: GuestID above the guest's ID, then the rest. */
const slotWords = 2
/** Second word of a slot: taken, kind, and the host's ID in the lowest 16 bits. */
const taken = 1 << 31
const kindShift = 16

/** See the file's comment. */
export class MapCache {
  private constructor(
    private readonly words: Words,
    private readonly keySpace: number,
    private readonly first: number,
    /** A power of two, or 0: no cache. */
    private readonly slots: number,
  ) {}

  /** @throws RangeError for a number of entries that is neither 0 nor a power of two up to 65536 */
  static create(words: Words, entries: number): MapCache {
    const isPower = Number.isInteger(entries) && entries >= 0 && (entries & (entries - 1)) === 0
    if (!isPower || entries > 1 << 16) {
      throw new RangeError(`mapCacheEntries ${entries} is neither 0 nor a power of two up to 65536`)
    }
    return new MapCache(words, words.newKeySpace(), words.allocate(entries * slotWords), entries)
  }

  forkOnto(words: Words): MapCache {
    return new MapCache(words, this.keySpace, this.first, this.slots)
  }

  /** The host's ID that is cached, or -1. */
  find(kind: number, guestId: number, index: number): number {
    if (this.slots === 0) return -1
    const at = this.slotOf(kind, guestId, index)
    const pool = this.words.array
    const rest = Number(pool[at + 1])
    const isIt = pool[at] === ((guestId << 16) | index) && rest >> kindShift === (taken >> kindShift) + kind
    return isIt ? rest & 0xffff : -1
  }

  /** Keeps a mapping, in place of what its slot held. */
  keep(kind: number, guestId: number, index: number, hostId: number): void {
    if (this.slots === 0) return
    this.fill(
      this.slotOf(kind, guestId, index),
      (guestId << 16) | index,
      taken | (kind << kindShift) | hostId,
    )
  }

  /** Drops a mapping, if it is there. */
  drop(kind: number, guestId: number, index: number): void {
    if (this.find(kind, guestId, index) >= 0) this.fill(this.slotOf(kind, guestId, index), 0, 0)
  }

  /** Drops what is cached for a guest. */
  dropGuest(guestId: number): void {
    for (let slot = 0; slot < this.slots; slot++) {
      const at = this.first + slot * slotWords
      if (Number(this.words.array[at]) >>> 16 === guestId) this.fill(at, 0, 0)
    }
  }

  dropAll(): void {
    for (let slot = 0; slot < this.slots; slot++) this.fill(this.first + slot * slotWords, 0, 0)
  }

  private slotOf(kind: number, guestId: number, index: number): number {
    const mixed = Math.imul((guestId << 17) ^ (index << 1) ^ kind, 0x9e3779b1)
    return this.first + ((mixed ^ (mixed >>> 15)) & (this.slots - 1)) * slotWords
  }

  private fill(at: number, key: number, rest: number): void {
    this.words.writeKeyed(at, key, at - this.first, this.keySpace)
    this.words.writeKeyed(at + 1, rest, at + 1 - this.first, this.keySpace)
  }
}
