/**
 * Which areas an unmapping takes.
 *
 * Linux drivers/iommu/iommufd/io_pagetable.c, `iopt_unmap_iova_range`.
 *
 * @packageDocumentation
 */
import type { AddressRange } from '../backend.js'
import { refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import type { Area } from './area.js'

/** How often accesses are told to let go of an area. */
const unmapTries = 100

/** What became of an unmapping. */
export interface Unmapped {
  /** Bytes of the areas that are gone. */
  readonly bytes: bigint
  /** What stopped it at an area behind those. The call fails with that, though areas are gone. */
  readonly refused?: Refusal
}

/**
 * The areas that can be unmapped, up to the first that cannot.
 *
 * @param found - all that meet the range, in order
 * @param tell - asks accesses to let go of a range
 */
export function selectAreas(
  found: readonly Area[],
  range: AddressRange,
  tell: (first: bigint, length: bigint) => void,
): { readonly areas: readonly Area[]; readonly stopped: Refusal | undefined } {
  for (const [i, area] of found.entries()) {
    const stopped = whyKept(area, range, tell)
    if (stopped !== undefined) return { areas: found.slice(0, i), stopped }
  }
  return { areas: found, stopped: undefined }
}

function whyKept(
  area: Area,
  range: AddressRange,
  tell: (first: bigint, length: bigint) => void,
): Refusal | undefined {
  const at = `the area at 0x${area.first.toString(16)}`
  if (area.locks > 0) return refuse('unmap-locked', `a hardware queue lies in ${at}`)
  if (area.first < range.first || area.last > range.last)
    return refuse('unmap-cuts-area', `${at} reaches over the range`)
  for (let tries = 0; area.accesses > 0; tries++) {
    if (tries === unmapTries) return refuse('unmap-unheard', `${at} is still pinned`)
    area.isClosed = true
    tell(area.first, area.last - area.first + 1n)
  }
  return undefined
}
