/**
 * The readers of the entry that a cache met last.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'
import * as entry from './entry.js'

/** See the file's comment. What is read holds until the cache changes. */
export abstract class FoundEntry {
  /** The entry that a lookup, a fill or a listing met last, as a word index. */
  protected found = 0

  protected constructor(protected readonly words: Words) {}

  get domainId(): number {
    return entry.domainIdOf(this.words.array, this.found)
  }
  /** `withoutPasid` for a translation of the host table alone. */
  get pasid(): number {
    return entry.pasidOf(this.words.array, this.found)
  }
  /** Page number, as two words: the page's address without its low twelve bits. */
  get pageLo(): number {
    return entry.pageLoOf(this.words.array, this.found)
  }
  get pageHi(): number {
    return entry.pageHiOf(this.words.array, this.found)
  }
  get sizeLog2(): number {
    return entry.sizeLog2Of(this.words.array, this.found)
  }
  /** SPA of the page, the bits below its size zero; or address of the table page. */
  get frameLo(): number {
    return entry.frameLoOf(this.words.array, this.found)
  }
  get frameHi(): number {
    return entry.frameHiOf(this.words.array, this.found)
  }
  get rights(): number {
    return entry.rightsOf(this.words.array, this.found)
  }
  /** Level of the table that the frame is; 0 for a translation. */
  get level(): number {
    return entry.levelOf(this.words.array, this.found)
  }
  get flags(): number {
    return entry.flagsOf(this.words.array, this.found)
  }
  get filler(): number {
    return entry.fillerOf(this.words.array, this.found)
  }
}
