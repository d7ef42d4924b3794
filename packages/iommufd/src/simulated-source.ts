/**
 * Memory that can be pinned, of a simulated process or file.
 *
 * @packageDocumentation
 */
import { pageBytes } from './process.js'
import type { PageSource, PhysicalRun, PinFailure } from './process.js'
import type { PhysicalBlock } from './simulated-host.js'

/** Contiguous pages of a block. */
export interface BlockPages {
  readonly block: PhysicalBlock
  /** Number in the block. */
  readonly page: number
  readonly pages: number
}

/** Where pages are now. */
export interface PagesAt {
  /** From one page on, as many as are contiguous; or why it cannot be used. */
  pagesFrom(page: number, writes: boolean): BlockPages | PinFailure
  fork(memo: Map<object, object>): PagesAt
}

/** Pages that are pinned. */
interface Held extends BlockPages {
  /** Number in the source. */
  readonly first: number
}

/** See the file's comment. What is pinned is used where it was, whatever becomes of the process. */
export class SimulatedSource implements PageSource {
  readonly #memory: PagesAt
  readonly #start: number
  readonly #pages: number
  #held: Held[] = []

  /** @param start - number of the first page in the memory */
  constructor(memory: PagesAt, start: number, pages: number) {
    this.#memory = memory
    this.#start = start
    this.#pages = pages
  }

  fork(memo: Map<object, object>): SimulatedSource {
    const known = memo.get(this)
    if (known !== undefined) return known as SimulatedSource
    const forked = new SimulatedSource(this.#memory.fork(memo), this.#start, this.#pages)
    memo.set(this, forked)
    forked.#held = this.#held.map((held) => ({ ...held, block: held.block.fork(memo) }))
    return forked
  }

  pin(first: number, count: number, writes: boolean): readonly PhysicalRun[] | PinFailure {
    this.#checkSpan(first, count)
    const found: Held[] = []
    for (let next = first; next < first + count;) {
      const at = this.#memory.pagesFrom(this.#start + next, writes)
      if (typeof at === 'string') return at
      const pages = Math.min(at.pages, first + count - next)
      found.push({ ...at, pages, first: next })
      next += pages
    }
    for (const { block, page, pages } of found) block.addPins(page, pages, 1)
    this.#held.push(...found)
    return found.map(({ block, page, pages }) => ({
      first: BigInt(block.first + page) * BigInt(pageBytes),
      pages,
    }))
  }

  unpin(first: number, count: number): void {
    this.#checkSpan(first, count)
    const end = first + count
    const kept: Held[] = []
    let released = 0
    for (const held of this.#held) {
      const from = Math.max(first, held.first)
      const to = Math.min(end, held.first + held.pages)
      if (from >= to) {
        kept.push(held)
        continue
      }
      held.block.addPins(held.page + from - held.first, to - from, -1)
      released += to - from
      if (from > held.first) kept.push({ ...held, pages: from - held.first })
      const behind = held.first + held.pages - to
      if (behind > 0) kept.push({ ...held, first: to, page: held.page + to - held.first, pages: behind })
    }
    if (released !== count) throw new RangeError(`${count - released} of ${count} pages were not pinned`)
    this.#held = kept
  }

  read(offset: number, into: Uint8Array): boolean {
    return this.#eachPage(offset, into, false, (at, within, bytes) => at.block.read(at.page, within, bytes))
  }

  write(offset: number, from: Uint8Array): boolean {
    return this.#eachPage(offset, from, true, (at, within, bytes) => at.block.write(at.page, within, bytes))
  }

  #eachPage(
    offset: number,
    bytes: Uint8Array,
    writes: boolean,
    copy: (at: BlockPages, within: number, bytes: Uint8Array) => void,
  ): boolean {
    for (let done = 0; done < bytes.length;) {
      const page = Math.floor((offset + done) / pageBytes)
      const within = (offset + done) % pageBytes
      const at = this.#pageAt(page, writes)
      if (at === undefined) return false
      const length = Math.min(pageBytes - within, bytes.length - done)
      copy(at, within, bytes.subarray(done, done + length))
      done += length
    }
    return true
  }

  #pageAt(page: number, writes: boolean): BlockPages | undefined {
    const held = this.#held.find(({ first, pages }) => page >= first && page < first + pages)
    if (held !== undefined) return { ...held, page: held.page + page - held.first }
    const at = this.#memory.pagesFrom(this.#start + page, writes)
    return typeof at === 'string' ? undefined : at
  }

  #checkSpan(first: number, count: number): void {
    if (first < 0 || count < 1 || first + count > this.#pages)
      throw new RangeError(`${count} pages from page ${first} on are not in ${this.#pages} pages`)
  }
}
