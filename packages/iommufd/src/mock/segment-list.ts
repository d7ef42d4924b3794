/**
 * Segments in ascending order: found in logarithmic time, added and taken out for the price of a small array.
 *
 * Forks share everything and copy what they change: first the list of chunks, then the chunk.
 *
 * @packageDocumentation
 */
import type { Segment } from './segment.js'

/** A chunk is cut in two when it grows beyond this. */
const chunkSegments = 128

/** A fork's right to change what it has copied. */
type Owner = object

interface Chunk {
  readonly owner: Owner
  readonly segments: Segment[]
}

const firstOf = (chunk: Chunk): number => chunk.segments[0]?.first ?? Infinity

/** Index of the last item that starts at or below an address; -1: none. */
function lastAtOrBelow<T>(items: readonly T[], start: (item: T) => number, address: number): number {
  let low = 0
  let high = items.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const item = items[middle]
    if (item !== undefined && start(item) <= address) low = middle + 1
    else high = middle
  }
  return low - 1
}

const segmentFirst = (segment: Segment): number => segment.first

export class SegmentList {
  #chunks: Chunk[]
  #owner: Owner = {}
  #ownsChunks = true

  constructor(chunks: Chunk[] = []) {
    this.#chunks = chunks
  }

  fork(): SegmentList {
    this.#owner = {}
    this.#ownsChunks = false
    const copy = new SegmentList(this.#chunks)
    copy.#ownsChunks = false
    return copy
  }

  /** The segment that holds an address. */
  at(address: number): Segment | undefined {
    const chunk = this.#chunks[lastAtOrBelow(this.#chunks, firstOf, address)]
    if (chunk === undefined) return undefined
    const segment = chunk.segments[lastAtOrBelow(chunk.segments, segmentFirst, address)]
    return segment !== undefined && address < segment.end ? segment : undefined
  }

  /** Whether anything is mapped from `first` to below `end`. */
  meets(first: number, end: number): boolean {
    const chunk = this.#chunks[lastAtOrBelow(this.#chunks, firstOf, end - 1)]
    if (chunk === undefined) return false
    const segment = chunk.segments[lastAtOrBelow(chunk.segments, segmentFirst, end - 1)]
    return segment !== undefined && segment.end > first
  }

  /** All segments that reach into a range, ascending. */
  *within(first: number, end: number): Generator<Segment> {
    const from = Math.max(0, lastAtOrBelow(this.#chunks, firstOf, first))
    for (let c = from; c < this.#chunks.length; c++) {
      const segments = this.#chunks[c]?.segments ?? []
      const start = c === from ? Math.max(0, lastAtOrBelow(segments, segmentFirst, first)) : 0
      for (let s = start; s < segments.length; s++) {
        const segment = segments[s]
        if (segment === undefined || segment.first >= end) return
        if (segment.end > first) yield segment
      }
    }
  }

  /** Adds a segment that meets no other. */
  add(segment: Segment): void {
    const index = Math.max(0, lastAtOrBelow(this.#chunks, firstOf, segment.first))
    const chunk = this.#change(index)
    const { segments } = chunk
    const last = segments[segments.length - 1]
    if (last === undefined || last.first < segment.first) segments.push(segment)
    else segments.splice(lastAtOrBelow(segments, segmentFirst, segment.first) + 1, 0, segment)
    if (segments.length > chunkSegments)
      this.#split(index, segments, last !== undefined && last.first < segment.first)
  }

  /** Takes out a segment that starts at an address. */
  remove(first: number): void {
    const index = lastAtOrBelow(this.#chunks, firstOf, first)
    const { segments } = this.#change(index)
    segments.splice(lastAtOrBelow(segments, segmentFirst, first), 1)
    if (segments.length === 0) this.#chunks.splice(index, 1)
  }

  /** A full chunk gives its upper half to a new one; one that grows at its end only the newest, and stays full. */
  #split(index: number, segments: Segment[], growsAtEnd: boolean): void {
    const upper = segments.splice(growsAtEnd ? segments.length - 1 : segments.length >>> 1)
    this.#chunks.splice(index + 1, 0, { owner: this.#owner, segments: upper })
  }

  /** A chunk that may be changed, made at need. */
  #change(index: number): Chunk {
    if (!this.#ownsChunks) {
      this.#chunks = [...this.#chunks]
      this.#ownsChunks = true
    }
    const shared = this.#chunks[index]
    if (shared?.owner === this.#owner) return shared
    const own = { owner: this.#owner, segments: shared === undefined ? [] : [...shared.segments] }
    this.#chunks[index] = own
    return own
  }
}
