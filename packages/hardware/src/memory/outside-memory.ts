/**
 * Memory that is not the model's: others write it too, as a guest's processors write its RAM in a shared file.
 *
 * Every access reads or writes the memory itself, so what the chip sees is what is there at that moment. The chip works
 * on words of its pool: a window of the pool holds the pages read last.
 *
 * @packageDocumentation
 */
import type { Words } from './words.js'

/** What there is of it. Addresses are in bytes, exact in a double. */
export interface OutsideMemory {
  /** End of the highest page; a multiple of 64 KiB. */
  readonly sizeBytes: number
  /** Reads the 4 KiB page at `address`, a multiple of 4096. False where there is no memory. */
  readPage(address: number, into: Uint8Array): boolean
  /** Writes 4 or 8 bytes that lie in one page. False where there is no memory: nothing is written then. */
  write(address: number, bytes: Uint8Array): boolean
}

const pageBytes = 4096
const pageWords = pageBytes / 4

/** Pages of the window. A word that was found stays valid until as many other pages have been asked for. */
const windowPages = 256

/** See the file's comment. */
export class OutsideWindow {
  private readonly first: number
  /** Slot of each page in the window, and the page in each slot. */
  private readonly slots = new Map<number, number>()
  private readonly pages: number[] = []
  private next = 0
  private readonly four = new DataView(new ArrayBuffer(4))
  private readonly eight = new DataView(new ArrayBuffer(8))

  constructor(
    private readonly words: Words,
    private readonly memory: OutsideMemory,
  ) {
    this.first = words.allocate(windowPages * pageWords)
  }

  get sizeBytes(): number {
    return this.memory.sizeBytes
  }

  /** Index of the word at an address, read at this moment with its page; -1 where there is no memory. */
  wordOf(lo: number, hi: number): number {
    const page = addressOf(lo & -pageBytes, hi)
    let slot = this.slots.get(page)
    if (slot === undefined) {
      slot = this.next
      this.next = (slot + 1) % windowPages
      this.slots.delete(this.pages[slot] ?? -1)
      this.slots.set(page, slot)
      this.pages[slot] = page
    }
    const at = this.first + slot * pageWords
    const bytes = new Uint8Array(this.words.array.buffer, at * 4, pageBytes)
    return this.memory.readPage(page, bytes) ? at + ((lo & (pageBytes - 1)) >>> 2) : -1
  }

  store32(lo: number, hi: number, value: number): boolean {
    this.four.setInt32(0, value, true)
    return this.memory.write(addressOf(lo & ~3, hi), new Uint8Array(this.four.buffer))
  }

  store64(lo: number, hi: number, valueLo: number, valueHi: number): boolean {
    this.eight.setInt32(0, valueLo, true)
    this.eight.setInt32(4, valueHi, true)
    return this.memory.write(addressOf(lo & ~7, hi), new Uint8Array(this.eight.buffer))
  }
}

const addressOf = (lo: number, hi: number): number => (hi >>> 0) * 2 ** 32 + (lo >>> 0)
