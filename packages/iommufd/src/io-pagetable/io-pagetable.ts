/**
 * One IO address space (IOAS): its areas, the domains that are kept in step with it, and the accesses to it.
 *
 * Linux drivers/iommu/iommufd/io_pagetable.c, `struct io_pagetable`. A refused operation leaves everything as it was,
 * unless it says otherwise.
 *
 * @packageDocumentation
 */
import type { AddressRange, DomainNumber, PagingDomain } from '../backend.js'
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { createArea, lastAddress, partOf } from './area.js'
import type { Area, AreaPart } from './area.js'
import { AttachedAccesses } from './attached-access.js'
import type { AttachedAccess } from './attached-access.js'
import { coverage, cutArea } from './area-parts.js'
import { changeProcess } from './change-process.js'
import type { Dmabuf, DmabufImporter } from './dmabuf.js'
import { DomainSet, smallestPage } from './domain-set.js'
import { IovaSpace } from './iova-space.js'
import type { AreaView, CopyAreas, MapDmabuf, MapSource, Placement } from './map-request.js'
import { partOfDmabuf, partOfSource } from './mapped-part.js'
import type { Pages } from './pages.js'
import type { PinEnvironment } from './pin-environment.js'
import { selectAreas } from './unmapping.js'
import type { Unmapped } from './unmapping.js'

export type { AreaView, CopyAreas, MapDmabuf, MapSource } from './map-request.js'
export type { Unmapped }

const pageBytes = 4096n

/** See the file's comment. */
export class IoPagetable implements DmabufImporter {
  #space = IovaSpace.create()
  #domains = DomainSet.create()
  #accesses = AttachedAccesses.create()
  #isHugePagesOn = true

  static readonly changeProcess = changeProcess

  static create(): IoPagetable {
    return new IoPagetable()
  }

