import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MockBackend } from '../src/mock/mock-backend.js'
import { driverData, noData } from '../src/user-data.js'
import type { Outcome } from '../src/outcome.js'

/** IOVA at which the default format's aperture begins. */
const start = 0x0100_0000n
const both = { read: true, write: true }
const dirtyTracking = 2

function valueOf<T>(outcome: Outcome<T>): T {
  if (!outcome.ok) throw new Error(`${outcome.errno}: ${outcome.why}`)
  return outcome.value
}

const errnoOf = (outcome: Outcome<unknown>): string | undefined => (outcome.ok ? undefined : outcome.errno)

/** `iommu_hwpt_selftest`, with a page table format. */
const format = (number: number) => driverData(0xdead, new Uint8Array(Uint32Array.of(0, number).buffer))

function tableOf(flags = dirtyTracking, data = noData): { backend: MockBackend; domain: number } {
  const backend = new MockBackend()
  const device = backend.device(backend.addDevice({ dirty: true, pasid: false }))!
  return { backend, domain: valueOf(backend.allocatePaging(device, { flags, data })).number }
}

/** The sizes of the entries of a range, by asking for the page at each one's start. */
function entrySizes(backend: MockBackend, domain: number, first: bigint, length: bigint): bigint[] {
  const sizes: bigint[] = []
  for (let at = first; at < first + length;) {
    const page = backend.pageAt(domain, at)!
    if (page.first !== at) throw new Error(`the page at ${at} begins at ${page.first}`)
    sizes.push(page.last + 1n - page.first)
    at = page.last + 1n
  }
  return sizes
}

/** What the kernel does: the largest page that both addresses and the rest of the length allow, again and again. */
function greedySizes(pageSizes: bigint[], iova: bigint, physical: bigint, length: bigint): bigint[] {
  const sizes: bigint[] = []
  for (let done = 0n; done < length;) {
    const size = pageSizes.findLast(
      (bytes) => (iova + done) % bytes === 0n && (physical + done) % bytes === 0n && bytes <= length - done,
    )!
    sizes.push(size)
    done += size
  }
  return sizes
}

const powersFrom2k = Array.from({ length: 26 }, (_, i) => 2048n << BigInt(i))

describe('the entries of a mapping', () => {
  it('are the largest pages that IOVA, physical address and remaining length allow', () => {
    const granules = fc.bigInt({ min: 0n, max: 600n })
    fc.assert(
      fc.property(granules, granules, fc.bigInt({ min: 1n, max: 700n }), (iovaAt, physicalAt, count) => {
        const { backend, domain } = tableOf()
        const [iova, physical, length] = [start + iovaAt * 2048n, physicalAt * 2048n, count * 2048n]
        valueOf(backend.map(domain, iova, physical, length, both))
        expect(entrySizes(backend, domain, iova, length)).toEqual(
          greedySizes(powersFrom2k, iova, physical, length),
        )
      }),
    )
  })

  it('are 4 KiB and 1 MiB in the HUGE format', () => {
    const { backend, domain } = tableOf(dirtyTracking, format(1))
    const length = 0x30_0000n
    valueOf(backend.map(domain, 0xf_e000n, 0x4f_e000n, length, both))
    expect(entrySizes(backend, domain, 0xf_e000n, length)).toEqual(
      greedySizes([4096n, 0x10_0000n], 0xf_e000n, 0x4f_e000n, length),
    )
    expect(backend.pageAt(domain, 0x10_0800n)).toEqual({ first: 0x10_0000n, last: 0x1f_ffffn })
  })

  it('are no larger than a mapping asks for', () => {
    const { backend, domain } = tableOf()
    valueOf(backend.map(domain, start, start, 0x4000n, both, 4096n))
    expect(entrySizes(backend, domain, start, 0x4000n)).toEqual([4096n, 4096n, 4096n, 4096n])
  })

  it('stay what they were when the mapping around them goes', () => {
    const { backend, domain } = tableOf()
    valueOf(backend.map(domain, start, start, 0x8000n, both, 4096n))
    expect(valueOf(backend.unmap(domain, start + 0x2000n, 0x3000n))).toBe(0x3000n)
    expect(backend.translate(domain, start + 0x1fffn)).toBe(start + 0x1fffn)
    expect(backend.translate(domain, start + 0x2000n)).toBeUndefined()
    expect(backend.translate(domain, start + 0x4fffn)).toBeUndefined()
    expect(backend.translate(domain, start + 0x5000n)).toBe(start + 0x5000n)
    expect(entrySizes(backend, domain, start + 0x5000n, 0x3000n)).toEqual([4096n, 4096n, 4096n])
  })

  it('of two calls are not joined', () => {
    const { backend, domain } = tableOf()
    valueOf(backend.map(domain, start, start, 4096n, both))
    valueOf(backend.map(domain, start + 4096n, start + 4096n, 4096n, both))
    expect(backend.pageAt(domain, start)).toEqual({ first: start, last: start + 4095n })
  })
})

