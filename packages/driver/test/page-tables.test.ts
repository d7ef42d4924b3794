import { decode, encode, hex, iova, parseHex, parseHexNumber, spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import { guestEntryLayout, guestLeaf2MLayout, nestingFeatures, store64 } from '@nestwalk/hardware'
import type { Translation } from '@nestwalk/hardware'
import { guestFormat, hostFormat } from '@nestwalk/driver'
import type { Outcome } from '@nestwalk/driver'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import vectors from '@nestwalk/hardware/vectors/table-entries.json' with { type: 'json' }
import { Machine, readWrite } from './machine.js'
import type { MachineOptions } from './machine.js'
import { runs } from './runs.js'

const deviceId = 0x18
const [readOnly, writeOnly] = [
  { read: true, write: false },
  { read: false, write: true },
]

describe('host entries are those of the vectors', () => {
  const words = (name: string): bigint =>
    parseHex(vectors.vectors.find((each) => each.name === name)!.words[0]!)
  const sizes: Readonly<Record<string, number>> = { '4 KiB': 12, '2 MiB': 21, '1 GiB': 30 }

  it.each(vectors.vectors.filter((each) => each.layout === 'hostDirectory'))('$name', ({ words, fields }) => {
    const { table, nextLevel } = fields as { table: string; nextLevel: string }
    const entry = parseHex(words[0]!)
    expect(hostFormat.pointer(spa(parseHex(table)), parseHexNumber(nextLevel))).toBe(entry)
    const parsed = { kind: 'table', table: parseHex(table), level: parseHexNumber(nextLevel) }
    expect(hostFormat.parse(entry, 4)).toEqual(parsed)
  })

  // Linux forces coherence in every leaf, and writes neither A nor D.
  const leaves = vectors.vectors.filter(
    ({ layout, fields }) => layout === 'hostLeaf' && 'forceCoherent' in fields && !('dirty' in fields),
  )
  it.each(leaves)('$name', ({ name, words, fields, ...rest }) => {
    const coded = 'block' in rest ? rest.block : undefined
    const sizeLog2 = coded?.sizeLog2 ?? sizes[name.slice(0, 5)]!
    const address = parseHex(coded?.base ?? (fields as { frame: string }).frame)
    const rights = { read: 'readAllowed' in fields, write: 'writeAllowed' in fields }
    const entry = parseHex(words[0]!)
    expect(hostFormat.leaf(address, sizeLog2, rights)).toBe(entry)
    const level = coded?.level ?? (sizeLog2 - 3) / 9
    expect(hostFormat.parse(entry, level)).toEqual({ kind: 'leaf', address, sizeLog2 })
  })

  it('parses an entry with A and D as the same leaf', () => {
    const parsed = { kind: 'leaf', address: 0x876543000n, sizeLog2: 12 }
    expect(hostFormat.parse(words('4 KiB leaf, IR IW FC, A and D'), 1)).toEqual(parsed)
  })

  it('parses an entry without PR as empty, whatever its other bits are', () => {
    expect(hostFormat.parse(0xffff_ffff_ffff_fffen, 2)).toEqual({ kind: 'empty' })
    expect(guestFormat.parse(0xffff_ffff_ffff_fffen, 2)).toEqual({ kind: 'empty' })
  })

  it('codes and parses every size but 512 GiB, which shipping hardware gets wrong', () => {
    const sizes = Array.from({ length: 40 }, (_, i) => 51 - i).filter((size) => size !== 39)
    expect(hostFormat.sizesLog2).toEqual(sizes)
    for (const sizeLog2 of sizes) {
      for (const address of [0n, (1n << 52n) - (1n << BigInt(sizeLog2))]) {
        const entry = hostFormat.leaf(address, sizeLog2, readWrite)
        const level = [48, 39, 30, 21, 12].findIndex((shift) => shift <= sizeLog2)
        expect(hostFormat.parse(entry, 5 - level)).toEqual({ kind: 'leaf', address, sizeLog2 })
      }
    }
  })
})

describe('guest entries are those of the vectors', () => {
  it('a 4 KiB leaf has P, R/W, U/S, A and D', () => {
    expect(guestFormat.leaf(0x1234000n, 12, readWrite)).toBe(0x1234067n)
  })

  it('a 2 MiB leaf has PS besides; Linux presets A and D', () => {
    const entry = guestFormat.leaf(0x40200000n, 21, readWrite)
    const shown = { accessed: false, dirty: false }
    expect(encode(guestLeaf2MLayout, shown, BigUint64Array.of(entry))).toEqual(BigUint64Array.of(0x40200087n))
  })

  it('a leaf without the right to write has neither R/W nor D', () => {
    const { writable, dirty } = decode(
      guestEntryLayout,
      BigUint64Array.of(guestFormat.leaf(0n, 12, readOnly)),
    )
    expect([writable, dirty]).toEqual([false, false])
  })

  it('a directory entry is that of the walk example', () => {
    expect(guestFormat.pointer(spa(0x12000n), 3)).toBe(0x12027n)
  })

  it('the GCR3 entry of PASID 0 has the top table and V', () => {
    const machine = Machine.create()
    const number = machine.run(machine.driver.allocateGuestTable())
    machine.run(machine.driver.probe(0x18, 1))
    machine.run(machine.driver.attach(0x18, number))
    const domain = machine.driver.domain(number)
    if (domain?.kind !== 'guest-table') throw new Error('no guest table')
    expect(machine.load(machine.driver.gcr3Tables[0]!.root)).toBe(domain.root | 1n)
  })
})

type Kind = 'host' | 'guest 4' | 'guest 5'

/** All addresses are memory, the HyperTransport hole too. */
const features = { ...nestingFeatures, efr2: nestingFeatures.efr2 | (1n << 11n) }

/** A device on one domain of a kind. */
class Bench {
  readonly machine: Machine
  readonly domain: number

  constructor(
    readonly kind: Kind,
    options: MachineOptions = {},
  ) {
    this.machine = Machine.create({ features, ...options })
    const { driver } = this.machine
    this.machine.run(driver.probe(deviceId, 1))
    const levels = kind === 'guest 5' ? 5 : 4
    const made = kind === 'host' ? driver.allocateHostTable() : driver.allocateGuestTable({ levels })
    this.domain = this.machine.run(made)
    this.machine.run(driver.attach(deviceId, this.domain))
  }

  map(from: bigint, to: bigint, length: bigint, rights = readWrite): Outcome<undefined> {
    return this.machine.driver.map(this.domain, iova(from), to as Spa, length, rights)
  }

  unmap(from: bigint, length: bigint): Outcome<bigint> {
    return this.machine.driver.unmap(this.domain, iova(from), length)
  }

  walk(address: bigint, write = false): Translation {
    return this.machine.iommu.walkFresh({ deviceId, iova: address, write })
  }

  /** log2 of the size of the page at an address, as the chip walks it. */
  sizeAt(address: bigint): number | undefined {
    const walked = this.walk(address)
    return walked.kind === 'translated' ? walked.sizeLog2 : undefined
  }

  /** The entries of leaves and tables on the way to an address, read by hand. */
  path(address: bigint): { at: bigint; entry: bigint; level: number }[] {
    const domain = this.machine.driver.domain(this.domain)
    if (domain?.kind !== 'host-table') throw new Error('no host table')
    const path = []
    for (let table: bigint = domain.root, level = domain.mode; level > 0; level--) {
      const at = table + ((address >> BigInt(3 + 9 * level)) & 511n) * 8n
      const entry = this.machine.load(at)
      path.push({ at, entry, level })
      if ((entry & 1n) === 0n || ((entry >> 9n) & 7n) % 7n === 0n) break
      table = entry & 0xffffffffff000n
    }
    return path
  }
}

/** The largest page at an address, by trying all of them. */
function bestPage(from: bigint, to: bigint, length: bigint, sizes: readonly number[]): number {
  return Math.max(
    ...sizes.filter((size) => {
      const bytes = 1n << BigInt(size)
      return bytes <= length && from % bytes === 0n && to % bytes === 0n
    }),
  )
}

const hostSizes = Array.from({ length: 40 }, (_, i) => 12 + i).filter((size) => size !== 39)
const sizesOf = (kind: Kind): readonly number[] => (kind === 'host' ? hostSizes : [12, 21, 30])

/** Addresses around those where another table, level or sign begins. */
const edges = (widthBits: number): fc.Arbitrary<bigint> =>
  fc
    .tuple(fc.constantFrom(0, 21, 30, 39, 46, 48, 55, 57, 63), fc.integer({ min: -40, max: 40 }))
    .map(([bit, pages]) => {
      const edge = bit === 0 ? 0n : 1n << BigInt(Math.min(bit, widthBits - 1))
      return edge + BigInt(pages) * 4096n
    })
    .filter((address) => address >= 0n && address >> BigInt(widthBits) === 0n)

const pages = (max: number): fc.Arbitrary<bigint> => fc.integer({ min: 1, max }).map((n) => BigInt(n) * 4096n)

describe('the page size is the largest that address, target and length allow, never 512 GiB', () => {
  const large = fc.record({
    alignLog2: fc.integer({ min: 12, max: 47 }),
    first: fc.bigInt({ min: 0n, max: 15n }),
    target: fc.bigInt({ min: 0n, max: 15n }),
    offset: fc.bigInt({ min: 0n, max: 1n << 36n }),
    blocks: fc.bigInt({ min: 0n, max: 8n }),
    more: fc.oneof(pages(20), pages(1 << 24)),
  })
  it.each<Kind>(['host', 'guest 4', 'guest 5'])('%s', (kind) => {
    const widthBits = { host: 52, 'guest 4': 47, 'guest 5': 56 }[kind]
    fc.assert(
      fc.property(large, ({ first, target, offset, blocks, more, ...rest }) => {
        // At most some hundred pages of the largest size that the format has.
        const alignLog2 = BigInt(kind === 'host' ? rest.alignLog2 : Math.min(rest.alignLog2, 36))
        const low = BigInt.asUintN(Number(alignLog2), offset << 12n)
        const from = (first << alignLog2) + low
        const to = (target << alignLog2) + low
        const length = (blocks << alignLog2) + BigInt.asUintN(Number(alignLog2), more) + 4096n
        fc.pre((from + length) >> BigInt(widthBits) === 0n && (to + length) >> 52n === 0n)
        // Requests to the interrupt range are interrupts, whatever is mapped there.
        fc.pre(from + length <= 0xfee00000n || from >= 0xfef00000n)
        const bench = new Bench(kind)
        bench.machine.run(bench.map(from, to, length))
        const wrong = []
        for (let done = 0n; done < length;) {
          const sizeLog2 = bestPage(from + done, to + done, length - done, sizesOf(kind))
          const page = bench.walk(from + done)
          const isRight = page.kind === 'translated' && page.spa === to + done && page.sizeLog2 === sizeLog2
          if (!isRight) wrong.push({ address: hex(from + done), sizeLog2, page })
          done += 1n << BigInt(sizeLog2)
        }
        expect(wrong).toEqual([])
      }),
      { numRuns: runs(12), endOnFailure: true },
    )
  })

  it.each([
    [38, 1],
    [40, 1],
    [47, 1],
    [48, 1],
    [51, 1],
    [39, 2],
  ])('2^%i bytes at 2^51 stand in pages, %i of them', (sizeLog2, count) => {
    const bench = new Bench('host')
    const outcome = bench.map(1n << 51n, 0n, 1n << BigInt(sizeLog2))
    bench.machine.run(outcome)
    expect(bench.sizeAt(1n << 51n)).toBe(count === 1 ? sizeLog2 : sizeLog2 - 1)
  })
})

it('where a table hangs already, a large page is mapped below it in smaller ones', () => {
  const bench = new Bench('host')
  bench.machine.run(bench.map(0x205000n, 0x9000n, 0x1000n))
  bench.machine.run(bench.unmap(0x205000n, 0x1000n))
  bench.machine.run(bench.map(0x200000n, 0x400000n, 0x400000n))
  expect([0x200000n, 0x300000n, 0x400000n].map((address) => bench.sizeAt(address))).toEqual([20, 20, 21])
  expect(bench.walk(0x5ffff8n)).toMatchObject({ spa: 0x7ffff8n })
})

describe('a page larger than its level stands in as many equal entries as it covers', () => {
  it.each([13, 16, 20, 22, 29, 31, 38, 40, 47, 51])('2^%i bytes', (sizeLog2) => {
    const bench = new Bench('host')
    const bytes = 1n << BigInt(sizeLog2)
    const from = 3n * bytes
    bench.machine.run(bench.map(from, bytes % (1n << 51n), bytes))
    const { at, entry, level } = bench.path(from).at(-1)!
    expect((entry >> 9n) & 7n).toBe(sizeLog2 === 12 + 9 * (level - 1) ? 0n : 7n)
    const copies = 1 << (sizeLog2 - 12 - 9 * (level - 1))
    for (let i = -1; i <= copies; i++) {
      const inPage = at + BigInt(i * 8)
      if (inPage >> 12n !== at >> 12n) continue
      expect(bench.machine.load(inPage)).toBe(i >= 0 && i < copies ? entry : 0n)
    }
    expect(bench.walk(from + bytes - 1n)).toMatchObject({ sizeLog2 })
    bench.machine.run(bench.unmap(from, bytes))
    for (let i = 0; i < copies; i++) expect(bench.machine.load(at + BigInt(i * 8))).toBe(0n)
  })
})

/** A map by pages, for ranges of few pages. */
interface Naive {
  readonly page: bigint
  readonly write: boolean
}

type Step =
  | { readonly kind: 'map'; from: bigint; to: bigint; length: bigint; rights: typeof readWrite }
  | { readonly kind: 'unmap'; from: bigint; length: bigint }

function steps(widthBits: number): fc.Arbitrary<Step[]> {
  const mapping = fc.record({
    kind: fc.constant('map' as const),
    from: edges(widthBits),
    to: fc.oneof(edges(51), pages(600)),
    length: fc.oneof(pages(40), pages(600)),
    rights: fc.constantFrom(readWrite, readOnly),
  })
  const unmapping = fc.record({
    kind: fc.constant('unmap' as const),
    from: edges(widthBits),
    length: fc.oneof(pages(80), pages(1500)),
  })
  return fc.array(fc.oneof({ weight: 2, arbitrary: mapping }, unmapping), { minLength: 1, maxLength: 10 })
}

describe('after random maps and unmaps the walk of every page gives what a naive map gives', () => {
  const tables: readonly (readonly [Kind, number])[] = [
    ['host', 38],
    ['host', 47],
    ['host', 56],
    ['host', 64],
    ['guest 4', 47],
    ['guest 5', 56],
  ]
  it.each(tables)('%s tables, addresses of %i bits', (kind, widthBits) => {
    fc.assert(
      fc.property(steps(widthBits), (all) => {
        const bench = new Bench(kind)
        const naive = new Map<bigint, Naive>()
        const touched = new Set<bigint>()
        for (const step of all) {
          fc.pre((step.from + step.length) >> BigInt(widthBits) === 0n)
          if (step.kind === 'map') mapBoth(bench, naive, step)
          else unmapBoth(bench, naive, step)
          for (let page = step.from; page < step.from + step.length; page += 4096n) touched.add(page)
        }
        expect([...touched].flatMap((page) => faultIn(bench, page, naive.get(page)))).toEqual([])
      }),
      { numRuns: runs(12), endOnFailure: true },
    )
  })

  function mapBoth(bench: Bench, naive: Map<bigint, Naive>, step: Extract<Step, { kind: 'map' }>): void {
    const { from, to, length, rights } = step
    const all = Array.from({ length: Number(length >> 12n) }, (_, i) => BigInt(i) * 4096n)
    if (all.some((offset) => naive.has(from + offset))) {
      const refusal = bench.machine.refusal(() => bench.map(from, to, length, rights))
      expect(refusal).toBe('EADDRINUSE mapped-already')
      return
    }
    bench.machine.run(bench.map(from, to, length, rights))
    for (const offset of all) naive.set(from + offset, { page: to + offset, write: rights.write })
  }

  function unmapBoth(bench: Bench, naive: Map<bigint, Naive>, { from, length }: Step): void {
    const last = from + length - 1n
    const cuts = (address: bigint): boolean => {
      const size = bench.sizeAt(address)
      if (size === undefined) return false
      const base = (address >> BigInt(size)) << BigInt(size)
      return base < from || base + (1n << BigInt(size)) - 1n > last
    }
    if (cuts(from) || cuts(last)) {
      const refusal = bench.machine.refusal(() => bench.unmap(from, length))
      expect(refusal).toBe('EINVAL unmap-cuts-a-page')
      return
    }
    let bytes = 0n
    for (let page = from; page <= last; page += 4096n) if (naive.delete(page)) bytes += 4096n
    expect(bench.machine.run(bench.unmap(from, length))).toBe(bytes)
  }

  /** What is wrong with the walk of a page; nothing if it is as the naive map says. */
  function faultIn(bench: Bench, page: bigint, wanted: Naive | undefined): string[] {
    const { machine, domain } = bench
    const address = page + ((page >> 12n) % 512n) * 8n
    const found = bench.walk(address)
    const looked = machine.driver.translate(domain, iova(address))
    if (wanted === undefined) {
      return found.kind === 'fault' && looked === undefined ? [] : [`${hex(page)} is mapped`]
    }
    const there = wanted.page + address - page
    const isRight =
      found.kind === 'translated' &&
      found.spa === there &&
      found.readable &&
      found.writable === wanted.write &&
      looked === there &&
      bench.walk(address, true).kind === (wanted.write ? 'translated' : 'fault')
    return isRight ? [] : [`${hex(page)} is not mapped to ${hex(wanted.page)}`]
  }
})

it('a host leaf may allow writes only', () => {
  const bench = new Bench('host')
  bench.machine.run(bench.map(0x5000n, 0x9000n, 0x1000n, writeOnly))
  expect(bench.walk(0x5000n, true).kind).toBe('translated')
  expect(bench.walk(0x5000n, false).kind).toBe('fault')
})

describe('a host table begins with three levels and grows to six', () => {
  const levels = [
    [38, 3],
    [39, 4],
    [47, 4],
    [48, 5],
    [56, 5],
    [57, 6],
    [63, 6],
  ] as const
  it.each(levels)('an address of 2^%i needs level %i, and what was mapped stays', (bit, mode) => {
    const bench = new Bench('host')
    bench.machine.run(bench.map(0x5000n, 0x9000n, 0x1000n))
    bench.machine.run(bench.map(1n << BigInt(bit), 0xa000n, 0x1000n))
    expect(bench.machine.driver.domain(bench.domain)).toMatchObject({ mode })
    expect((bench.machine.entry(deviceId)[0] >> 9n) & 7n).toBe(BigInt(mode))
    expect(bench.walk(0x5abcn)).toMatchObject({ spa: 0x9abcn })
    expect(bench.walk((1n << BigInt(bit)) + 0xabcn)).toMatchObject({ spa: 0xaabcn })
  })

  it('shows the new root in the domain of the attached device too', () => {
    const bench = new Bench('host')
    bench.machine.run(bench.map(1n << 57n, 0xa000n, 0x1000n))
    const { driver } = bench.machine
    expect(driver.device(deviceId)?.domain).toEqual(driver.domain(bench.domain))
  })

  it('refuses what lies beyond 64 bits', () => {
    const bench = new Bench('host')
    const last = (1n << 64n) - 4096n
    bench.machine.run(bench.map(last, 0x9000n, 0x1000n))
    expect(bench.walk(last)).toMatchObject({ spa: 0x9000n })
    expect(bench.machine.refusal(() => bench.map(last - 4096n, 0x9000n, 0x3000n))).toBe('EOVERFLOW aperture')
    const other = new Bench('host')
    expect(other.machine.refusal(() => other.map(last, 0x9000n, 0x2000n))).toBe('EOVERFLOW aperture')
  })

  it('does not grow beyond the levels that the chip has (EFR.HATS)', () => {
    const { efr, efr2 } = nestingFeatures
    const bench = new Bench('host', { features: { efr: efr & ~(3n << 10n), efr2 } })
    bench.machine.run(bench.map(1n << 47n, 0x9000n, 0x1000n))
    expect(bench.machine.refusal(() => bench.map(1n << 48n, 0x9000n, 0x1000n))).toBe('EOVERFLOW aperture')
  })
})

describe('a guest table uses one bit less than it decodes', () => {
  it.each([
    ['guest 4', 47n],
    ['guest 5', 56n],
  ] as const)('%s: %i bits', (kind, bits) => {
    const bench = new Bench(kind)
    bench.machine.run(bench.map((1n << bits) - 4096n, 0x9000n, 0x1000n))
    expect(bench.machine.refusal(() => bench.map(1n << bits, 0x9000n, 0x1000n))).toBe('EOVERFLOW aperture')
    const across = (): Outcome<undefined> => bench.map((1n << bits) - 8192n, 0x9000n, 0x3000n)
    expect(bench.machine.refusal(across)).toBe('EOVERFLOW aperture')
  })
})

describe('map and unmap refuse', () => {
  it('what is not a multiple of 4 KiB, and nothing at all', () => {
    const bench = new Bench('host')
    const wrong = [
      () => bench.map(0x5800n, 0x9000n, 0x1000n),
      () => bench.map(0x5000n, 0x9800n, 0x1000n),
      () => bench.map(0x5000n, 0x9000n, 0x1800n),
      () => bench.map(0x5000n, 0x9000n, 0n),
      () => bench.unmap(0x5800n, 0x1000n),
      () => bench.unmap(0x5000n, 0x800n),
      () => bench.unmap(0x5000n, 0n),
    ]
    for (const each of wrong) expect(bench.machine.refusal(each)).toBe('EINVAL page-aligned')
  })

  it('a target beyond the 52 bits of an entry', () => {
    const bench = new Bench('host')
    const beyond = (): Outcome<undefined> => bench.map(0x5000n, (1n << 52n) - 4096n, 0x2000n)
    expect(bench.machine.refusal(beyond)).toBe('EOVERFLOW target')
  })

  it('a domain that does not exist, or that has no table', () => {
    const { machine } = new Bench('host')
    const { driver } = machine
    const map = (domain: number) => () => driver.map(domain, iova(0x5000n), spa(0x9000n), 0x1000n, readWrite)
    expect(machine.refusal(map(77))).toBe('ENOENT no-such-domain')
    expect(machine.refusal(() => driver.unmap(77, iova(0n), 0x1000n))).toBe('ENOENT no-such-domain')
    const identity = machine.run(driver.allocateIdentity())
    expect(machine.refusal(map(identity))).toBe('EINVAL no-own-table')
    expect(driver.translate(identity, iova(0n))).toBeUndefined()
  })

  it('to unmap a part of a page, before it or behind it', () => {
    const bench = new Bench('host')
    bench.machine.run(bench.map(0x200000n, 0x400000n, 0x400000n))
    expect(bench.sizeAt(0x200000n)).toBe(21)
    const parts = [
      [0x200000n, 0x1000n],
      [0x201000n, 0x1ff000n],
      [0x100000n, 0x200000n],
      [0x200000n, 0x201000n],
      [0x5ff000n, 0x2000n],
    ] as const
    for (const [from, length] of parts) {
      expect(bench.machine.refusal(() => bench.unmap(from, length))).toBe('EINVAL unmap-cuts-a-page')
    }
  })

  it('a map over one that is there, and leave both as they were', () => {
    const bench = new Bench('host')
    bench.machine.run(bench.map(0x205000n, 0x9000n, 0x1000n))
    const over = (): Outcome<undefined> => bench.map(0x200000n, 0x400000n, 0x200000n)
    expect(bench.machine.refusal(over)).toBe('EADDRINUSE mapped-already')
  })
})

it('a page below a large one is refused, and so is one over it', () => {
  const bench = new Bench('host')
  bench.machine.run(bench.map(0x200000n, 0x400000n, 0x200000n))
  for (const [from, length] of [
    [0x205000n, 0x1000n],
    [0x200000n, 0x1000n],
    [0x3f0000n, 0x10000n],
    [0x200000n, 0x200000n],
    [0x1ff000n, 0x2000n],
    [0n, 1n << 30n],
  ] as const) {
    expect(bench.machine.refusal(() => bench.map(from, from, length))).toBe('EADDRINUSE mapped-already')
  }
  bench.machine.run(bench.map(0x1ff000n, 0x1ff000n, 0x1000n))
  bench.machine.run(bench.map(0x400000n, 0x400000n, 0x1000n))
})

describe('an entry without PR is empty, whatever else stands in it', () => {
  function withRemains(level: number, address = 0x205000n): Bench {
    const bench = new Bench('host')
    bench.machine.run(bench.map(0x206000n, 0x9000n, 0x1000n))
    const { at } = bench.path(address).find((each) => each.level === level)!
    store64(bench.machine.memory, at, 0xabcd_e000n)
    return bench
  }

  it('so that it can be mapped over', () => {
    const bench = withRemains(1)
    bench.machine.run(bench.map(0x204000n, 0x8_4000n, 0x2000n))
    expect([0x204000n, 0x205000n].map((at) => bench.walk(at))).toMatchObject([
      { spa: 0x8_4000n },
      { spa: 0x8_5000n },
    ])
  })

  it('and is not in the way of an unmap, nor found by a look', () => {
    const bench = withRemains(1)
    expect(bench.machine.driver.translate(bench.domain, iova(0x205000n))).toBeUndefined()
    expect(bench.machine.run(bench.unmap(0x200000n, 0x10000n))).toBe(0x1000n)
  })

  it('a table goes there', () => {
    const bench = withRemains(2, 0x40_0000n)
    bench.machine.run(bench.map(0x400000n, 0x9000n, 0x1000n))
    expect(bench.walk(0x400000n)).toMatchObject({ spa: 0x9000n })
  })
})

it('the last page of 52 bits can be a target', () => {
  const bench = new Bench('host')
  const last = (1n << 52n) - 4096n
  bench.machine.run(bench.map(0x5000n, last, 0x1000n))
  expect(bench.walk(0x5000n)).toMatchObject({ spa: last })
})

describe('an unmap', () => {
  it('of nothing sends nothing', () => {
    const bench = new Bench('host')
    expect(bench.machine.tell(bench.unmap(0x5000n, 0x1000n))).toEqual([])
    expect(bench.machine.run(bench.unmap(1n << 60n, 0x1000n))).toBe(0n)
  })

  it('swallows gaps into one range, and counts what was mapped', () => {
    const bench = new Bench('host')
    bench.machine.run(bench.map(0x10000n, 0x20000n, 0x1000n))
    bench.machine.run(bench.map(0x13000n, 0x20000n, 0x1000n))
    const unmapped = bench.unmap(0x10000n, 0x8000n)
    expect(unmapped).toMatchObject({ value: 0x2000n })
    const lines = bench.machine.tell(unmapped).filter((line) => line !== 'tables')
    expect(lines).toEqual(['PAGES 1 10000+4000', 'WAIT'])
  })

  it('drops cached directory entries if and only if a table went away', () => {
    const bench = new Bench('host')
    bench.machine.run(bench.map(0x200000n, 0x401000n, 0x200000n))
    expect(bench.machine.tell(bench.unmap(0x200000n, 0x1000n)).slice(-2)).toEqual([
      'PAGES 1 200000+1000',
      'WAIT',
    ])
    const rest = bench.machine.tell(bench.unmap(0x200000n, 0x200000n))
    expect(rest.slice(-2)).toEqual(['PAGES 1 200000+200000 PDE', 'WAIT'])
  })

  it('of a guest table names PASID 0', () => {
    const bench = new Bench('guest 4')
    bench.machine.run(bench.map(0x10000n, 0x20000n, 0x2000n))
    const lines = bench.machine.tell(bench.unmap(0x10000n, 0x2000n))
    expect(lines.slice(-2)).toEqual(['PAGES 2 10000+2000 GN 0', 'WAIT'])
  })

  it('flushes and frees tables that had become empty before, though no page is left in them', () => {
    const few = { pages: { first: spa(0x100000n), pages: 40 } }
    const bench = new Bench('host', few)
    bench.machine.run(bench.map(0x5000n, 0x9000n, 0x1000n))
    bench.machine.run(bench.unmap(0x5000n, 0x1000n))
    const unmapped = bench.unmap(0n, 1n << 30n)
    expect(unmapped).toMatchObject({ value: 0n })
    expect(bench.machine.tell(unmapped).slice(-2)).toEqual(['PAGES 1 0+40000000 PDE', 'WAIT'])
    const fresh = new Bench('host', few)
    expect(tablesLeft(bench.machine)).toBe(tablesLeft(fresh.machine))
  })

  it('covers the whole reach of a table that goes away, not only its pages (S31)', () => {
    const bench = new Bench('host')
    bench.machine.run(bench.map(0x5000n, 0x9000n, 0x1000n))
    bench.machine.run(bench.unmap(0x5000n, 0x1000n))
    bench.machine.run(bench.map(0x7fff0000n, 0x9000n, 0x1000n))
    const lines = bench.machine.tell(bench.unmap(0n, 1n << 31n))
    expect(lines.slice(-2)).toEqual(['PAGES 1 0+80000000 PDE', 'WAIT'])
  })

  it('drops what the chip had cached, before it returns (I9)', () => {
    const bench = new Bench('host')
    bench.machine.run(bench.map(0x10000n, 0x20000n, 0x4000n))
    const ask = (): Translation => bench.machine.iommu.request({ deviceId, iova: 0x11abcn })
    ask()
    expect(ask()).toMatchObject({ from: 'iotlb', spa: 0x21abcn })
    bench.machine.run(bench.unmap(0x10000n, 0x4000n))
    expect(ask().kind).toBe('fault')
    expect(bench.machine.iommu.iotlbEntries()).toEqual([])
  })
})

/** Tables that the pages left are good for. */
function tablesLeft(machine: Machine): number {
  const copy = machine.fork()
  let left = 0
  while (copy.driver.allocateHostTable().ok) left += 1
  return left
}

describe('pages of tables', () => {
  it.each<Kind>(['host', 'guest 4', 'guest 5'])('are all given back by unmapping and freeing: %s', (kind) => {
    const few = { pages: { first: spa(0x100000n), pages: 40 } }
    const empty = Machine.create(few)
    const bench = new Bench(kind, few)
    bench.machine.run(bench.map(1n << 46n, 0x9000n, 0x201000n))
    bench.machine.run(bench.map(0x5000n, 0x9000n, 0x1000n))
    bench.machine.run(bench.unmap(0n, 1n << 45n))
    bench.machine.run(bench.machine.driver.detach(deviceId))
    bench.machine.run(bench.machine.driver.freeDomain(bench.domain))
    expect(tablesLeft(bench.machine)).toBe(tablesLeft(empty))
  })

  it.each<Kind>(['host', 'guest 4', 'guest 5'])('are clear when they become tables again: %s', (kind) => {
    const bench = new Bench(kind)
    for (let i = 0n; i < 4n; i++) bench.machine.run(bench.map(i << 30n, 0x40001000n, 0x3ff000n))
    const { driver } = bench.machine
    bench.machine.run(driver.detach(deviceId))
    bench.machine.run(driver.freeDomain(bench.domain))
    const again = bench.machine.run(driver.allocateHostTable())
    bench.machine.run(driver.attach(deviceId, again))
    for (let i = 0n; i < 4n; i++) {
      bench.machine.run(driver.map(again, iova((i << 30n) + 0x800000n), spa(0x5000n), 0x1000n, readWrite))
    }
    for (let i = 0n; i < 4n; i++) {
      for (const offset of [0n, 0x1000n, 0x3fe000n, 0x801000n]) {
        expect(bench.walk((i << 30n) + offset).kind).toBe('fault')
      }
      expect(bench.walk((i << 30n) + 0x800000n)).toMatchObject({ spa: 0x5000n })
    }
  })

  it('are clear even if the memory was not, when the driver got it', () => {
    const machine = Machine.create()
    const { driver } = machine
    const first = machine.run(driver.allocateHostTable())
    const domain = driver.domain(first)
    if (domain?.kind !== 'host-table') throw new Error('no host table')
    for (let at = domain.root + 4096n; at < domain.root + 0x8000n; at += 8n)
      store64(machine.memory, at, at | 1n)
    machine.run(driver.probe(deviceId, 1))
    machine.run(driver.attach(deviceId, first))
    machine.run(driver.map(first, iova(0x5000n), spa(0x9000n), 0x1000n, readWrite))
    expect(machine.iommu.walkFresh({ deviceId, iova: 0x5000n })).toMatchObject({ spa: 0x9000n })
    expect(machine.iommu.walkFresh({ deviceId, iova: 0x6000n }).kind).toBe('fault')
  })

  it('may run out in the middle of an operation: ENOMEM, and nothing has changed', () => {
    // Bring-up takes 9 pages, the domain 1.
    const few = (more: number): Bench =>
      new Bench('host', { pages: { first: spa(0x100000n), pages: 10 + more } })
    const attempts: readonly (readonly [number, (bench: Bench) => Outcome<unknown>])[] = [
      [1, (bench) => bench.map(0x5000n, 0x9000n, 0x1000n)],
      [4, (bench) => bench.map(0x3ffff000n, 0x9000n, 0x2000n - 0n)],
      [3, (bench) => bench.map(1n << 40n, 0x9000n, 0x1000n)],
      [2, (bench) => bench.map(1n << 60n, 0x9000n, 0x1000n)],
      [0, (bench) => bench.machine.driver.allocateHostTable()],
      [0, (bench) => bench.machine.driver.allocateGuestTable()],
    ]
    for (const [more, attempt] of attempts) {
      const bench = few(more)
      if (more === 4) bench.machine.run(bench.map(0x5000n, 0x9000n, 0x1000n))
      expect(bench.machine.refusal(() => attempt(bench))).toBe('ENOMEM no-table-page')
    }
  })
})
