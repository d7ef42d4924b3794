/** The device-table cache by itself: entries by DeviceID, dropped one by one or all at once. */
import { describe, expect, it } from 'vitest'
import { DeviceTableCache, dteSlot } from '../src/cache/device-table-cache.js'
import { Words } from '../src/memory/words.js'

/** Words of an entry as the table has them; after them come whether one is there, and whether a fault was logged. */
const entryWords = 8
const tellingWords = 10

interface Bench {
  readonly words: Words
  readonly cache: DeviceTableCache
}

function newBench(): Bench {
  const words = Words.create()
  // Words of others: they stay as they are, and a slot at word 0 could not be told from none.
  words.activate().fill(-1, 0, words.allocate(16) + 16)
  return { words, cache: DeviceTableCache.create(words) }
}

/** Caches an entry whose every word tells the DeviceID. */
function keep({ words, cache }: Bench, deviceId: number): number {
  words.activate()
  const slot = cache.makeSlot(deviceId)
  for (let word = 0; word < entryWords; word++) cache.write(slot, deviceId, word, wordOf(deviceId, word))
  cache.write(slot, deviceId, dteSlot.present, 1)
  return slot
}

const wordOf = (deviceId: number, word: number): number => (word << 16) | deviceId

const kept = ({ words, cache }: Bench): number[] => {
  words.activate()
  return cache.deviceIds()
}

const fingerprint = ({ words }: Bench): string => words.fingerprint().join()

/** The first and the last of all, and neighbours on both sides of places where a cache may be divided. */
const edges = [0, 1, 0x3f, 0x40, 0x41, 0xff, 0x100, 0x7fff, 0x8000, 0xffbf, 0xffc0, 0xfffe, 0xffff]

describe('the device-table cache', () => {
  it('has a slot of sixteen words for each DeviceID, apart from all others', () => {
    const bench = newBench()
    const slots = edges.map((deviceId) => keep(bench, deviceId))
    const sorted = [...slots].sort((a, b) => a - b)
    sorted.slice(1).forEach((slot, n) => {
      expect(slot - sorted[n]!).toBeGreaterThanOrEqual(16)
    })
    const pool = bench.words.array
    edges.forEach((deviceId, n) => {
      const slot = slots[n]!
      expect(bench.cache.slotOf(deviceId)).toBe(slot)
      for (let word = 0; word < entryWords; word++) expect(pool[slot + word]).toBe(wordOf(deviceId, word))
    })
  })

  it('makes a slot once', () => {
    const bench = newBench()
    const slot = keep(bench, 0x40)
    const used = bench.words.allocate(0)
    expect(bench.cache.makeSlot(0x40)).toBe(slot)
    bench.cache.makeSlot(0x7f)
    expect(bench.words.allocate(0)).toBe(used)
  })

  it('needs memory for the neighbourhood of what was cached, not for all 65536 DeviceIDs', () => {
    const bench = newBench()
    const before = bench.words.allocate(0)
    keep(bench, 0x600)
    expect(bench.words.allocate(0) - before).toBeLessThanOrEqual(64 * 16)
  })

  it('has no slot where nothing was cached nearby', () => {
    const bench = newBench()
    expect(edges.map((deviceId) => bench.cache.slotOf(deviceId))).toEqual(edges.map(() => 0))
    keep(bench, 0x40)
    expect(bench.cache.slotOf(0x3f)).toBe(0)
    expect(bench.cache.slotOf(0x80)).toBe(0)
  })

  it('lists what it holds, ascending', () => {
    const bench = newBench()
    expect(kept(bench)).toEqual([])
    for (const deviceId of [...edges].reverse()) keep(bench, deviceId)
    expect(kept(bench)).toEqual(edges)
  })

  it('drops the one entry that INVALIDATE_DEVTAB_ENTRY names: words, and that a fault was logged', () => {
    const bench = newBench()
    for (const deviceId of edges) keep(bench, deviceId)
    const slot = bench.cache.slotOf(0x40)
    bench.cache.write(slot, 0x40, dteSlot.logged, 1)
    bench.cache.invalidate(0x40)
    expect(kept(bench)).toEqual(edges.filter((deviceId) => deviceId !== 0x40))
    expect([...bench.words.array.subarray(slot, slot + tellingWords)]).toEqual(
      new Array(tellingWords).fill(0),
    )
    const beside = bench.cache.slotOf(0x41)
    expect([...bench.words.array.subarray(beside, beside + entryWords)]).toEqual(
      Array.from({ length: entryWords }, (_, word) => wordOf(0x41, word)),
    )
  })

  it('that holds nothing of a device has nothing to drop', () => {
    const bench = newBench()
    const before = fingerprint(bench)
    const pool = [...bench.words.array]
    bench.cache.invalidate(0x40)
    bench.cache.invalidate(0xffff)
    bench.cache.invalidateAll()
    expect(fingerprint(bench)).toBe(before)
    expect([...bench.words.array]).toEqual(pool)
  })

  it('drops all by INVALIDATE_IOMMU_ALL, and is as before the first request', () => {
    const bench = newBench()
    const before = fingerprint(bench)
    for (const deviceId of edges) keep(bench, deviceId)
    expect(fingerprint(bench)).not.toBe(before)
    bench.cache.invalidateAll()
    expect(kept(bench)).toEqual([])
    expect(fingerprint(bench)).toBe(before)
  })

  it('has a fingerprint that tells which device an entry is of, and which word holds what', () => {
    const prints = new Set<string>()
    for (const deviceId of edges) {
      for (let word = 0; word < tellingWords; word++) {
        const bench = newBench()
        bench.cache.write(bench.cache.makeSlot(deviceId), deviceId, word, 5)
        prints.add(fingerprint(bench))
      }
    }
    expect(prints.size).toBe(edges.length * tellingWords)
  })

  it('is a cache of its own in each fork', () => {
    const bench = newBench()
    keep(bench, 1)
    const words = bench.words.fork()
    const fork = { words, cache: bench.cache.forkOnto(words) }
    keep(fork, 2)
    keep(fork, 0xffff)
    keep(bench, 0x8000)
    expect(kept(bench)).toEqual([1, 0x8000])
    expect(kept(fork)).toEqual([1, 2, 0xffff])
    fork.words.activate()
    fork.cache.invalidate(1)
    expect(kept(fork)).toEqual([2, 0xffff])
    expect(kept(bench)).toEqual([1, 0x8000])
    expect(fork.cache.scratch).toBe(bench.cache.scratch)
  })

  it('has a scratch slot beside it that holds no entry', () => {
    const bench = newBench()
    const slots = edges.map((deviceId) => keep(bench, deviceId))
    const { scratch } = bench.cache
    for (const slot of slots) expect(Math.abs(slot - scratch)).toBeGreaterThanOrEqual(16)
    bench.words.activate().fill(1, scratch, scratch + 16)
    expect(kept(bench)).toEqual(edges)
  })
})
