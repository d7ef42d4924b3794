/**
 * Memory as it will be once planned stores have been made: what they write over what is there.
 *
 * @packageDocumentation
 */
import { load64 } from '@nestwalk/hardware'
import type { Memory } from '@nestwalk/hardware'

const wordsPerPage = 512

/** The words of one page that will have been written. */
interface WrittenPage {
  readonly words: BigUint64Array
  /** 1 for each word that is written. */
  readonly isWritten: Uint8Array
}

/** See the file's comment. It lives for one operation. */
export class PlannedMemory {
  /** By page number. */
  private readonly pages = new Map<number, WrittenPage>()
  /** The page that was used last: most accesses are to the same one again. */
  private lastNumber = -1
  private last: WrittenPage | undefined

  constructor(private readonly memory: Memory) {}

  /** A quad-word; `undefined` where there is no memory. */
  load(address: bigint): bigint | undefined {
    const page = this.pageOf(address)
    const index = indexIn(address)
    if (page?.isWritten[index] === 1) return page.words[index]
    return load64(this.memory, address)
  }

  store(address: bigint, word: bigint): void {
    const page = this.pageOf(address) ?? this.addPage()
    const index = indexIn(address)
    page.words[index] = word
    page.isWritten[index] = 1
  }

  private pageOf(address: bigint): WrittenPage | undefined {
    const number = Number(address >> 12n)
    if (number !== this.lastNumber) {
      this.lastNumber = number
      this.last = this.pages.get(number)
    }
    return this.last
  }

  /** Adds the page that was looked for last. */
  private addPage(): WrittenPage {
    const page = { words: new BigUint64Array(wordsPerPage), isWritten: new Uint8Array(wordsPerPage) }
    this.pages.set(this.lastNumber, page)
    this.last = page
    return page
  }
}

/** Whoever made the driver gave it pages that are no memory. */
export function noMemory(address: bigint): never {
  throw new RangeError(`the driver was given pages without memory, at 0x${address.toString(16)}`)
}

const indexIn = (address: bigint): number => Number(address & 0xfffn) >> 3
