/** What caches of any shape keep: ranges of pages, table pages, remembered GPAs; and what of it the fingerprint tells. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fillerOf, flagsOf, frameHiOf, frameLoOf, levelOf, rightsOf, sizeLog2Of } from '../src/cache/entry.js'
import { createIotlb, Iotlb, withoutPasid } from '../src/cache/iotlb.js'
import type { CacheGeometry } from '../src/cache/iotlb.js'
import { entriesOf } from '../src/iotlb-entries.js'
import { Words } from '../src/memory/words.js'
import { fill, fingerprint, forkOf, held, newBench, sets } from './cache-bench.js'
import { runs } from './runs.js'

describe.each<[string, CacheGeometry]>([
  ['hashed', { kind: 'hashed' }],
  ['set-associative', sets(5, 16, 'lru')],
])('a range in a %s cache', (_, geometry) => {
  it('is dropped alike page by page and by a look at every entry', () => {
    const page = fc.record({
      page: fc.nat(600),
      size: fc.constantFrom(12, 12, 13, 15, 20),
      pasid: fc.constantFrom(3, 4),
    })
    fc.assert(
      fc.property(
        fc.array(page, { maxLength: 60 }),
        fc.nat(600),
        fc.integer({ min: 12, max: 20 }),
        (filled, at, size) => {
          const swept = newBench(geometry)
          const { cache } = swept
          for (const each of filled) {
            cache.fill(cache.domainRecord(1), 1, each.pasid, each.page << 12, 0, each.size, 0, 0, 0, 0)
          }
          const probed = forkOf(swept)
          swept.words.activate()
          cache.invalidateRange(1, 3, at << 12, 0, size)
          const kept = entriesOf(cache)
          probed.words.activate()
          const first = (at >> (size - 12)) << (size - 12)
          for (let n = 0; n < 2 ** (size - 12); n++)
            probed.cache.invalidateRange(1, 3, (first + n) << 12, 0, 12)
          expect(entriesOf(probed.cache)).toEqual(kept)
          expect(fingerprint(probed)).toBe(fingerprint(swept))
        },
      ),
      { numRuns: runs(100) },
    )
  })
})

describe.each<[string, CacheGeometry]>([
  ['hashed', { kind: 'hashed' }],
  ['set-associative', sets(5, 16, 'lru')],
])('an invalidation in a %s cache', (_, geometry) => {
  const allSizes = Array.from({ length: 52 }, (_, n) => 12 + n)

  it.each([withoutPasid, 5])('of one page drops entries of all sizes that serve it, PASID %d', (pasid) => {
    for (const size of allSizes) {
      const { cache } = newBench(geometry)
      const record = cache.domainRecord(1)
      // The page of all ones, and its neighbour of the same size.
      const beside = size < 32 ? [-1 & ~(2 ** size), -1] : [-1, -1 & ~(2 ** (size - 32))]
      cache.fill(record, 1, pasid, -1, -1, size, 0, 0, 0, 0)
      cache.fill(record, 1, pasid, beside[0]!, beside[1]!, size, 0, 0, 0, 0)
      expect(cache.liveCount()).toBe(2)
      cache.invalidateRange(1, pasid, -1, -1, 12)
      expect(cache.lookup(record, 1, pasid, -1, -1), `2^${size}`).toBe(false)
      expect(cache.lookup(record, 1, pasid, beside[0]!, beside[1]!), `2^${size}`).toBe(true)
    }
  })

  it.each([
    [13, 4, 5],
    [14, 4, 7],
    [15, 0, 7],
  ])('of 2^%d bytes drops the pages from %d to %d', (size, first, last) => {
    const bench = newBench(geometry)
    const pages = Array.from({ length: 100 }, (_, n) => n)
    for (const page of pages) fill(bench, page)
    bench.cache.invalidateRange(1, withoutPasid, 5 << 12, 0, size)
    expect(held(bench).sort((a, b) => a - b)).toEqual(pages.filter((page) => page < first || page > last))
  })
})

describe('a cache of table pages', () => {
  it.each<CacheGeometry>([{ kind: 'hashed' }, sets(4, 4, 'lru')])(
    'keeps frames and levels as they are, and gives the smallest span first: %j',
    (geometry) => {
      const { words, cache } = newBench(geometry)
      const record = cache.domainRecord(7)
      const found = (lo: number): number[] => {
        const at = cache.lookupAt(words.array, record, 7, 5, lo, 0x12)
        const pool = words.array
        if (at < 0) return []
        return [levelOf, flagsOf, sizeLog2Of, frameLoOf, frameHiOf, rightsOf, fillerOf].map((read) =>
          read(pool, at),
        )
      }
      cache.fillTable(record, 7, 5, 0x40200000, 0x12, 30, 0x5000, 0xfffff, 0x70000000, 9, 2, 0x1ff)
      cache.fillTable(record, 7, 5, 0x40200000, 0x12, 21, -4096, 1, 0x20000000, 9, 1)
      expect(found(0x402abcde)).toEqual([1, 0, 21, -4096, 1, 0x20000000, 9])
      expect(found(0x40000000)).toEqual([2, 0x1ff, 30, 0x5000, 0xfffff, 0x70000000, 9])
      expect(found(-1)).toEqual([])
    },
  )

  it('serves guest CR3s, one to a PASID, and drops those of one PASID', () => {
    const { cache } = newBench()
    const record = cache.domainRecord(1)
    for (const pasid of [0, 1, 0xfffff]) cache.fillTable(record, 1, pasid, 0, 0, 12, pasid << 12, 0, 0, 0, 0)
    cache.invalidatePasid(1, 1)
    expect(entriesOf(cache).map(({ pasid, frame }) => [pasid, frame])).toEqual([
      [0, 0n],
      [0xfffff, 0xfffff000n],
    ])
  })
})

describe('remembered GPAs', () => {
  const options = { remembersGpas: true }
  const all = new Int32Array(Array.from({ length: 9 }, (_, n) => [n << 24, n]).flat())

  it.each<CacheGeometry>([{ kind: 'hashed' }, sets(4, 4, 'lru')])(
    'are up to nine, the first as large as the page: %j',
    (geometry) => {
      const survives = (lo: number, hi: number, count = 9): boolean => {
        const { cache } = newBench(geometry, options)
        cache.fill(cache.domainRecord(1), 1, 5, 0, 0, 21, 0, 0, 0, 0, all, count)
        cache.invalidateRemembered(1, lo, hi, 12)
        return cache.liveCount() === 1
      }
      expect(survives(0x1ff000, 0)).toBe(false)
      expect(survives(0x200000, 0)).toBe(true)
      for (let n = 1; n < 9; n++) {
        expect(survives(n << 24, n)).toBe(false)
        expect(survives((n << 24) + 0x1000, n)).toBe(true)
        expect(survives(n << 24, n, n)).toBe(true)
      }
    },
  )

  it('are not those of host entries, of another domain, or of the entry before', () => {
    const { cache } = newBench(undefined, options)
    const record = cache.domainRecord(1)
    cache.fill(record, 1, withoutPasid, 0, 0, 12, 0, 0, 0, 0, all, 9)
    cache.fill(cache.domainRecord(2), 2, 5, 0, 0, 12, 0, 0, 0, 0, all, 9)
    cache.fill(record, 1, 5, 0, 0, 12, 0, 0, 0, 0, all, 9)
    cache.fill(record, 1, 5, 0, 0, 12, 0, 0, 0, 0)
    cache.invalidateRemembered(1, 0, 0, 64)
    expect(cache.liveCount()).toBe(3)
    cache.invalidateRemembered(2, 0, 0, 64)
    expect(cache.liveCount()).toBe(2)
  })

  it('go with their entries when these change places', () => {
    const { cache } = newBench({ kind: 'hashed', capacityLog2: 6 }, options)
    const record = cache.domainRecord(1)
    for (let n = 0; n < 400; n++) {
      cache.fill(record, 1, 5, n << 12, 0, 12, 0, 0, 0, 0, new Int32Array([n << 12, 0, n << 12, 1]), 2)
      cache.invalidateRemembered(1, (n - 30) << 12, n % 2, 12)
      expect(cache.liveCount()).toBe(Math.min(n + 1, 30))
    }
  })

  it('are copied out, from a place of the list on and as far as it has room, without their sizes', () => {
    const { cache } = newBench(undefined, options)
    const record = cache.domainRecord(1)
    const gpas = Array.from({ length: 5 }, (_, n) => [(n + 1) << 24, n + 8])
    cache.fill(record, 1, 5, 0, 0, 21, 0, 0, 0, 0, new Int32Array(gpas.flat()), 5)
    cache.fill(record, 1, 6, 0, 0, 12, 0, 0, 0, 0, all, 9)
    const copied = (pasid: number, room: number, from: number): [number, number[]] => {
      expect(cache.lookup(record, 1, pasid, 0, 0)).toBe(true)
      const into = new Int32Array(room * 2).fill(-1)
      return [cache.copyGpas(into, from), [...into]]
    }
    const none = [-1, -1]
    expect(copied(5, 5, 0)).toEqual([5, gpas.flat()])
    expect(copied(5, 9, 2)).toEqual([5, [none, none, ...gpas, none, none].flat()])
    expect(copied(5, 4, 1)).toEqual([3, [none, ...gpas.slice(0, 3)].flat()])
    expect(copied(5, 3, 3)).toEqual([0, [none, none, none].flat()])
    expect(copied(6, 12, 0)).toEqual([9, [...all, none, none, none].flat()])
  })

  it('are none in a cache that does not keep them', () => {
    const { cache } = newBench()
    const record = cache.domainRecord(1)
    cache.fill(record, 1, 5, 0, 0, 12, 0, 0, 0, 0, all, 9)
    // What lies behind an entry is another entry.
    for (let n = 1; n < 9; n++) cache.fill(record, 1, 5, n << 12, n, 12, -1, -1, -1, -1)
    cache.lookup(record, 1, 5, 0, 0)
    const into = new Int32Array(18).fill(-1)
    expect(cache.copyGpas(into, 0)).toBe(0)
    expect(into).toEqual(new Int32Array(18).fill(-1))
  })

  it('are as many as the fill says: what else is in its list leaves no trace', () => {
    const after = (gpas: number[]): string => {
      const { words, cache } = newBench(undefined, options)
      cache.fill(cache.domainRecord(1), 1, 5, 0, 0, 12, 0, 0, 0, 0, new Int32Array(gpas), 2)
      return words.fingerprint().join()
    }
    const two = [0x1000, 1, 0x2000, 2]
    expect(after([...two, 0x3000, 3, 0x4000, 4])).toBe(after(two))
  })

  it('that a cache does not keep may be any: all guest entries of the domain go', () => {
    const { cache } = newBench()
    const record = cache.domainRecord(1)
    for (const pasid of [withoutPasid, 0, 5]) cache.fill(record, 1, pasid, 0, 0, 12, 0, 0, 0, 0, all, 9)
    cache.invalidateRemembered(1, 0x1000, 0, 12)
    expect(entriesOf(cache).map(({ pasid }) => pasid)).toEqual([undefined])
  })
})

describe('the fingerprint of a cache', () => {
  it('tells all that an answer depends on, and not who filled it', () => {
    const after = (filler: number, level: number, flags: number, gpas: number[]): string => {
      const { words, cache } = newBench(undefined, { remembersGpas: true })
      const more = [level, flags, new Int32Array(gpas), gpas.length / 2] as const
      cache.fillTable(cache.domainRecord(1), 1, 0, 0, 0, 12, 0, 0, 0, filler, ...more)
      return words.fingerprint().join()
    }
    const base = after(1, 1, 1, [])
    expect(after(2, 1, 1, [])).toBe(base)
    expect(
      new Set([base, after(1, 2, 1, []), after(1, 1, 2, []), after(1, 1, 1, [0, 0]), after(1, 1, 1, [0, 1])])
        .size,
    ).toBe(5)
  })

  it.each<CacheGeometry>([{ kind: 'hashed' }, sets(0, 4, 'lru')])(
    'tells every part of the tag, of the frame, and the rights: %j',
    (geometry) => {
      const base = [1, 5, 0, 0, 12, 0, 0, 0]
      const others = [2, 0x1005, 0x1000, 0x1000, 13, 0x1000, 1, 0x20000000]
      const after = (values: readonly number[]): string => {
        const [domainId = 0, pasid = 0, lo = 0, hi = 0, size = 0, spaLo = 0, spaHi = 0, rights = 0] = values
        const { words, cache } = newBench(geometry)
        cache.fill(cache.domainRecord(domainId), domainId, pasid, lo, hi, size, spaLo, spaHi, rights, 0)
        return words.fingerprint().join()
      }
      const prints = [base, ...others.map((value, n) => base.with(n, value)), base.with(1, 6)].map(after)
      expect(new Set(prints).size).toBe(10)
    },
  )

  it('tells every GPA that an entry remembers, both words of it', () => {
    const after = (gpas: number[]): string => {
      const { words, cache } = newBench(undefined, { remembersGpas: true })
      cache.fillTable(cache.domainRecord(1), 1, 0, 0, 0, 12, 0, 0, 0, 0, 1, 0, new Int32Array(gpas), 9)
      return words.fingerprint().join()
    }
    const base = Array.from({ length: 18 }, (_, n) => n << 12)
    const prints = base.map((_, n) => after(base.with(n, 0x77000)))
    expect(new Set([after(base), ...prints]).size).toBe(19)
  })

  it('does not cancel out between two caches with the same contents', () => {
    const words = Words.create()
    const empty = words.fingerprint()
    for (const geometry of [
      { kind: 'hashed' },
      { kind: 'hashed' },
      sets(2, 2, 'lru'),
      sets(2, 2, 'lru'),
    ] as const) {
      fill({ words, cache: createIotlb(words, geometry) }, 1)
    }
    expect(words.fingerprint()).not.toEqual(empty)
  })
})

it('a listing goes from the oldest fill on; what is evicted by number is what is listed there', () => {
  const words = Words.create()
  const bench = { words, cache: Iotlb.create(words) }
  for (const page of [5, 3, 9, 7]) fill(bench, page)
  expect(bench.cache.evict(4)).toBe(false)
  expect(bench.cache.evict(1)).toBe(true)
  expect(held(bench)).toEqual([5, 9, 7])
  expect(bench.cache.liveCount()).toBe(3)
})
