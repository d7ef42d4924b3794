import { mask } from './bits.js'
import type { Random } from './random.js'

export type EntryKind = 'host' | 'guest' | 'gcr3' | 'dte'

/** Memory under construction. */
export class World {
  readonly words = new Map<bigint, bigint>()
  /** The entries that some path uses, as targets of mutations. */
  readonly entries = new Map<bigint, EntryKind>()
  readonly tablePages: bigint[] = []
  private readonly used = new Set<bigint>()
  private readonly clusters: bigint[] = []

  constructor(
    readonly random: Random,
    readonly memorySize: bigint,
  ) {
    for (let n = 0; n < 4; n++) this.clusters.push(random.bits(33) & ~0xfffffn)
  }

  put(address: bigint, value: bigint, kind?: EntryKind): void {
    this.words.set(address, value)
    if (kind !== undefined) this.entries.set(address, kind)
  }

  /** A 4 KiB page for a table, mostly in one of few regions below 2^33. */
  freePage(): bigint {
    const { random } = this
    while (true) {
      let page = random.pick(this.clusters) + (random.bits(6) << 12n)
      if (random.chance(0.03)) page = this.memorySize - 0x1000n - (random.bits(3) << 12n)
      if (random.chance(0.03)) page = random.bits(52) & (this.memorySize - 1n) & ~0xfffn
      if (this.used.has(page)) continue
      this.used.add(page)
      this.tablePages.push(page)
      return page
    }
  }

  /** Page-aligned or not, with many zero and all-one indices, below 2^width. */
  sparseAddress(width: number): bigint {
    const { random } = this
    let address = random.pick([0n, 0n, 0xfffn, 0xff8n, 0x7n, random.bits(12)])
    const density = random.pick([0.25, 0.5, 0.9])
    for (let low = 12; low < width; low += 9) {
      let index = 0n
      if (random.chance(density)) index = random.pick([1n, 511n, 256n, random.bits(9), random.bits(3)])
      address |= index << BigInt(low)
    }
    return address & mask(width - 1, 0)
  }
}
