/** Where the model must not go by paths that it knows: what is refused on the way, what is watched, what silicon caches. */
import { describe, expect, it } from 'vitest'
import type { MicroArchitecture, Request } from '../src/index.js'
import { controlBit, quietControl } from './chip.js'
import type { Chip, ChipOptions } from './chip.js'
import { guestDirectoryAt, guestPages, hostEntryAt, hostPages, nestedChip, nestedDte } from './tables.js'
import { watching } from './watch.js'

const device = 5
const hashed = { kind: 'hashed', capacityLog2: 8 } as const
const writable = 1n << 62n
/** Entries of the host's directories on the way to every page. */
const hostDirectories = [0x100000000n, 0x100001000n] as const
const ofHost = { deviceId: device, iova: hostPages }
const nested = { deviceId: device, iova: guestPages, pasid: 5 }
const dropAll = (chip: Chip): number => chip.command([0x8000000000000000n, 0n])

/** A chip that goes by known paths, and one that does not. */
function pairOf(options: ChipOptions = {}, moreQ0 = 0n): readonly [Chip, Chip] {
  const make = (tablePageCache: boolean): Chip => {
    const chip = nestedChip([device], { ...options, tablePageCache })
    const [q0 = 0n, ...rest] = nestedDte(device)
    chip.setDte(device, [q0 | moreQ0, ...rest])
    return chip
  }
  return [make(true), make(false)]
}

/** Both answer the same, and have the same memory afterwards. */
function expectSame(pair: readonly [Chip, Chip], ask: (chip: Chip) => unknown): void {
  const [known, walked] = pair.map(ask)
  expect(known).toEqual(walked)
  expect(pair[0].fingerprint()).toBe(pair[1].fingerprint())
}

describe('a directory that refuses', () => {
  it.each([
    ['of the host', ofHost, hostDirectories[0], writable],
    ['of the host, lower', ofHost, hostDirectories[1], writable],
    ['of the host, for a page of the guest', nested, hostDirectories[1], writable],
    ['of the guest', nested, guestDirectoryAt(1), 2n],
  ] as const)('is where a write ends, by a known path too: %s', (_, asked, at, right) => {
    for (const control of [quietControl, quietControl | controlBit.hostDirty]) {
      const pair = pairOf({ control }, 3n << 7n)
      for (const chip of pair) chip.put([at, (chip.load(at) ?? 0n) & ~right])
      expectSame(pair, (chip) => [chip.iommu.request(asked), dropAll(chip)])
      expectSame(pair, (chip) => [chip.iommu.request({ ...asked, write: true }), dropAll(chip)])
      expectSame(pair, (chip) => [chip.iommu.request(asked), dropAll(chip)])
      for (const chip of pair) expect(chip.iommu.request({ ...asked, write: true }).kind).toBe('fault')
    }
  })
})

describe('a leaf that refuses', () => {
  it.each([
    ['absent', 0n],
    ['reserved', (3n << 61n) | (1n << 52n) | 1n],
    ['of a level that cannot be', (3n << 61n) | 0x401n],
    ['denied', 1n],
  ])('leaves nothing behind that is not so: %s', (_, entry) => {
    const pair = pairOf()
    const before = pair[0].load(hostEntryAt(hostPages)) ?? 0n
    for (const asked of [ofHost, nested]) {
      for (const value of [entry, before, entry, before]) {
        for (const chip of pair) chip.put([hostEntryAt(hostPages), value])
        expectSame(pair, (chip) => [chip.iommu.request(asked), dropAll(chip)])
      }
    }
  })
})

describe('a large page', () => {
  it('that becomes a table of pages is walked through that table, and back', () => {
    const pair = pairOf()
    const directory = pair[0].load(guestDirectoryAt(1)) ?? 0n
    const asked = { ...nested, iova: guestPages + 0x5000n }
    for (const chip of pair) chip.put([guestDirectoryAt(1), 0x87n])
    for (const entry of [0x87n, directory, 0x87n, directory, directory]) {
      for (const chip of pair) chip.put([guestDirectoryAt(1), entry])
      expectSame(pair, (chip) => [chip.iommu.request(asked), dropAll(chip)])
    }
    expect(pair[0].iommu.request(asked)).toMatchObject({ spa: 0x200000000n + hostPages + 0x5000n })
  })
})

describe('a watched walk', () => {
  it.each([
    ['of the host', ofHost, 3],
    ['of nested tables', nested, 27],
  ] as const)('tells every entry, though the path is known: %s', (_, asked, reads) => {
    const [chip] = pairOf()
    for (let times = 0; times < 3; times++) {
      expect(chip.iommu.request(asked)).toMatchObject({ from: 'walk', reads })
      dropAll(chip)
      const seen = watching(chip.iommu, () => chip.iommu.request(asked))
      expect(seen.reads).toHaveLength(reads)
      dropAll(chip)
    }
  })
})

describe('a look', () => {
  it('sets no bit that the walk before has set by a known path', () => {
    const control =
      (quietControl & ~(controlBit.guestAccessedOff | controlBit.guestDirtyOff)) | controlBit.hostDirty
    const pair = pairOf({ control }, 3n << 7n)
    const clear = (chip: Chip): void => {
      chip.put([hostEntryAt(hostPages), (chip.load(hostEntryAt(hostPages)) ?? 0n) & ~0x60n])
    }
    for (const asked of [ofHost, nested]) {
      for (const write of [false, true]) {
        expectSame(pair, (chip) => [chip.iommu.request({ ...asked, write }), dropAll(chip)])
        pair.forEach(clear)
        expectSame(pair, (chip) => chip.iommu.walkFresh({ ...asked, write }))
        expect((pair[0].load(hostEntryAt(hostPages)) ?? 0n) & 0x60n).toBe(0n)
        expectSame(pair, (chip) => [chip.iommu.request({ ...asked, write }), dropAll(chip)])
      }
    }
  })
})

describe('the caches of silicon', () => {
  it.each<[string, Partial<MicroArchitecture>]>([
    ['page-walk cache', { pageWalkCache: hashed }],
    ['guest CR3s', { gcr3Cache: hashed }],
    ['split', { nestedEntries: 'split' }],
    ['both', { nestedEntries: 'both', remembersGpas: true }],
    ['absent pages', { cachesAbsent: true }],
  ])('shorten walks by as much as without known paths: %s', (_, microArchitecture) => {
    const pair = pairOf({ microArchitecture })
    const requests: readonly Request[] = [
      ...[ofHost, nested].flatMap((asked) => [0n, 0x1000n].map((n) => ({ ...asked, iova: asked.iova + n }))),
      { ...nested, pasid: 0 },
      { ...nested, pasid: 6 },
      { ...ofHost, iova: 0x300000n },
    ]
    for (const flushes of [false, true, false]) {
      for (const asked of requests) expectSame(pair, (chip) => chip.iommu.request(asked))
      if (flushes) for (const chip of pair) dropAll(chip)
    }
  })
})
