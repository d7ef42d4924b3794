/**
 * Invalidations that a device has taken and not yet answered, by tag, each with the messages that it still waits for.
 *
 * PCI Express ATS: a tag has five bits. Until it answers, a device may go on using the translations.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'
import { Cells } from './cells.js'

/** What an invalidation asks for. */
export interface Invalidation {
  readonly tag: number
  /** Undefined: translations without PASID. */
  readonly pasid: number | undefined
  /** First byte of the block. */
  readonly address: bigint
  /** log2 of the bytes of the block. */
  readonly sizeLog2: number
}

const tagCount = 32
/** Words of one: messages to wait for, PASID or -1, size, address. */
const heldWords = 5

/** See the file's comment. */
export class HeldInvalidations {
  private constructor(private readonly cells: Cells) {}

  static create(words: Words): HeldInvalidations {
    return new HeldInvalidations(Cells.create(words, tagCount * heldWords))
  }

  forkOnto(words: Words): HeldInvalidations {
    return new HeldInvalidations(this.cells.forkOnto(words))
  }

  /** Holds an invalidation until so many more messages have come; one of the same tag is given up by its sender. */
  hold({ tag, pasid, address, sizeLog2 }: Invalidation, messages: number): void {
    const at = tag * heldWords
    this.cells.put(at, messages)
    this.cells.put(at + 1, pasid ?? -1)
    this.cells.put(at + 2, sizeLog2)
    this.cells.putWide(at + 3, address)
  }

  /** A message has come: takes out the invalidations that waited for it. */
  takeDue(): Invalidation[] {
    const due: Invalidation[] = []
    for (let tag = 0; tag < tagCount; tag++) {
      const at = tag * heldWords
      const left = this.cells.get(at)
      if (left === 0) continue
      this.cells.put(at, left - 1)
      if (left > 1) continue
      const pasid = this.cells.get(at + 1)
      due.push({
        tag,
        pasid: pasid < 0 ? undefined : pasid,
        address: this.cells.getWide(at + 3),
        sizeLog2: this.cells.get(at + 2),
      })
      this.cells.clear(at, heldWords)
    }
    return due
  }

  clear(): void {
    this.cells.clear(0, tagCount * heldWords)
  }
}
