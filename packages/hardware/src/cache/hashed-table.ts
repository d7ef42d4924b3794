/**
 * Entries one after the other, and an index that finds them by their tags.
 *
 * The index is open-addressing: a word of it is an entry's place and four bits of its tag's hash, so that hardly any
 * other entry is looked at. Entries lie in chunks, and dead ones are the only holes. At a full table an entry takes 32
 * bytes and its share of an index of which three quarters are used: 37.4 bytes, dead entries included 39.4 at most.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'
import { EntryWord, entryWords, rememberingEntryWords, tagHash } from './entry.js'

/** Words of the table's own record. */
const enum HeadWord {
  index = 0,
  indexLog2 = 1,
  used = 2,
}
const headWords = 3

const firstIndexLog2 = 7
const chunkLog2 = 6

/** Entries lie at multiples of eight words, so that an index word has room for bits of the hash above. */
const enum Place {
  alignment = 8,
  shift = 3,
  markShift = 28,
  mask = 0xfffffff,
}

/** Where things lie in the words; all forks use the same places, each with its own contents. */
interface Places {
  readonly head: number
  /** Index of 2^n words, by n. */
  readonly indexes: number[]
  readonly chunks: number[]
}

/** See the file's comment. */
export class HashedTable {
  private readonly head: number
  private readonly chunks: number[]

  private constructor(
    private readonly words: Words,
    private readonly places: Places,
    /** Words of an entry. */
    private readonly stride: number,
    private readonly capacityLog2: number,
  ) {
    this.head = places.head
    this.chunks = places.chunks
  }

  /**
   * An empty table.
   *
   * @param capacityLog2 - it grows to 2^`capacityLog2` index words, 6 to 24
   */
  static create(words: Words, capacityLog2: number, remembersGpas: boolean): HashedTable {
    const stride = remembersGpas ? rememberingEntryWords : entryWords
    const places = { head: words.allocate(headWords), indexes: [], chunks: [] }
    const table = new HashedTable(words, places, stride, capacityLog2)
    words.write(table.head + HeadWord.indexLog2, firstIndexLog2)
    words.write(table.head + HeadWord.index, table.place(firstIndexLog2))
    return table
  }

  forkOnto(words: Words): HashedTable {
    return new HashedTable(words, this.places, this.stride, this.capacityLog2)
  }

  /** Live entries that the table is made for. */
  get capacity(): number {
    return 3 << (this.capacityLog2 - 2)
  }

  /** Entries, dead ones among them. */
  get used(): number {
    return this.words.array[this.head + HeadWord.used]!
  }

  /** Whether {@link append} needs a {@link compact} first. */
  get isFull(): boolean {
    const log2 = this.words.array[this.head + HeadWord.indexLog2]!
    return this.used >= this.limit(log2)
  }

  /** The word index of the n-th entry. */
  entryAt(n: number): number {
    return this.chunks[n >>> chunkLog2]! + (n & ((1 << chunkLog2) - 1)) * this.stride
  }

  /** The word index of the entry with a tag, dead or alive; -1 if there is none. */
  find(pool: Int32Array, lo: number, hi: number, tag: number): number {
    const hash = tagHash(lo, hi, tag)
    const index = pool[this.head + HeadWord.index]!
    const log2 = pool[this.head + HeadWord.indexLog2]!
    for (let slot = hash >>> (32 - log2); ; slot = (slot + 1) & ((1 << log2) - 1)) {
      const word = pool[(index + slot) | 0]!
      if (word === 0) return -1
      if ((word ^ (hash << Place.markShift)) >>> Place.markShift !== 0) continue
      const at = (word & Place.mask) << Place.shift
      if (
        pool[at + EntryWord.pageLo] === lo &&
        pool[at + EntryWord.tag] === tag &&
        pool[at + EntryWord.pageHi] === hi
      )
        return at
    }
  }

