/** What the interrupt table cache keeps and forgets; forks; and software that stores anything anywhere. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { InterruptTableCache } from '../src/interrupt/interrupt-cache.js'
import type { IrteGuest } from '../src/layout/index.js'
import { Words } from '../src/memory/words.js'
import { guest, irte128, irte32, irteGuest, long, spaOf } from './interrupt-cases.js'
import { InterruptRig, on } from './interrupt-rig.js'
import type { Answer, RigOptions } from './interrupt-rig.js'
import { Random } from './slow/random.js'

const tables = 0x200000n

/** Devices 0 to 7 with tables of 2048 entries of their own. */
function rigWith(options: RigOptions = {}): InterruptRig {
  const rig = InterruptRig.create({ control: long, ...options })
  for (let device = 0n; device < 8n; device++) {
    rig.setDte(Number(device), [1n, device, 0x2000000000000017n | (tables + device * 0x8000n), 0n])
  }
  return rig
}

const entryAt = (device: number, index: number): bigint => tables + BigInt(device * 0x8000 + index * 16)
const vectorOf = ({ vector, outcome }: Answer): number => (outcome === 'aborted' ? -1 : vector)

describe('a cached entry', () => {
  it('serves until its device is invalidated, and no other device', () => {
    const rig = rigWith()
    const ask = (device: number): number => vectorOf(rig.interrupt(device, 5))
    for (const device of [1, 2]) rig.put(entryAt(device, 5), ...irte128({ vector: 0x31 }))
    expect([ask(1), ask(2)]).toEqual([0x31, 0x31])
    for (const device of [1, 2]) rig.put(entryAt(device, 5), ...irte128({ vector: 0x32 }))
    expect([ask(1), ask(2)]).toEqual([0x31, 0x31])
    expect(vectorOf(rig.look(1, 5))).toBe(0x32)
    rig.cache.invalidate(2)
    expect([ask(1), ask(2)]).toEqual([0x31, 0x32])
    rig.cache.invalidateAll()
    expect([ask(1), ask(2)]).toEqual([0x32, 0x32])
  })

  it('is told apart from what memory gave', () => {
    const rig = rigWith()
    rig.put(entryAt(1, 0), ...irte128({}))
    expect([0, 1].map(() => rig.interrupt(1, 0).source)).toEqual([1, 2])
    expect(rig.reads).toEqual([entryAt(1, 0)])
  })

  it('does not depend on the cached device entry: a moved table is not looked at', () => {
    const rig = rigWith()
    rig.put(entryAt(1, 0), ...irte128({ vector: 1 }))
    rig.put(entryAt(3, 0), ...irte128({ vector: 3 }))
    rig.interrupt(1, 0)
    rig.setDte(1, [1n, 1n, 0x2000000000000017n | entryAt(3, 0), 0n])
    rig.dropDte(1)
    expect(rig.interrupt(1, 0)).toMatchObject({ vector: 1, entry: entryAt(3, 0), source: 2 })
    rig.cache.invalidate(1)
    expect(rig.interrupt(1, 0)).toMatchObject({ vector: 3, source: 1 })
  })

  it('does not outlive the length of the table', () => {
    const rig = rigWith()
    rig.put(entryAt(1, 9), ...irte128({ vector: 1 }))
    rig.interrupt(1, 9)
    rig.setDte(1, [1n, 1n, 0x2000000000000007n | entryAt(1, 0), 0n])
    rig.dropDte(1)
    expect(rig.interrupt(1, 9)).toMatchObject({ outcome: 'aborted', source: 0 })
  })

  it('may have RemapEn clear', () => {
    const rig = rigWith()
    const lenient = rigWith({ switches: { disabledEntry: 'not-cached' } })
    for (const each of [rig, lenient]) {
      expect(each.interrupt(1, 0).outcome).toBe('aborted')
      each.put(entryAt(1, 0), ...irte128({ vector: 7 }))
    }
    expect(rig.interrupt(1, 0)).toMatchObject({ outcome: 'aborted', source: 2 })
    expect(lenient.interrupt(1, 0)).toMatchObject({ outcome: 'remapped', vector: 7, source: 1 })
    expect(lenient.interrupt(1, 0)).toMatchObject({ source: 2 })
  })

  it('is raw: the control register decides what it means', () => {
    const rig = rigWith()
    rig.put(entryAt(1, 0), ...irte128({ vector: 7, destination: 0x81000203 }))
    expect(rig.interrupt(1, 0).destination).toBe(3)
    rig.control = long | on.x2apic
    expect(rig.interrupt(1, 0)).toMatchObject({ destination: 0x81000203, source: 2 })
  })

  it('of one form is no use in the other', () => {
    const rig = rigWith({ control: on.iommu })
    rig.put(entryAt(1, 0), irte32({ vector: 9 }), 0x41n)
    expect(rig.interrupt(1, 0)).toMatchObject({ vector: 9, source: 1 })
    rig.control = long
    expect(rig.interrupt(1, 0)).toMatchObject({ vector: 0x41, source: 1 })
    rig.control = on.iommu
    expect(rig.interrupt(1, 0)).toMatchObject({ vector: 9, source: 1 })
    expect(rig.cache.entries()).toHaveLength(1)
  })

  it('is neither made nor used while IRTCacheDis is set', () => {
    const rig = rigWith()
    rig.put(entryAt(1, 0), ...irte128({ vector: 1 }))
    rig.control = long | on.cacheOff
    expect(rig.interrupt(1, 0)).toMatchObject({ vector: 1, source: 1 })
    expect(rig.cache.entries()).toEqual([])
    rig.control = long
    rig.interrupt(1, 0)
    rig.put(entryAt(1, 0), ...irte128({ vector: 2 }))
    rig.control = long | on.cacheOff
    expect(rig.interrupt(1, 0)).toMatchObject({ vector: 2, source: 1 })
  })
})

