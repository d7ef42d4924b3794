/**
 * A stretch of the machine's words that one part of an endpoint owns: read by index, stored with its keys.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'

/** See the file's comment. The machine must be active. */
export class Cells {
  private constructor(
    private readonly words: Words,
    private readonly keySpace: number,
    private readonly first: number,
  ) {}

  /** So many words, all zero. */
  static create(words: Words, count: number): Cells {
    return new Cells(words, words.newKeySpace(), words.allocate(count))
  }

  forkOnto(words: Words): Cells {
    return new Cells(words, this.keySpace, this.first)
  }

  /** A word as a signed number of 32 bits. */
  get(at: number): number {
    return Number(this.words.array[this.first + at])
  }

  put(at: number, value: number): void {
    this.words.writeKeyed(this.first + at, value, at, this.keySpace)
  }

  /** Two words as an unsigned number of 64 bits, the low word first. */
  getWide(at: number): bigint {
    return (BigInt(this.get(at + 1) >>> 0) << 32n) | BigInt(this.get(at) >>> 0)
  }

  putWide(at: number, value: bigint): void {
    this.put(at, Number(BigInt.asIntN(32, value)))
    this.put(at + 1, Number(BigInt.asIntN(32, value >> 32n)))
  }

  clear(at: number, count: number): void {
    for (let n = 0; n < count; n++) this.put(at + n, 0)
  }

  /** Copies `count` words within the stretch. */
  copy(from: number, to: number, count: number): void {
    for (let n = 0; n < count; n++) this.put(to + n, this.get(from + n))
  }
}
