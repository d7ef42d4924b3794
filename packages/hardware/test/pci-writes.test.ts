/** Whatever software writes to the PCI function, only what can be written changes, in the fork that it was written to. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PciFunction } from '../src/pci/index.js'
import type { ConfigBytes } from '../src/pci/index.js'
import { efrBit, featuresWith, memoryOf, newFunction, ones } from './pci-rig.js'

interface Access {
  readonly offset: number
  readonly bytes: ConfigBytes
  readonly value: number
  readonly isShadow: boolean
}

const access: fc.Arbitrary<Access> = fc.record({
  offset: fc.oneof(fc.integer({ min: 0x40, max: 0x98 }), fc.integer({ min: -8, max: 300 })),
  bytes: fc.constantFrom(1 as const, 2 as const, 4 as const),
  value: fc.oneof(fc.constantFrom(0, ones, -1, 1), fc.integer({ min: -(2 ** 31), max: ones })),
  isShadow: fc.boolean(),
})

const everything = featuresWith(efrBit.vIommuSup | efrBit.msiCapMmioSup)

const perform = (pci: PciFunction, accesses: readonly Access[]): void => {
  for (const { offset, bytes, value, isShadow } of accesses) {
    if (isShadow) pci.writeMsiShadow(offset + 0x100, value)
    else pci.writeConfig(offset, bytes, value)
  }
}

const show = (pci: PciFunction): number[] => Array.from({ length: 64 }, (_, i) => pci.readConfig(i * 4, 4))

describe('whatever software writes', () => {
  const options = { features: everything }
  /** Bits that a write can change, by offset. */
  const writable = new Map([
    [0x04, 0x404],
    [0x44, 0xfff80001],
    [0x48, ones],
    [0x64, 0x710000],
    [0x68, 0xfffffffc],
    [0x6c, ones],
    [0x70, 0xffff],
    [0x74, 0x10000],
    [0x88, 0xf0000001],
    [0x8c, ones],
    [0x90, 0xffc00001],
    [0x94, ones],
  ])

  it('changes only what can be written, and locks the base for good', () => {
    const locked = newFunction(options)
    locked.writeConfig(0x44, 4, 0xfeb80001)
    const least = show(newFunction(options))
    fc.assert(
      fc.property(fc.array(access, { maxLength: 40 }), (accesses) => {
        const pci = newFunction(options)
        perform(pci, accesses)
        show(pci).forEach((value, i) => {
          expect((value ^ (least[i] ?? 0)) & ~(writable.get(i * 4) ?? 0)).toBe(0)
        })
        expect(pci.msiVectorsLog2()).toBeLessThanOrEqual(2)
        perform(locked, accesses)
        expect([locked.isEnabled(), locked.mmioBase()]).toEqual([true, 0xfeb80000n])
      }),
      { numRuns: 300 },
    )
  })

  it('reads the same in any size', () => {
    fc.assert(
      fc.property(fc.array(access, { maxLength: 20 }), (accesses) => {
        const pci = newFunction(options)
        perform(pci, accesses)
        for (let offset = 0; offset < 256; offset += 4) {
          const [b0 = 0, b1 = 0, b2 = 0, b3 = 0] = [0, 1, 2, 3].map((n) => pci.readConfig(offset + n, 1))
          expect(pci.readConfig(offset, 4)).toBe((b0 | (b1 << 8) | (b2 << 16) | (b3 << 24)) >>> 0)
          expect(pci.readConfig(offset + 2, 2)).toBe(b2 | (b3 << 8))
        }
      }),
      { numRuns: 50 },
    )
  })

  it('stays in the fork that it was written to, and shows in the fingerprint', () => {
    fc.assert(
      fc.property(
        fc.array(access, { maxLength: 20 }),
        fc.array(access, { maxLength: 20 }),
        fc.array(access, { maxLength: 20 }),
        (first, second, third) => {
          const memory = memoryOf()
          const pci = PciFunction.create(memory.words, options)
          perform(pci, first)
          const twinWords = memory.words.fork()
          const twin = pci.forkOnto(twinWords)
          perform(pci, second)
          perform(twin, third)
          const alone = (...parts: Access[][]): readonly [number[], readonly number[]] => {
            const words = memoryOf().words
            const other = PciFunction.create(words, options)
            perform(other, parts.flat())
            return [show(other), words.fingerprint()]
          }
          expect([show(pci), memory.words.fingerprint()]).toEqual(alone(first, second))
          expect([show(twin), twinWords.fingerprint()]).toEqual(alone(first, third))
          pci.reset()
          expect([show(pci), memory.words.fingerprint()]).toEqual(alone())
          expect(show(twin)).toEqual(alone(first, third)[0])
        },
      ),
      { numRuns: 100 },
    )
  })

  it('makes two functions differ in their fingerprints where they differ in a register', () => {
    const memory = memoryOf()
    const pci = PciFunction.create(memory.words, options)
    const before = memory.words.fingerprint()
    pci.writeConfig(0x68, 4, 0xfee00000)
    expect(memory.words.fingerprint()).not.toEqual(before)
    pci.writeConfig(0x68, 4, 0)
    expect(memory.words.fingerprint()).toEqual(before)
  })
})
