/**
 * A cache of what walks found, filed under (DomainID, PASID, page): the IOTLB, and the caches of table pages and of
 * GCR3 entries.
 *
 * AMD 48882 rev 3.10, caches and their invalidation. The DeviceID is deliberately not part of the tag: two devices whose
 * entries carry the same DomainID are served each other's translations. Keeping that harmless is the whole task of a
 * DomainID policy.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'
import { lowMaskHi, lowMaskLo } from '../walk/address-bits.js'
import { scopeIn, ScopeWord } from './domains.js'
import type { Domains } from './domains.js'
import * as entry from './entry.js'
import { EntryWord } from './entry.js'
import { lowestBit, TagLookup } from './tag-lookup.js'

/** See the file's comment. What depends on the shape of the cache is for its subclasses to say. */
export abstract class TaggedCache extends TagLookup {
  protected constructor(
    words: Words,
    domains: Domains,
    protected readonly remembersGpas: boolean,
  ) {
    super(words, domains)
  }

  /** The same cache over a fork of the machine's words. */
  abstract forkOnto(words: Words): TaggedCache

  /**
   * Files a translation. One for the same page and size is replaced. Addresses may carry an offset.
   *
   * @param size - log2 of the page's bytes, 12 to 63
   * @param rights - bits 31:20 count
   * @param gpas - GPAs that the walk came by, low and high word of each: first the page's own, then those of tables.
   *   Of use only to a cache that remembers them
   * @param gpaCount - how many, up to nine
   */
  fill(
    record: number,
    domainId: number,
    pasid: number,
    lo: number,
    hi: number,
    size: number,
    spaLo: number,
    spaHi: number,
    rights: number,
    deviceId: number,
    gpas = entry.noGpas,
    gpaCount = 0,
  ): void {
    const frameLo = entry.packFrameLo(spaLo & ~lowMaskLo(size), 0, 0)
    const frameHi = entry.packFrameHi(spaHi & ~lowMaskHi(size), rights)
    this.file(record, domainId, pasid, lo, hi, size, frameLo, frameHi, deviceId)
    if (this.remembersGpas) this.remember(gpas, gpaCount, size)
  }

  /**
   * Files what no page is: the table page that serves a span of addresses, say, or the guest CR3 of a PASID under
   * address 0 with size 12.
   *
   * @param size - log2 of the span's bytes, 12 to 63
   * @param frameLo - address of the table page; the low twelve bits do not count
   * @param level - of that table, up to 7
   * @param flags - nine bits that are the caller's own
   * @param gpas - as for {@link fill}, but all of tables
   */
  fillTable(
    record: number,
    domainId: number,
    pasid: number,
    lo: number,
    hi: number,
    size: number,
    frameLo: number,
    frameHi: number,
    rights: number,
    deviceId: number,
    level: number,
    flags = 0,
    gpas = entry.noGpas,
    gpaCount = 0,
  ): void {
    const packedLo = entry.packFrameLo(frameLo, level, flags)
    const packedHi = entry.packFrameHi(frameHi, rights)
    this.file(record, domainId, pasid, lo, hi, size, packedLo, packedHi, deviceId)
    if (this.remembersGpas) this.remember(gpas, gpaCount, 12)
  }

  /**
   * Copies the GPAs that the entry found last remembers.
   *
   * @param into - low and high word of each
   * @param from - place of the first, in GPAs; those that find no room are left out
   * @returns how many
   */
  copyGpas(into: Int32Array, from: number): number {
    if (!this.remembersGpas) return 0
    const pool = this.words.array
    let count = 0
    for (let i = 0; i < entry.maxGpas && from + count < into.length / 2; i++) {
      const word = this.found + EntryWord.gpas + i * 2
      if ((pool[word]! & 63) === 0) continue
      into[2 * (from + count)] = pool[word]! & ~63
      into[2 * (from + count) + 1] = pool[word + 1]!
      count += 1
    }
    return count
  }

  /** Drops everything. */
  abstract invalidateAll(): void

  /** Drops all of a domain's entries, of the host table and of guest tables. */
  abstract invalidateDomain(domainId: number): void

