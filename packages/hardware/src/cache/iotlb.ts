/**
 * The IOTLB: translations filed under (DomainID, PASID, page).
 *
 * The DeviceID is deliberately not part of the tag: two devices whose entries carry the same DomainID are served each
 * other's translations. Keeping that harmless is the whole task of a DomainID policy.
 *
 * An entry is eight words in one open-addressing table. Wide invalidations cost nothing per entry: each domain and the
 * whole cache carry the stamp of their last one, and an entry is live only if it was filled later.
 *
 * @packageDocumentation
 */
import { fingerprintSeeds, mix } from '../memory/words.js'
import type { Words } from '../memory/words.js'
import { lowMaskHi, lowMaskLo } from '../walk/address-bits.js'

/** PASID argument for translations of the host table alone. */
export const withoutPasid = -1

/** Words of an entry. */
const entryWords = 8
const tagPageLo = 0 // page number, low 32 bits
const tagPageHi = 1 // page number, high 20 bits; PASID bits 11:0 above
const tagRest = 2 // DomainID; PASID bits 19:12 from bit 16; PASID valid 24; size from 25; live 31
const filledAt = 3 // stamp of the fill
const frameLo = 4 // SPA of the page, low word with the low twelve bits clear
const frameHi = 5 // SPA of the page, high word
const rightsWord = 6
const filler = 7 // DeviceID whose request filled the entry; no part of the tag, kept for those who watch

const pasidValid = 1 << 24
const live = 0x80000000 | 0

/** Words of a domain's record. */
const domainWords = 8
const hostFlushedAt = 0
const guestFlushedAt = 1
const hostHash = 2 // two words: fingerprint of the domain's live host entries
const guestHash = 4
const domainPageLog2 = 6

/** Words of the cache's own record. */
const headWords = 16
const tableAt = 0
const slotsLog2 = 1
const usedSlots = 2
const stamp = 3
const flushedAt = 4
const sizesLo = 5 // which page sizes may be present: bit n for 2^(12 + n) bytes
const sizesHi = 6

const firstSlotsLog2 = 6

/** Stamps are handed out below this one; then the cache forgets everything and starts again. */
const lastStamp = 0x7ffffffe

/** Where things lie in the words; all forks use the same places, each with its own contents. */
interface Places {
  /** Table of 2^n slots, by n. */
  readonly tables: number[]
  /** Pages of domain records; 0 where no domain was ever met. */
  readonly domains: Int32Array
  /** Tells this cache's entries from those of another one in the same words. */
  readonly keySpace: number
}

/** See the file's comment. */
export class Iotlb {
  /** The entry that {@link lookup}, {@link fill} or {@link eachLive} met last, as a word index. */
  private found = 0

  private constructor(
    private readonly words: Words,
    private readonly head: number,
    private readonly places: Places,
    /** Entries above which the cache is emptied rather than enlarged: any cache may forget. */
    private readonly capacityLog2: number,
    private readonly stampLimit: number,
  ) {}

  /**
   * An empty cache in a machine's words.
   *
   * @param capacityLog2 - it holds at most 2^`capacityLog2` slots, three quarters of them used
   * @param stampLimit - wide invalidations after which it forgets everything, to number them anew
   */
  static create(words: Words, capacityLog2 = 20, stampLimit = lastStamp): Iotlb {
    if (!Number.isInteger(capacityLog2) || capacityLog2 < firstSlotsLog2 || capacityLog2 > 24) {
      throw new RangeError(`IOTLB capacity 2^${capacityLog2} is not from 2^${firstSlotsLog2} to 2^24`)
    }
    const head = words.allocate(headWords)
    const places = {
      tables: [],
      domains: new Int32Array(1 << (16 - domainPageLog2)),
      keySpace: words.newKeySpace(),
    }
    const cache = new Iotlb(words, head, places, capacityLog2, stampLimit)
    words.activate()
    words.write(head + slotsLog2, firstSlotsLog2)
    words.write(head + tableAt, cache.place(firstSlotsLog2))
    words.write(head + stamp, 1)
    return cache
  }

