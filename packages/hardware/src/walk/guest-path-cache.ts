/**
 * The lowest guest table on the way to an address, for 2 MiB at a time: directory entries that need not be read again.
 *
 * As {@link HostPathCache} no cache of the modelled chip, and invisible. A path counts only as long as no word on it, in
 * GCR3, guest and host tables, has changed.
 *
 * @packageDocumentation
 */
import type { SparseMemory } from '../memory/sparse-memory.js'
import { frameMask } from './address-bits.js'
import type { GuestRegime } from './guest-regime.js'
import type { GuestTables } from './guest-tables.js'

/** 64 bytes each. */
const slotsLog2 = 12

/** Tells a slot that was filled from an empty one: a bit of `hostLo` that is not used otherwise. */
const isFilled = 1 << 11

/** Words of a slot. */
const enum Slot {
  /** What the walk was asked. */
  hostLo = 0, // root, low word; Mode 2:0, GLX 4:3, GuestPagingMode 6:5, marking 8:7
  hostHi = 1, // root, high word; flags of the regime 26:20; rights granted 30:29
  gcr3Lo = 2, // root, low word; PASID 11:0
  gcr3Hi = 3, // root, high word; PASID 19:12 above
  regionLo = 4, // address bits 52:21
  regionHi = 5, // address bits 63:53
  generation = 6,
  /** The table: GPA, with the level in the low bits. */
  tableLo = 7,
  tableHi = 8,
  /** What the entries above it grant. */
  rights = 9,
  /** Entries read on the way: the guest's, and from bit 8 on the host's. */
  reads = 10,
  /** Where the table's page lies, and what the host table grants there. */
  placeLo = 11,
  placeHi = 12,
  placeRights = 13,
  words = 16,
}

/** See the file's comment. */
export class GuestPathCache {
  /** Made when the first path is kept, so that forks that walk little cost little. */
  private slots = new Int32Array(0)
  /** The slot that {@link find} looked at last, and what it looked for. */
  private at = 0
  private gcr3Lo = 0
  private gcr3Hi = 0
  private regionLo = 0
  private regionHi = 0
  /** The regime of the walks now. */
  private hostLo = 0
  private hostHi = 0
  private generation = 0

  constructor(private readonly memory: SparseMemory) {}

  /** Takes what the walks to come depend on. */
  begin(regime: GuestRegime, marking: number): void {
    const levels = ((regime.gcr3Levels - 1) << 3) | ((regime.guestLevels - 4) << 5)
    this.hostLo = (regime.hostRootLo & frameMask) | regime.hostMode | levels | (marking << 2) | isFilled
    this.hostHi = (regime.hostRootHi & 0xfffff) | (regime.flags << 20) | regime.granted
  }

  /** Whether a path is known; {@link level} and the other readers then tell it. Otherwise it may be kept. */
  find(regime: GuestRegime, pasid: number, lo: number, hi: number): boolean {
    const { slots, hostLo, hostHi } = this
    const gcr3Lo = regime.gcr3Lo | (pasid & 0xfff)
    const gcr3Hi = regime.gcr3Hi | ((pasid >>> 12) << 20)
    const regionLo = (lo >>> 21) | (hi << 11)
    const regionHi = hi >>> 21
    const generation = this.memory.words.generation | 0
    const hash =
      Math.imul(regionLo, 0x9e3779b1) ^ Math.imul(gcr3Lo, 0x85ebca6b) ^ Math.imul(gcr3Hi, 0xc2b2ae35)
    const at = Math.imul(Math.imul(hash ^ (hash >>> 15), 0x27d4eb2f) >>> (32 - slotsLog2), Slot.words)
    this.at = at
    if (
      slots.length !== 0 &&
      slots[at + Slot.regionLo] === regionLo &&
      slots[at + Slot.gcr3Lo] === gcr3Lo &&
      slots[at + Slot.gcr3Hi] === gcr3Hi &&
      slots[at + Slot.hostLo] === hostLo &&
      slots[at + Slot.hostHi] === hostHi &&
      slots[at + Slot.regionHi] === regionHi &&
      slots[at + Slot.generation] === generation
    ) {
      return true
    }
    this.gcr3Lo = gcr3Lo
    this.gcr3Hi = gcr3Hi
    this.regionLo = regionLo
    this.regionHi = regionHi
    this.generation = generation
    return false
  }

  get level(): number {
    return this.slots[this.at + Slot.tableLo]! & 7
  }
  /** GPA of the table. */
  get frameLo(): number {
    return this.slots[this.at + Slot.tableLo]! & frameMask
  }
  get frameHi(): number {
    return this.slots[this.at + Slot.tableHi]!
  }
  /** What the device's entry and the tables above grant. */
  get rights(): number {
    return this.slots[this.at + Slot.rights]!
  }
  /** Entries read on the way, the host's apart. */
  get guestReads(): number {
    return this.slots[this.at + Slot.reads]! & 0xff
  }
  get hostReads(): number {
    return this.slots[this.at + Slot.reads]! >>> 8
  }
  /** SPA of the table's page, and what the host table grants there. */
  get placeLo(): number {
    return this.slots[this.at + Slot.placeLo]!
  }
  get placeHi(): number {
    return this.slots[this.at + Slot.placeHi]!
  }
  get placeRights(): number {
    return this.slots[this.at + Slot.placeRights]!
  }

  /**
   * Keeps a path that was walked, for what {@link find} did not find. It counts from there on: a bit that the walk itself
   * set may have reached an entry that it had read before.
   *
   * @param rights - what the device's entry and the tables above grant
   * @param guestReads - entries read before the one in this table
   * @param tables - has just read the entry in this table
   */
  keep(
    level: number,
    tableLo: number,
    tableHi: number,
    rights: number,
    guestReads: number,
    hostReads: number,
    tables: GuestTables,
  ): void {
    if (this.slots.length === 0) this.slots = new Int32Array(Slot.words << slotsLog2)
    const { slots, at } = this
    slots[at + Slot.hostLo] = this.hostLo
    slots[at + Slot.hostHi] = this.hostHi
    slots[at + Slot.gcr3Lo] = this.gcr3Lo
    slots[at + Slot.gcr3Hi] = this.gcr3Hi
    slots[at + Slot.regionLo] = this.regionLo
    slots[at + Slot.regionHi] = this.regionHi
    slots[at + Slot.generation] = this.generation
    slots[at + Slot.tableLo] = tableLo | level
    slots[at + Slot.tableHi] = tableHi
    slots[at + Slot.rights] = rights
    slots[at + Slot.reads] = guestReads | (hostReads << 8)
    slots[at + Slot.placeLo] = tables.spaLo & frameMask
    slots[at + Slot.placeHi] = tables.spaHi
    slots[at + Slot.placeRights] = tables.placeRights
  }

  /** Drops everything: something that all walks depend on has changed. */
  clear(): void {
    this.slots.fill(0)
  }
}
