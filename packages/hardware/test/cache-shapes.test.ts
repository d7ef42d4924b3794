/** The shapes of caches: their limits, their bytes, who makes room for whom, and what forks share. */
import { describe, expect, it } from 'vitest'
import { createIotlb, withoutPasid } from '../src/cache/iotlb.js'
import type { CacheGeometry, Replacement } from '../src/cache/iotlb.js'
import { Words } from '../src/memory/words.js'
import { fill, fingerprint, forkOf, has, held, newBench, sets } from './cache-bench.js'
import type { Bench } from './cache-bench.js'

describe('the geometry of a cache', () => {
  it.each<[string, CacheGeometry]>([
    ['capacityLog2', { kind: 'hashed', capacityLog2: 5 }],
    ['capacityLog2', { kind: 'hashed', capacityLog2: 25 }],
    ['capacityLog2', { kind: 'hashed', capacityLog2: 6.5 }],
    ['capacityLog2', { kind: 'hashed', capacityLog2: Number.NaN }],
    ['setsLog2', sets(-1, 4, 'lru')],
    ['setsLog2', sets(17, 4, 'lru')],
    ['ways', sets(4, 0, 'fifo')],
    ['ways', sets(4, 65, 'fifo')],
    ['ways', sets(16, 17, 'fifo')],
    ['ways', sets(4, 2.5, 'fifo')],
    ['seed', sets(4, 4, 'random', -1)],
    ['seed', sets(4, 4, 'random', 2 ** 32)],
    ['replacement', sets(4, 4, 'plru' as Replacement)],
  ])('has limits: %s in %j', (name, geometry) => {
    expect(() => newBench(geometry)).toThrow(RangeError)
    expect(() => newBench(geometry)).toThrow(new RegExp(`^${name} `))
  })

  it.each([1, 2 ** 31, 2.5])('has limits: stampLimit %d', (stampLimit) => {
    expect(() => newBench({ kind: 'hashed' }, { stampLimit })).toThrow(/^stampLimit .* from 2 to 2147483646$/)
  })

  it.each([
    { kind: 'hashed', capacityLog2: 6 } as const,
    sets(0, 1, 'lru'),
    sets(0, 64, 'fifo'),
    sets(16, 16, 'random', 0xffffffff),
    sets(14, 64, 'lru', 0),
  ])('may be %j', (geometry) => {
    const bench = newBench(geometry)
    fill(bench, 5)
    expect(held(bench)).toEqual([5])
  })

  it.each<[string, CacheGeometry, number]>([
    ['hashed, 2^10', { kind: 'hashed', capacityLog2: 10 }, 768],
    ['hashed, 2^16', { kind: 'hashed', capacityLog2: 16 }, 49152],
    ['8 ways, LRU', sets(8, 8, 'lru'), 2048],
    ['2 ways, FIFO', sets(10, 2, 'fifo'), 2048],
    ['1 way', sets(11, 1, 'lru'), 2048],
    ['16 ways, random', sets(7, 16, 'random'), 2048],
  ])(
    'keeps a full cache below 40 bytes an entry, all tables ever allocated included: %s',
    (_, geometry, count) => {
      const words = Words.create()
      // The record of the domain is no part of an entry.
      const domain = newBench(sets(0, 1, 'lru'))
      const before = domain.words.allocate(0)
      domain.cache.domainRecord(1)
      const recordWords = domain.words.allocate(0) - before
      const bench = { words, cache: createIotlb(words, geometry) }
      for (let page = 0; page < count; page++) fill(bench, page)
      expect(bench.cache.liveCount()).toBe(count)
      const bytes = (words.allocate(0) - recordWords) * 4
      // A few hundred bytes do not grow with the cache.
      expect((bytes - 1600) / count).toBeLessThanOrEqual(40)
    },
  )
})

