/**
 * Which entries of a mock page table were written: a bit for each address at which an entry can start.
 *
 * Forks share pieces of 64 MiB and copy those that they change.
 *
 * @packageDocumentation
 */
import { mockPageBytes } from './abi.js'

const bitsPerPiece = 1 << 15
const wordsPerPiece = bitsPerPiece / 32

interface Piece {
  readonly owner: object
  readonly words: Uint32Array
}

export class DirtyMarks {
  #pieces = new Map<number, Piece>()
  #owner: object = {}

  fork(): DirtyMarks {
    this.#owner = {}
    const copy = new DirtyMarks()
    copy.#pieces = new Map(this.#pieces)
    return copy
  }

  /** Marks the entry that starts at an address, or clears its mark. */
  set(first: number, isDirty: boolean): void {
    const bit = first / mockPageBytes
    const piece = this.#change(Math.floor(bit / bitsPerPiece))
    const index = (bit % bitsPerPiece) >>> 5
    const mask = 1 << (bit & 31)
    const word = piece.words[index] ?? 0
    piece.words[index] = isDirty ? word | mask : word & ~mask
  }

  has(first: number): boolean {
    const bit = first / mockPageBytes
    const word = this.#pieces.get(Math.floor(bit / bitsPerPiece))?.words[(bit % bitsPerPiece) >>> 5] ?? 0
    return (word & (1 << (bit & 31))) !== 0
  }

  /** Marked addresses from `first` to below `end`, ascending. */
  within(first: number, end: number): number[] {
    const found: number[] = []
    if (this.#pieces.size === 0) return found
    const lastBit = Math.ceil(end / mockPageBytes) - 1
    let bit = Math.ceil(first / mockPageBytes)
    while (bit <= lastBit) {
      const number = Math.floor(bit / bitsPerPiece)
      const words = this.#pieces.get(number)?.words
      const pieceEnd = (number + 1) * bitsPerPiece
      if (words !== undefined)
        collect(words, number * bitsPerPiece, bit, Math.min(lastBit + 1, pieceEnd), found)
      bit = pieceEnd
    }
    return found
  }

  #change(number: number): Piece {
    const shared = this.#pieces.get(number)
    if (shared?.owner === this.#owner) return shared
    const own = { owner: this.#owner, words: shared?.words.slice() ?? new Uint32Array(wordsPerPiece) }
    this.#pieces.set(number, own)
    return own
  }
}

/** Adds the addresses of the set bits from `bit` to below `endBit` of a piece that begins with bit `base`. */
function collect(words: Uint32Array, base: number, bit: number, endBit: number, found: number[]): void {
  let at = bit
  while (at < endBit) {
    const rest = (words[(at - base) >>> 5] ?? 0) >>> (at & 31)
    if (rest === 0) {
      at += 32 - (at & 31)
      continue
    }
    at += 31 - Math.clz32(rest & -rest)
    if (at < endBit) found.push(at * mockPageBytes)
    at += 1
  }
}