describe('a cached guest-mode entry', () => {
  const page = spaOf(0x300000n)

  it('takes IsRun and Destination from memory, and nothing else', () => {
    const rig = rigWith({ control: guest | on.x2apic })
    const put = (values: Partial<IrteGuest>): void =>
      rig.put(entryAt(1, 0), ...irteGuest({ backingPage: page, ...values }))
    put({ vector: 0x51, gaLogInterrupt: true, gaTag: 1 })
    expect(rig.interrupt(1, 0)).toMatchObject({ notice: 2, source: 1 })
    put({ vector: 0x52, isRunning: true, destination: 0xff123456, gaTag: 2 })
    expect(rig.interrupt(1, 0)).toMatchObject({ notice: 1, destination: 0xff123456, vector: 0x51, source: 2 })
    put({ vector: 0x52, gaTag: 2 })
    expect(rig.interrupt(1, 0)).toMatchObject({ notice: 2, destination: 0, vector: 0x51 })
    expect(rig.gaLog.map((entry) => entry & 0xffffffffn)).toEqual([1n, 1n])
    expect(rig.reads).toEqual([entryAt(1, 0), entryAt(1, 0), entryAt(1, 0)])
  })

  it('does not change when only they do', () => {
    const rig = rigWith({ control: guest })
    rig.put(entryAt(1, 0), ...irteGuest({ isRunning: true, destination: 0xabcdef01, backingPage: page }))
    rig.interrupt(1, 0)
    expect(rig.cache.entries()).toEqual([
      { deviceId: 1, index: 0, isLong: true, words: [0x81, 0, 0x300000, 0] },
    ])
  })

  it('is no use when its table cannot be read any more', () => {
    const rig = rigWith({ control: guest })
    rig.put(entryAt(1, 0), ...irteGuest({ backingPage: page }))
    expect(rig.interrupt(1, 0).outcome).toBe('posted')
    rig.setDte(1, [1n, 1n, 0x2000fffffff00017n, 0n])
    rig.dropDte(1)
    expect(rig.interrupt(1, 0)).toMatchObject({ outcome: 'aborted', source: 0 })
    expect(rig.events).toEqual([[0x3208000000000001n, 0xfffffff00000n]])
  })
})

