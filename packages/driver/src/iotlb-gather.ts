/**
 * The gather of an unmap: which addresses and tables hardware must forget before the unmap is complete.
 *
 * Linux include/linux/iommu.h, `struct iommu_iotlb_gather`, and drivers/iommu/generic_pt/iommu_pt.h,
 * `gather_range_pages`.
 *
 * @packageDocumentation
 */
import type { Spa } from '@nestwalk/bits'
import type { AddressRange } from './invalidation-range.js'

/** What is to be flushed at once. */
export interface Gathered {
  readonly range: AddressRange
  /** Tables that no entry leads to any more; they may be used again after the flush. */
  readonly tables: readonly Spa[]
}

/** How a gather goes about ranges. */
export interface GatherRules {
  /**
   * Ranges with a gap between them become one, and what lies in the gap is flushed too. Without, each range is flushed
   * before the next begins: where absent entries are cached (NpCache) a flush is expensive for what it covers.
   */
  readonly swallowsGaps: boolean
  /**
   * The mistake that commit b48ca9206138 corrected: ranges are not noted, so the flush that frees the tables reaches
   * none of the addresses.
   */
  readonly losesRanges: boolean
}

/** Where the flush of a gather without any range goes: its first address is the highest there is. */
const nowhere: AddressRange = { first: (1n << 64n) - 4096n, last: (1n << 64n) - 1n }

/** See the file's comment. It lives for one operation. */
export class IotlbGather {
  private range: AddressRange | undefined
  private tables: Spa[] = []
  private isEmpty = true

  /** @param flush - plans the flush, and then frees the tables */
  constructor(
    private readonly rules: GatherRules,
    private readonly flush: (gathered: Gathered) => void,
  ) {}

  /** Notes addresses that are no longer mapped; with `table` the table that led to them. */
  add(range: AddressRange, table?: Spa): void {
    if (!this.rules.swallowsGaps && this.range !== undefined && isApart(this.range, range)) this.sync()
    if (!this.rules.losesRanges) this.range = this.range === undefined ? range : joined(this.range, range)
    if (table !== undefined) this.tables.push(table)
    this.isEmpty = false
  }

  /** Flushes what was noted since the last time, if anything. */
  sync(): void {
    if (this.isEmpty) return
    this.flush({ range: this.range ?? nowhere, tables: this.tables })
    this.range = undefined
    this.tables = []
    this.isEmpty = true
  }
}

const isApart = (a: AddressRange, b: AddressRange): boolean => a.last + 1n < b.first || b.last + 1n < a.first

/** The smallest range that has both. */
const joined = (a: AddressRange, b: AddressRange): AddressRange => ({
  first: a.first < b.first ? a.first : b.first,
  last: a.last > b.last ? a.last : b.last,
})
