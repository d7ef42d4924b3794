/**
 * The DomainID allocator: 16-bit IDs, one space for all IOMMUs and segments. 0 means none and is never handed out.
 *
 * Linux's `pdom_ids` hands the lowest free ID out; Xen's begins after the last one, so that an ID is not soon used again.
 *
 * @packageDocumentation
 */
import { domainId } from '@nestwalk/hardware'
import type { DomainId } from '@nestwalk/hardware'

/** The highest DomainID. */
const lastDomainId = 0xffff

/** How IDs are handed out and made clean. */
export interface DomainIdRules {
  /** Which free ID is next. Default: the lowest. */
  readonly order: 'lowest' | 'rotating'
  /**
   * When what is cached under a freed ID is flushed: before it is free; before it is handed out again; or for many at once,
   * which are kept back until then. Default: on free.
   */
  readonly cleaning: 'on-free' | 'on-allocate' | 'quarantine'
  /** IDs kept back at most before they are flushed together. Default 64. */
  readonly quarantineLength: number
  /** IDs that one vIOMMU may own. Default 4096; gap U14 is to have no limit. */
  readonly quotaPerViommu: number
}

const defaultDomainIdRules: DomainIdRules = {
  order: 'lowest',
  cleaning: 'on-free',
  quarantineLength: 64,
  quotaPerViommu: 4096,
}

/** An ID, and the IOMMUs that may have entries under it from its last user. */
export interface UsedId {
  readonly id: DomainId
  readonly uncleanOn: readonly number[]
}

/** See the file's comment. */
export class DomainIdAllocator {
  private constructor(
    private readonly last: number,
    readonly rules: DomainIdRules,
    /** IDs from this one on were never handed out, but for those that are reserved. */
    private next: number,
    private readonly reserved: Set<number>,
    /** Free IDs below `next`, ascending. */
    private readonly free: number[],
    /** Those of them that are not clean yet, with the IOMMUs. */
    private readonly unclean: Map<number, readonly number[]>,
    private kept: readonly UsedId[],
    /** The ID that was handed out last. */
    private recent: number,
  ) {}

  /** @param last - highest ID to hand out; a small space makes exhaustion and re-use easy to see */
  static create(last = lastDomainId, rules: Partial<DomainIdRules> = {}): DomainIdAllocator {
    if (!Number.isInteger(last) || last < 1 || last > lastDomainId) {
      throw new RangeError(`last DomainID ${last} is not from 1 to ${lastDomainId}`)
    }
    const all = { ...defaultDomainIdRules, ...rules }
    for (const name of ['quarantineLength', 'quotaPerViommu'] as const) {
      if (!Number.isInteger(all[name]) || all[name] < 1) {
        throw new RangeError(`${name} ${all[name]} is not a number from 1 up`)
      }
    }
    return new DomainIdAllocator(last, all, 1, new Set(), [], new Map(), [], 0)
  }

  /** A free ID, which has to be made clean before it is used; `undefined` when there is none. */
  allocate(): UsedId | undefined {
    const place = this.rules.order === 'lowest' ? 0 : this.firstAfter(this.recent)
    const found = this.free[place] ?? this.fresh() ?? this.free[0]
    if (found === undefined) return undefined
    const at = this.firstAfter(found - 1)
    if (this.free[at] === found) this.free.splice(at, 1)
    const uncleanOn = this.unclean.get(found) ?? []
    this.unclean.delete(found)
    this.recent = found
    return { id: domainId(found), uncleanOn }
  }

  /** Gives an ID back. It is handed out again at once, or after {@link takeKept} where unclean ones are kept back. */
  release(id: DomainId, uncleanOn: readonly number[]): void {
    if (uncleanOn.length > 0 && this.rules.cleaning === 'quarantine') {
      this.kept = [...this.kept, { id, uncleanOn }]
      return
    }
    this.free.splice(this.firstAfter(id), 0, id)
    if (uncleanOn.length > 0) this.unclean.set(id, uncleanOn)
  }

  /** IDs that are kept back. */
  get keptBack(): number {
    return this.kept.length
  }

  /** Lets all IDs go that are kept back; whoever takes them makes them clean before another one is handed out. */
  takeKept(): readonly UsedId[] {
    const { kept } = this
    this.kept = []
    for (const { id } of kept) this.free.splice(this.firstAfter(id), 0, id)
    return kept
  }

  /** Takes an ID that is in use already, by whoever was here before. One that is taken stays so. */
  reserve(id: DomainId): void {
    const at = this.firstAfter(id - 1)
    if (this.free[at] === id) this.free.splice(at, 1)
    else if (id >= this.next) this.reserved.add(id)
  }

  fork(): DomainIdAllocator {
    const { last, rules, next, kept, recent } = this
    const [reserved, free, unclean] = [new Set(this.reserved), [...this.free], new Map(this.unclean)]
    return new DomainIdAllocator(last, rules, next, reserved, free, unclean, kept, recent)
  }

  snapshot(): unknown {
    return [this.next, [...this.reserved], this.free, [...this.unclean], this.kept, this.recent]
  }

  /** The next ID that was never handed out. */
  private fresh(): number | undefined {
    while (this.reserved.delete(this.next)) this.next += 1
    if (this.next > this.last) return undefined
    return this.next++
  }

  /** Place of the first free ID above one. */
  private firstAfter(id: number): number {
    let [low, high] = [0, this.free.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.free[middle] ?? Infinity) <= id) low = middle + 1
      else high = middle
    }
    return low
  }
}
