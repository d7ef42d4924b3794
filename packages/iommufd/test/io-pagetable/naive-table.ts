/** The slow twin of an IO address space: lists that are searched from end to end, and sets of pages. */
import { last64 } from './world.js'

interface Range {
  readonly first: bigint
  readonly last: bigint
}

export interface NaiveArea extends Range {
  /** Which mapping of memory it shows; copies show the same. */
  readonly memory: { readonly address: bigint; readonly writeable: boolean }
  /** Address of the first byte. */
  readonly address: bigint
  readonly readable: boolean
  readonly writeable: boolean
}

const meets = (a: Range, b: Range): boolean => a.first <= b.last && b.first <= a.last

/** The holes that ranges leave of a range, by trying each place where one can begin. */
function holes(taken: readonly Range[], { first, last }: Range): Range[] {
  const starts = [first, ...taken.map((range) => range.last + 1n)]
    .filter((start) => start >= first && start <= last)
    .filter((start) => !taken.some((range) => range.first <= start && start <= range.last))
  const found = [...new Set(starts)].sort((a, b) => (a < b ? -1 : 1))
  return found.map((start) => {
    const ends = taken.filter((range) => range.first > start).map((range) => range.first - 1n)
    return { first: start, last: ends.reduce((a, b) => (a < b ? a : b), last) }
  })
}

/** What holes leave: ranges that overlap or adjoin, as one. */
const joined = (ranges: readonly Range[]): Range[] =>
  ranges.length === 0 ? [] : holes(holes(ranges, { first: 0n, last: last64 }), { first: 0n, last: last64 })

export class NaiveTable {
  areas: NaiveArea[] = []
  reserved: (Range & { readonly owner: number })[] = []
  allowed: Range[] = []
  /** Smallest page of each domain. */
  domains = new Map<number, bigint>()
  isHugePagesOn = true

  get alignment(): bigint {
    return [...this.domains.values(), this.isHugePagesOn ? 1n : 4096n].reduce((a, b) => (a > b ? a : b), 1n)
  }

  ranges(): Range[] {
    return holes(this.reserved, { first: 0n, last: last64 })
  }

  /** Pages that are pinned, of all mappings. */
  get pinned(): number {
    if (this.domains.size === 0) return 0
    const pages = new Map<object, Set<bigint>>()
    for (const area of this.areas) {
      const held = pages.get(area.memory) ?? new Set()
      pages.set(area.memory, held)
      for (let page = area.address >> 12n; page <= (area.address + area.last - area.first) >> 12n; page++)
        held.add(page)
    }
    return [...pages.values()].reduce((sum, held) => sum + held.size, 0)
  }

  map(area: Omit<NaiveArea, 'first' | 'last'>, length: bigint, iova: bigint | undefined): bigint | string {
    return this.#mapAll([{ ...area, first: 0n, last: length - 1n }], length, iova)
  }

  copy(
    from: bigint,
    length: bigint,
    rights: { readonly readable: boolean; readonly writeable: boolean },
    iova: bigint | undefined,
  ): bigint | string {
    const range = { first: from, last: from + length - 1n }
    const found = this.areas.filter((area) => meets(area, range))
    if (holes(found, range).length > 0) return 'ENOENT'
    const parts = found.map((area) => {
      const first = area.first > range.first ? area.first : range.first
      const last = area.last < range.last ? area.last : range.last
      return { ...area, ...rights, first, last, address: area.address + first - area.first }
    })
    return this.#mapAll(parts, length, iova)
  }

  unmap(first: bigint, length: bigint): bigint | string {
    const range = { first, last: first + length - 1n }
    const found = this.areas.filter((area) => meets(area, range))
    if (found.length === 0) return 'ENOENT'
    let bytes = 0n
    for (const area of found) {
      if (area.first < range.first || area.last > range.last) return 'ENOENT'
      this.areas = this.areas.filter((other) => other !== area)
      bytes += area.last - area.first + 1n
    }
    return bytes
  }

  allow(ranges: readonly Range[]): string | undefined {
    if (ranges.some((a, i) => a.first >= a.last || ranges.some((b, j) => i !== j && meets(a, b))))
      return 'EINVAL'
    if (ranges.some((a) => this.reserved.some((b) => meets(a, b)))) return 'EADDRINUSE'
    this.allowed = [...ranges]
    return undefined
  }

