/**
 * Areas side by side: whether they cover a range, and how one is cut in two.
 *
 * @packageDocumentation
 */
import { refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import { createArea, offsetBehind, partOf } from './area.js'
import type { Area } from './area.js'

/** Those of some areas in order that cover a range without a hole from its start on, and whether up to its end. */
export function coverage(
  areas: readonly Area[],
  first: bigint,
  last: bigint,
): { readonly areas: readonly Area[]; readonly isCovered: boolean } {
  let next = first
  for (const [i, area] of areas.entries()) {
    if (area.first > next) return { areas: areas.slice(0, i), isCovered: false }
    next = area.last + 1n
  }
  return { areas, isCovered: next > last }
}

/**
 * Two areas that show what one does, the first of them up to an IOVA inside.
 *
 * Linux drivers/iommu/iommufd/io_pagetable.c, `iopt_area_split`.
 *
 * @param table - `isMappedHuge`: the area is in page tables, where one entry may span the cut
 */
export function cutArea(
  area: Area,
  last: bigint,
  table: { readonly alignment: bigint; readonly isMappedHuge: boolean },
): readonly [Area, Area] | Refusal {
  const start = last + 1n
  const at = `the area at 0x${area.first.toString(16)}`
  if (area.isClosed) return refuse('cut-busy', `${at} is being unmapped`)
  if (area.memory.kind === 'dmabuf') return refuse('cut-dmabuf', `${at} is of a dma-buf`)
  const mask = table.alignment - 1n
  if (((start | BigInt(offsetBehind(area, start))) & mask) !== 0n)
    return refuse(
      'cut-alignment',
      `0x${start.toString(16)} is not a multiple of ${table.alignment.toString()}`,
    )
  if (area.accesses > 0) return refuse('cut-accessed', `${at} is pinned`)
  if (table.isMappedHuge) return refuse('cut-huge', `${at} may be mapped by a huge page`)
  return [
    createArea(partOf(area, area.first, last), area.first, area),
    createArea(partOf(area, start, area.last), start, area),
  ]
}