describe('a page table', () => {
  it('tells its pages and aperture', () => {
    const backend = new MockBackend()
    const device = backend.device(backend.addDevice({ dirty: true, pasid: false }))!
    const plain = valueOf(backend.allocatePaging(device, { flags: 0, data: noData }))
    expect(plain.aperture).toEqual({ first: 0x0100_0000n, last: 0x7fff_ffffn })
    expect(plain.pageSizes).toBe((1n << 37n) - (1n << 11n))
    expect(plain.canTrackDirty).toBe(false)
    const huge = valueOf(backend.allocatePaging(device, { flags: dirtyTracking, data: format(1) }))
    expect(huge.aperture).toEqual({ first: 0n, last: (1n << 38n) - 1n })
    expect(huge.pageSizes).toBe(0x10_1000n)
    expect(huge.canTrackDirty).toBe(true)
  })

  it('refuses what cannot be mapped, and stays as it was', () => {
    const { backend, domain } = tableOf()
    valueOf(backend.map(domain, start + 0x1000n, 0x5000n, 0x1000n, both))
    const before = backend.snapshot()
    expect(errnoOf(backend.map(domain, start, 0x8000n, 0x1800n, both))).toBe('EADDRINUSE')
    expect(errnoOf(backend.map(domain, start + 0x1800n, 0x8000n, 0x800n, both))).toBe('EADDRINUSE')
    expect(errnoOf(backend.map(domain, start + 0x400n, 0x8000n, 0x800n, both))).toBe('EINVAL')
    expect(errnoOf(backend.map(domain, start, 0x8400n, 0x800n, both))).toBe('EINVAL')
    expect(errnoOf(backend.map(domain, start, 0x8000n, 0x400n, both))).toBe('EINVAL')
    expect(errnoOf(backend.map(domain, start, 0x8000n, 0n, both))).toBe('EINVAL')
    expect(errnoOf(backend.map(domain, start, 0x8000n, 0x800n, { read: false, write: false }))).toBe('EINVAL')
    expect(errnoOf(backend.map(domain, (1n << 38n) - 0x800n, 0x8000n, 0x1000n, both))).toBe('ERANGE')
    expect(backend.snapshot()).toEqual(before)
    expect(backend.map(domain, (1n << 38n) - 0x800n, 0x8000n, 0x800n, both).ok).toBe(true)
  })

  it('counts what an unmapped range held, and refuses to cut a large page', () => {
    const { backend, domain } = tableOf()
    valueOf(backend.map(domain, start, start, 0x4000n, both))
    valueOf(backend.map(domain, start + 0x8000n, 0x3000n, 0x1000n, both))
    expect(errnoOf(backend.unmap(domain, start + 0x1000n, 0x8000n))).toBe('EINVAL')
    expect(valueOf(backend.unmap(domain, start, 0x10_0000n))).toBe(0x5000n)
    expect(valueOf(backend.unmap(domain, 0n, (1n << 64n) - 1n))).toBe(0n)
  })
})

describe('dirty state', () => {
  const everything = { first: 0n, last: (1n << 38n) - 1n }

  it('belongs to entries: all of one is written when a byte of it is', () => {
    const { backend, domain } = tableOf()
    valueOf(backend.map(domain, start, start, 0x4000n, both))
    valueOf(backend.map(domain, start + 0x4000n, 0x9000n, 0x1000n, both))
    backend.markDirty(domain, start + 0x2800n)
    backend.markDirty(domain, start + 0x4800n)
    backend.markDirty(domain, start + 0x10_0000n)
    const pages = [
      { first: start, last: start + 0x3fffn },
      { first: start + 0x4000n, last: start + 0x4fffn },
    ]
    expect(valueOf(backend.readDirty(domain, everything, false))).toEqual(pages)
    expect(valueOf(backend.readDirty(domain, everything, true))).toEqual(pages)
    expect(valueOf(backend.readDirty(domain, everything, false))).toEqual([])
  })

  it('is found in entries that only reach into a range, and left in others', () => {
    const { backend, domain } = tableOf()
    valueOf(backend.map(domain, start, start, 0x4000n, both))
    valueOf(backend.map(domain, start + 0x4000n, 0x9000n, 0x1000n, both))
    backend.markDirty(domain, start)
    backend.markDirty(domain, start + 0x4000n)
    const inside = { first: start + 0x3800n, last: start + 0x3fffn }
    expect(valueOf(backend.readDirty(domain, inside, true))).toEqual([
      { first: start, last: start + 0x3fffn },
    ])
    expect(valueOf(backend.readDirty(domain, everything, false))).toEqual([
      { first: start + 0x4000n, last: start + 0x4fffn },
    ])
  })

  it('goes with the mapping', () => {
    const { backend, domain } = tableOf()
    valueOf(backend.map(domain, start, start, 0x1000n, both))
    backend.markDirty(domain, start)
    valueOf(backend.unmap(domain, start, 0x1000n))
    valueOf(backend.map(domain, start, start, 0x1000n, both))
    expect(valueOf(backend.readDirty(domain, everything, false))).toEqual([])
  })

  it('is read in ascending order across 64 MiB and word borders', () => {
    const { backend, domain } = tableOf(dirtyTracking, format(1))
    const firsts = [0x1_f000n, 0x2_0000n, 0x3ff_f000n, 0x400_0000n, 0x1200_0000n]
    for (const first of firsts.toReversed()) {
      valueOf(backend.map(domain, first, 0x5000n, 0x1000n, both))
      backend.markDirty(domain, first + 0xfffn)
    }
    const read = valueOf(backend.readDirty(domain, everything, false))
    expect(read.map(({ first }) => first)).toEqual(firsts)
  })
})

