/** Entries of guest and GCR3 tables, each kind at each level, without a host table: GPAs are SPAs. */
import { describe, expect, it } from 'vitest'
import { nestingFeatures } from '../src/index.js'
import type { Request } from '../src/index.js'
import { Chip } from './chip.js'
import type { ChipOptions } from './chip.js'

const device = 5
const lowBits = (bits: bigint): bigint => (1n << bits) - 1n
const bit = (n: number | bigint): bigint => 1n << BigInt(n)
/** P, R/W, U/S. */
const open = 7n
const iova = 0x5a7c96a5d000n & lowBits(47n)
const offset = 0x123n
const pasid = 0x155
const gcr3TableAt = (level: number): bigint => 0x10000n + BigInt(level) * 0x1000n
const guestTableAt = (level: number): bigint => 0x20000n + BigInt(level) * 0x1000n
const page = 0x7654321000n
const all = nestingFeatures.efr | bit(3) | bit(37)
const largestGlx = { ...nestingFeatures, efr: (all & ~(3n << 14n)) | (2n << 14n) }

interface Shape extends ChipOptions {
  readonly glx?: number
  readonly guestLevels?: number
  readonly giov?: boolean
}

const indexAt = (address: bigint, level: number): bigint => (address >> BigInt(3 + 9 * level)) & 511n
const entryAt = (level: number): bigint => guestTableAt(level) + indexAt(iova, level) * 8n
const gcr3EntryAt = (level: number, of = pasid): bigint =>
  gcr3TableAt(level) + BigInt((of >> (9 * level)) & 511) * 8n

/** A device with guest tables for one PASID and one page, 4 KiB. */
function chipOf({ glx = 0, guestLevels = 4, giov = false, ...options }: Shape = {}, of = pasid): Chip {
  const chip = Chip.create({ features: largestGlx, ...options })
  const root = gcr3TableAt(glx)
  const rootBits = (((root >> 12n) & 7n) << 58n) | (BigInt(glx) << 56n) | (giov ? bit(54) : 0n)
  const q2 = BigInt(guestLevels - 4) << 54n
  chip.setDte(device, [0x6080000000000003n | rootBits, ((root >> 15n) << 16n) | 9n, q2, 0n])
  for (let level = glx; level >= 0; level--) {
    chip.put([
      gcr3EntryAt(level, of),
      (level === 0 ? guestTableAt(guestLevels) : gcr3TableAt(level - 1)) | 1n,
    ])
  }
  for (let level = guestLevels; level > 0; level--) {
    chip.put([entryAt(level), (level === 1 ? page : guestTableAt(level - 1)) | open])
  }
  return chip
}

/** What the tables say: where the page is, how large, whether it may be written; or the flags of an IO_PAGE_FAULT. */
function ask(chip: Chip, asked: Partial<Request> = {}): object {
  const answer = chip.iommu.walkFresh({ deviceId: device, pasid, iova: iova + offset, ...asked })
  if (answer.kind === 'translated') {
    const { spa, sizeLog2, readable, writable } = answer
    return { spa, sizeLog2, readable, writable }
  }
  if (answer.kind !== 'fault') throw new Error(`expected a fault, not ${answer.kind}`)
  expect(answer.event[0] >> 60n).toBe(2n)
  return { flags: Number((answer.event[0] >> 48n) & 0xfffn) }
}

/** GN and US, and what went wrong. */
const notPresent = { flags: 0x005 }
const reserved = { flags: 0x095 }
const found = { spa: page + offset, sizeLog2: 12, readable: true, writable: true }

