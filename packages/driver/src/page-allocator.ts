/**
 * Pages for tables and rings, out of the memory that the driver was given. Deterministic: fresh pages ascend, and the
 * page freed last is handed out first.
 *
 * @packageDocumentation
 */
import { spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'

export const pageBytes = 4096n

/** Memory that belongs to the driver alone. */
export interface PageRange {
  /** A multiple of 4096. */
  readonly first: Spa
  readonly pages: number
}

/** See the file's comment. */
export class PageAllocator {
  private constructor(
    private next: bigint,
    private readonly end: bigint,
    private readonly freed: Spa[],
  ) {}

  static create(range: PageRange): PageAllocator {
    if (range.first % pageBytes !== 0n || !Number.isInteger(range.pages) || range.pages < 1) {
      throw new RangeError(`no page range: ${range.pages} pages from 0x${range.first.toString(16)}`)
    }
    return new PageAllocator(range.first, range.first + BigInt(range.pages) * pageBytes, [])
  }

  /** A page, or `undefined` when there is none left. Its contents are what its last owner left. */
  take(): Spa | undefined {
    return this.freed.pop() ?? this.takeRun(1)
  }

  /** `count` pages in a row, or `undefined`. */
  takeRun(count: number): Spa | undefined {
    const first = this.next
    if (first + BigInt(count) * pageBytes > this.end) return undefined
    this.next = first + BigInt(count) * pageBytes
    return spa(first)
  }

  free(page: Spa): void {
    this.freed.push(page)
  }

  fork(): PageAllocator {
    return new PageAllocator(this.next, this.end, [...this.freed])
  }

  /** What the future depends on, as plain data. */
  snapshot(): unknown {
    return [this.next, this.freed]
  }
}
