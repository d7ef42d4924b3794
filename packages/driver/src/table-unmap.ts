/**
 * Unmapping: clearing entries, and unhooking the tables that a range covers whole.
 *
 * Linux drivers/iommu/generic_pt/iommu_pt.h, `unmap_pages`. Linux removes a page whole that the end of the range cuts,
 * and tells the caller that it did; here a range that cuts a page is refused, whichever end does.
 *
 * @packageDocumentation
 */
import { spa } from '@nestwalk/bits'
import type { AddressRange } from './invalidation-range.js'
import type { IotlbGather } from './iotlb-gather.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import { copiesOf, visitEntries } from './page-table.js'
import type { FoundEntry, TableEdit } from './page-table.js'

/** Takes every page that lies in a range away, and returns the bytes that were mapped. */
export function unmapRange(edit: TableEdit, range: AddressRange, gather: IotlbGather): bigint | Refusal {
  const pages = new LeavingPages(edit, gather)
  const refused = visitEntries(edit, range, (found) => {
    const { first, last } = found.reach
    const isInside = first >= range.first && last <= range.last
    if (found.entry.kind === 'leaf') {
      if (!isInside) return cutsPage(first)
      pages.add(found, found.entry.sizeLog2)
    } else if (isInside) {
      pages.clear()
      edit.plan.store(found.at, 0n, `unhook the table for 0x${first.toString(16)}`)
      gather.add(found.reach, found.entry.table)
    }
    return undefined
  })
  if (refused !== undefined) return refused
  pages.clear()
  return pages.bytes
}

const cutsPage = (first: bigint): Refusal =>
  refuse('EINVAL', 'unmap-cuts-a-page', `the page at 0x${first.toString(16)} lies only partly in the range`)

/** Pages that follow each other in one table are cleared in one run. */
class LeavingPages {
  /** Of all pages so far. */
  bytes = 0n
  private at = 0n
  private entries = 0
  private first = 0n
  private last = 0n

  constructor(
    private readonly edit: TableEdit,
    private readonly gather: IotlbGather,
  ) {}

  add({ at, level, reach }: FoundEntry, sizeLog2: number): void {
    const isNext =
      this.entries > 0 && reach.first === this.last + 1n && at === this.at + BigInt(this.entries * 8)
    if (!isNext || at % 4096n === 0n) {
      this.clear()
      this.at = at
      this.first = reach.first
    }
    this.entries += copiesOf(sizeLog2, level)
    this.last = reach.last
  }

  /** Clears the entries of the run and begins another. */
  clear(): void {
    if (this.entries === 0) return
    const { at, entries, first, last } = this
    this.edit.plan.storeRun(spa(at), entries, 0n, `unmap from 0x${first.toString(16)}`)
    this.gather.add({ first, last })
    this.bytes += last - first + 1n
    this.entries = 0
  }
}
