/**
 * A page table of the mock IOMMU: what it maps, in which entries, and which of those were written.
 *
 * The kernel's mock uses the AMD v1 format with a granule of 2 KiB. Here only what can be seen of it is kept: the calls
 * that mapped, run by run, and a dirty state for each entry.
 *
 * @packageDocumentation
 */
import { DirtyMarks } from './dirty-marks.js'
import { entryAt, partOf } from './segment.js'
import type { Entry, Segment } from './segment.js'
import { SegmentList } from './segment-list.js'

/** What {@link MockTable.unmap} took out: addresses from `first` to below `end`. */
export interface Unmapped {
  readonly first: number
  readonly end: number
  /** How many of them were mapped. */
  readonly bytes: number
  /** The segments that reached into the range, as they were. */
  readonly segments: readonly Segment[]
  /** First addresses of the entries that were dirty. */
  readonly dirty: readonly number[]
}

export class MockTable {
  #segments = new SegmentList()
  #dirty = new DirtyMarks()

  fork(): MockTable {
    const copy = new MockTable()
    copy.#segments = this.#segments.fork()
    copy.#dirty = this.#dirty.fork()
    return copy
  }

  isMapped(first: number, end: number): boolean {
    return this.#segments.meets(first, end)
  }

  /** Maps a piece where nothing is. */
  map(segment: Segment): void {
    this.#segments.add(segment)
  }

  /** The entry that an address cuts in two, if it does. */
  entryCutBy(address: number): Entry | undefined {
    const entry = this.entryAt(address)
    return entry?.first === address ? undefined : entry
  }

  /** Takes out all entries from `first` to below `end`; neither cuts one. */
  unmap(first: number, end: number): Unmapped {
    const dirty = this.#dirty.within(first, end)
    for (const address of dirty) this.#dirty.set(address, false)
    const segments = [...this.#segments.within(first, end)]
    let bytes = 0
    for (const segment of segments) {
      this.#segments.remove(segment.first)
      if (segment.first < first) this.#segments.add(partOf(segment, segment.first, first))
      if (segment.end > end) this.#segments.add(partOf(segment, end, segment.end))
      bytes += Math.min(segment.end, end) - Math.max(segment.first, first)
    }
    return { first, end, bytes, segments, dirty }
  }

  /** Undoes an unmap, as the last change. */
  restore({ first, end, segments, dirty }: Unmapped): void {
    for (const segment of segments) {
      if (segment.first < first) this.#segments.remove(segment.first)
      if (segment.end > end) this.#segments.remove(end)
      this.#segments.add(segment)
    }
    this.setDirty(dirty, true)
  }

  /** The physical address behind an address. */
  translate(address: number): number | undefined {
    const segment = this.#segments.at(address)
    return segment && segment.physical + (address - segment.first)
  }

  /** The entry that holds an address. */
  entryAt(address: number): Entry | undefined {
    const segment = this.#segments.at(address)
    return segment && entryAt(segment, address)
  }

  /** Marks the entries that start at these addresses, or clears their marks. */
  setDirty(firsts: readonly number[], isDirty: boolean): void {
    for (const first of firsts) this.#dirty.set(first, isDirty)
  }

  isDirty(entry: Entry): boolean {
    return this.#dirty.has(entry.first)
  }

  /** Dirty entries that reach into a range, ascending. */
  dirtyEntries(first: number, end: number): Entry[] {
    const cut = this.entryCutBy(first)
    const early = cut !== undefined && this.isDirty(cut) ? [cut] : []
    return [...early, ...this.#dirty.within(first, end).flatMap((address) => this.entryAt(address) ?? [])]
  }

  /** All of it in ascending order, for fingerprints. */
  snapshot(): { readonly segments: readonly unknown[]; readonly dirty: readonly number[] } {
    const segments = [...this.#segments.within(0, Infinity)]
    return {
      segments: segments.map(({ first, end, physical, rights, entryBytes }) => ({
        first,
        end,
        physical,
        rights,
        largestEntry: entryBytes.at(-1),
      })),
      dirty: segments.flatMap(({ first, end }) => this.#dirty.within(first, end)),
    }
  }
}