  /** Drops a domain's guest entries, whatever PASID and address. */
  abstract invalidateGuest(domainId: number): void

  /** Drops all entries of (`domainId`, `pasid`). Looks at every entry. */
  invalidatePasid(domainId: number, pasid: number): void {
    this.invalidateRange(domainId, pasid, 0, 0, 64)
  }

  /**
   * Drops the entries of (`domainId`, `pasid`) that meet a range.
   *
   * @param sizeLog2 - log2 of the range's bytes, 12 to 64; `lo` and `hi` may be any address in it
   */
  invalidateRange(domainId: number, pasid: number, lo: number, hi: number, sizeLog2: number): void {
    const scope = scopeIn(this.domains.record(domainId), pasid)
    const pool = this.words.array
    const tag = entry.tagOf(domainId, pasid)
    if (sizeLog2 === 12) {
      this.probePage(pool, scope, tag, (lo >>> 12) | (hi << 20), entry.tagHiOf(hi >>> 12, pasid))
    } else if (pool[scope + ScopeWord.live] !== 0) this.invalidateBlock(scope, tag, pasid, lo, hi, sizeLog2)
  }

  private invalidateBlock(
    scope: number,
    tag: number,
    pasid: number,
    lo: number,
    hi: number,
    sizeLog2: number,
  ): void {
    const pageLo = ((lo >>> 12) | (hi << 20)) & ~lowMaskLo(sizeLog2 - 12)
    const pageHi = (hi >>> 12) & ~lowMaskHi(sizeLog2 - 12)
    // One probe for each page of each size present, unless looking at every entry is cheaper.
    if (sizeLog2 < 43 && 1 << (sizeLog2 - 12) <= this.entriesToSweep) {
      const tagHi = entry.tagHiOf(pageHi, pasid)
      const pool = this.words.array
      // No cache has so many entries that the high words in the range differ.
      for (let n = 0; n < 1 << (sizeLog2 - 12); n++) this.probePage(pool, scope, tag, (pageLo + n) | 0, tagHi)
    } else this.sweepRange(tag, pasid, pageLo, pageHi, sizeLog2)
  }

  private sweepRange(tag: number, pasid: number, pageLo: number, pageHi: number, sizeLog2: number): void {
    const pool = this.words.array
    this.sweep((at) => {
      const size = entry.sizeLog2Of(pool, at)
      if (pool[at + EntryWord.tag] !== (tag | entry.sizeBits(size))) return false
      if (entry.pasidOf(pool, at) !== pasid) return false
      const unequalLo = entry.pageLoOf(pool, at) ^ pageLo
      return blocksMeet(unequalLo, entry.pageHiOf(pool, at) ^ pageHi, size - 12, sizeLog2 - 12)
    })
  }

  /**
   * Drops the guest entries of a domain that remember a GPA in a range. Where none is remembered all might depend on
   * it, and all of them go.
   *
   * @param sizeLog2 - log2 of the range's bytes, 12 to 64; `lo` and `hi` may be any address in it
   */
  invalidateRemembered(domainId: number, lo: number, hi: number, sizeLog2: number): void {
    if (!this.remembersGpas) {
      this.invalidateGuest(domainId)
      return
    }
    if (this.words.array[this.domains.guestScope(domainId) + ScopeWord.live] === 0) return
    const pool = this.words.array
    this.sweep((at) => {
      if (!entry.isGuestTag(pool[at + EntryWord.tag]!) || entry.domainIdOf(pool, at) !== domainId)
        return false
      for (let word = at + EntryWord.gpas; word < at + EntryWord.gpas + 2 * entry.maxGpas; word += 2) {
        const gpaLo = pool[word]!
        const size = gpaLo & 63
        if (size !== 0 && blocksMeet(gpaLo ^ lo, pool[word + 1]! ^ hi, size, sizeLog2)) return true
      }
      return false
    })
  }

  /** Drops the n-th live entry in the order of {@link eachLive}, from 0 on. False if there are not so many. */
  evict(n: number): boolean {
    let left = n
    return this.someLive((at) => {
      if (left-- !== 0) return false
      this.drop(at, this.domains.scopeOf(this.words.array[at + EntryWord.tag]!))
      return true
    })
  }

