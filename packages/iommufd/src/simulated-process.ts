/**
 * A process that is simulated: for tests, and for whoever uses iommufd without real programs.
 *
 * @packageDocumentation
 */
import { pageBytes } from './process.js'
import type { AddressSpace, CallingProcess, Capabilities, ForeignFile, PageSource } from './process.js'
import type { SimulatedFile, SimulatedHost } from './simulated-host.js'
import { SimulatedSource } from './simulated-source.js'
import type { BlockPages, PagesAt } from './simulated-source.js'

export { SimulatedFile, SimulatedHost } from './simulated-host.js'

const page = BigInt(pageBytes)
const pageBits = 12

/** Where a process' automatic mappings begin. */
const firstAutomatic = 0x7000_0000_0000n

const hugeBytes = 0x20_0000n

interface Mapping extends BlockPages {
  /** Number of the first page in the address space. */
  readonly first: number
  readonly writeable: boolean
}

export interface MapOptions {
  /** Where; a multiple of 4096. Default: above all that was mapped so. */
  readonly address?: bigint
  /** Default: true. */
  readonly writeable?: boolean
  /** By pages of 2 MiB. */
  readonly huge?: boolean
}

/** Memory of a simulated process, sparse: pages that were not written take no room. */
export class SimulatedMemory implements AddressSpace, PagesAt {
  readonly key: number
  readonly #host: SimulatedHost
  /** In order. */
  #mappings: readonly Mapping[] = []
  #next = firstAutomatic

  constructor(host: SimulatedHost, key = host.takeKey()) {
    this.#host = host
    this.key = key
  }

  fork(memo: Map<object, object>): SimulatedMemory {
    const known = memo.get(this)
    if (known !== undefined) return known as SimulatedMemory
    const forked = new SimulatedMemory(this.#host.fork(memo), this.key)
    memo.set(this, forked)
    forked.#mappings = this.#mappings.map((mapping) => ({ ...mapping, block: mapping.block.fork(memo) }))
    forked.#next = this.#next
    return forked
  }

  /** Maps fresh contiguous pages, with bytes in the first of them or so many bytes of zeros. Returns the address. */
  map(contents: Uint8Array | number, { address, writeable = true, huge = false }: MapOptions = {}): bigint {
    const length = typeof contents === 'number' ? contents : contents.length
    const at = address ?? this.#automatic(length, huge)
    const block = this.#host.allocate(Math.ceil(length / pageBytes), huge)
    this.#add({ block, page: 0, pages: block.pages, first: numberOf(at), writeable })
    if (typeof contents !== 'number') this.#copy(at, contents, false, (...to) => writeTo(...to))
    return at
  }

  /** Maps a file, shared, from a page of it on. Returns the address. */
  mapFile(
    file: SimulatedFile,
    pages: number,
    options: MapOptions & { readonly firstPage?: number } = {},
  ): bigint {
    const { address, writeable = true, firstPage = 0 } = options
    const at = address ?? this.#automatic(pages * pageBytes, file.block.isHuge)
    this.#add({ block: file.block, page: firstPage, pages, first: numberOf(at), writeable })
    return at
  }

  /** Unmaps pages, mapped or not. */
  unmap(address: bigint, pages: number): void {
    const from = numberOf(address)
    const to = from + pages
    this.#mappings = this.#mappings.flatMap((mapping) => {
      const end = mapping.first + mapping.pages
      if (mapping.first >= to || end <= from) return [mapping]
      const left = { ...mapping, pages: from - mapping.first }
      const right = { ...mapping, first: to, page: mapping.page + to - mapping.first, pages: end - to }
      return [left, right].filter((rest) => rest.pages > 0)
    })
  }

  /** The process has gone, and all its mappings with it. */
  clear(): void {
    this.#mappings = []
  }

  read(address: bigint, into: Uint8Array): boolean {
    return this.#copy(address, into, false, ({ block, page }, within, bytes) =>
      block.read(page, within, bytes),
    )
  }

  write(address: bigint, from: Uint8Array): boolean {
    return this.#copy(address, from, true, (...to) => writeTo(...to))
  }

  source(address: bigint, pages: number): PageSource {
    return new SimulatedSource(this, Number(address / page), pages)
  }

  lookUp(address: bigint): { readonly physical: bigint; readonly isHugePage: boolean } | undefined {
    const at = this.pagesFrom(Number(address / page), false)
    if (typeof at === 'string') return undefined
    const physical = BigInt(at.block.first + at.page) * page + (address % page)
    return { physical, isHugePage: at.block.isHuge }
  }

  pagesFrom(number: number, writes: boolean): BlockPages | 'EFAULT' {
    const mapping = this.#mappings.find(({ first, pages }) => number >= first && number < first + pages)
    if (mapping === undefined || (writes && !mapping.writeable)) return 'EFAULT'
    const skip = number - mapping.first
    return { block: mapping.block, page: mapping.page + skip, pages: mapping.pages - skip }
  }

  #copy(
    address: bigint,
    bytes: Uint8Array,
    writes: boolean,
    copy: (at: BlockPages, within: number, bytes: Uint8Array) => void,
  ): boolean {
    for (let done = 0; done < bytes.length;) {
      const byte = done === 0 ? address : address + BigInt(done)
      const within = Number(BigInt.asUintN(pageBits, byte))
      const at = this.pagesFrom(Number(byte >> BigInt(pageBits)), writes)
      if (typeof at === 'string') return false
      const length = Math.min(pageBytes - within, bytes.length - done)
      copy(at, within, length === bytes.length ? bytes : bytes.subarray(done, done + length))
      done += length
    }
    return true
  }

  #add(mapping: Mapping): void {
    this.unmap(BigInt(mapping.first) * page, mapping.pages)
    this.#mappings = [...this.#mappings, mapping].sort((a, b) => a.first - b.first)
  }

  /** Pages from a fresh address on, with one free behind them. */
  #automatic(length: number, huge: boolean): bigint {
    const unit = huge ? hugeBytes : page
    const at = ((this.#next + unit - 1n) / unit) * unit
    this.#next = at + (BigInt(length) / page + 2n) * page
    return at
  }
}

