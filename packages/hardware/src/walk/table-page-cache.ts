/**
 * Where the pages of GCR3 and guest tables lie: host walks that need not be done again.
 *
 * No cache of the modelled chip, but of the model: it is invisible. What it holds counts only as long as no word of
 * the host tables it came from has changed, which the machine's {@link Words} tell; a walk that is watched, or that
 * uses a modelled walk cache, goes without it.
 *
 * @packageDocumentation
 */
import type { SparseMemory } from '../memory/sparse-memory.js'
import type { HostWalk } from './host-walk.js'

const slotsLog2 = 10
const slotWords = 12
/** What the walk was asked. */
const rootWord = 0 // root, low word; mode in its low bits
const grantedWord = 1 // root, high word; rights granted above; marking in bits 27:20
const pageLoWord = 2
const pageHiWord = 3
/** What it gave. */
const frameLoWord = 4
const frameHiWord = 5
const rightsWord = 6
const readsWord = 7
const generationWord = 8

/** See the file's comment. */
export class TablePageCache {
  private readonly slots = new Int32Array(slotWords << slotsLog2)
  /** The slot that {@link find} looked at last, and what it looked for. */
  private at = 0
  private key0 = 0
  private key1 = 0

  constructor(private readonly memory: SparseMemory) {}

  /**
   * Whether a host walk is known; {@link frameLo} and the other readers then tell it.
   *
   * @param lo - GPA, with or without offset
   */
  find(
    rootLo: number,
    rootHi: number,
    mode: number,
    granted: number,
    marking: number,
    lo: number,
    hi: number,
  ): boolean {
    const slots = this.slots
    const page = lo & 0xfffff000
    const key0 = (rootLo & 0xfffff000) | mode
    const key1 = (rootHi & 0xfffff) | granted | (marking << 15)
    let h = Math.imul(page ^ Math.imul(hi, 0x85ebca6b), 0x9e3779b1) ^ Math.imul(key0, 0xc2b2ae35)
    h = Math.imul(h ^ (h >>> 15), 0x27d4eb2f)
    const at = (h >>> (32 - slotsLog2)) * slotWords
    this.at = at
    this.key0 = key0
    this.key1 = key1
    return (
      slots[at + pageLoWord] === page &&
      slots[at + pageHiWord] === hi &&
      slots[at + rootWord] === key0 &&
      slots[at + grantedWord] === key1 &&
      slots[at + generationWord] === (this.memory.words.generation | 0)
    )
  }

  get frameLo(): number {
    return this.slots[this.at + frameLoWord]!
  }
  get frameHi(): number {
    return this.slots[this.at + frameHiWord]!
  }
  get rights(): number {
    return this.slots[this.at + rightsWord]!
  }
  /** Table reads that the walk took. */
  get reads(): number {
    return this.slots[this.at + readsWord]!
  }

  /** Keeps the walk that the host has just done, for what {@link find} did not find. */
  keep(host: HostWalk, reads: number, lo: number, hi: number): void {
    const { slots, at } = this
    host.markPagesRead()
    slots[at + rootWord] = this.key0
    slots[at + grantedWord] = this.key1
    slots[at + pageLoWord] = lo & 0xfffff000
    slots[at + pageHiWord] = hi
    slots[at + frameLoWord] = host.spaLo & 0xfffff000
    slots[at + frameHiWord] = host.spaHi
    slots[at + rightsWord] = host.rights
    slots[at + readsWord] = reads
    // Read after the marks are set, and after A bits were: what follows is counted from here.
    slots[at + generationWord] = this.memory.words.generation | 0
  }
}
