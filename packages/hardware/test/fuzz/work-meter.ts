/**
 * What one call may cost: table reads are counted as they happen.
 *
 * Three GCR3 levels and five guest levels, each through six host levels, then the page itself through six. Caches take
 * reads away, and setting A and D reads nothing again that a walk has read.
 */
import type { TableKind, WalkTrace } from '../../src/index.js'

export const longestWalk = (3 + 5) * (6 + 1) + 6

/** Walks of one command: PREFETCH_IOMMU_PAGES names at most 255 pages. */
export const longestPrefetch = 255

export class WorkMeter implements WalkTrace {
  reads = 0
  deviceReads = 0
  interruptReads = 0
  stores = 0
  /** Of all calls since the beginning; and of those that are one walk. */
  most = 0
  mostOfWalk = 0
  mostStores = 0

  read(kind: TableKind): void {
    if (kind === 'device-table') this.deviceReads += 1
    else if (kind === 'interrupt-table') this.interruptReads += 1
    else this.reads += 1
  }

  store(): void {
    this.stores += 1
  }

  /** Runs one call, and throws if it did more than so many walks can. */
  limit<T>(walks: number, what: string, call: () => T): T {
    this.reads = 0
    this.deviceReads = 0
    this.interruptReads = 0
    this.stores = 0
    const value = call()
    // An entry is stored to at most twice: once for what the walk is about, once as part of the way to a table.
    const isInBounds =
      this.reads <= walks * longestWalk &&
      this.deviceReads <= Math.max(walks, 1) + 1 &&
      this.interruptReads <= 2 &&
      this.stores <= 2 * walks * longestWalk
    if (!isInBounds) {
      const { reads, deviceReads, interruptReads, stores } = this
      throw new Error(`${what} took ${JSON.stringify({ reads, deviceReads, interruptReads, stores })}`)
    }
    this.most = Math.max(this.most, this.reads)
    if (walks === 1) this.mostOfWalk = Math.max(this.mostOfWalk, this.reads)
    this.mostStores = Math.max(this.mostStores, this.stores)
    return value
  }
}
