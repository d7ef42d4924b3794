/**
 * What hardware keeps of each guest: its registers, and what became of its queues.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software. There, the registers of 65536
 * guests are backed by the IOMMU's private memory; here they lie in the machine's {@link Words}, for as many guests as
 * the chip was made for.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'
import { guestIdCount, vf, vfControl } from './guest-registers.js'

/** Words of a record. The control registers come first, then the low words of the page's registers. */
const pageAt = 16
const afterPage = pageAt + (vf.pprAutoResponse >>> 3) + 1

export const guestWord = {
  /** 1: the command queue stopped at an error. */
  commandHalted: afterPage,
  /** 1: an entry was lost, and the log waits to be restarted. */
  eventStopped: afterPage + 1,
  pprStopped: afterPage + 2,
  /** 1 while ring B is in use. */
  eventInB: afterPage + 3,
  pprInB: afterPage + 4,
  /** Interrupts of the guest's IOMMU, bits as in `interruptLine`. */
  interrupts: afterPage + 5,
  /** 1: {@link guestWord.heldEvent}, four words, holds an event that the guest's log did not take. */
  holdsEvent: afterPage + 6,
  heldEvent: afterPage + 7,
  inUse: afterPage + 11,
} as const

/** What belongs to the command queue. */
const commandWords: readonly number[] = [
  vfControl.command >>> 2,
  (vfControl.command >>> 2) + 1,
  pageAt + (vf.commandHead >>> 3),
  pageAt + (vf.commandTail >>> 3),
  guestWord.commandHalted,
]

const recordWords = 48
/** Room for a record's words in a key. */
const keyBits = 6

/** The record of one guest, for as long as one access takes. */
export class Guest {
  constructor(
    readonly id: number,
    private readonly words: Words,
    private readonly keySpace: number,
    private readonly first: number,
  ) {}

  /** One of {@link guestWord}. */
  get(word: number): number {
    return Number(this.words.array[this.first + word])
  }

  set(word: number, value: number): void {
    this.words.writeKeyed(this.first + word, value, (this.id << keyBits) | word, this.keySpace)
  }

  /** A control register, by its offset: low word. */
  controlLo(offset: number): number {
    return this.get(offset >>> 2)
  }

  controlHi(offset: number): number {
    return this.get((offset >>> 2) + 1)
  }

  setControl(offset: number, lo: number, hi: number): void {
    this.set(offset >>> 2, lo)
    this.set((offset >>> 2) + 1, hi)
  }

  /** A register of the guest's page, by its offset: low word; the high one is zero. */
  page(offset: number): number {
    return this.get(pageAt + (offset >>> 3))
  }

  setPage(offset: number, value: number): void {
    this.set(pageAt + (offset >>> 3), value)
  }

  /** Clears the record, or all but what belongs to the command queue. */
  clear(keepsCommands: boolean): void {
    for (let word = 0; word < guestWord.inUse; word++) {
      if (!keepsCommands || !commandWords.includes(word)) this.set(word, 0)
    }
  }

  isBlank(): boolean {
    for (let word = 0; word < guestWord.inUse; word++) if (this.get(word) !== 0) return false
    return true
  }
}

/** Words that are no guest's: how many guests there are, and whether one more was turned away. */
const countWord = 0
const refusedWord = 1

/** See the file's comment. */
export class GuestRecords {
  private constructor(
    private readonly words: Words,
    private readonly keySpace: number,
    private readonly first: number,
    /** Where the record of a GuestID is, once there was one. Shared by all forks, each with its own contents. */
    private readonly places: Map<number, number>,
    /** Guests at one time. */
    readonly limit: number,
  ) {}

  /** @throws RangeError for a limit that is not from 1 to 65536 */
  static create(words: Words, limit: number): GuestRecords {
    if (!Number.isInteger(limit) || limit < 1 || limit > guestIdCount) {
      throw new RangeError(`guests ${limit} is not an integer from 1 to ${guestIdCount}`)
    }
    return new GuestRecords(words, words.newKeySpace(), words.allocate(2), new Map(), limit)
  }

  forkOnto(words: Words): GuestRecords {
    return new GuestRecords(words, this.keySpace, this.first, this.places, this.limit)
  }

  /** Guests in use. */
  get count(): number {
    return Number(this.words.array[this.first + countWord])
  }

  /** Whether an access was ignored because it was for one guest too many. */
  get hasRefused(): boolean {
    return this.words.array[this.first + refusedWord] === 1
  }

  forgetRefused(): void {
    this.remember(refusedWord, 0)
  }

  /** The record of a guest in use. */
  find(guestId: number): Guest | undefined {
    const place = this.places.get(guestId)
    if (place === undefined) return undefined
    const guest = new Guest(guestId, this.words, this.keySpace, place)
    return guest.get(guestWord.inUse) === 1 ? guest : undefined
  }

  /** The record of a guest, which is in use from now on; undefined when there are as many as there can be. */
  use(guestId: number): Guest | undefined {
    const found = this.find(guestId)
    if (found !== undefined) return found
    if (this.count === this.limit) {
      this.remember(refusedWord, 1)
      return undefined
    }
    let place = this.places.get(guestId)
    if (place === undefined) {
      place = this.words.allocate(recordWords)
      this.places.set(guestId, place)
    }
    const guest = new Guest(guestId, this.words, this.keySpace, place)
    guest.set(guestWord.inUse, 1)
    this.remember(countWord, this.count + 1)
    return guest
  }

  /** Gives the place of a guest up if nothing is left in its record. */
  release(guest: Guest): void {
    if (!guest.isBlank()) return
    guest.set(guestWord.inUse, 0)
    this.remember(countWord, this.count - 1)
  }

  /** The guests in use, by GuestID. */
  all(): Guest[] {
    const known = [...this.places.keys()].sort((a, b) => a - b)
    return known.map((guestId) => this.find(guestId)).filter((guest) => guest !== undefined)
  }

  private remember(word: number, value: number): void {
    // A key that no guest's word has.
    this.words.writeKeyed(this.first + word, value, (guestIdCount << keyBits) | word, this.keySpace)
  }
}