  reserve(owner: number, range: Range): string | undefined {
    if ([...this.areas, ...this.allowed].some((other) => meets(other, range))) return 'EADDRINUSE'
    this.reserved.push({ ...range, owner })
    return undefined
  }

  release(owner: number): void {
    this.reserved = this.reserved.filter((range) => range.owner !== owner)
  }

  addDomain(number: number, aperture: Range, smallest: bigint): string | undefined {
    const outside = holes([aperture], { first: 0n, last: last64 })
    const isAligned = (area: NaiveArea): boolean =>
      [area.first, area.last + 1n, area.address % 4096n].every((value) => value % smallest === 0n)
    if (smallest > this.alignment && !this.areas.every(isAligned)) return 'EADDRINUSE'
    if ([...this.areas, ...this.allowed].some((range) => outside.some((out) => meets(out, range))))
      return 'EADDRINUSE'
    this.domains.set(number, smallest)
    this.reserved.push(...outside.map((range) => ({ ...range, owner: number })))
    return undefined
  }

  removeDomain(number: number): void {
    this.domains.delete(number)
    this.release(number)
  }

  setHugePages(isOn: boolean): string | undefined {
    if (isOn === this.isHugePagesOn) return undefined
    if (!isOn && this.domains.size > 0 && this.areas.length > 0) return 'EINVAL'
    const isAligned = ({ first, last, address }: NaiveArea): boolean =>
      [first, last + 1n, address].every((value) => value % 4096n === 0n)
    if (!isOn && !this.areas.every(isAligned)) return 'EADDRINUSE'
    this.isHugePagesOn = isOn
    return undefined
  }

  #mapAll(parts: readonly NaiveArea[], length: bigint, iova: bigint | undefined): bigint | string {
    const first = this.#place(parts, length, iova)
    if (typeof first === 'string') return first
    let next = first
    for (const part of parts) {
      const last = next + part.last - part.first
      this.areas.push({ ...part, first: next, last })
      next = last + 1n
    }
    this.areas.sort((a, b) => (a.first < b.first ? -1 : 1))
    return first
  }

  #place(parts: readonly NaiveArea[], length: bigint, iova: bigint | undefined): bigint | string {
    if (length % this.alignment !== 0n) return 'EINVAL'
    const first = iova ?? this.#choose(parts[0]?.address ?? 0n, length)
    if (typeof first === 'string') return first
    const range = { first, last: first + length - 1n }
    if (first % this.alignment !== 0n) return 'EINVAL'
    if (range.last > last64) return 'EOVERFLOW'
    if (this.reserved.some((other) => meets(other, range))) return 'EINVAL'
    if (this.areas.some((other) => meets(other, range))) return 'EEXIST'
    for (const part of parts) {
      if (part.writeable && !part.memory.writeable) return 'EPERM'
      if ((part.address % 4096n) % this.alignment !== 0n) return 'EINVAL'
    }
    return first
  }

  #choose(address: bigint, length: bigint): bigint | string {
    let alignment = 1n
    while (
      alignment < length &&
      alignment < 0x20_0000n &&
      (address === 0n || address % (2n * alignment) === 0n)
    )
      alignment *= 2n
    if (alignment < this.alignment) return 'EINVAL'
    const fit = ({ first, last }: Range): bigint | undefined => {
      const iova = (((first + alignment - 1n) / alignment) * alignment) | (address % 4096n)
      return iova < last && iova + length - 1n <= last ? iova : undefined
    }
    const all = { first: 4096n, last: last64 - 4096n }
    for (const open of this.allowed.length === 0 ? [all] : joined(this.allowed)) {
      const span = {
        first: open.first > all.first ? open.first : all.first,
        last: open.last < all.last ? open.last : all.last,
      }
      const start = fit(span)
      if (start === undefined) continue
      for (const hole of holes([...this.areas, ...this.reserved], { first: start, last: span.last })) {
        const found = fit(hole)
        if (found !== undefined) return found
      }
    }
    return 'ENOSPC'
  }
}