  /** A copy. `memo`: what became of what was forked before; memory stays shared with the tables it was shared with. */
  fork(memo: Map<object, object>): IoPagetable {
    const known = memo.get(this)
    if (known !== undefined) return known as IoPagetable
    const forked = new IoPagetable()
    memo.set(this, forked)
    forked.#domains = this.#domains.fork()
    forked.#isHugePagesOn = this.#isHugePagesOn
    forked.#space = this.#space.fork((area) => {
      const memory = area.memory.fork(memo)
      if (memory.kind === 'dmabuf') memory.dmabuf.imported(forked)
      return { ...area, memory }
    })
    forked.#accesses = this.#accesses.fork(memo)
    return forked
  }

  /**
   * Plain data in a fixed order, for fingerprints.
   *
   * @param numbers - numbers memory: one map for all tables that share some
   */
  snapshot(numbers = new Map<object, number>()): unknown {
    return {
      alignment: this.alignment,
      isHugePagesOn: this.#isHugePagesOn,
      domains: this.domains,
      allowed: this.#space.allowed.map(({ first, last }) => [first, last]),
      reserved: this.#space.reserved.snapshot(),
      areas: Array.from(this.#space.areas, ({ memory, ...area }) => {
        const number = numbers.get(memory)
        if (number !== undefined) return { ...area, memory: number }
        numbers.set(memory, numbers.size)
        return { ...area, memory: memory.snapshot() }
      }),
    }
  }

  /** What addresses, lengths and offsets must be multiples of. */
  get alignment(): bigint {
    return this.#space.alignment
  }

  get isHugePagesOn(): boolean {
    return this.#isHugePagesOn
  }

  /** Whether there is no area. */
  get isEmpty(): boolean {
    return this.#space.areas.size === 0
  }

  get areas(): readonly AreaView[] {
    return Array.from(this.#space.areas, viewOf)
  }

  get domains(): readonly DomainNumber[] {
    return this.#domains.numbers
  }

  /** All areas that a range meets, in order. */
  areasIn({ first, last }: AddressRange): readonly AreaView[] {
    return this.#space.areas.in(first, last).map(viewOf)
  }

  /** The area that holds an IOVA. */
  areaAt(iova: bigint): AreaView | undefined {
    const area = this.#space.areas.at(iova)
    return area === undefined ? undefined : viewOf(area)
  }

  /** The areas themselves, from one IOVA to another, up to the first hole: for accesses. */
  adjoiningAreas(
    first: bigint,
    last: bigint,
  ): { readonly areas: readonly Area[]; readonly isCovered: boolean } {
    return coverage(this.#space.areas.in(first, last), first, last)
  }

  /** IOAS_IOVA_RANGES: all that is not reserved. */
  ranges(): AddressRange[] {
    return this.#space.reserved.holes
  }

  /** IOAS_ALLOW_IOVAS: replaces the list of what may be chosen; none: everything. EINVAL, EADDRINUSE. */
  allow(ranges: readonly { readonly start: bigint; readonly last: bigint }[]): Refusal | undefined {
    return this.#space.allow(ranges)
  }

  /** Keeps areas out of a range, until its owner lets go of it. EADDRINUSE. */
  reserve(owner: number | undefined, range: AddressRange): Refusal | undefined {
    return this.#space.reserve(owner, range)
  }

  releaseReserved(owner: number): void {
    this.#space.reserved.release(owner)
  }

  /** Maps memory of a process or a file. Returns where. */
  mapSource(env: PinEnvironment, request: MapSource): Outcome<bigint> {
    const part = partOfSource(request)
    return isRefusal(part) ? part : this.#map(env, [part], request)
  }

  /** Maps a part of a dma-buf. Returns where. */
  mapDmabuf(env: PinEnvironment, request: MapDmabuf): Outcome<bigint> {
    const part = partOfDmabuf(request)
    return isRefusal(part) ? part : this.#map(env, [part], request)
  }

  /** Why a range cannot be copied, whatever the target. EINVAL, EOVERFLOW, ENOENT. */
  checkCopy(first: bigint, length: bigint): Refusal | undefined {
    if (length === 0n) return refuse('copy-length', 'there is nothing to copy')
    const last = first + length - 1n
    if (last > lastAddress)
      return refuse('copy-source-wraps', `0x${first.toString(16)} is too high for the length`)
    return this.adjoiningAreas(first, last).isCovered
      ? undefined
      : refuse(
          'copy-source-unmapped',
          `0x${first.toString(16)}-0x${last.toString(16)} is not mapped throughout`,
        )
  }

  /** Maps the memory behind a range of this IOAS into another, or once more into this. Returns where. */
  copyTo(env: PinEnvironment, target: IoPagetable, request: CopyAreas): Outcome<bigint> {
    const { from, length, to, readable, writeable } = request
    const refused = this.checkCopy(from, length)
    if (refused !== undefined) return refused
    const last = from + length - 1n
    const parts = this.adjoiningAreas(from, last).areas.map((area) =>
      partOf(area, area.first < from ? from : area.first, area.last > last ? last : area.last),
    )
    return target.#map(env, parts, { length, iova: to, readable, writeable })
  }

  /**
   * Unmaps the areas in a range, in order. At an area that cannot be unmapped it stops: those before it are gone, and if
   * there were any, the value says why it stopped. EINVAL, EOVERFLOW, ENOENT, EBUSY, EDEADLK.
   */
  unmap(env: PinEnvironment, first: bigint, length: bigint): Outcome<Unmapped> {
    if (length === 0n) return refuse('unmap-length', 'there is nothing to unmap')
    const last = first + length - 1n
    if (last > lastAddress) return refuse('iova-wraps', `0x${first.toString(16)} is too high for the length`)
    if (!this.#space.areas.meets(first, last))
      return refuse('unmap-nothing', `there is no area in 0x${first.toString(16)}-0x${last.toString(16)}`)
    return this.#unmap(env, first, last)
  }

  /** Unmaps all areas, if there are any. EBUSY, EDEADLK, as {@link unmap}. */
  unmapAll(env: PinEnvironment): Outcome<Unmapped> {
    return this.#unmap(env, 0n, lastAddress)
  }

  /**
   * Cuts the area that holds an IOVA behind it, for VFIO type 1. Nothing there, or its first or last byte: nothing is
   * done. EBUSY, EINVAL, EOPNOTSUPP.
   */
  cutBehind(last: bigint): Refusal | undefined {
    const { areas, alignment } = this.#space
    const area = areas.at(last)
    if (area === undefined || last === area.first || last === area.last) return undefined
    const isMappedHuge = this.#isHugePagesOn && !this.#domains.isEmpty
    const parts = cutArea(area, last, { alignment, isMappedHuge })
    if (isRefusal(parts)) return parts
    areas.remove(area)
    for (const part of parts) areas.add(part)
    return undefined
  }

  /** OPTION HUGE_PAGES. Off: areas are aligned to pages, and mapped by pages of the processor. EINVAL, EADDRINUSE. */
  setHugePages(isOn: boolean): Refusal | undefined {
    if (isOn === this.#isHugePagesOn) return undefined
    if (!isOn && !this.#domains.isEmpty && !this.isEmpty)
      return refuse('huge-pages-in-use', 'there are areas in a page table')
    this.#isHugePagesOn = isOn
    const refused = this.#align()
    if (refused !== undefined) this.#isHugePagesOn = !isOn
    return refused
  }

  /** Puts a domain on the IOAS: what it cannot map is reserved for `owner`, and all areas are mapped. EINVAL, EADDRINUSE, and as mapping. */
  addDomain(env: PinEnvironment, domain: PagingDomain, owner: number): Outcome<undefined> {
    const smallest = smallestPage(domain)
    if (smallest > pageBytes)
      return refuse('domain-page-size', `the smallest page has ${smallest.toString()} bytes`)
    const alignment = this.alignment
    const { reserved } = this.#space
    const before = reserved.countOf(owner)
    const refused =
      (smallest > alignment ? this.#space.align(smallest) : undefined) ??
      this.#reserveOutside(domain.aperture, owner)
    const done = refused ?? this.#domains.add(env, domain, [...this.#space.areas], this.#isHugePagesOn)
    if (done.ok) return done
    reserved.keep(owner, before)
    this.#space.align(alignment)
    return done
  }

  /** Takes a domain off: its areas are unmapped, and pages that nobody uses are let go. */
  removeDomain(env: PinEnvironment, domain: DomainNumber, owner: number): Outcome<undefined> {
    const done = this.#domains.remove(env, domain, [...this.#space.areas])
    if (!done.ok) return done
    this.releaseReserved(owner)
    this.#align()
    return done
  }

  /** An access comes. EADDRINUSE: areas are not aligned as it needs. */
  addAccess(access: AttachedAccess): Refusal | undefined {
    this.#accesses.add(access)
    const refused = this.#align()
    if (refused !== undefined) this.#accesses.remove(access)
    return refused
  }

  removeAccess(access: AttachedAccess): void {
    this.#accesses.remove(access)
    this.#align()
  }

  /** A dma-buf is taken back: its areas stay, with nothing behind them. */
  revoked(env: PinEnvironment, dmabuf: Dmabuf): Refusal | undefined {
    const areas = Array.from(this.#space.areas).filter(
      ({ memory }) => memory.kind === 'dmabuf' && memory.dmabuf === dmabuf,
    )
    const done = this.#domains.unmap(env, areas)
    return done.ok ? undefined : done
  }

  /** Whether all areas are of files, and not dma-bufs. */
  get isOfFiles(): boolean {
    for (const { memory } of this.#space.areas) if (memory.kind !== 'pages' || !memory.isFile) return false
    return true
  }

  /** The memory of all areas, each once: what it has pinned is in `pinnedRuns()`. */
  *pinnedPages(): Iterable<Pages> {
    const seen = new Set<Pages>()
    for (const { memory } of this.#space.areas) {
      if (memory.kind !== 'pages' || seen.has(memory)) continue
      seen.add(memory)
      yield memory
    }
  }

  #map(env: PinEnvironment, parts: readonly AreaPart[], placement: Placement): Outcome<bigint> {
    const first = this.#space.place(parts, placement)
    if (isRefusal(first)) return first
    let iova = first
    const areas = parts.map((part) => {
      const area = createArea(part, iova, placement)
      iova += part.length
      return area
    })
    const done = this.#domains.map(env, areas, this.#isHugePagesOn)
    if (!done.ok) return done
    for (const area of areas) {
      this.#space.areas.add(area)
      if (area.memory.kind === 'dmabuf') area.memory.dmabuf.imported(this)
    }
    return accept(first, done.effects)
  }

  #unmap(env: PinEnvironment, first: bigint, last: bigint): Outcome<Unmapped> {
    const { areas, stopped } = selectAreas(
      this.#space.areas.in(first, last),
      { first, last },
      (start, length) => this.#accesses.tellUnmapped(env, start, length),
    )
    if (areas.length === 0 && stopped !== undefined) return stopped
    const done = this.#domains.unmap(env, areas)
    if (!done.ok) return done
    for (const area of areas) {
      this.#space.areas.remove(area)
      if (area.memory.kind === 'dmabuf') area.memory.dmabuf.dropped(this)
    }
    const bytes = areas.reduce((sum, area) => sum + (area.last - area.first + 1n), 0n)
    return accept(stopped === undefined ? { bytes } : { bytes, refused: stopped }, done.effects)
  }

  #reserveOutside({ first, last }: AddressRange, owner: number): Refusal | undefined {
    return (
      (first > 0n ? this.reserve(owner, { first: 0n, last: first - 1n }) : undefined) ??
      (last < lastAddress ? this.reserve(owner, { first: last + 1n, last: lastAddress }) : undefined)
    )
  }

  /** Works out the alignment again. EADDRINUSE: an area does not have it. */
  #align(): Refusal | undefined {
    const needs = [this.#domains.smallestPage, this.#accesses.alignment]
    let alignment = this.#isHugePagesOn ? 1n : pageBytes
    for (const need of needs) if (need > alignment) alignment = need
    return this.#space.align(alignment)
  }
}

const viewOf = ({ first, last, readable, writeable }: Area): AreaView => ({
  iova: first,
  length: last - first + 1n,
  readable,
  writeable,
})
