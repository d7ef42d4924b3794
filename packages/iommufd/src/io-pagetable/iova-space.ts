/**
 * Which IOVAs are taken, reserved, or to be chosen, and how areas are aligned.
 *
 * Linux drivers/iommu/iommufd/io_pagetable.c.
 *
 * @packageDocumentation
 */
import type { AddressRange } from '../backend.js'
import { isRefusal, refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import { lastAddress } from './area.js'
import type { Area, AreaPart } from './area.js'
import type { Placement } from './map-request.js'
import { AreaList } from './area-list.js'
import { ReservedRanges, holesOf, meetsRange, mergeRanges } from './iova-ranges.js'

const pageBytes = 4096n

/** An IOAS keeps no more areas than this. */
const areaLimit = 1 << 20

/** Nor more reserved ranges of one owner: only tests reserve without end. */
const reservedLimit = 1 << 16

/** No IOVA is chosen to be more aligned than this: the size of a huge page of the processor. */
const largestAlignment = 0x20_0000

/** See the file's comment. */
export class IovaSpace {
  readonly areas: AreaList
  readonly reserved: ReservedRanges
  /** Merged. None: all but the first and the last page may be chosen. */
  #allowed: readonly AddressRange[]
  /** A power of two. */
  #alignment: bigint

  private constructor(
    areas: AreaList,
    reserved: ReservedRanges,
    allowed: readonly AddressRange[],
    alignment: bigint,
  ) {
    this.areas = areas
    this.reserved = reserved
    this.#allowed = allowed
    this.#alignment = alignment
  }

  static create(): IovaSpace {
    return new IovaSpace(AreaList.create(), ReservedRanges.create(), [], 1n)
  }

  /** A copy with other areas in the same places. */
  fork(change: (area: Area) => Area): IovaSpace {
    return new IovaSpace(this.areas.map(change), this.reserved.fork(), this.#allowed, this.#alignment)
  }

  get alignment(): bigint {
    return this.#alignment
  }

  get allowed(): readonly AddressRange[] {
    return this.#allowed
  }

  /** Whether a number is a multiple of the alignment. */
  isAligned(value: bigint): boolean {
    return (value & (this.#alignment - 1n)) === 0n
  }

  /** Replaces the list of what may be chosen. EINVAL, EADDRINUSE. */
  allow(ranges: readonly { readonly start: bigint; readonly last: bigint }[]): Refusal | undefined {
    const sorted = ranges.map(({ start, last }) => ({ first: start, last }))
    for (const { first, last } of sorted) {
      if (first >= last) return refuse('allow-range', `${inHex(first, last)} is no range`)
    }
    sorted.sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0))
    for (const [i, { first, last }] of sorted.entries()) {
      const before = sorted[i - 1]
      if (before !== undefined && before.last >= first)
        return refuse('allow-overlap', `${inHex(first, last)} overlaps ${inHex(before.first, before.last)}`)
    }
    const taken = sorted.find(({ first, last }) => meetsRange(this.reserved.merged, first, last))
    if (taken !== undefined)
      return refuse('allow-reserved', `${inHex(taken.first, taken.last)} is reserved, at least in part`)
    this.#allowed = mergeRanges(sorted)
    return undefined
  }

  /** Reserves a range that no area and no allowed range meets. EADDRINUSE. */
  reserve(owner: number | undefined, { first, last }: AddressRange): Refusal | undefined {
    if (this.areas.meets(first, last))
      return refuse('reserve-in-use', `${inHex(first, last)} is mapped, at least in part`)
    if (meetsRange(this.#allowed, first, last))
      return refuse('reserve-in-use', `${inHex(first, last)} is allowed, at least in part`)
    if (this.reserved.countOf(owner) >= reservedLimit)
      return refuse('reserve-limit', `the IOAS keeps ${reservedLimit} reserved ranges of an owner`)
    this.reserved.add({ first, last, owner })
    return undefined
  }

  /** Sets the alignment, which all areas must have. EADDRINUSE. */
  align(alignment: bigint): Refusal | undefined {
    if (alignment > this.#alignment) {
      const mask = alignment - 1n
      for (const { first, last, offset } of this.areas) {
        if (((first | (last + 1n) | BigInt(offset)) & mask) !== 0n)
          return refuse('alignment-in-use', `${inHex(first, last)} is not aligned to ${alignment.toString()}`)
      }
    }
    this.#alignment = alignment
    return undefined
  }

  /** Where memory goes, if it may go there. ENOMEM, EINVAL, EOVERFLOW, EEXIST, ENOSPC, EPERM. */
  place(parts: readonly AreaPart[], { length, iova, writeable }: Placement): bigint | Refusal {
    const [start] = parts
    if (start === undefined || this.areas.size + parts.length > areaLimit)
      return refuse('area-limit', `there are ${this.areas.size} areas`)
    if (!this.isAligned(length))
      return refuse('map-length-alignment', `the length is not a multiple of ${this.#alignment.toString()}`)
    const address = start.memory.startAddress + BigInt(start.firstPage) * pageBytes + BigInt(start.offset)
    const first = iova ?? this.#choose(address, length)
    if (isRefusal(first)) return first
    const taken = iova === undefined ? undefined : this.#whyNotAt(iova, length)
    if (taken !== undefined) return taken
    for (const { memory, offset } of parts) {
      if (writeable && !memory.writeable)
        return refuse('copy-not-writeable', 'the memory was mapped to be read only')
      if (!this.isAligned(BigInt(offset)))
        return refuse('memory-alignment', `the memory begins at byte ${offset} of a page`)
    }
    return first
  }

  /** Whether an area may lie at an IOVA. EINVAL, EOVERFLOW, EEXIST. */
  #whyNotAt(iova: bigint, length: bigint): Refusal | undefined {
    if (!this.isAligned(iova))
      return refuse(
        'iova-alignment',
        `0x${iova.toString(16)} is not a multiple of ${this.#alignment.toString()}`,
      )
    const last = iova + length - 1n
    if (last > lastAddress) return refuse('iova-wraps', `0x${iova.toString(16)} is too high for the length`)
    if (meetsRange(this.reserved.merged, iova, last))
      return refuse('iova-reserved', `${inHex(iova, last)} meets a reserved range`)
    if (this.areas.meets(iova, last)) return refuse('iova-mapped', `${inHex(iova, last)} meets an area`)
    return undefined
  }

  /**
   * The lowest free IOVA for memory. Its alignment is that of the address, up to the size of the memory, so that large
   * pages can be used. EOVERFLOW, EINVAL, ENOSPC.
   */
  #choose(address: bigint, length: bigint): bigint | Refusal {
    if (length === 0n || length >= lastAddress / 2n)
      return refuse('iova-choice-length', `${length.toString()} bytes are too many`)
    const alignment = BigInt(choiceAlignment(address, length))
    if (alignment < this.#alignment)
      return refuse(
        'iova-choice-alignment',
        `0x${address.toString(16)} allows ${alignment.toString()}, not ${this.#alignment.toString()}`,
      )
    const fit = fitter(alignment, address % pageBytes, length)
    const open =
      this.#allowed.length > 0 ? this.#allowed : [{ first: pageBytes, last: lastAddress - pageBytes }]
    for (const { first, last } of open) {
      const lowest = first < pageBytes ? pageBytes : first
      const highest = last > lastAddress - pageBytes ? lastAddress - pageBytes : last
      if (lowest > highest) continue
      const start = fit(lowest, highest)
      if (start === undefined) continue
      const found = this.areas.findHole(start, highest, length, (from, to) => {
        for (const hole of holesOf(this.reserved.merged, from, to)) {
          const iova = fit(hole.first, hole.last)
          if (iova !== undefined) return iova
        }
        return undefined
      })
      if (found !== undefined) return found
    }
    return refuse('iova-none-free', `there is no hole for ${length.toString()} bytes`)
  }
}

/** Up to the next power of two of the length, as aligned as the address is. */
function choiceAlignment(address: bigint, length: bigint): number {
  const size = length > largestAlignment ? largestAlignment : Number(length)
  const roundedUp = size === 1 ? 1 : 2 ** (32 - Math.clz32(size - 1))
  const low = Number(address & BigInt(largestAlignment - 1))
  return low === 0 ? roundedUp : Math.min(roundedUp, low & -low)
}

/** How memory with an offset in its page goes into a hole: its first IOVA. */
function fitter(
  alignment: bigint,
  offset: bigint,
  length: bigint,
): (first: bigint, last: bigint) => bigint | undefined {
  const mask = alignment - 1n
  return (first, last) => {
    const iova = ((first + mask) & ~mask) | offset
    return iova < last && last - iova >= length - 1n ? iova : undefined
  }
}

const inHex = (first: bigint, last: bigint): string => `0x${first.toString(16)}-0x${last.toString(16)}`
