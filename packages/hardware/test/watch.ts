import { wordOf } from '@nestwalk/bits'
import type { Iommu, TableKind } from '../src/index.js'

export interface Seen {
  /** Reads of host, GCR3 and guest table entries, in order. */
  readonly reads: bigint[]
  readonly entryReads: bigint[]
  readonly stores: bigint[]
}

/** Runs `work` and tells which table accesses the chip made meanwhile. */
export function watching<T>(iommu: Iommu, work: () => T): Seen & { readonly value: T } {
  const seen: Seen = { reads: [], entryReads: [], stores: [] }
  iommu.watch({
    read: (kind: TableKind, lo, hi) =>
      (kind === 'device-table' ? seen.entryReads : seen.reads).push(wordOf(lo, hi)),
    store: (_kind, lo, hi) => seen.stores.push(wordOf(lo, hi)),
  })
  const value = work()
  iommu.watch(null)
  return { ...seen, value }
}
