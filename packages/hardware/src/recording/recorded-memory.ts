/**
 * The memory of a snapshot as it was recorded, and what a request changed in it.
 *
 * @packageDocumentation
 */
import { wordOf } from '@nestwalk/bits'
import { loadPages } from '../memory/image.js'
import { SparseMemory } from '../memory/sparse-memory.js'
import type { StoredWord } from './query.js'
import type { Snapshot } from './snapshot.js'

/** 32-bit words of a page. */
const pageWords = 1024

/** See the file's comment. Loading it takes long: chips that differ in their switches alone share it. */
export class RecordedMemory {
  private readonly memory: SparseMemory
  /** The recorded pages as 32-bit words. */
  private readonly recorded: Int32Array

  constructor(private readonly snapshot: Snapshot) {
    this.memory = SparseMemory.create(snapshot.memoryBytes)
    loadPages(this.memory, snapshot.pages, snapshot.pageBytes)
    this.recorded = wordsOf(snapshot.pageBytes)
  }

  /** A copy for a chip to work on. */
  fork(): SparseMemory {
    return this.memory.fork()
  }

  /** Words of the recorded pages that are not in `memory`, a fork, what they were; by address. Looks at every page. */
  changedWords(memory: SparseMemory): StoredWord[] {
    const changed: StoredWord[] = []
    const words = memory.words.activate()
    this.snapshot.pages.forEach((page, index) => {
      const first = memory.wordOf(Number(BigInt.asIntN(32, page)), Number(page >> 32n))
      const before = this.recorded.subarray(index * pageWords, (index + 1) * pageWords)
      const after = words.subarray(first, first + pageWords)
      for (let at = firstChange(before, after, 0); at < pageWords; at = firstChange(before, after, at + 2)) {
        changed.push({
          address: page + BigInt(at * 4),
          before: quadWord(before, at),
          after: quadWord(after, at),
        })
      }
    })
    return changed.sort((a, b) => (a.address < b.address ? -1 : 1))
  }
}

/** Where the first 64-bit word begins, from `start` on, that two pages do not have in common; `pageWords` without one. */
function firstChange(before: Int32Array, after: Int32Array, start: number): number {
  let at = start
  while (at < pageWords && before[at] === after[at]) at++
  return at & ~1
}

/** The pages in the byte order of this machine. */
function wordsOf(bytes: Uint8Array): Int32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const words = new Int32Array(bytes.length / 4)
  for (let i = 0; i < words.length; i++) words[i] = view.getInt32(i * 4, true)
  return words
}

const quadWord = (words: Int32Array, at: number): bigint => wordOf(Number(words[at]), Number(words[at + 1]))
