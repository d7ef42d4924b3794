/**
 * The DomainID allocator: 16-bit IDs, one space for all IOMMUs and segments, the lowest free one first.
 *
 * As Linux's `pdom_ids`: 0 means none and is never handed out.
 *
 * @packageDocumentation
 */
import { domainId } from '@nestwalk/hardware'
import type { DomainId } from '@nestwalk/hardware'

/** The highest DomainID. */
const lastDomainId = 0xffff

/** See the file's comment. */
export class DomainIdAllocator {
  private constructor(
    /** IDs below this one were handed out at some time. */
    private next: number,
    /** Those of them that are free again. */
    private readonly free: Set<number>,
    private readonly last: number,
  ) {}

  /** @param last - highest ID to hand out; a small space makes exhaustion and re-use easy to see */
  static create(last = lastDomainId): DomainIdAllocator {
    if (!Number.isInteger(last) || last < 1 || last > lastDomainId) {
      throw new RangeError(`last DomainID ${last} is not from 1 to ${lastDomainId}`)
    }
    return new DomainIdAllocator(1, new Set(), last)
  }

  /** The lowest free ID, or `undefined` when all are taken. */
  allocate(): DomainId | undefined {
    if (this.free.size > 0) {
      const lowest = Math.min(...this.free)
      this.free.delete(lowest)
      return domainId(lowest)
    }
    if (this.next > this.last) return undefined
    return domainId(this.next++)
  }

  release(id: DomainId): void {
    this.free.add(id)
  }

  fork(): DomainIdAllocator {
    return new DomainIdAllocator(this.next, new Set(this.free), this.last)
  }

  snapshot(): unknown {
    return [this.next, [...this.free].sort((a, b) => a - b)]
  }
}