  /** The same cache over a fork of the machine's words. */
  forkOnto(words: Words): Iotlb {
    return new Iotlb(words, this.head, this.places, this.capacityLog2, this.stampLimit)
  }

  /** The record of a domain, for {@link lookup} and {@link fill}; valid for ever. */
  domainRecord(domainId: number): number {
    const pages = this.places.domains
    const at = domainId >>> domainPageLog2
    let page = pages[at]!
    if (page === 0) {
      page = this.words.allocate(domainWords << domainPageLog2)
      pages[at] = page
    }
    return page + (domainId & ((1 << domainPageLog2) - 1)) * domainWords
  }

  /**
   * Whether a translation is cached for an address; {@link frameLo} and the other readers then tell it.
   *
   * @param record - {@link domainRecord} of `domainId`
   * @param pasid - {@link withoutPasid} for the host table alone
   */
  lookup(record: number, domainId: number, pasid: number, lo: number, hi: number): boolean {
    const pool = this.words.array
    const head = this.head
    const pageLo = (lo >>> 12) | (hi << 20)
    const pageHi = hi >>> 12
    const flushed = flushStamp(pool, head, record, pasid)
    let sizes = pool[head + sizesLo]!
    for (let base = 12; ; base = 44, sizes = pool[head + sizesHi]!) {
      while (sizes !== 0) {
        const size = base + 31 - Math.clz32(sizes & -sizes)
        sizes &= sizes - 1
        const at = this.find(pool, domainId, pasid, pageLo, pageHi, size)
        if (at >= 0 && pool[at + filledAt]! > flushed) {
          this.found = at
          return true
        }
      }
      if (base === 44) return false
    }
  }

  get domainId(): number {
    return this.words.array[this.found + tagRest]! & 0xffff
  }
  /** {@link withoutPasid} for a translation of the host table alone. */
  get pasid(): number {
    const rest = this.words.array[this.found + tagRest]!
    if ((rest & pasidValid) === 0) return withoutPasid
    return (this.words.array[this.found + tagPageHi]! >>> 20) | (((rest >>> 16) & 0xff) << 12)
  }
  /** Page number, as two words: the page's address without its low twelve bits. */
  get pageLo(): number {
    return this.words.array[this.found + tagPageLo]!
  }
  get pageHi(): number {
    return this.words.array[this.found + tagPageHi]! & 0xfffff
  }
  /** SPA of the page; the bits below its size are zero. */
  get frameLo(): number {
    return this.words.array[this.found + frameLo]!
  }
  get frameHi(): number {
    return this.words.array[this.found + frameHi]!
  }
  get rights(): number {
    return this.words.array[this.found + rightsWord]!
  }
  get sizeLog2(): number {
    return (this.words.array[this.found + tagRest]! >>> 25) & 63
  }
  get filler(): number {
    return this.words.array[this.found + filler]!
  }

