/**
 * Sets of IOVAs: those that are reserved, by whom, and those that may be chosen.
 *
 * @packageDocumentation
 */
import type { AddressRange } from '../backend.js'
import { lastAddress } from './area.js'

/** A range that no area may meet. */
export interface ReservedRange extends AddressRange {
  /** Object ID of the device or HWPT that needs it; `undefined`: reserved for good. */
  readonly owner: number | undefined
}

const byFirst = (a: AddressRange, b: AddressRange): number =>
  a.first < b.first ? -1 : a.first > b.first ? 1 : a.last < b.last ? -1 : a.last > b.last ? 1 : 0

/** In order, those that overlap or adjoin made one. */
export function mergeRanges(ranges: readonly AddressRange[]): AddressRange[] {
  const merged: AddressRange[] = []
  for (const { first, last } of [...ranges].sort(byFirst)) {
    const before = merged.at(-1)
    if (before === undefined || before.last + 1n < first) merged.push({ first, last })
    else if (last > before.last) merged[merged.length - 1] = { first: before.first, last }
  }
  return merged
}

/** Number of the first of some merged ranges that ends at or behind an IOVA. */
function firstEndingFrom(ranges: readonly AddressRange[], iova: bigint): number {
  let low = 0
  let high = ranges.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const range = ranges[middle]
    if (range !== undefined && range.last < iova) low = middle + 1
    else high = middle
  }
  return low
}

/** Whether one of some merged ranges meets a range. */
export function meetsRange(ranges: readonly AddressRange[], first: bigint, last: bigint): boolean {
  const range = ranges[firstEndingFrom(ranges, first)]
  return range !== undefined && range.first <= last
}

/** What some merged ranges leave of a range, in order. */
export function holesOf(ranges: readonly AddressRange[], first: bigint, last: bigint): AddressRange[] {
  const holes: AddressRange[] = []
  let next = first
  for (let i = firstEndingFrom(ranges, first); next <= last; i++) {
    const range = ranges[i]
    if (range === undefined || range.first > last) {
      holes.push({ first: next, last })
      break
    }
    if (range.first > next) holes.push({ first: next, last: range.first - 1n })
    next = range.last + 1n
  }
  return holes
}

/** Reserved ranges. They may overlap. */
export class ReservedRanges {
  /** By owner. */
  readonly #ranges: Map<number | undefined, ReservedRange[]>
  /** Until the next change. */
  #merged: readonly AddressRange[] | undefined

  private constructor(ranges: Map<number | undefined, ReservedRange[]>) {
    this.#ranges = ranges
  }

  static create(): ReservedRanges {
    return new ReservedRanges(new Map())
  }

  fork(): ReservedRanges {
    return new ReservedRanges(new Map([...this.#ranges].map(([owner, ranges]) => [owner, [...ranges]])))
  }

  snapshot(): unknown {
    return this.#all
      .sort((a, b) => byFirst(a, b) || (a.owner ?? 0) - (b.owner ?? 0))
      .map(({ first, last, owner }) => [first, last, owner ?? null])
  }

  add(range: ReservedRange): void {
    const same = this.#ranges.get(range.owner)
    if (same === undefined) this.#ranges.set(range.owner, [range])
    else same.push(range)
    this.#merged = undefined
  }

  /** Lets go of all that an owner needed. */
  release(owner: number): void {
    this.#ranges.delete(owner)
    this.#merged = undefined
  }

  /** Takes back the last {@link add}s of an owner. */
  keep(owner: number, count: number): void {
    if (count === 0) this.#ranges.delete(owner)
    else this.#ranges.get(owner)?.splice(count)
    this.#merged = undefined
  }

  countOf(owner: number | undefined): number {
    return this.#ranges.get(owner)?.length ?? 0
  }

  /** What is reserved, whoever needs it. */
  get merged(): readonly AddressRange[] {
    this.#merged ??= mergeRanges(this.#all)
    return this.#merged
  }

  /** All that is not reserved. */
  get holes(): AddressRange[] {
    return holesOf(this.merged, 0n, lastAddress)
  }

  get #all(): ReservedRange[] {
    return [...this.#ranges.values()].flat()
  }
}
