/** Entries of host tables, each kind at each level: what is a leaf and of which size, what leads on, and what faults. */
import { describe, expect, it } from 'vitest'
import { nestingFeatures } from '../src/index.js'
import { Chip, quietControl, register } from './chip.js'
import type { ChipOptions } from './chip.js'

const device = 5
const top = 0x100000000n
const next = 0x100001000n
const readWrite = 3n << 61n
const levels = [1, 2, 3, 4, 5, 6] as const
const shiftOf = (level: number): bigint => BigInt(3 + 9 * level)
const lowBits = (bits: bigint): bigint => (1n << bits) - 1n
/** Bits all over the address. */
const pattern = 0x5a3c96a5d2b4e7f9n

/** A chip whose device has a host table of `mode` levels. */
function chipOf(mode: number, options: ChipOptions = {}): Chip {
  const chip = Chip.create(options)
  chip.setDte(device, [0x6000000000000003n | (BigInt(mode) << 9n) | top, 9n, 0n, 0n])
  return chip
}

/** What the tables say: the flags of an IO_PAGE_FAULT, or where the page is and how large. */
function ask(chip: Chip, iova: bigint, write = false): object {
  const answer = chip.iommu.walkFresh({ deviceId: device, iova, write })
  if (answer.kind === 'translated') return { spa: answer.spa, sizeLog2: answer.sizeLog2 }
  if (answer.kind !== 'fault') throw new Error(`expected a fault, not ${answer.kind}`)
  expect(answer.event[0] >> 60n).toBe(2n)
  return { flags: Number((answer.event[0] >> 48n) & 0xfffn) }
}

/** The same with `entry` in the top table, of `mode` levels, where the address leads. */
function askBy(entry: bigint, chip: Chip, mode: number, iova: bigint, write = false): object {
  chip.put([top + ((iova >> shiftOf(mode)) & 0x1ffn) * 8n, entry])
  return ask(chip, iova, write)
}

const notPresent = { flags: 0x000 }
const badLevel = { flags: 0x010 }
const reserved = { flags: 0x090 }
const denied = (write: boolean): object => ({ flags: write ? 0x070 : 0x050 })

describe.each(levels)('an entry of a table of level %d', (level) => {
  const shift = shiftOf(level)
  const width = level === 6 ? 64n : shift + 9n
  const iova = pattern & lowBits(width)
  const chip = chipOf(level)

  it('with NextLevel 0 is a page of the size of the level, whatever the address bits below; none at level 6', () => {
    const entry = readWrite | 1n | (pattern & lowBits(52n) & ~0xfffn)
    const spa = (pattern & lowBits(52n) & ~lowBits(shift)) | (iova & lowBits(shift))
    const expected = level === 6 ? badLevel : { spa, sizeLog2: Number(shift) }
    expect(askBy(entry, chip, level, iova)).toEqual(expected)
  })

  it('with NextLevel 7 is a page of each size between those of its level and the next, up to 2^51', () => {
    for (let size = 13n; size <= 53n; size++) {
      const frame = pattern & lowBits(52n) & ~lowBits(size)
      // All ones below the lowest zero, which is at bit size - 1.
      const entry = readWrite | 0xe01n | frame | (lowBits(size - 1n) & lowBits(52n) & ~0xfffn)
      const isLegal = size > shift && size < shift + 9n && size <= 51n && level < 6
      const spa = frame | (iova & lowBits(size))
      const expected = isLegal ? { spa, sizeLog2: Number(size) } : badLevel
      expect(askBy(entry, chip, level, iova), `size ${size}`).toEqual(expected)
    }
  })

  it.each(levels)('leads to a table of level %d, if that is a lower one', (below) => {
    const entry = readWrite | next | (BigInt(below) << 9n) | 1n
    const skipped = lowBits(shift) & ~lowBits(shiftOf(below) + 9n)
    const leaf = readWrite | 0x300000001n
    const leafAt = (address: bigint): bigint => next + ((address >> shiftOf(below)) & 0x1ffn) * 8n
    const within = iova & ~skipped
    if (below >= level) {
      expect(askBy(entry, chip, level, within)).toEqual(badLevel)
      return
    }
    chip.put([leafAt(within), leaf])
    expect(askBy(entry, chip, level, within)).toMatchObject({ sizeLog2: Number(shiftOf(below)) })
    // Address bits that belong to a level in between must be zero.
    for (let bit = shiftOf(below) + 9n; bit < shift; bit++) {
      expect(ask(chip, within | (1n << bit)), `bit ${bit}`).toEqual(badLevel)
    }
  })

  it('is not present with PR=0, whatever else it says', () => {
    for (const entry of [0n, ~1n & lowBits(64n), readWrite | next | 0x10n]) {
      expect(askBy(entry, chip, level, iova)).toEqual(notPresent)
    }
  })

  it('has reserved bits 60:52, as a leaf 58:52, and ignores 8:7, 6, 4:1 and 63', () => {
    for (let bit = 52n; bit <= 60n; bit++) {
      const directory = readWrite | next | (1n << 9n) | 1n | (1n << bit)
      expect(askBy(directory, chip, level, iova)).toEqual(reserved)
      const leaf = readWrite | 0x4000000000n | 1n | (1n << bit)
      const expected = level === 6 ? badLevel : { sizeLog2: Number(shift) }
      expect(askBy(leaf, chip, level, iova)).toMatchObject(bit <= 58n ? reserved : expected)
    }
    for (const bit of [1n, 2n, 3n, 4n, 6n, 7n, 8n, 63n]) {
      const leaf = readWrite | 0x4000000000n | 1n | (1n << bit)
      const expected = level === 6 ? badLevel : { sizeLog2: Number(shift) }
      expect(askBy(leaf, chip, level, iova)).toMatchObject(expected)
    }
  })

  it.each([false, true])(
    'refuses what it does not grant before its level is looked at: write %s',
    (write) => {
      const right = write ? 1n << 62n : 1n << 61n
      // A leaf, a directory, and a level that cannot be.
      for (const nextLevel of [0n, 1n, BigInt(level)]) {
        const entry = (readWrite & ~right) | next | (nextLevel << 9n) | 1n
        const at = nextLevel === 0n ? iova : iova & ~lowBits(shift)
        expect(askBy(entry, chip, level, at, write)).toEqual(denied(write))
      }
    },
  )

  it('is not looked at for an address above the width of Mode: PR=0, by choice PR=1', () => {
    const other = chipOf(level, { switches: { aboveWidth: 'pr-1' } })
    for (let bit = width; bit < 64n; bit++) {
      const above = iova | (1n << bit)
      expect(askBy(readWrite | 0xe01n, chip, level, above), `bit ${bit}`).toEqual(notPresent)
      expect(askBy(readWrite | 0xe01n, other, level, above), `bit ${bit}`).toEqual(badLevel)
    }
  })
})

