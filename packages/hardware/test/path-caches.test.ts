/** What the model's own caches come from: a change to any word of it is noticed at once. */
import { describe, expect, it } from 'vitest'
import { wordOf } from '@nestwalk/bits'
import { nestingFeatures } from '../src/index.js'
import type { FeatureRegisters, Iommu } from '../src/index.js'
import { Chip, controlBit, quietControl } from './chip.js'
import { mapHost, pagesFrom } from './tables.js'

const deviceId = 5
const iova = 0x7f1234567000n
const pasid = 0x215
const host = { root: 0x100000000n, mode: 4 }

interface Shape {
  /** Bits of the entries in guest tables. */
  readonly entryBits?: bigint
  readonly features?: FeatureRegisters
  /** 4 or 5. */
  readonly guestLevels?: number
}

/**
 * A nested device whose tables, and whose page, lie 512 GiB apart in the guest: each has host tables of its own below
 * the root, so that no change is noticed for the sake of another one.
 */
function spreadChip(tablePageCache: boolean, shape: Shape = {}): Chip {
  const { entryBits = 0x67n, features = nestingFeatures, guestLevels = 4 } = shape
  const chip = Chip.create({ tablePageCache, features, control: quietControl })
  const hostTables = pagesFrom(0x100001000n)
  // GCR3 tables of two levels, guest tables, the page.
  const pages = Array.from({ length: guestLevels + 3 }, (_, n) => {
    const number = BigInt(n)
    return { gpa: (number << 39n) | (number << 30n) | 0x200000n, spa: 0x200000000n + (number << 12n) }
  })
  for (const { gpa, spa } of pages) mapHost(chip, host, hostTables, gpa, spa)
  const top = pages[0]?.gpa ?? 0n
  const shifts = [9n, 0n, ...[48n, 39n, 30n, 21n, 12n].slice(-guestLevels)]
  pages.slice(1).forEach(({ gpa }, n) => {
    const index = ((n < 2 ? BigInt(pasid) : iova) >> (shifts[n] ?? 0n)) & 511n
    chip.put([(pages[n]?.spa ?? 0n) + index * 8n, gpa | (n < 2 ? 1n : entryBits)])
  })
  // V, TV, IR, IW, GV, Mode 4, GLX 1; the GCR3 root is bits 14:12 and 30:15 of a GPA; GuestPagingMode.
  const q0 = 0x6180000000000803n | host.root | (((top >> 12n) & 7n) << 58n)
  chip.setDte(deviceId, [q0, (((top >> 15n) & 0xffffn) << 16n) | 9n, BigInt(guestLevels - 4) << 54n, 0n])
  return chip
}

/** The words that a walk reads, in order. */
function wordsRead(chip: Chip, asked: Parameters<Iommu['request']>[0]): bigint[] {
  const words: bigint[] = []
  chip.iommu.watch({
    read: (kind, lo, hi) => {
      if (kind !== 'device-table') words.push(wordOf(lo, hi))
    },
    store: () => undefined,
  })
  chip.iommu.walkFresh(asked)
  chip.iommu.watch(null)
  return words
}

const dropAll = (chip: Chip): number => chip.command([0x8000000000000000n, 0n])

/** The answers of the chip with the caches and of the one without, after the same. */
function expectSame(ask: (chip: Chip) => unknown, ...chips: readonly [Chip, Chip]): void {
  const [withCaches, without] = chips.map(ask)
  expect(withCaches).toEqual(without)
  expect(chips[0].fingerprint()).toBe(chips[1].fingerprint())
}

