/**
 * An area of an IO address space: a range of IOVAs and the part of some memory behind it.
 *
 * Linux drivers/iommu/iommufd/io_pagetable.h, `struct iopt_area`.
 *
 * @packageDocumentation
 */
import type { DmabufPages } from './dmabuf.js'
import type { Pages } from './pages.js'

export const lastAddress = 0xffff_ffff_ffff_ffffn

const pageMask = 0xfffn

/** Memory behind areas. Several areas, of several tables, may show parts of the same. */
type AreaMemory = Pages | DmabufPages

export interface Area {
  readonly first: bigint
  readonly last: bigint
  readonly memory: AreaMemory
  /** Number of the page of the memory that holds the first byte. */
  readonly firstPage: number
  /** Where in that page the first byte is. */
  readonly offset: number
  /** Pages that hold any of its bytes. */
  readonly pages: number
  readonly readable: boolean
  readonly writeable: boolean
  /** How often accesses have pinned any of it. */
  accesses: number
  /** How many of those are of the kernel's own, and cannot be told to let go. */
  locks: number
  /** No access may pin any of it any more: it is to be unmapped. */
  isClosed: boolean
}

/** What an area shows, before there is a place for it. */
export interface AreaPart {
  readonly memory: AreaMemory
  readonly firstPage: number
  readonly offset: number
  readonly length: bigint
}

export function createArea(
  part: AreaPart,
  first: bigint,
  rights: { readonly readable: boolean; readonly writeable: boolean },
): Area {
  const { memory, firstPage, offset, length } = part
  return {
    first,
    last: first + length - 1n,
    memory,
    firstPage,
    offset,
    pages: Number((BigInt(offset) + length + pageMask) >> 12n),
    readable: rights.readable,
    writeable: rights.writeable,
    accesses: 0,
    locks: 0,
    isClosed: false,
  }
}

/** Number of the page behind an IOVA of the area. */
export const pageBehind = (area: Area, iova: bigint): number =>
  area.firstPage + Number((iova - area.first + BigInt(area.offset)) >> 12n)

/** Where in its page the byte behind an IOVA is. */
export const offsetBehind = (area: Area, iova: bigint): number =>
  (Number((iova - area.first) & pageMask) + area.offset) & 0xfff

/** The part of an area from one IOVA of it to another. */
export const partOf = (area: Area, first: bigint, last: bigint): AreaPart => ({
  memory: area.memory,
  firstPage: pageBehind(area, first),
  offset: offsetBehind(area, first),
  length: last - first + 1n,
})
