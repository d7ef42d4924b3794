/**
 * The address translation cache of a device: translations that it was given, oldest out first.
 *
 * PCI Express ATS; AMD 48882 rev 3.10, device IOTLB. An entry belongs to a PASID, or to requests without one, and to
 * one of the two privileges; no two entries of one owner overlap. The cache is a ring of places in the machine's words.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'
import { Cells } from './cells.js'

/** Who may use an entry. */
export interface AtcOwner {
  /** Undefined: requests without PASID. */
  readonly pasid: number | undefined
  /** Supervisor privilege; false without PASID. */
  readonly privileged: boolean
}

/** One translation that a device keeps. */
export interface AtcEntry extends AtcOwner {
  /** First byte of the page as the device addresses it. */
  readonly page: bigint
  /** log2 of the bytes of the page; 64: every address is its own translation. */
  readonly sizeLog2: number
  /** Where the page lies. */
  readonly spa: bigint
  readonly readable: boolean
  readonly writable: boolean
  readonly executable: boolean
  readonly noSnoop: boolean
}

/** What an access needs of an entry. */
export interface Needs {
  readonly write: boolean
  readonly execute: boolean
}

/** Words of an entry: PASID or -1, size and bits, page, SPA. */
const entryWords = 6
const bit = {
  readable: 0x100,
  writable: 0x200,
  executable: 0x400,
  noSnoop: 0x800,
  privileged: 0x1000,
} as const

/** Words before the entries. */
const oldest = 0
const held = 1
const entriesAt = 2

/** See the file's comment. */
export class Atc {
  private constructor(
    private readonly cells: Cells,
    private readonly capacity: number,
  ) {}

  /** @param capacity - entries */
  static create(words: Words, capacity: number): Atc {
    return new Atc(Cells.create(words, entriesAt + capacity * entryWords), capacity)
  }

  forkOnto(words: Words): Atc {
    return new Atc(this.cells.forkOnto(words), this.capacity)
  }

  /** All entries, the oldest first. */
  entries(): AtcEntry[] {
    return Array.from({ length: this.cells.get(held) }, (_, n) => this.entryAt(this.placeOf(n)))
  }

  /** The owner's entry that covers an address and grants what is needed. */
  find(owner: AtcOwner, iova: bigint, needs: Needs): AtcEntry | undefined {
    const pasid = owner.pasid ?? -1
    for (let n = 0; n < this.cells.get(held); n++) {
      const place = this.placeOf(n)
      if (this.cells.get(place) !== pasid || !overlaps(this.blockAt(place), { page: iova, sizeLog2: 0 }))
        continue
      const entry = this.entryAt(place)
      if (entry.privileged === owner.privileged && grants(entry, needs)) return entry
    }
    return undefined
  }

  /** Keeps an entry, in the place of the owner's others that it overlaps, or of the oldest when there is no room. */
  insert(entry: AtcEntry): void {
    const { cells, capacity } = this
    const pasid = entry.pasid ?? -1
    this.keep(
      (place) =>
        cells.get(place) !== pasid ||
        ((cells.get(place + 1) & bit.privileged) !== 0) !== entry.privileged ||
        !overlaps(this.blockAt(place), entry),
    )
    if (cells.get(held) === capacity) {
      cells.clear(this.placeOf(0), entryWords)
      cells.put(oldest, (cells.get(oldest) + 1) % capacity)
      cells.put(held, capacity - 1)
    }
    const place = this.placeOf(cells.get(held))
    cells.put(place, pasid)
    cells.put(place + 1, bitsOf(entry))
    cells.putWide(place + 2, entry.page)
    cells.putWide(place + 4, entry.spa)
    cells.put(held, cells.get(held) + 1)
  }

  /**
   * Drops the entries that a block of addresses touches.
   *
   * @param pasid - undefined: entries without PASID; 'any': all entries
   */
  invalidate(pasid: number | undefined | 'any', page: bigint, sizeLog2: number): void {
    const named = pasid ?? -1
    this.keep(
      (place) =>
        (named !== 'any' && this.cells.get(place) !== named) ||
        !overlaps(this.blockAt(place), { page, sizeLog2 }),
    )
  }

  clear(): void {
    this.cells.clear(0, entriesAt + this.capacity * entryWords)
  }

  /** Keeps the entries for which `isKept` says so, in their order. */
  private keep(isKept: (place: number) => boolean): void {
    const { cells } = this
    const before = cells.get(held)
    let kept = 0
    for (let n = 0; n < before; n++) {
      const place = this.placeOf(n)
      if (!isKept(place)) continue
      if (kept !== n) cells.copy(place, this.placeOf(kept), entryWords)
      kept++
    }
    for (let n = kept; n < before; n++) cells.clear(this.placeOf(n), entryWords)
    cells.put(held, kept)
    // An empty cache is the same, whatever was in it.
    if (kept === 0) cells.put(oldest, 0)
  }

  /** Place of the nth entry, from the oldest on. */
  private placeOf(n: number): number {
    return entriesAt + ((this.cells.get(oldest) + n) % this.capacity) * entryWords
  }

  private blockAt(place: number): Block {
    return { page: this.cells.getWide(place + 2), sizeLog2: this.cells.get(place + 1) & 0xff }
  }

  private entryAt(place: number): AtcEntry {
    const { cells } = this
    const pasid = cells.get(place)
    const bits = cells.get(place + 1)
    return {
      ...this.blockAt(place),
      pasid: pasid < 0 ? undefined : pasid,
      privileged: (bits & bit.privileged) !== 0,
      spa: cells.getWide(place + 4),
      readable: (bits & bit.readable) !== 0,
      writable: (bits & bit.writable) !== 0,
      executable: (bits & bit.executable) !== 0,
      noSnoop: (bits & bit.noSnoop) !== 0,
    }
  }
}

interface Block {
  readonly page: bigint
  readonly sizeLog2: number
}

/** Whether a translation's rights are enough: code is fetched by reading. */
export const grants = (
  rights: { readonly readable: boolean; readonly writable: boolean; readonly executable: boolean },
  { write, execute }: Needs,
): boolean => (write ? rights.writable : rights.readable) && (!execute || rights.executable)

/** Blocks of a power of two, each aligned to its size, overlap when the larger one holds the smaller one. */
function overlaps(a: Block, b: Block): boolean {
  const size = BigInt(Math.max(a.sizeLog2, b.sizeLog2))
  return a.page >> size === b.page >> size
}

const bitsOf = (entry: AtcEntry): number =>
  entry.sizeLog2 |
  (entry.readable ? bit.readable : 0) |
  (entry.writable ? bit.writable : 0) |
  (entry.executable ? bit.executable : 0) |
  (entry.noSnoop ? bit.noSnoop : 0) |
  (entry.privileged ? bit.privileged : 0)