describe('the cache', () => {
  /** A cache in words of its own. */
  function newCache(capacity?: number): { readonly words: Words; readonly cache: InterruptTableCache } {
    const words = Words.create()
    words.allocate(1)
    return { words, cache: InterruptTableCache.create(words, capacity) }
  }
  const names = (cache: InterruptTableCache): string[] =>
    cache.entries().map(({ deviceId, index }) => `${deviceId}/${index}`)

  it('has a size', () => {
    for (const capacity of [0, -1, 1.5, 2 ** 20 + 1, NaN]) {
      expect(() => newCache(capacity)).toThrow(RangeError)
      expect(() => newCache(capacity)).toThrow(/^capacity .* 1 to 1048576$/)
    }
    expect(names(newCache(2 ** 20).cache)).toEqual([])
  })

  it('forgets everything when one entry more than that comes', () => {
    const { cache } = newCache(3)
    const entry = new Int32Array([1, 2, 3, 4])
    for (const index of [5, 2, 2047]) cache.fill(0xffff, index, true, entry)
    cache.fill(0xffff, 2, true, entry)
    expect(names(cache)).toEqual(['65535/2', '65535/5', '65535/2047'])
    cache.fill(1, 0, false, entry)
    expect(cache.entries()).toEqual([{ deviceId: 1, index: 0, isLong: false, words: [1, 2, 3, 4] }])
  })

  it('may be invalidated before it holds anything', () => {
    const { cache, words } = newCache()
    const before = words.fingerprint()
    cache.invalidate(3)
    cache.invalidateAll()
    expect(cache.find(3, 0, true)).toBe(0)
    expect(words.fingerprint()).toEqual(before)
  })

  it('differs in the fingerprint with every device, index, form and word', () => {
    const seen = new Set<string>()
    let count = 0
    for (const device of [0, 1, 2, 0x100]) {
      for (const index of [0, 1, 2, 3, 4, 8, 16]) {
        for (let word = 0; word < 10; word++) {
          const { cache, words } = newCache()
          const entry = new Int32Array(4)
          entry[word >> 1] = 1
          cache.fill(device, index, (word & 1) === 1, entry)
          seen.add(words.fingerprint().join())
          count++
        }
      }
    }
    expect(seen.size).toBe(count)
  })

  const devices = [0, 1, 2, 0x100, 0x200, 0x600, 0x8000, 0xffff]
  const operation = fc.record({
    who: fc.nat(2),
    what: fc.constantFrom('fill', 'fill', 'fill', 'fill', 'invalidate', 'all', 'fork'),
    device: fc.constantFrom(...devices),
    index: fc.oneof(fc.nat(3), fc.constantFrom(31, 32, 33, 64, 511, 2047)),
    isLong: fc.boolean(),
    value: fc.nat(3),
  })

  it('is what a list of entries would be, in every fork', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 120 }), (operations) => {
        const capacity = 12
        const first = { ...newCache(capacity), list: new Map<string, number[]>() }
        const all = [first]
        for (const { who, what, device, index, isLong, value } of operations) {
          const machine = all[who % all.length]!
          const { words, cache, list } = machine
          words.activate()
          if (what === 'fork' && all.length < 3) {
            const fork = words.fork()
            all.push({ words: fork, cache: cache.forkOnto(fork), list: new Map(list) })
          } else if (what === 'fill') {
            cache.fill(device, index, isLong, new Int32Array([value, device, 0, -1]))
            const key = `${device}/${index}`
            if (!list.has(key) && list.size === capacity) list.clear()
            list.set(key, [isLong ? 1 : 0, value, device, 0, -1])
          } else if (what === 'invalidate') {
            cache.invalidate(device)
            for (const key of list.keys()) if (key.startsWith(`${device}/`)) list.delete(key)
          } else if (what === 'all') {
            cache.invalidateAll()
            list.clear()
          }
        }
        for (const { words, cache, list } of all) {
          const pool = words.activate()
          const held = cache.entries().map((each) => {
            const at = cache.find(each.deviceId, each.index, each.isLong)
            expect([...pool.subarray(at, at + 4)]).toEqual(each.words)
            expect(cache.find(each.deviceId, each.index, !each.isLong)).toBe(0)
            return [`${each.deviceId}/${each.index}`, [each.isLong ? 1 : 0, ...each.words]]
          })
          expect(Object.fromEntries(held)).toEqual(Object.fromEntries(list))
          // The same entries in another order, in a cache that had no others.
          const fresh = newCache(capacity)
          for (const [key, [isLong, ...words4]] of [...list].reverse()) {
            const [device, index] = key.split('/').map(Number)
            fresh.cache.fill(device!, index!, isLong === 1, new Int32Array(words4))
          }
          expect(words.fingerprint()).toEqual(fresh.words.fingerprint())
        }
      }),
      { numRuns: 300 },
    )
  })
})

