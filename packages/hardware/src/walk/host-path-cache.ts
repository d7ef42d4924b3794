/**
 * The lowest host table on the way to an address, for 2 MiB at a time: directory entries that need not be read again.
 *
 * No cache of the modelled chip, but of the model: it is invisible. A path counts only as long as no word on it has
 * changed, which the machine's {@link Words} tell; the entry in the table that it leads to is read each time. Walks that
 * are watched, or that use modelled walk caches, go without it.
 *
 * @packageDocumentation
 */
import type { SparseMemory } from '../memory/sparse-memory.js'
import { frameMask } from './address-bits.js'
import type { HostTrail } from './host-trail.js'

/** 32 bytes each. */
const slotsLog2 = 12

/** Words of a slot. */
const enum Slot {
  /** What the walk was asked; an empty slot has Mode 0, which no walk has. */
  rootLo = 0, // low word; Mode 2:0, marking 6:5
  rootHi = 1, // high word; rights granted 30:29
  regionLo = 2, // address bits 52:21
  regionHi = 3, // address bits 63:53
  generation = 4,
  /** The table, with its level in the low bits. */
  tableLo = 5,
  /** High word; rights granted by the device's entry and the tables above 30:29, entries read on the way 27:24. */
  tableHi = 6,
  words = 8,
}

/** See the file's comment. */
export class HostPathCache {
  /** Made when the first path is kept, so that forks that walk little cost little. */
  private slots = new Int32Array(0)
  /** The slot that {@link find} looked at last, and what it looked for. */
  private at = 0
  private rootLo = 0
  private rootHi = 0
  private regionLo = 0
  private regionHi = 0

  constructor(private readonly memory: SparseMemory) {}

  /**
   * Whether a path is known; {@link level} and the other readers then tell it.
   *
   * @param rootLo - page of the top table; `mode` is its level
   * @param granted - by the device's entry
   * @param marking - which of A and D the walk sets
   */
  find(
    rootLo: number,
    rootHi: number,
    mode: number,
    lo: number,
    hi: number,
    granted: number,
    marking: number,
  ): boolean {
    const { slots } = this
    const keyLo = rootLo | mode | marking
    const keyHi = rootHi | granted
    const regionLo = (lo >>> 21) | (hi << 11)
    const regionHi = hi >>> 21
    const hash = Math.imul(regionLo ^ (rootLo >>> 12), 0x9e3779b1)
    const at = ((hash ^ (hash >>> 15)) & ((1 << slotsLog2) - 1)) << 3
    if (
      slots.length !== 0 &&
      slots[at + Slot.regionLo] === regionLo &&
      slots[at + Slot.rootLo] === keyLo &&
      slots[at + Slot.rootHi] === keyHi &&
      slots[at + Slot.regionHi] === regionHi &&
      slots[at + Slot.generation] === (this.memory.words.generation | 0)
    ) {
      this.at = at
      return true
    }
    this.at = at
    this.rootLo = keyLo
    this.rootHi = keyHi
    this.regionLo = regionLo
    this.regionHi = regionHi
    return false
  }

  get level(): number {
    return this.slots[this.at + Slot.tableLo]! & 7
  }
  /** Page of the table. */
  get frameLo(): number {
    return this.slots[this.at + Slot.tableLo]! & frameMask
  }
  get frameHi(): number {
    return this.slots[this.at + Slot.tableHi]! & 0xfffff
  }
  /** What the device's entry and the tables above grant. */
  get rights(): number {
    return this.slots[this.at + Slot.tableHi]! & 0x60000000
  }
  /** Entries read on the way. */
  get reads(): number {
    return (this.slots[this.at + Slot.tableHi]! >>> 24) & 7
  }

  /**
   * Keeps the walk that has just ended, for what {@link find} did not find.
   *
   * @param level - of the table that had the leaf
   * @param rights - granted by the device's entry and the tables above
   */
  keep(trail: HostTrail, level: number, rights: number): void {
    if (this.slots.length === 0) this.slots = new Int32Array(Slot.words << slotsLog2)
    const { slots, at } = this
    trail.markDirectoryPages()
    slots[at + Slot.rootLo] = this.rootLo
    slots[at + Slot.rootHi] = this.rootHi
    slots[at + Slot.regionLo] = this.regionLo
    slots[at + Slot.regionHi] = this.regionHi
    slots[at + Slot.tableLo] = (trail.leafLo & frameMask) | level
    slots[at + Slot.tableHi] = trail.leafHi | (rights & 0x60000000) | ((trail.length - 1) << 24)
    // Read after the marks are set, and after A bits were: what follows is counted from here.
    slots[at + Slot.generation] = this.memory.words.generation | 0
  }
}