describe.each<[string, CacheGeometry]>([
  ['hashed', { kind: 'hashed', capacityLog2: 6 }],
  ['LRU', sets(1, 3, 'lru')],
  ['random', sets(1, 3, 'random')],
])('a new cache, %s,', (_, geometry) => {
  it('is made in its own machine, whichever fork was used last', () => {
    const words = Words.create()
    words.allocate(1)
    const fork = words.fork()
    const before = fork.fingerprint()
    fork.activate()
    const bench = { words, cache: createIotlb(words, geometry) }
    for (const page of [2, 4, 6, 2]) fill(bench, page)
    expect(held(bench).sort()).toEqual([2, 4, 6])
    fill(bench, 8)
    expect(has(bench, 8)).toBe(true)
    const plain = newBench(geometry)
    for (const page of [2, 4, 6, 2, 8]) fill(plain, page)
    has(plain, 8)
    expect(held(bench)).toEqual(held(plain))
    expect(fork.fingerprint()).toEqual(before)
  })

  it.each([0, 1, 2, 3, 4, 5, 6, 7])(
    'works and touches no words but its own, %d words further on',
    (offset) => {
      const words = Words.create()
      words.allocate(offset)
      const before = words.allocate(64)
      words.activate().fill(-1, before, before + 64)
      const bench = { words, cache: createIotlb(words, geometry) }
      const after = words.allocate(64)
      expect([...words.activate().subarray(after, after + 64)]).toEqual(new Array(64).fill(0))
      words.activate().fill(-1, after, after + 64)
      for (let page = 0; page < 200; page++) fill(bench, page)
      expect(held(bench)).toHaveLength(bench.cache.liveCount())
      bench.cache.invalidateDomain(1)
      const pool = words.activate()
      for (const others of [before, after]) {
        expect([...pool.subarray(others, others + 64)]).toEqual(new Array(64).fill(-1))
      }
    },
  )
})

describe('a set', () => {
  it.each(['lru', 'fifo', 'random'] as const)(
    'takes pages 2^setsLog2 apart, and no others: %s',
    (replacement) => {
      const bench = newBench(sets(4, 2, replacement))
      for (let page = 0; page < 32; page++) fill(bench, page)
      expect(held(bench).sort((a, b) => a - b)).toEqual(Array.from({ length: 32 }, (_, n) => n))
      fill(bench, 32 + 7)
      const gone = Array.from({ length: 32 }, (_, n) => n).filter((page) => !held(bench).includes(page))
      expect(gone).toHaveLength(1)
      expect(gone[0]! % 16).toBe(7)
    },
  )

  it('is shared by all domains and PASIDs', () => {
    const bench = newBench(sets(4, 2, 'fifo'))
    fill(bench, 3, 1)
    fill(bench, 3, 2)
    fill(bench, 3, 1, 5)
    expect([has(bench, 3, 1), has(bench, 3, 2), has(bench, 3, 1, 5)]).toEqual([false, true, true])
  })

  it('with LRU loses the page unused longest, with FIFO the one filled longest ago', () => {
    const after = (replacement: Replacement): number[] => {
      const bench = newBench(sets(0, 3, replacement))
      for (const page of [1, 2, 3]) fill(bench, page)
      expect(has(bench, 1)).toBe(true)
      expect(has(bench, 9)).toBe(false)
      fill(bench, 4)
      return held(bench)
    }
    expect(after('lru')).toEqual([4, 1, 3])
    expect(after('fifo')).toEqual([4, 3, 2])
  })

  it.each(['lru', 'fifo'] as const)('counts a page filled again as new: %s', (replacement) => {
    const bench = newBench(sets(0, 2, replacement))
    for (const page of [1, 2, 1, 3]) fill(bench, page)
    expect(held(bench)).toEqual([3, 1])
  })

  it.each(['lru', 'fifo', 'random'] as const)('gives a freed way first: %s', (replacement) => {
    const bench = newBench(sets(0, 3, replacement))
    for (const page of [1, 2, 3]) fill(bench, page)
    bench.cache.invalidateRange(1, withoutPasid, 2 << 12, 0, 12)
    fill(bench, 4)
    expect(held(bench).sort()).toEqual([1, 3, 4])
  })

  it('draws by lot from its seed, the same after a fork', () => {
    const pages = Array.from({ length: 60 }, (_, n) => n)
    const after = (seed?: number): Bench => {
      const bench = newBench(sets(1, 4, 'random', seed))
      for (const page of pages) fill(bench, page)
      return bench
    }
    expect(held(after(1))).toEqual(held(after()))
    expect(held(after(2))).not.toEqual(held(after(1)))
    const bench = after(3)
    const fork = forkOf(bench)
    for (const page of pages) fill(bench, page + 100)
    for (const page of pages) fill(fork, page + 100)
    expect(held(fork)).toEqual(held(bench))
    expect(fingerprint(fork)).toBe(fingerprint(bench))
  })

  it('whose order differs makes another fingerprint', () => {
    const bench = newBench(sets(0, 3, 'lru'))
    for (const page of [1, 2, 3]) fill(bench, page)
    const before = fingerprint(bench)
    has(bench, 1)
    expect(fingerprint(bench)).not.toBe(before)
    has(bench, 2)
    has(bench, 3)
    expect(fingerprint(bench)).toBe(before)
  })
})

