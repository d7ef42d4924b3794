/**
 * Which invalidations a change needs.
 *
 * @packageDocumentation
 */
import { domainId as asDomainId, pasidZero } from '@nestwalk/hardware'
import type { Books } from './books.js'
import type { DomainNumber } from './domain.js'
import { everything, rangeFields } from './invalidation-range.js'
import type { AddressRange } from './invalidation-range.js'
import type { Plan } from './plan.js'
import type { Tag } from './tag-table.js'

/** What to drop of a tag's translations. */
export interface Reach {
  readonly range: AddressRange
  /** Cached directory entries too: needed whenever a table page goes away. */
  readonly directories: boolean
  /** The addresses are those of guest tables, for requests without PASID; else those of the host table. */
  readonly guest: boolean
}

/** All that can be cached under a tag: GN=0 reaches the guest translations of every PASID too. */
export const allOfTag: Reach = { range: everything, directories: true, guest: false }

/** Invalidates under each tag on each IOMMU that may have entries of it, and waits for each of those IOMMUs. */
export function flushTags(plan: Plan, tags: readonly Tag[], reach: Reach, why: string): void {
  const iommus = new Set<number>()
  for (const tag of tags) {
    for (const iommu of tag.iommus) {
      flushOn(plan, iommu, tag, reach, why)
      iommus.add(iommu)
    }
  }
  for (const iommu of [...iommus].sort((a, b) => a - b)) plan.wait(iommu)
}

function flushOn(
  plan: Plan,
  iommu: number,
  tag: Tag,
  { range, directories, guest }: Reach,
  why: string,
): void {
  plan.command(
    iommu,
    {
      kind: 'InvalidateIommuPages',
      domainId: asDomainId(tag.domainId),
      pasid: pasidZero,
      guestNested: guest,
      directories,
      ...rangeFields(range),
    },
    why,
  )
}

/** After a change of a table: everything cached through it, under whichever tag. */
export function flushTable(plan: Plan, books: Books, table: DomainNumber, reach: Reach, why: string): void {
  flushTags(plan, books.tags.ofTable(table), reach, why)
}
