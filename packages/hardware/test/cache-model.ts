/**
 * What a cache of each shape holds, as plain lists: slow, and open to the eye.
 *
 * Sets are arrays of ways. With LRU and FIFO they hold the live entries alone, the newest first; with random replacement
 * a way keeps its place, and a free one is `undefined`. The hashed shape is one set without an end.
 */
import type { CacheGeometry } from '../src/cache/iotlb.js'
import type { IotlbEntry } from '../src/iotlb-entries.js'

export interface Block {
  readonly address: bigint
  readonly sizeLog2: number
}

export interface ModelEntry extends IotlbEntry {
  readonly gpas: readonly Block[]
}

/** Everything that tells one entry from another but the filler, which no answer depends on. */
export interface Tag {
  readonly domainId: number
  readonly pasid: number | undefined
}

export const pageOf = (address: bigint, sizeLog2: number): bigint =>
  (address >> BigInt(sizeLog2)) << BigInt(sizeLog2)

/** Whether two naturally aligned blocks have an address in common. */
export function meet(one: Block, other: Block): boolean {
  const wider = Math.max(one.sizeLog2, other.sizeLog2)
  return pageOf(one.address, wider) === pageOf(other.address, wider)
}

export const hasTag = (entry: Tag, tag: Tag): boolean =>
  entry.domainId === tag.domainId && entry.pasid === tag.pasid

const blockOf = ({ page, sizeLog2 }: IotlbEntry): Block => ({ address: page, sizeLog2 })

export class CacheModel {
  private constructor(
    private readonly geometry: CacheGeometry,
    private readonly sets: (ModelEntry | undefined)[][],
    private lot: number,
  ) {}

  static create(geometry: CacheGeometry): CacheModel {
    if (geometry.kind === 'hashed') return new CacheModel(geometry, [[]], 0)
    const { setsLog2, ways, replacement, seed = 1 } = geometry
    const free = (): undefined[] =>
      replacement === 'random' ? new Array<undefined>(ways).fill(undefined) : []
    return new CacheModel(geometry, Array.from({ length: 2 ** setsLog2 }, free), seed | 0)
  }

  fork(): CacheModel {
    const sets = this.sets.map((ways) => [...ways])
    return new CacheModel(this.geometry, sets, this.lot)
  }

  /** The live entries as the cache lists them; of the hashed shape in the order of their fills. */
  get entries(): ModelEntry[] {
    return this.sets.flat().filter((entry) => entry !== undefined)
  }

  lookup(tag: Tag, address: bigint): ModelEntry | undefined {
    const serving = this.entries
      .filter((entry) => hasTag(entry, tag) && meet(blockOf(entry), { address, sizeLog2: 12 }))
      .sort((a, b) => a.sizeLog2 - b.sizeLog2)
    const [found] = serving
    if (found !== undefined && this.replacement === 'lru') this.putFirst(found)
    return found
  }

  /** Addresses are aligned already. */
  fill(entry: ModelEntry): void {
    const set = this.setOf(entry)
    const isSame = (other: ModelEntry | undefined): boolean =>
      other !== undefined &&
      hasTag(other, entry) &&
      other.page === entry.page &&
      other.sizeLog2 === entry.sizeLog2
    const known = set.findIndex(isSame)
    if (this.replacement === 'random') {
      set[known >= 0 ? known : this.wayToFill(set)] = entry
      return
    }
    if (known >= 0) set.splice(known, 1)
    else if (this.geometry.kind === 'hashed') {
      if (set.length === 3 * 2 ** ((this.geometry.capacityLog2 ?? 20) - 2)) set.length = 0
    } else if (set.length === this.geometry.ways) set.pop()
    set.unshift(entry)
  }

  drop(isReached: (entry: ModelEntry) => boolean): void {
    for (const set of this.sets) {
      if (this.replacement === 'random') {
        set.forEach((entry, way) => {
          if (entry !== undefined && isReached(entry)) set[way] = undefined
        })
      } else {
        const kept = set.filter((entry) => entry !== undefined && !isReached(entry))
        set.splice(0, set.length, ...kept)
      }
    }
  }

  /** All that the future depends on. */
  state(): string {
    const shown = (entry: ModelEntry | undefined): string => (entry === undefined ? '-' : show(entry))
    const sets = this.sets.map((ways) => {
      const all = ways.map(shown)
      return (this.replacement === 'none' ? all.sort() : all).join(' ')
    })
    return `${this.lot}: ${sets.join(' | ')}`
  }

  private get replacement(): string {
    return this.geometry.kind === 'hashed' ? 'none' : this.geometry.replacement
  }

  private setOf({ page, sizeLog2 }: ModelEntry): (ModelEntry | undefined)[] {
    const number = Number((page >> BigInt(sizeLog2)) % BigInt(this.sets.length))
    return this.sets[number]!
  }

  private putFirst(entry: ModelEntry): void {
    const set = this.setOf(entry)
    set.splice(set.indexOf(entry), 1)
    set.unshift(entry)
  }

  /** The first free way; else the generator moves on, and the high half of its state says which. */
  private wayToFill(set: (ModelEntry | undefined)[]): number {
    const free = set.indexOf(undefined)
    if (free >= 0) return free
    const next = (BigInt(this.lot) * 1664525n + 1013904223n) & 0xffffffffn
    this.lot = Number(BigInt.asIntN(32, next))
    return Number(next >> 16n) % set.length
  }
}

const show = ({ domainId, pasid, page, sizeLog2, frame, rights, level, flags, gpas }: ModelEntry): string =>
  [domainId, pasid, page, sizeLog2, frame, rights, level, flags, ...gpas.map(showBlock)].join()

const showBlock = ({ address, sizeLog2 }: Block): string => `${address}+${sizeLog2}`
