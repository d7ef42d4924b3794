/**
 * The stretches of guest memory that a VMM has told of: apart from each other, and taken back as they were given.
 *
 * @packageDocumentation
 */
import type { ErrnoName } from './message.js'

/** As many as the protocol lets a client have where nothing else is agreed. */
const most = 65_535
const endOfSpace = 1n << 64n

interface Stretch {
  readonly address: bigint
  readonly sizeBytes: bigint
}

/** Kept in the order of addresses. */
export class DmaMapList {
  private stretches: Stretch[] = []

  /** Adds a stretch; what is wrong with it otherwise. */
  add(address: bigint, sizeBytes: bigint): ErrnoName | undefined {
    if (sizeBytes === 0n || address + sizeBytes > endOfSpace) return 'EINVAL'
    const place = this.placeOf(address)
    const [before, after] = [this.stretches[place - 1], this.stretches[place]]
    if (before !== undefined && before.address + before.sizeBytes > address) return 'EEXIST'
    if (after !== undefined && after.address < address + sizeBytes) return 'EEXIST'
    if (this.stretches.length >= most) return 'ENOSPC'
    this.stretches.splice(place, 0, { address, sizeBytes })
    return undefined
  }

  /** Removes a stretch that is there as named. */
  remove(address: bigint, sizeBytes: bigint): ErrnoName | undefined {
    const place = this.placeOf(address)
    const found = this.stretches[place]
    if (found?.address !== address || found.sizeBytes !== sizeBytes) return 'ENOENT'
    this.stretches.splice(place, 1)
    return undefined
  }

  clear(): void {
    this.stretches = []
  }

  /** The first stretch that begins at the address or after it. */
  private placeOf(address: bigint): number {
    let [low, high] = [0, this.stretches.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.stretches[middle]?.address ?? endOfSpace) < address) low = middle + 1
      else high = middle
    }
    return low
  }
}