  /** A new entry with a tag that has none; its other words are still to be written. */
  append(lo: number, hi: number, tag: number): number {
    const { words } = this
    const n = this.used
    if (n >>> chunkLog2 === this.chunks.length) this.chunks.push(this.allocate(this.stride << chunkLog2))
    const at = this.entryAt(n)
    words.write(at + EntryWord.pageLo, lo)
    words.write(at + EntryWord.pageHi, hi)
    words.write(at + EntryWord.tag, tag)
    this.enter(lo, hi, tag, at)
    words.write(this.head + HeadWord.used, n + 1)
    return at
  }

  /** Drops the entries that are dead, and enlarges the index if the others need it. Entries change places. */
  compact(isLive: (at: number) => boolean): void {
    const { words, used } = this
    const wasFull = this.isFull
    let kept = 0
    for (let n = 0; n < used; n++) {
      const at = this.entryAt(n)
      if (!isLive(at)) continue
      if (n !== kept) this.copy(at, this.entryAt(kept))
      kept++
    }
    words.write(this.head + HeadWord.used, kept)
    const log2 = words.array[this.head + HeadWord.indexLog2]!
    const limit = this.limit(log2)
    if (wasFull && log2 < this.capacityLog2 && kept * 4 > limit * 3) this.enlarge(log2)
    else this.clear()
    const pool = words.array
    for (let n = 0; n < kept; n++) {
      const at = this.entryAt(n)
      this.enter(pool[at + EntryWord.pageLo]!, pool[at + EntryWord.pageHi]!, pool[at + EntryWord.tag]!, at)
    }
  }

  private enter(lo: number, hi: number, tag: number, at: number): void {
    const pool = this.words.array
    const index = pool[this.head + HeadWord.index]!
    const log2 = pool[this.head + HeadWord.indexLog2]!
    const mask = (1 << log2) - 1
    const hash = tagHash(lo, hi, tag)
    let slot = hash >>> (32 - log2)
    while (pool[index + slot] !== 0) slot = (slot + 1) & mask
    this.words.write(index + slot, (hash << Place.markShift) | (at >>> Place.shift))
  }

  private copy(from: number, to: number): void {
    const { words } = this
    for (let i = 0; i < this.stride; i++) words.write(to + i, words.array[from + i]!)
  }

  private clear(): void {
    const { words } = this
    const index = words.array[this.head + HeadWord.index]!
    const end = index + (1 << words.array[this.head + HeadWord.indexLog2]!)
    for (let word = index; word < end; word++) words.write(word, 0)
  }

  /** Goes over to an index of twice the size, which nobody has used in this machine's history: it is empty. */
  private enlarge(log2: number): void {
    const { words, places, stride } = this
    const old = words.array[this.head + HeadWord.index]!
    const isFirst = places.indexes[log2 + 1] === undefined
    words.write(this.head + HeadWord.index, this.place(log2 + 1))
    words.write(this.head + HeadWord.indexLog2, log2 + 1)
    // The words of the old index serve as chunks from now on. A fork that still uses it cannot reach them: the chunks
    // before them hold all that the old index is good for.
    for (let end = stride << chunkLog2; isFirst && end <= 1 << log2; end += stride << chunkLog2) {
      this.chunks.push(old + end - (stride << chunkLog2))
    }
  }

  /**
   * Entries that an index of 2^n words is good for. At the capacity there is room for a sixteenth more: after a
   * compaction so many fills go by at least until the next one.
   */
  private limit(log2: number): number {
    if (log2 < this.capacityLog2) return 3 << (log2 - 2)
    return this.capacity + (this.capacity >> 4) + 1
  }

  private place(log2: number): number {
    return (this.places.indexes[log2] ??= this.allocate(1 << log2))
  }

  private allocate(count: number): number {
    const at = this.words.allocate(count + Place.alignment - 1)
    return (at + Place.alignment - 1) & -Place.alignment
  }
}