function writeTo({ block, page: number }: BlockPages, within: number, bytes: Uint8Array): void {
  block.write(number, within, bytes)
}

function numberOf(address: bigint): number {
  if (address % page !== 0n) throw new RangeError(`0x${address.toString(16)} is not a multiple of 4096`)
  return Number(address / page)
}

export interface ProcessOptions {
  /** Default: 0. */
  readonly uid?: number
  /** Default: all. */
  readonly capabilities?: Capabilities
  /** RLIMIT_MEMLOCK. Default: 8 MiB. */
  readonly lockableBytes?: bigint
}

/** See the file's comment. `F`: our open files. */
export class SimulatedProcess<F = unknown> implements CallingProcess<F> {
  readonly uid: number
  capabilities: Capabilities
  lockableBytes: bigint
  readonly memory: SimulatedMemory
  readonly #files = new Map<number, F | ForeignFile>()

  private constructor(memory: SimulatedMemory, options: ProcessOptions) {
    this.memory = memory
    this.uid = options.uid ?? 0
    this.capabilities = options.capabilities ?? { ipcLock: true, sysResource: true, rawIo: true }
    this.lockableBytes = options.lockableBytes ?? 0x80_0000n
  }

  static create<F = unknown>(host: SimulatedHost, options: ProcessOptions = {}): SimulatedProcess<F> {
    return new SimulatedProcess<F>(new SimulatedMemory(host), options)
  }

  /** `forkFile`: what became of an open file. Default: it is the same for both. */
  fork(
    memo: Map<object, object>,
    forkFile: (file: F | ForeignFile) => F | ForeignFile = (file) => file,
  ): SimulatedProcess<F> {
    const { uid, capabilities, lockableBytes } = this
    const forked = new SimulatedProcess<F>(this.memory.fork(memo), { uid, capabilities, lockableBytes })
    for (const [descriptor, file] of this.#files) forked.#files.set(descriptor, forkFile(file))
    return forked
  }

  /** The lowest free descriptor, from 3 on, stands for a file from now on. */
  open(file: F | ForeignFile): number {
    let descriptor = 3
    while (this.#files.has(descriptor)) descriptor++
    this.#files.set(descriptor, file)
    return descriptor
  }

  close(descriptor: number): void {
    this.#files.delete(descriptor)
  }

  file(descriptor: number): F | ForeignFile | undefined {
    return this.#files.get(descriptor)
  }

  /** It has gone: its memory is no longer there, but where it is pinned. */
  kill(): void {
    this.memory.clear()
    this.#files.clear()
  }
}