describe('bits 58:57 of a leaf', () => {
  it('tell the state of a page’s migration, where that is there and on, and are reserved otherwise', () => {
    const migrating = 1n << 56n
    for (const hasFeature of [false, true]) {
      const efr2 = (nestingFeatures.efr2 & ~4n) | (hasFeature ? 4n : 0n)
      const chip = chipOf(1, { features: { ...nestingFeatures, efr2 } })
      for (const isOn of [false, true, false]) {
        chip.write(register.control, quietControl | (isOn ? migrating : 0n))
        for (const bit of [57n, 58n]) {
          const expected = hasFeature && isOn ? { spa: 0x4000000000n, sizeLog2: 12 } : reserved
          expect(askBy(readWrite | 0x4000000001n | (1n << bit), chip, 1, 0n)).toEqual(expected)
        }
        expect(askBy(readWrite | 0x4000000001n | (1n << 56n), chip, 1, 0n)).toEqual(reserved)
      }
    }
  })
})

describe('by choice', () => {
  it('a leaf of 512 GiB is refused, and no other', () => {
    const refusing = (level: number): Chip => chipOf(level, { switches: { leaf512G: 'refused' } })
    for (const level of levels.slice(0, 5)) {
      const iova = pattern & lowBits(shiftOf(level))
      const expected = level === 4 ? badLevel : { spa: iova, sizeLog2: 3 + 9 * level }
      expect(askBy(readWrite | 1n, refusing(level), level, iova)).toEqual(expected)
    }
    const coded = readWrite | 0xe01n | (lowBits(39n) & ~0xfffn)
    expect(askBy(coded, refusing(4), 4, 0n)).toEqual({ spa: 0n, sizeLog2: 40 })
  })

  it('sizes above 2^51 are accepted at level 5', () => {
    const chip = chipOf(5, { switches: { sizeAbove2p51: 'accepted' } })
    for (const size of [52n, 53n]) {
      const entry = readWrite | 0xe01n | (lowBits(size - 1n) & lowBits(52n) & ~0xfffn)
      expect(askBy(entry, chip, 5, 0x1234n)).toEqual({ spa: 0x1234n, sizeLog2: Number(size) })
    }
  })

  it('address bits below the size of a leaf with NextLevel 0 are reserved, those of its size code are not', () => {
    for (const level of [2, 3, 4, 5]) {
      const chip = chipOf(level, { switches: { leafLowBits: 'reserved' } })
      const shift = shiftOf(level)
      for (let bit = 12n; bit < 52n; bit++) {
        const expected = bit < shift ? reserved : { spa: 1n << bit, sizeLog2: Number(shift) }
        expect(askBy(readWrite | 1n | (1n << bit), chip, level, 0n), `bit ${bit}`).toEqual(expected)
      }
      const coded = readWrite | 0xe01n | (lowBits(shift) & ~0xfffn)
      expect(askBy(coded, chip, level, 0n)).toEqual({ spa: 0n, sizeLog2: Number(shift) + 1 })
    }
  })

  it.each([
    [0n, 4, 0x090],
    [1n, 5, 0x090],
  ])('a NextLevel deeper than HATS %s is told with RZ=1, or RZ=0', (hats, deepest, flags) => {
    const features = { ...nestingFeatures, efr: (nestingFeatures.efr & ~0xc00n) | (hats << 10n) }
    const chip = chipOf(4, { features })
    const other = chipOf(4, { features, switches: { nextLevelBeyondHats: 'rz-0' } })
    for (const nextLevel of levels.slice(3)) {
      const entry = readWrite | next | (BigInt(nextLevel) << 9n) | 1n
      expect(askBy(entry, chip, 4, 0n)).toEqual(nextLevel > deepest ? { flags } : badLevel)
      expect(askBy(entry, other, 4, 0n)).toEqual(badLevel)
    }
  })
})
