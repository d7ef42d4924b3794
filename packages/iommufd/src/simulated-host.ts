/**
 * Memory of a machine that is simulated: physical pages with their contents and reference counts, and files in memory.
 *
 * @packageDocumentation
 */
import type { ForeignFile, PageSource } from './process.js'
import { pageBytes } from './process.js'
import { SimulatedSource } from './simulated-source.js'
import type { PagesAt } from './simulated-source.js'

/** Pages of one piece are physically contiguous; between pieces there is a gap. */
const gapPages = 1

const hugePages = 512

interface Content {
  readonly bytes: Uint8Array
  /** Who may write into it; `undefined`: shared with a fork. */
  readonly owner: PhysicalBlock | undefined
}

/** Contiguous pages: zero at first, and stored once they are written. */
export class PhysicalBlock {
  /** Number of the first page. */
  readonly first: number
  readonly pages: number
  readonly isHuge: boolean
  #pins: Uint32Array | undefined
  readonly #contents = new Map<number, Content>()

  constructor(first: number, pages: number, isHuge: boolean) {
    this.first = first
    this.pages = pages
    this.isHuge = isHuge
  }

  /** Contents are copied when one of the two writes. */
  fork(memo: Map<object, object>): PhysicalBlock {
    const known = memo.get(this)
    if (known !== undefined) return known as PhysicalBlock
    const forked = new PhysicalBlock(this.first, this.pages, this.isHuge)
    memo.set(this, forked)
    forked.#pins = this.#pins?.slice()
    for (const [page, { bytes }] of this.#contents) {
      const shared = { bytes, owner: undefined }
      this.#contents.set(page, shared)
      forked.#contents.set(page, shared)
    }
    return forked
  }

  pinsOf(page: number): number {
    return this.#pins?.[page] ?? 0
  }

  /** All pins of all pages. */
  get pinned(): number {
    return this.#pins?.reduce((sum, pins) => sum + pins, 0) ?? 0
  }

  addPins(page: number, pages: number, pins: 1 | -1): void {
    this.#pins ??= new Uint32Array(this.pages)
    for (let i = page; i < page + pages; i++) {
      const count = (this.#pins[i] ?? 0) + pins
      if (count < 0) throw new RangeError(`page ${this.first + i} is not pinned`)
      this.#pins[i] = count
    }
  }

  /** Copies out of one page. */
  read(page: number, offset: number, into: Uint8Array): void {
    const content = this.#contents.get(page)
    if (content === undefined) into.fill(0)
    else into.set(content.bytes.subarray(offset, offset + into.length))
  }

  /** Copies into one page. */
  write(page: number, offset: number, from: Uint8Array): void {
    let content = this.#contents.get(page)
    if (content?.owner !== this) {
      content = { bytes: content?.bytes.slice() ?? new Uint8Array(pageBytes), owner: this }
      this.#contents.set(page, content)
    }
    content.bytes.set(from, offset)
  }
}

/** Physical memory, of which no page is ever used twice. */
export class SimulatedHost {
  readonly #blocks: PhysicalBlock[] = []
  #nextPage: number
  #nextKey = 1

  private constructor(firstPage: number) {
    this.#nextPage = firstPage
  }

  /** @param first - physical address from which on pages are given out: a multiple of 4096. Default: 1 MiB */
  static create({ first = 0x10_0000n }: { readonly first?: bigint } = {}): SimulatedHost {
    return new SimulatedHost(Number(first / BigInt(pageBytes)))
  }

  /** Fork it before its processes and files, with the same `memo`. */
  fork(memo: Map<object, object>): SimulatedHost {
    const known = memo.get(this)
    if (known !== undefined) return known as SimulatedHost
    const forked = new SimulatedHost(this.#nextPage)
    memo.set(this, forked)
    for (const block of this.#blocks) forked.#blocks.push(block.fork(memo))
    forked.#nextKey = this.#nextKey
    return forked
  }

  /** A key for one more address space. */
  takeKey(): number {
    return this.#nextKey++
  }

  /** Contiguous pages. `huge`: from a multiple of 2 MiB on. */
  allocate(pages: number, huge = false): PhysicalBlock {
    if (!Number.isSafeInteger(pages) || pages < 1) throw new RangeError(`${pages} pages cannot be allocated`)
    const first = huge ? Math.ceil(this.#nextPage / hugePages) * hugePages : this.#nextPage
    this.#nextPage = first + pages + gapPages
    const block = new PhysicalBlock(first, pages, huge)
    this.#blocks.push(block)
    return block
  }

  /** A file in memory, as memfd_create(2) makes. */
  createFile(size: number, { huge = false } = {}): SimulatedFile {
    return new SimulatedFile(this.allocate(Math.max(Math.ceil(size / pageBytes), 1), huge), size)
  }

  /** How often the page at a physical address is pinned. */
  pinsAt(physical: bigint): number {
    const page = Number(physical / BigInt(pageBytes))
    const block = this.#blocks.find(({ first, pages }) => page >= first && page < first + pages)
    return block?.pinsOf(page - block.first) ?? 0
  }

  /** All pins of all pages. */
  get pinned(): number {
    return this.#blocks.reduce((sum, block) => sum + block.pinned, 0)
  }
}

/** A file in memory. Its size can shrink, and grow again. */
export class SimulatedFile implements ForeignFile, PagesAt {
  readonly kind = 'shared-memory'
  readonly block: PhysicalBlock
  #size: number

  constructor(block: PhysicalBlock, size: number) {
    this.block = block
    this.#size = size
  }

  fork(memo: Map<object, object>): SimulatedFile {
    const known = memo.get(this)
    if (known !== undefined) return known as SimulatedFile
    const forked = new SimulatedFile(this.block.fork(memo), this.#size)
    memo.set(this, forked)
    return forked
  }

  get size(): number {
    return this.#size
  }

  /** Sets the size, up to the pages that it was made with. */
  truncate(size: number): void {
    if (size > this.block.pages * pageBytes)
      throw new RangeError('the file cannot grow beyond its first size')
    this.#size = size
  }

  source(start: bigint, pages: number): PageSource {
    return new SimulatedSource(this, Number(start / BigInt(pageBytes)), pages)
  }

  pagesFrom(page: number): { block: PhysicalBlock; page: number; pages: number } | 'EINVAL' {
    const pages = Math.ceil(this.#size / pageBytes) - page
    return pages > 0 ? { block: this.block, page, pages } : 'EINVAL'
  }
}
