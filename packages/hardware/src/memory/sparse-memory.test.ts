import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SparseMemory } from './sparse-memory.js'

/** Places of interest: neighbours, both sides of 256 GiB, the last word of all. */
const addresses = [
  0n,
  8n,
  0xfff8n,
  0x10000n,
  0x3ffffffff8n,
  0x4000000000n,
  0x123456789abc8n,
  (1n << 52n) - 8n,
]

describe('sparse memory', { timeout: 120_000 }, () => {
  const split = (address: bigint): [number, number] => [
    Number(BigInt.asIntN(32, address)),
    Number(BigInt.asIntN(32, address >> 32n)),
  ]

  const store = fc.record({
    at: fc.constantFrom(...addresses),
    half: fc.constantFrom('low', 'high', 'both'),
    lo: fc.constantFrom(0, 1, -1, 0x12345678),
    hi: fc.constantFrom(0, 2, -5),
  })

  it('holds what was stored, and zero elsewhere, at every height', () => {
    fc.assert(
      fc.property(fc.array(store, { maxLength: 30 }), (stores) => {
        const memory = SparseMemory.create(2 ** 52)
        const plain = new Map<bigint, number>()
        for (const { at, half, lo, hi } of stores) {
          const [addressLo, addressHi] = split(at)
          if (half === 'both') memory.store64(addressLo, addressHi, lo, hi)
          else memory.store32(half === 'low' ? addressLo : addressLo + 4, addressHi, half === 'low' ? lo : hi)
          if (half !== 'high') plain.set(at, lo)
          if (half !== 'low') plain.set(at + 4n, hi)
        }
        for (const at of addresses.flatMap((address) => [address, address + 4n])) {
          expect(memory.load32(...split(at))).toBe(plain.get(at) ?? 0)
        }
      }),
      { numRuns: 60 },
    )
  })

  it('has one fingerprint for equal contents, wherever they lie in the pool', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray(addresses, { minLength: 2 }), (order) => {
        const fill = (from: readonly bigint[]): SparseMemory => {
          const memory = SparseMemory.create(2 ** 52)
          for (const at of from) memory.store64(...split(at), Number(at % 1000n) + 1, 77)
          return memory
        }
        const one = fill(order)
        const other = fill([...order].reverse())
        expect(other.words.fingerprint()).toEqual(one.words.fingerprint())
        other.store64(...split(order[0]!), 0, 0)
        expect(other.words.fingerprint()).not.toEqual(one.words.fingerprint())
        other.store64(...split(order[0]!), Number(order[0]! % 1000n) + 1, 77)
        expect(other.words.fingerprint()).toEqual(one.words.fingerprint())
      }),
      { numRuns: 60 },
    )
  })

  it('has different fingerprints for one value at different places, and for two values swapped', () => {
    const of = (...stores: [bigint, number][]): string => {
      const memory = SparseMemory.create(2 ** 52)
      for (const [at, value] of stores) memory.store32(...split(at), value)
      return memory.words.fingerprint().join()
    }
    const seen = new Set<string>()
    for (const at of addresses) for (const value of [1, 2, -1]) seen.add(of([at, value]))
    expect(seen.size).toBe(addresses.length * 3)
    expect(of([0n, 1], [8n, 2])).not.toBe(of([0n, 2], [8n, 1]))
  })

  it('ends where its size says: there is nothing to read, and a store changes nothing', () => {
    const memory = SparseMemory.create(1 << 20)
    const before = memory.words.fingerprint()
    expect(memory.load32(0xffffc, 0)).toBe(0)
    expect(memory.load32(0x100000, 0)).toBeUndefined()
    expect(memory.load32(0, 1)).toBeUndefined()
    expect(memory.load32(0, -1)).toBeUndefined()
    expect(memory.store32(0x100000, 0, 1)).toBe(false)
    expect(memory.store64(0x100000, 0, 1, 1)).toBe(false)
    expect(memory.words.fingerprint()).toEqual(before)
    expect(memory.sizeBytes).toBe(1 << 20)
  })

  it.each([0, -65536, 1000, 2 ** 52 + 65536, NaN])('cannot have %d bytes', (size) => {
    expect(() => SparseMemory.create(size)).toThrow(RangeError)
  })
})
