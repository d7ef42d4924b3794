/**
 * The device-table cache: device table entries as they were when first needed.
 *
 * An entry is kept whatever its V bit says, and only INVALIDATE_DEVTAB_ENTRY or INVALIDATE_IOMMU_ALL drops it. A slot
 * holds the raw 256 bits and what follows from them, sixteen words in all; see {@link dteSlot}.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'

/** Words of a slot after the eight of the entry as read from the table. An enum, since bundlers put its values in place. */
export const enum dteSlot {
  /** 1 when the slot holds an entry. */
  present = 8,
  /** 1 once an IO_PAGE_FAULT was logged for it: DTE.SE suppresses the next ones. */
  logged = 9,
  /** The fault of a reserved or gated bit, which every request meets; 0 if there is none. */
  illegal = 10,
  /** The fault of an impossible level, which requests meet after the rights of the entry; 0 if there is none. */
  illegalLevel = 11,
  /** Root of the GCR3 table, put together: two words. */
  gcr3 = 12,
  /** The IOTLB's record of the entry's DomainID. */
  domainRecord = 14,
  /** IR and IW of an entry that is valid, translates, and has no fault; 0 of any other: a request has to be checked. */
  plainRights = 15,
}

/** The first words tell what the cache holds; the others follow from them. */
const tellingWords: number = dteSlot.logged + 1
const slotWords = 16
const pageSlotsLog2 = 6

/** See the file's comment. */
export class DeviceTableCache {
  private constructor(
    private readonly words: Words,
    private readonly keySpace: number,
    /** Pages of slots; 0 where nothing was ever cached. Shared by all forks, each with its own contents. */
    private readonly pages: Int32Array,
    /** A slot outside the cache, for looking at an entry without keeping it. */
    readonly scratch: number,
  ) {}

  static create(words: Words): DeviceTableCache {
    const pages = new Int32Array(1 << (16 - pageSlotsLog2))
    return new DeviceTableCache(words, words.newKeySpace(), pages, words.allocate(slotWords))
  }

  forkOnto(words: Words): DeviceTableCache {
    return new DeviceTableCache(words, this.keySpace, this.pages, this.scratch)
  }

  /** The slot of a DeviceID, as a word index; 0 when nothing of its neighbourhood was ever cached. */
  slotOf(deviceId: number): number {
    const page = this.pages[deviceId >>> pageSlotsLog2]!
    return page === 0 ? 0 : page + (deviceId & ((1 << pageSlotsLog2) - 1)) * slotWords
  }

  /** The slot of a DeviceID, made where there was none. */
  makeSlot(deviceId: number): number {
    const at = deviceId >>> pageSlotsLog2
    if (this.pages[at] === 0) this.pages[at] = this.words.allocate(slotWords << pageSlotsLog2)
    return this.slotOf(deviceId)
  }

  /** Stores a word that tells what the cache holds; it counts in the machine's fingerprint. */
  write(slot: number, deviceId: number, offset: number, value: number): void {
    this.words.writeKeyed(slot + offset, value, (deviceId << 4) | offset, this.keySpace)
  }

  /** Drops one entry. */
  invalidate(deviceId: number): void {
    const slot = this.slotOf(deviceId)
    if (slot === 0) return
    for (let i = 0; i < tellingWords; i++) this.write(slot, deviceId, i, 0)
  }

  invalidateAll(): void {
    for (const deviceId of this.deviceIds()) this.invalidate(deviceId)
  }

  /** DeviceIDs whose entries are cached, ascending. */
  deviceIds(): number[] {
    const pool = this.words.array
    const found: number[] = []
    for (let page = 0; page < this.pages.length; page++) {
      const first = this.pages[page]!
      if (first === 0) continue
      for (let i = 0; i < 1 << pageSlotsLog2; i++) {
        if (pool[first + i * slotWords + dteSlot.present] === 1) found.push((page << pageSlotsLog2) | i)
      }
    }
    return found
  }
}