  /** How many entries are live. */
  liveCount(): number {
    return this.domains.live
  }

  /**
   * Visits the live entries; the readers tell each. The machine must be active, and the cache must not change
   * meanwhile. Machines with one history have one order.
   */
  eachLive(visit: (at: number) => void): void {
    this.someLive((at) => {
      this.found = at
      visit(at)
      return false
    })
  }

  /** Makes the entry with a tag, or takes the one that there is, as a live one. */
  protected abstract take(scope: number, lo: number, hi: number, tag: number): number

  /** Drops one live entry. */
  protected abstract drop(at: number, scope: number): void

  /** Drops the live entries that the condition names. */
  protected abstract sweep(isReached: (at: number) => boolean): void

  /** Visits live entries until `visit` gives true; says whether one did. */
  protected abstract someLive(visit: (at: number) => boolean): boolean

  /** How many entries {@link sweep} looks at. */
  protected abstract get entriesToSweep(): number

  private file(
    record: number,
    domainId: number,
    pasid: number,
    lo: number,
    hi: number,
    size: number,
    frameLo: number,
    frameHi: number,
    deviceId: number,
  ): void {
    const pageLo = ((lo >>> 12) | (hi << 20)) & ~lowMaskLo(size - 12)
    const tagHi = entry.tagHiOf((hi >>> 12) & ~lowMaskHi(size - 12), pasid)
    const tag = entry.tagOf(domainId, pasid) | entry.sizeBits(size)
    const at = this.take(scopeIn(record, pasid), pageLo, tagHi, tag)
    const { words } = this
    words.write(at + EntryWord.frameLo, frameLo)
    words.write(at + EntryWord.frameHi, frameHi)
    words.write(at + EntryWord.filler, deviceId)
    this.found = at
  }

  /** Keeps GPAs in the entry found last, the first as a block of `firstSizeLog2`, the others as pages. */
  private remember(gpas: Int32Array, count: number, firstSizeLog2: number): void {
    const { words, found } = this
    for (let i = 0; i < entry.maxGpas; i++) {
      const word = found + EntryWord.gpas + i * 2
      const size = i === 0 ? firstSizeLog2 : 12
      words.write(word, i < count ? (gpas[i * 2]! & ~lowMaskLo(size)) | size : 0)
      words.write(word + 1, i < count ? gpas[i * 2 + 1]! & ~lowMaskHi(size) : 0)
    }
  }

  /** Drops the entries of all sizes that serve a page. A scope without live entries has no sizes. */
  private probePage(pool: Int32Array, scope: number, tag: number, pageLo: number, tagHi: number): void {
    // Entries that are dropped meanwhile may take their size with them, but no size comes up.
    for (let sizes = pool[scope + ScopeWord.sizesLo]!; sizes !== 0; sizes &= sizes - 1) {
      const bit = lowestBit(sizes)
      const at = this.findLive(pool, scope, pageLo & (-1 << bit), tagHi, tag | entry.sizeBits(12 + bit))
      if (at >= 0) this.drop(at, scope)
    }
    if (pool[scope + ScopeWord.sizesHi] !== 0) this.probeHuge(scope, tag, tagHi)
  }

  /** The same for entries of 2^44 bytes or more. */
  private probeHuge(scope: number, tag: number, tagHi: number): void {
    const pool = this.words.array
    for (let sizes = pool[scope + ScopeWord.sizesHi]!; sizes !== 0; sizes &= sizes - 1) {
      const bit = lowestBit(sizes)
      const at = this.findLive(pool, scope, 0, tagHi & (-1 << bit), tag | entry.sizeBits(44 + bit))
      if (at >= 0) this.drop(at, scope)
    }
  }
}

/** Whether two naturally aligned blocks meet, from how their addresses differ and log2 of their sizes. */
function blocksMeet(unequalLo: number, unequalHi: number, size: number, otherSize: number): boolean {
  const wider = size > otherSize ? size : otherSize
  return (unequalLo & ~lowMaskLo(wider)) === 0 && (unequalHi & ~lowMaskHi(wider)) === 0
}