describe('a walk by known paths', () => {
  const request = { deviceId, pasid, iova }

  it('counts the reads of a whole one', () => {
    const chip = spreadChip(true)
    for (let n = 0; n < 3; n++) {
      expect(chip.iommu.request(request)).toMatchObject({ kind: 'translated', from: 'walk', reads: 34 })
      dropAll(chip)
    }
  })

  // Present, write, user, A, PS or size bits, levels, address, reserved, NX, IR, IW.
  const bits = [0, 1, 2, 5, 7, 9, 10, 11, 12, 13, 21, 52, 55, 61, 62, 63]

  it.each(['read', 'write'])('notices a change to any word that it came by, before a %s', (kind) => {
    const asked = { ...request, write: kind === 'write' }
    const words = wordsRead(spreadChip(false), request)
    expect(words).toHaveLength(34)
    for (const word of words) {
      const chips = [spreadChip(true), spreadChip(false)] as const
      for (const bit of bits) {
        expectSame((chip) => [chip.iommu.request(request), dropAll(chip)], ...chips)
        expectSame((chip) => [chip.iommu.request(request), dropAll(chip)], ...chips)
        for (const chip of chips) chip.put([word, (chip.load(word) ?? 0n) ^ (1n << BigInt(bit))])
        expectSame((chip) => chip.iommu.request(asked), ...chips)
        for (const chip of chips) chip.put([word, (chip.load(word) ?? 0n) ^ (1n << BigInt(bit))])
        dropAll(chips[0])
        dropAll(chips[1])
        expectSame((chip) => chip.iommu.request(asked), ...chips)
      }
    }
  })

  it('refuses what a directory refuses, where that directory lies', () => {
    for (const missing of [2n, 4n]) {
      const chips = [spreadChip(true), spreadChip(false)] as const
      const words = wordsRead(chips[1], request)
      // The entry of each guest table comes after the host walk to it.
      for (const word of [14, 19, 24, 29].map((n) => words[n] ?? 0n)) {
        for (const chip of chips) chip.put([word, (chip.load(word) ?? 0n) & ~missing])
        for (const asked of [
          { ...request, supervisor: true },
          { ...request, supervisor: true },
          { ...request, supervisor: true, write: true },
          request,
        ]) {
          expectSame((chip) => [chip.iommu.request(asked), dropAll(chip)], ...chips)
        }
        for (const chip of chips) chip.put([word, (chip.load(word) ?? 0n) | missing])
      }
    }
  })

  it('sets A and D as a whole one does, whatever was cleared in the meantime', () => {
    const chips = [spreadChip(true, { entryBits: 7n }), spreadChip(false, { entryBits: 7n })] as const
    const words = wordsRead(chips[1], request)
    const marking =
      (quietControl & ~(controlBit.guestAccessedOff | controlBit.guestDirtyOff)) | controlBit.hostDirty
    for (const chip of chips) {
      chip.write(0x18, marking)
      const [first = 0n, ...rest] = [0, 8, 16, 24].map(
        (n) => chip.load(0x4000000n + BigInt(deviceId * 32 + n)) ?? 0n,
      )
      chip.setDte(deviceId, [first | (3n << 7n), ...rest])
    }
    const ask = (write: boolean): void => {
      expectSame((chip) => [chip.iommu.request({ ...request, write }), dropAll(chip)], ...chips)
    }
    for (const write of [false, false, true, true, false]) ask(write)
    for (const word of words) {
      for (const chip of chips) chip.put([word, (chip.load(word) ?? 0n) & ~0x60n])
      ask(false)
      ask(true)
    }
    expect(words.filter((word) => (chips[0].load(word) ?? 0n) >> 5n !== 0n)).toHaveLength(34)
  })

  it.each([4, 5])('is one of its PASID and its address: %d levels', (guestLevels) => {
    const chips = [spreadChip(true, { guestLevels }), spreadChip(false, { guestLevels })] as const
    const ask = (asked: typeof request): void => {
      expectSame((chip) => [chip.iommu.request(asked), dropAll(chip)], ...chips)
    }
    for (let n = 0; n < 4096; n++) {
      // Often enough for each of them to be looked for where the known path is.
      ask(request)
      ask({ ...request, pasid: n })
    }
    for (let bit = 12n; bit < 64n; bit++) {
      ask(request)
      ask({ ...request, iova: iova ^ (1n << bit) })
      ask({ ...request, iova: iova ^ ((0xffffn << bit) & 0xffffffffffffffffn) })
    }
  })

  it.each([undefined, pasid])('is one of what the entry of the device says: PASID %s', (named) => {
    const chips = [spreadChip(true), spreadChip(false)] as const
    const asked = { deviceId, iova: named === undefined ? 0x200000n : iova, pasid: named }
    const base = [0, 8, 16, 24].map(
      (offset) => chips[0].load(0x4000000n + BigInt(deviceId * 32 + offset)) ?? 0n,
    )
    // HAD, Mode, host root, GLX, GCR3 root, IR, IW; GCR3 root; GuestPagingMode.
    const changes = [
      ...[3n << 7n, 1n << 9n, 1n << 12n, 1n << 32n, 1n << 56n, 1n << 58n, 1n << 61n, 1n << 62n].map(
        (bits) => [bits],
      ),
      ...[1n << 16n, 1n << 43n, 1n << 52n].map((bits) => [0n, bits]),
      [0n, 0n, 1n << 54n],
    ]
    for (const chip of chips) chip.write(0x18, quietControl | controlBit.hostDirty)
    for (const change of changes) {
      for (const [n, write] of [false, false, true, false].entries()) {
        const words = base.map((word, quad) => (n === 1 || n === 2 ? word ^ (change[quad] ?? 0n) : word))
        for (const chip of chips) chip.setDte(deviceId, words)
        const ask = (chip: Chip): unknown => [dropAll(chip), chip.iommu.request({ ...asked, write })]
        expectSame(ask, ...chips)
        expectSame(ask, ...chips)
      }
    }
  })

  it('is one of all bits of a host address', () => {
    const make = (tablePageCache: boolean): Chip => {
      const chip = Chip.create({ tablePageCache })
      mapHost(chip, { ...host, mode: 6 }, pagesFrom(0x100001000n), iova, 0x300000000n)
      chip.setDte(deviceId, [0x6000000000000c03n | host.root, 9n, 0n, 0n])
      return chip
    }
    const chips = [make(true), make(false)] as const
    for (let bit = 12n; bit < 64n; bit++) {
      for (const asked of [iova, iova ^ (1n << bit)]) {
        expectSame((chip) => [chip.iommu.request({ deviceId, iova: asked }), dropAll(chip)], ...chips)
      }
    }
    expect(chips[0].iommu.request({ deviceId, iova })).toMatchObject({ kind: 'translated', reads: 6 })
  })

  it('does not count where it has changed what it read before', () => {
    // The GCR3 table is the guest's top table, too: that A is set in an entry makes it one with a reserved bit.
    const make = (tablePageCache: boolean): Chip => {
      const chip = Chip.create({ tablePageCache })
      const [table, next] = [0x8000n, 0x9000n]
      // Mode 0, GLX 0: GPAs are SPAs. Entry 3 leads to the same table, entry 4 of that to the next one.
      chip.put([table + 3n * 8n, table | 1n], [table + 4n * 8n, next | 0x21n])
      chip.put([next, 0x200000n | 0xa1n])
      chip.setDte(deviceId, [0x6080000000000003n, ((table >> 15n) << 16n) | 9n, 0n, 0n])
      chip.write(0x18, quietControl & ~(controlBit.guestAccessedOff | controlBit.guestDirtyOff))
      return chip
    }
    const chips = [make(true), make(false)] as const
    const asked = { deviceId, pasid: 3, iova: (3n << 39n) | (4n << 30n), supervisor: true }
    for (const kind of ['translated', 'fault', 'fault']) {
      expectSame((chip) => [chip.iommu.request(asked), dropAll(chip)], ...chips)
      expect(chips[0].iommu.walkFresh(asked).kind).toBe(kind === 'translated' ? 'fault' : kind)
    }
    expect(chips[0].load(0x8018n)).toBe(0x8021n)
  })

  it('holds only as long as leaves have the same reserved bits', () => {
    const features = { ...nestingFeatures, efr2: nestingFeatures.efr2 | 4n }
    const migrating = quietControl | (1n << 56n)
    const chips = [spreadChip(true, { features }), spreadChip(false, { features })] as const
    // Bit 57 tells the state of a page's migration while that is on, and is reserved otherwise.
    const [word = 0n] = wordsRead(chips[1], request).slice(18)
    for (const chip of chips) chip.put([word, (chip.load(word) ?? 0n) | (1n << 57n)])
    for (const control of [migrating, migrating, quietControl, migrating, quietControl]) {
      for (const chip of chips) chip.write(0x18, control)
      const kind = control === migrating ? 'translated' : 'fault'
      expectSame((chip) => [chip.iommu.request(request).kind, dropAll(chip)], ...chips)
      expect(chips[0].iommu.walkFresh(request).kind).toBe(kind)
    }
  })
})