describe('the hashed shape', () => {
  it('is emptied by the fill for which it has no room, and not before', () => {
    const bench = newBench({ kind: 'hashed', capacityLog2: 7 })
    for (let round = 0; round < 500; round++) {
      const page = 96 + round
      if (round === 0) for (let n = 0; n < 96; n++) fill(bench, n)
      // Room is made one by one: it is never short.
      bench.cache.invalidateRange(1, withoutPasid, (page - 96) << 12, 0, 12)
      fill(bench, page)
      expect(bench.cache.liveCount()).toBe(96)
    }
    fill(bench, 0)
    expect(held(bench)).toEqual([0])
  })

  it('does not grow when it is full and entries come and go', () => {
    const bench = newBench({ kind: 'hashed', capacityLog2: 7 })
    for (let n = 0; n < 96; n++) fill(bench, n)
    const turn = (from: number): number => {
      for (let n = from; n < from + 200; n++) {
        bench.cache.invalidateRange(1, withoutPasid, (n - 96) << 12, 0, 12)
        fill(bench, n)
      }
      return bench.words.allocate(0)
    }
    const before = bench.words.allocate(0)
    expect(turn(96)).toBe(before)
    expect(turn(296)).toBe(before)
    expect(bench.cache.liveCount()).toBe(96)
  })

  it('does not grow by what is dead', () => {
    const bench = newBench({ kind: 'hashed' })
    const turn = (): number => {
      for (let n = 0; n < 200; n++) {
        fill(bench, n)
        if (n % 30 === 29) bench.cache.invalidateDomain(1)
      }
      return bench.words.allocate(0)
    }
    const first = turn()
    for (let n = 0; n < 5; n++) expect(turn()).toBe(first)
  })

  it('takes again what is dead when it is filled to its capacity', () => {
    const bench = newBench({ kind: 'hashed', capacityLog2: 6 }, { stampLimit: 2 })
    for (let n = 0; n < 48; n++) fill(bench, n)
    bench.cache.invalidateRange(1, withoutPasid, 0, 0, 12)
    fill(bench, 48)
    fill(bench, 0)
    expect(held(bench)).toEqual([0])
    expect(has(bench, 0)).toBe(true)
  })

  it('allocates nothing more once it has its size, whatever is filled and dropped', () => {
    const bench = newBench({ kind: 'hashed', capacityLog2: 8 })
    const round = (): number => {
      for (let n = 0; n < 5000; n++) {
        fill(bench, n, 1 + (n % 3), n % 2 === 0 ? withoutPasid : n % 7)
        if (n % 5 === 0) bench.cache.invalidateRange(1, withoutPasid, n << 12, 0, 14)
        if (n % 100 === 0) bench.cache.invalidateGuest(2)
      }
      return bench.words.allocate(0)
    }
    expect(round()).toBe(round())
  })

  it('loses nothing when its stamps start again', () => {
    const bench = newBench({ kind: 'hashed' }, { stampLimit: 3 })
    for (let n = 0; n < 100; n++) fill(bench, n)
    const before = fingerprint(bench)
    for (let n = 0; n < 20; n++) {
      fill(bench, n, 2, n)
      bench.cache.invalidateDomain(2)
    }
    expect(held(bench)).toHaveLength(100)
    expect(fingerprint(bench)).toBe(before)
  })

  it.each([
    ['one grows far ahead of the other', 0],
    ['one starts its stamps again when nearly full', 2],
  ])('keeps forks apart where %s', (_, flushes) => {
    // An index of 512 words is good for 384 entries; the one after it leaves those words to entries.
    const bench = newBench({ kind: 'hashed' }, { stampLimit: 3 })
    const pages = (from: number, to: number): number[] =>
      Array.from({ length: to - from }, (_, n) => from + n)
    for (const page of pages(0, 300)) fill(bench, page)
    const fork = forkOf(bench)
    bench.words.activate()
    for (let n = 0; n < flushes; n++) {
      fill(bench, 0, 2)
      bench.cache.invalidateDomain(2)
    }
    for (const page of pages(300, 2000)) fill(bench, page)
    for (const page of pages(5000, 5083)) fill(fork, page)
    for (const page of pages(0, 2000)) expect(has(bench, page)).toBe(true)
    for (const page of [...pages(0, 300), ...pages(5000, 5083)]) expect(has(fork, page)).toBe(true)
    for (const page of pages(5083, 11000)) fill(fork, page)
    for (const page of pages(2000, 7000)) fill(bench, page)
    expect(held(fork)).toEqual([...pages(0, 300), ...pages(5000, 11000)])
    expect(held(bench)).toEqual(pages(0, 7000))
  })
})