  /** Files a translation. One for the same page and size is replaced. Addresses may carry an offset. */
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
  ): void {
    const words = this.words
    const pageLo = ((lo >>> 12) | (hi << 20)) & ~lowMaskLo(size - 12)
    const pageHi = (hi >>> 12) & ~lowMaskHi(size - 12)
    let at = this.find(words.array, domainId, pasid, pageLo, pageHi, size)
    if (at >= 0) this.forget(at, record)
    else at = this.newSlot(domainId, pasid, pageLo, pageHi, size)
    const head = this.head
    words.write(at + tagPageLo, pageLo)
    words.write(at + tagPageHi, tagHi(pageHi, pasid))
    words.write(at + tagRest, tagOf(domainId, pasid, size))
    words.write(at + filledAt, words.array[head + stamp]!)
    words.write(at + frameLo, spaLo & ~lowMaskLo(size))
    words.write(at + frameHi, spaHi & ~lowMaskHi(size))
    words.write(at + rightsWord, rights)
    words.write(at + filler, deviceId)
    const sizeWord = size < 44 ? head + sizesLo : head + sizesHi
    words.write(sizeWord, words.array[sizeWord]! | (1 << (size < 44 ? size - 12 : size - 44)))
    this.toggle(at, record)
    this.found = at
  }

  /** Drops everything. */
  invalidateAll(): void {
    const { words, head } = this
    const pool = words.array
    for (const record of this.domainRecords()) this.forgetDomain(record)
    words.write(head + flushedAt, pool[head + stamp]!)
    words.write(head + sizesLo, 0)
    words.write(head + sizesHi, 0)
    this.nextStamp()
  }

  /** Drops all translations of a domain, of the host table and of guest tables. */
  invalidateDomain(domainId: number): void {
    const record = this.domainRecord(domainId)
    const now = this.words.array[this.head + stamp]!
    this.forgetDomain(record)
    this.words.write(record + hostFlushedAt, now)
    this.words.write(record + guestFlushedAt, now)
    this.nextStamp()
  }

  /** Drops a domain's guest translations, whatever PASID and address. */
  invalidateGuest(domainId: number): void {
    const record = this.domainRecord(domainId)
    this.clearHash(record + guestHash)
    this.words.write(record + guestFlushedAt, this.words.array[this.head + stamp]!)
    this.nextStamp()
  }

  /**
   * Drops the translations of (`domainId`, `pasid`) that meet a range.
   *
   * @param sizeLog2 - log2 of the range's bytes, 12 to 64; `lo` and `hi` may be any address in it
   */
  invalidateRange(domainId: number, pasid: number, lo: number, hi: number, sizeLog2: number): void {
    const record = this.domainRecord(domainId)
    const pool = this.words.array
    const slots = 1 << pool[this.head + slotsLog2]!
    const pageLo = ((lo >>> 12) | (hi << 20)) & ~lowMaskLo(sizeLog2 - 12)
    const pageHi = (hi >>> 12) & ~lowMaskHi(sizeLog2 - 12)
    // One probe for each page of each size present, unless looking at every slot is cheaper.
    if (sizeLog2 - 12 > 20 || 2 ** (sizeLog2 - 12) > slots) {
      this.sweepRange(record, domainId, pasid, pageLo, pageHi, sizeLog2)
      return
    }
    for (let size = 12; size < 64; size++) {
      const word = pool[size < 44 ? this.head + sizesLo : this.head + sizesHi]!
      if ((word & (1 << (size < 44 ? size - 12 : size - 44))) === 0) continue
      const count = size >= sizeLog2 ? 1 : 2 ** (sizeLog2 - size)
      for (let i = 0; i < count; i++) {
        // The range is at most 2^32 bytes here, so its page numbers differ in the low word alone.
        const at = this.find(pool, domainId, pasid, pageLo + i * 2 ** (size - 12), pageHi, size)
        if (at >= 0) this.kill(at, record)
      }
    }
  }

  /** Visits the live entries, in no particular order; the readers tell each. The machine must be active. */
  eachLive(visit: (at: number) => void): void {
    const pool = this.words.array
    const table = pool[this.head + tableAt]!
    const slots = 1 << pool[this.head + slotsLog2]!
    for (let slot = 0; slot < slots; slot++) {
      const at = table + slot * entryWords
      const rest = pool[at + tagRest]!
      if ((rest & live) === 0) continue
      const pasid = (rest & pasidValid) === 0 ? withoutPasid : 0
      const flushed = flushStamp(pool, this.head, this.domainRecord(rest & 0xffff), pasid)
      if (pool[at + filledAt]! <= flushed) continue
      this.found = at
      visit(at)
    }
  }

  /** The slot of a page of one size, or -1. `pageLo` and `pageHi` may lie anywhere in the page. */
  private find(
    pool: Int32Array,
    domainId: number,
    pasid: number,
    pageLo: number,
    pageHi: number,
    size: number,
  ): number {
    const wantLo = pageLo & ~lowMaskLo(size - 12)
    const wantHi = tagHi(pageHi & ~lowMaskHi(size - 12), pasid)
    const wantRest = tagOf(domainId, pasid, size)
    const table = pool[this.head + tableAt]!
    const log2 = pool[this.head + slotsLog2]!
    const mask = (1 << log2) - 1
    for (let slot = hash(wantLo, wantHi, wantRest) >>> (32 - log2); ; slot = (slot + 1) & mask) {
      const at = table + slot * entryWords
      const rest = pool[at + tagRest]!
      if (rest === wantRest && pool[at + tagPageLo] === wantLo && pool[at + tagPageHi] === wantHi) return at
      if (rest === 0) return -1
    }
  }

  /** A slot for a tag that has none. Makes room first when three quarters of the slots are used. */
  private newSlot(domainId: number, pasid: number, pageLo: number, pageHi: number, size: number): number {
    const { words, head } = this
    if (words.array[head + usedSlots]! * 4 >= 3 << words.array[head + slotsLog2]!) this.makeRoom()
    const pool = words.array
    const log2 = pool[head + slotsLog2]!
    const mask = (1 << log2) - 1
    const table = pool[head + tableAt]!
    let slot = hash(pageLo, tagHi(pageHi, pasid), tagOf(domainId, pasid, size)) >>> (32 - log2)
    while (pool[table + slot * entryWords + tagRest] !== 0) slot = (slot + 1) & mask
    words.write(head + usedSlots, pool[head + usedSlots]! + 1)
    return table + slot * entryWords
  }

  /** Rebuilds the table from its live entries, in twice the room if they need it. */
  private makeRoom(): void {
    const { words, head } = this
    const kept: number[] = []
    this.eachLive((at) => {
      for (let i = 0; i < entryWords; i++) kept.push(words.array[at + i]!)
    })
    const log2 = words.array[head + slotsLog2]!
    const table = words.array[head + tableAt]!
    for (let i = 0; i < entryWords << log2; i++) words.write(table + i, 0)
    words.write(head + usedSlots, 0)
    const count = kept.length / entryWords
    if (count * 2 > 1 << log2) {
      if (log2 === this.capacityLog2) {
        this.invalidateAll()
        return
      }
      words.write(head + tableAt, this.place(log2 + 1))
      words.write(head + slotsLog2, log2 + 1)
    }
    for (let i = 0; i < kept.length; i += entryWords) this.reinsert(kept, i)
  }

  private reinsert(kept: readonly number[], from: number): void {
    const { words, head } = this
    const pool = words.array
    const log2 = pool[head + slotsLog2]!
    const table = pool[head + tableAt]!
    const mask = (1 << log2) - 1
    let slot = hash(kept[from + tagPageLo]!, kept[from + tagPageHi]!, kept[from + tagRest]!) >>> (32 - log2)
    while (pool[table + slot * entryWords + tagRest] !== 0) slot = (slot + 1) & mask
    for (let i = 0; i < entryWords; i++) words.write(table + slot * entryWords + i, kept[from + i]!)
    words.write(head + usedSlots, pool[head + usedSlots]! + 1)
  }

  private place(log2: number): number {
    return (this.places.tables[log2] ??= this.words.allocate(entryWords << log2))
  }

  private sweepRange(
    record: number,
    domainId: number,
    pasid: number,
    pageLo: number,
    pageHi: number,
    sizeLog2: number,
  ): void {
    const pool = this.words.array
    this.eachLive((at) => {
      const rest = pool[at + tagRest]!
      const hi = pool[at + tagPageHi]!
      const size = (rest >>> 25) & 63
      if (rest !== tagOf(domainId, pasid, size) || hi >>> 20 !== tagHi(0, pasid) >>> 20) return
      const wider = size > sizeLog2 ? size : sizeLog2
      const sameLo = ((pool[at + tagPageLo]! ^ pageLo) & ~lowMaskLo(wider - 12)) === 0
      const sameHi = (((hi & 0xfffff) ^ pageHi) & ~lowMaskHi(wider - 12)) === 0
      if (sameLo && sameHi) this.kill(at, record)
    })
  }

  /** Marks an entry dead. Its slot stays used, so that probes go on past it. */
  private kill(at: number, record: number): void {
    this.forget(at, record)
    this.words.write(at + tagRest, this.words.array[at + tagRest]! & ~live)
  }

  /** Takes an entry out of the fingerprint if it is still in it. */
  private forget(at: number, record: number): void {
    const pool = this.words.array
    const pasid = (pool[at + tagRest]! & pasidValid) === 0 ? withoutPasid : 0
    if (pool[at + filledAt]! > flushStamp(pool, this.head, record, pasid)) this.toggle(at, record)
  }

  private forgetDomain(record: number): void {
    this.clearHash(record + hostHash)
    this.clearHash(record + guestHash)
  }

  private clearHash(at: number): void {
    const pool = this.words.array
    this.words.toggleHash(pool[at]!, pool[at + 1]!)
    this.words.write(at, 0)
    this.words.write(at + 1, 0)
  }

  /** Adds an entry to the fingerprint, or takes it out. */
  private toggle(at: number, record: number): void {
    const pool = this.words.array
    const sum = (pool[at + tagRest]! & pasidValid) === 0 ? record + hostHash : record + guestHash
    const lo = entryHash(pool, at, fingerprintSeeds[0] ^ this.places.keySpace)
    const hi = entryHash(pool, at, fingerprintSeeds[1] ^ this.places.keySpace)
    this.words.toggleHash(lo, hi)
    this.words.write(sum, pool[sum]! ^ lo)
    this.words.write(sum + 1, pool[sum + 1]! ^ hi)
  }

  private *domainRecords(): Generator<number> {
    for (const first of this.places.domains) {
      if (first === 0) continue
      for (let i = 0; i < 1 << domainPageLog2; i++) yield first + i * domainWords
    }
  }

  /** Moves the stamp on, so that what is filled from now on counts as later than what was just dropped. */
  private nextStamp(): void {
    const { words, head } = this
    const next = words.array[head + stamp]! + 1
    if (next < this.stampLimit) {
      words.write(head + stamp, next)
      return
    }
    // The stamps are used up: forget everything and start again. Any cache may forget.
    for (const record of this.domainRecords()) {
      this.forgetDomain(record)
      words.write(record + hostFlushedAt, 0)
      words.write(record + guestFlushedAt, 0)
    }
    const table = words.array[head + tableAt]!
    for (let i = 0; i < entryWords << words.array[head + slotsLog2]!; i++) words.write(table + i, 0)
    words.write(head + usedSlots, 0)
    words.write(head + flushedAt, 0)
    words.write(head + stamp, 1)
  }
}