/** One step on a small table, for both the backend and a page-by-page model of it. */
interface Step {
  readonly isMap: boolean
  readonly page: number
  readonly pages: number
  readonly physical: number
}

const steps = fc.array(
  fc.record({
    isMap: fc.boolean(),
    page: fc.nat(60),
    pages: fc.integer({ min: 1, max: 12 }),
    physical: fc.nat(1000),
  }),
  { maxLength: 60 },
)

const iovaOf = (page: number): bigint => start + BigInt(page) * 4096n

/** Maps and unmaps as a table of single pages would. */
function play(
  backend: MockBackend,
  domain: number,
  model: Map<number, number>,
  { isMap, ...step }: Step,
): void {
  const pages = Array.from({ length: step.pages }, (_, i) => step.page + i)
  if (isMap) {
    const isTaken = pages.some((page) => model.has(page))
    const mapped = backend.map(
      domain,
      iovaOf(step.page),
      BigInt(step.physical) * 4096n,
      BigInt(step.pages) * 4096n,
      both,
      4096n,
    )
    expect(mapped.ok).toBe(!isTaken)
    if (!isTaken) pages.forEach((page, i) => model.set(page, step.physical + i))
  } else {
    const held = pages.filter((page) => model.delete(page)).length
    const bytes = valueOf(backend.unmap(domain, iovaOf(step.page), BigInt(step.pages) * 4096n))
    expect(bytes).toBe(BigInt(held) * 4096n)
  }
}

function expectSame(backend: MockBackend, domain: number, model: Map<number, number>): void {
  for (let page = 0; page < 80; page++) {
    const physical = model.get(page)
    expect(backend.translate(domain, iovaOf(page) + 5n)).toBe(
      physical === undefined ? undefined : BigInt(physical) * 4096n + 5n,
    )
  }
}

describe('mapping and unmapping', () => {
  it('in any order does what single pages would do', () => {
    fc.assert(
      fc.property(steps, (all) => {
        const { backend, domain } = tableOf()
        const model = new Map<number, number>()
        for (const step of all) play(backend, domain, model, step)
        expectSame(backend, domain, model)
      }),
    )
  })

  it('in a transaction that is refused has not happened', () => {
    fc.assert(
      fc.property(steps, steps, (before, inside) => {
        const { backend, domain } = tableOf()
        const model = new Map<number, number>()
        for (const step of before) play(backend, domain, model, step)
        backend.markDirty(domain, iovaOf(3))
        backend.markDirty(domain, iovaOf(20))
        const standing = backend.snapshot()
        const ended = backend.transaction(() => {
          const copy = new Map(model)
          for (const step of inside) play(backend, domain, copy, step)
          backend.markDirty(domain, iovaOf(7))
          backend.readDirty(domain, { first: 0n, last: iovaOf(80) }, true)
          return { ok: false, errno: 'EFAULT', rule: 'test', why: 'for the test' } as const
        })
        expect(errnoOf(ended)).toBe('EFAULT')
        expect(backend.snapshot()).toEqual(standing)
      }),
    )
  })

  it('in a fork is not seen by the other', () => {
    fc.assert(
      fc.property(steps, steps, steps, (before, here, there) => {
        const { backend, domain } = tableOf()
        const model = new Map<number, number>()
        for (const step of before) play(backend, domain, model, step)
        backend.markDirty(domain, iovaOf(3))
        const fork = backend.fork()
        expect(fork.snapshot()).toEqual(backend.snapshot())
        const forked = new Map(model)
        for (const step of here) play(backend, domain, model, step)
        backend.readDirty(domain, { first: 0n, last: iovaOf(80) }, true)
        const standing = backend.snapshot()
        fork.markDirty(domain, iovaOf(9))
        for (const step of there) play(fork, domain, forked, step)
        expectSame(backend, domain, model)
        expectSame(fork, domain, forked)
        expect(backend.snapshot()).toEqual(standing)
      }),
    )
  })

  it('of thousands of pieces, put in from above and from below, finds each', () => {
    const { backend, domain } = tableOf()
    const pages = Array.from({ length: 3000 }, (_, i) => (i % 2 === 0 ? i : 6000 - i))
    for (const page of pages)
      valueOf(backend.map(domain, iovaOf(2 * page), BigInt(page) * 4096n, 4096n, both))
    for (const page of pages) {
      expect(backend.translate(domain, iovaOf(2 * page))).toBe(BigInt(page) * 4096n)
      expect(backend.translate(domain, iovaOf(2 * page + 1))).toBeUndefined()
    }
    expect(valueOf(backend.unmap(domain, start, 1n << 32n))).toBe(3000n * 4096n)
    expect(backend.snapshot()).toEqual(tableOf().backend.snapshot())
  })
})