describe.each([4, 5])('with %d levels', (guestLevels) => {
  const levels = Array.from({ length: guestLevels }, (_, n) => n + 1)

  describe.each(levels)('a guest table entry of level %d', (level) => {
    const below = level === 1 ? page : guestTableAt(level - 1)
    const askWith = (entry: bigint, asked: Partial<Request> = {}, efr = all): object => {
      const chip = chipOf({ guestLevels, features: { ...nestingFeatures, efr } })
      chip.put([entryAt(level), entry])
      return ask(chip, asked)
    }

    it('is not present with P=0, whatever else it says', () => {
      expect(askWith(below | 6n)).toEqual(notPresent)
      expect(askWith(~1n & lowBits(64n))).toEqual(notPresent)
    })

    it('is ignored in bits 3, 4, 8, 11:9 and 62:52', () => {
      expect(askWith(below | open)).toEqual(found)
      expect(askWith(below | open | 0xf18n | (0x7ffn << 52n))).toEqual(found)
    })

    it('without R/W allows no write, whoever asks', () => {
      const entry = below | 5n
      expect(askWith(entry)).toEqual({ ...found, writable: false })
      expect(askWith(entry, { write: true })).toEqual({ flags: 0x075 })
      expect(askWith(entry, { write: true, supervisor: true })).toEqual({ flags: 0x071 })
    })

    it('without U/S is for supervisors, where USSup is there', () => {
      const entry = below | 3n
      expect(askWith(entry)).toEqual({ flags: 0x055 })
      expect(askWith(entry, { supervisor: true })).toEqual(found)
      expect(askWith(entry, {}, all & ~bit(37))).toEqual(found)
    })

    it('with NX allows no execution, and is reserved without NXSup', () => {
      const entry = below | open | bit(63)
      expect(askWith(entry)).toEqual(found)
      expect(askWith(entry, { execute: true })).toEqual({ flags: 0x057 })
      expect(askWith(below | open, { execute: true })).toEqual(found)
      for (const execute of [false, true]) {
        expect(askWith(entry, { execute }, all & ~bit(3))).toEqual({ flags: execute ? 0x097 : 0x095 })
      }
    })

    it('with PS is a page at levels 2 and 3, PAT at level 1, and reserved above', () => {
      const entry = (below & ~lowBits(BigInt(3 + 9 * level))) | open | 0x80n
      if (level === 1) expect(askWith(entry)).toEqual(found)
      else if (level > 3) expect(askWith(entry)).toEqual(reserved)
      else {
        const size = BigInt(3 + 9 * level)
        const large = (0x7600000000n & ~lowBits(size)) | open | 0x80n
        const spa = (0x7600000000n & ~lowBits(size)) | ((iova + offset) & lowBits(size))
        const expected = { ...found, spa, sizeLog2: Number(size) }
        expect(askWith(large)).toEqual(expected)
        // Bit 12 is PAT, and the others below the size are reserved.
        expect(askWith(large | 0x1000n)).toEqual(expected)
        for (let n = 13n; n < size; n++) expect(askWith(large | bit(n)), `bit ${n}`).toEqual(reserved)
      }
    })
  })

  it('an address of a PASID above 0 is sign-extended, that of PASID 0 zero-extended: PR=0', () => {
    const width = guestLevels === 5 ? 57n : 48n
    const tagged = chipOf({ guestLevels })
    const zero = chipOf({ guestLevels, giov: true }, 0)
    const signed = chipOf({ guestLevels, switches: { pasid0Tagged: 'sign-extended' }, giov: true }, 0)
    const above = lowBits(64n) & ~lowBits(width)
    for (let n = width - 1n; n < 64n; n++) {
      const address = iova | bit(n)
      expect(ask(tagged, { iova: address }), `bit ${n}`).toEqual(notPresent)
      expect(ask(zero, { pasid: 0, iova: address })).toEqual(notPresent)
      expect(ask(zero, { pasid: undefined, iova: address })).toEqual(notPresent)
      expect(ask(signed, { pasid: 0, iova: address })).toEqual(notPresent)
    }
    // The upper half, mapped to the same page.
    const upper = iova | bit(width - 1n)
    for (const chip of [tagged, zero, signed]) {
      const at = guestTableAt(guestLevels) + indexAt(upper, guestLevels) * 8n
      chip.put([at, guestTableAt(guestLevels - 1) | open])
    }
    const whole = { ...found, spa: page }
    expect(ask(tagged, { iova: upper | above })).toEqual(whole)
    expect(ask(tagged, { iova: upper })).toEqual(notPresent)
    expect(ask(signed, { pasid: 0, iova: upper | above })).toEqual(whole)
    expect(ask(signed, { pasid: 0, iova: upper })).toEqual(notPresent)
    expect(ask(signed, { pasid: undefined, iova: upper })).toEqual(whole)
    for (const named of [0, undefined]) {
      expect(ask(zero, { pasid: named, iova: upper })).toEqual(whole)
      expect(ask(zero, { pasid: named, iova: upper | above })).toEqual(notPresent)
    }
  })

  it('by choice an address that is not canonical has PR=1', () => {
    const chip = chipOf({ guestLevels, switches: { nonCanonical: 'pr-1' } })
    expect(ask(chip, { iova: bit(60) })).toEqual({ flags: 0x015 })
  })
})

describe.each([0, 1, 2])('a GCR3 table of GLX %d', (glx) => {
  const covered = [512, 0x40000, 0x100000][glx] ?? 0

  it.each([0, 1, 0x155, 0x1ff, 0x200, 0x3feab, 0x3ffff, 0x40000, 0xc1355, 0xfffff])(
    'leads to the tables of PASID %d by its bits, or does not cover it: PR=0',
    (of) => {
      const chip = chipOf({ glx }, of)
      expect(ask(chip, { pasid: of })).toEqual(of < covered ? found : notPresent)
      if (of >= covered) {
        const other = chipOf({ glx, switches: { pasidBeyondGlx: 'pr-1' } }, of)
        expect(ask(other, { pasid: of })).toEqual({ flags: 0x015 })
        const ignoring = chipOf({ glx, switches: { pasidBeyondGlx: 'ignored' } }, of)
        expect(ask(ignoring, { pasid: of })).toEqual(found)
        return
      }
      // A PASID that differs in any bit that counts has no tables.
      for (let n = 0; 1 << n < covered; n++) expect(ask(chip, { pasid: of ^ (1 << n) })).toEqual(notPresent)
    },
  )

  it('has entries that are valid or not, and reserved bits 11:1 and 63:52, at each level', () => {
    for (let level = 0; level <= glx; level++) {
      const at = gcr3EntryAt(level)
      const chip = chipOf({ glx })
      const entry = chip.load(at) ?? 0n
      for (let n = 1n; n < 64n; n++) {
        if (n === 12n) n = 52n
        chip.put([at, entry | bit(n)])
        expect(ask(chip), `level ${level} bit ${n}`).toEqual(reserved)
        chip.put([at, (entry | bit(n)) & ~1n])
        expect(ask(chip), `level ${level} bit ${n}`).toEqual(notPresent)
      }
    }
  })
})
