/**
 * Memory of any size up to 2^52 bytes in which only what was written takes room.
 *
 * Pages lie in 64 KiB chunks of the machine's {@link Words}; a table finds the chunk of an address below 256 GiB in
 * one load, a map those above. Memory never written reads as zero.
 *
 * @packageDocumentation
 */
import type { Memory } from './memory.js'
import { OutsideWindow } from './outside-memory.js'
import type { OutsideMemory } from './outside-memory.js'
import { Words } from './words.js'

const chunkLog2 = 16
const chunkWords = 1 << (chunkLog2 - 2)
/** Words that a mark of the machine covers: a page of memory. */
const markWords = 1 << 10
const chunkMask = (1 << chunkLog2) - 1

/** Chunks that the table can hold: 256 GiB. */
const tableChunksMax = 1 << (38 - chunkLog2)

/** Where the chunks are; shared by all forks, as a chunk that one fork never wrote is zero there. */
class ChunkTable {
  readonly table: Int32Array
  /** First word of each chunk at 256 GiB and above, by chunk number. */
  readonly high = new Map<number, number>()

  constructor(
    readonly sizeChunks: number,
    readonly zeroChunk: number,
  ) {
    this.table = new Int32Array(Math.min(sizeChunks, tableChunksMax))
  }
}

/** See the file's comment. */
export class SparseMemory implements Memory {
  /** The machine's words; the chip keeps its registers and caches there too. */
  readonly words: Words
  private readonly chunks: ChunkTable
  private readonly table: Int32Array

  private constructor(
    words: Words,
    chunks: ChunkTable,
    /** Null: the memory is the model's own. Otherwise the table stays empty. */
    private readonly outside: OutsideWindow | null = null,
  ) {
    this.words = words
    this.chunks = chunks
    this.table = chunks.table
  }

  /**
   * Memory from address 0 up to `sizeBytes`.
   *
   * @param sizeBytes - a multiple of 64 KiB, at most 2^52; RangeError otherwise
   */
  static create(sizeBytes: number): SparseMemory {
    const sizeChunks = sizeBytes / (chunkMask + 1)
    if (!Number.isInteger(sizeChunks) || sizeBytes <= 0 || sizeBytes > 2 ** 52) {
      throw new RangeError(`memory size ${sizeBytes} is not a multiple of 64 KiB from 64 KiB to 2^52 bytes`)
    }
    const words = Words.create()
    // The first chunk of the pool stays zero for ever: it is what memory never written reads as.
    return new SparseMemory(words, new ChunkTable(sizeChunks, allocateChunk(words)))
  }

  /**
   * Memory of somebody else, which a chip works on as on any other. It cannot be forked, is not part of the machine's
   * fingerprint, and cannot tell the chip of stores: a chip on it has no table-page cache.
   */
  static over(memory: OutsideMemory): SparseMemory {
    const words = Words.create()
    const window = new OutsideWindow(words, memory)
    return new SparseMemory(words, new ChunkTable(0, 0), window)
  }

  /** Whether others write this memory too: see {@link over}. */
  get isOutside(): boolean {
    return this.outside !== null
  }

  get sizeBytes(): number {
    if (this.outside !== null) return this.outside.sizeBytes
    return this.chunks.sizeChunks * (chunkMask + 1)
  }

  /**
   * Index in the machine's words of the 32-bit word at an address, or -1 where there is no memory.
   *
   * For reading only, and valid until words are allocated. The words from there to the end of the 4 KiB page follow
   * one another.
   */
  wordOf(lo: number, hi: number): number {
    if (hi >>> 6 === 0) {
      const first = this.table[(lo >>> chunkLog2) | (hi << chunkLog2)]
      if (first !== undefined && first !== 0) return (first + ((lo & chunkMask) >>> 2)) | 0
    }
    return this.wordElsewhere(lo, hi)
  }

  load32(lo: number, hi: number): number | undefined {
    const words = this.words.activate()
    const word = this.wordOf(lo, hi)
    return word < 0 ? undefined : words[word]
  }

  store32(lo: number, hi: number, value: number): boolean {
    this.words.activate()
    if (this.outside !== null) return this.outside.store32(lo, hi, value)
    const word = this.writableWordOf(lo, hi)
    if (word < 0) return false
    this.words.writeKeyed(word, value, lo, hi)
    return true
  }

  store64(lo: number, hi: number, valueLo: number, valueHi: number): boolean {
    this.words.activate()
    if (this.outside !== null) return this.outside.store64(lo, hi, valueLo, valueHi)
    const word = this.writableWordOf(lo, hi)
    if (word < 0) return false
    this.words.writeKeyed(word, valueLo, lo, hi)
    this.words.writeKeyed(word + 1, valueHi, lo + 4, hi)
    return true
  }

  /**
   * A copy that shares everything until one side writes.
   *
   * @throws Error for memory that is not the model's own
   */
  fork(): SparseMemory {
    if (this.outside !== null) throw new Error('this memory is not the model’s own: it cannot be forked')
    return new SparseMemory(this.words.fork(), this.chunks)
  }

  /** Memory of somebody else, memory at 256 GiB and above, memory never written, and no memory at all. */
  private wordElsewhere(lo: number, hi: number): number {
    if (this.outside !== null) return this.outside.wordOf(lo, hi)
    const chunk = chunkNumber(lo, hi)
    if (chunk >= this.chunks.sizeChunks) return -1
    const first = this.chunks.high.get(chunk) ?? this.chunks.zeroChunk
    return (first + ((lo & chunkMask) >>> 2)) | 0
  }

  private writableWordOf(lo: number, hi: number): number {
    const chunk = chunkNumber(lo, hi)
    if (chunk >= this.chunks.sizeChunks) return -1
    let first = chunk < this.table.length ? this.table[chunk]! : (this.chunks.high.get(chunk) ?? 0)
    if (first === 0) {
      first = allocateChunk(this.words)
      if (chunk < this.table.length) this.table[chunk] = first
      else this.chunks.high.set(chunk, first)
    }
    return (first + ((lo & chunkMask) >>> 2)) | 0
  }
}

/** Chunks begin where marks do, so that a mark covers one page and nothing else. */
function allocateChunk(words: Words): number {
  const gap = -words.allocate(0) & (markWords - 1)
  return words.allocate(gap + chunkWords) + gap
}

/** Chunk of an address, as a double: exact, since an address has at most 64 bits and a chunk 16. */
const chunkNumber = (lo: number, hi: number): number =>
  (hi >>> 0) * 2 ** (32 - chunkLog2) + (lo >>> chunkLog2)