describe('a fork', () => {
  it('has caches, tables and backing pages of its own', () => {
    const rig = rigWith({ control: guest })
    const page = spaOf(0x300000n)
    rig.put(entryAt(1, 0), ...irte128({ vector: 1 }))
    rig.put(entryAt(1, 1), ...irteGuest({ vector: 5, backingPage: page }))
    rig.interrupt(1, 0)
    const fork = rig.fork()
    expect(fork.fingerprint()).toBe(rig.fingerprint())
    fork.put(entryAt(1, 0), ...irte128({ vector: 2 }))
    fork.cache.invalidateAll()
    expect([rig.interrupt(1, 0).vector, fork.interrupt(1, 0).vector]).toEqual([1, 2])
    fork.interrupt(1, 1)
    expect([rig.load(0x300200n), fork.load(0x300200n)]).toEqual([0n, 32n])
    expect(rig.cache.entries()).toHaveLength(1)
    expect(fork.cache.entries()).toHaveLength(2)
    rig.cache.invalidateAll()
    rig.put(entryAt(1, 0), ...irte128({ vector: 2 }))
    for (const index of [1, 0]) rig.interrupt(1, index)
    expect(rig.fingerprint()).toBe(fork.fingerprint())
  })
})

describe('software and devices that do anything', () => {
  const sizeBytes = 1 << 18

  /** Noise, and words that make some sense as either half of an entry. */
  function wild(random: Random): bigint {
    switch (random.below(4)) {
      case 0:
        return random.bits(64)
      case 1:
        return random.bits(18) & ~0xf00n
      default:
        return (random.bits(40) << 24n) | (random.bits(8) << 8n) | (random.bits(3) << 5n) | 1n
    }
  }

  it('cause no exception, and nothing grows without end', () => {
    const random = new Random(7)
    const rig = InterruptRig.create({ sizeBytes, control: guest, capacity: 64 })
    const outcomes: Record<string, number> = {}
    for (let n = 0; n < 30_000; n++) {
      if (n % 50 === 0) {
        rig.control = random.chance(0.3) ? random.bits(64) : (random.bits(64) & ~(7n << 25n)) | guest
        rig.write(0, random.chance(0.3) ? random.bits(64) : 0x10001n)
      }
      if (random.chance(0.02)) rig.cache.invalidate(random.below(300))
      rig.put(BigInt(random.below(sizeBytes / 8) * 8), wild(random))
      const device = random.below(random.pick([4, 300, 0x10000]))
      if (random.chance(0.5)) {
        const q2 = random.chance(0.5) ? random.bits(64) : 0x2000000000000017n | (random.bits(12) << 6n)
        rig.put(
          0x10000n + BigInt((device % 256) * 32),
          random.bits(64),
          random.bits(64),
          q2,
          wild(random) >> 40n,
        )
        rig.dropDte(device)
      }
      const address = random.chance(0.8) ? 0xfee00000n | random.bits(20) : random.bits(64)
      const data = random.chance(0.5) ? random.below(2 ** 9) : random.below(2 ** 32)
      const { outcome } = rig.interrupt(device, data, address, random.pick([0, 0, 8]))
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
    }
    expect(Object.keys(outcomes).sort()).toEqual(['aborted', 'forwarded', 'posted', 'remapped'])
    expect(Math.min(...Object.values(outcomes))).toBeGreaterThan(20)
    expect(rig.cache.entries().length).toBeLessThanOrEqual(64)
  })

  it('however many interrupts come, the machine takes no more room', () => {
    const rig = rigWith({ control: guest, capacity: 100 })
    for (let index = 0; index < 2048; index++) {
      const page = spaOf(0x400000n + (BigInt(index % 8) << 12n))
      rig.put(
        entryAt(1, index),
        ...irteGuest({ vector: index & 255, gaLogInterrupt: true, backingPage: page }),
      )
    }
    const flood = (): number => {
      for (let n = 0; n < 20_000; n++) rig.interrupt(1, n & 0xff)
      return rig.memory.words.allocate(0)
    }
    const room = flood()
    expect(flood()).toBe(room)
    expect(rig.gaLog).toHaveLength(40_000)
  })
})