/** Stamp of the last wide invalidation that reached a domain's entries of one kind. */
function flushStamp(pool: Int32Array, head: number, record: number, pasid: number): number {
  const all = pool[head + flushedAt]!
  const own = pool[record + (pasid === withoutPasid ? hostFlushedAt : guestFlushedAt)]!
  return own > all ? own : all
}

const tagHi = (pageHi: number, pasid: number): number =>
  pasid === withoutPasid ? pageHi : pageHi | (pasid << 20)

const tagOf = (domainId: number, pasid: number, size: number): number =>
  domainId | (pasid === withoutPasid ? 0 : ((pasid >>> 12) << 16) | pasidValid) | (size << 25) | live

/** The index comes from the high bits, so that neighbouring pages do not crowd one place. */
function hash(pageLo: number, pageHi: number, rest: number): number {
  const h = Math.imul(pageLo, 0x9e3779b1) ^ Math.imul(pageHi, 0x85ebca6b) ^ Math.imul(rest, 0xc2b2ae35)
  return Math.imul(h ^ (h >>> 15), 0x27d4eb2f)
}

function entryHash(pool: Int32Array, at: number, seed: number): number {
  const tag = mix(pool[at + tagPageLo]!, pool[at + tagPageHi]!, pool[at + tagRest]!, seed)
  return mix(tag, pool[at + frameLo]!, pool[at + frameHi]!, pool[at + rightsWord]! ^ seed)
}
