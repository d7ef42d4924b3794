/** PREFETCH_IOMMU_PAGES: what its Inval bit reaches, and where its pages lie. */
import { describe, expect, it } from 'vitest'
import { nestingFeatures } from '../src/index.js'
import {
  guestEntryAt,
  guestPages,
  hostEntryAt,
  hostPages,
  mapHost,
  nestedChip,
  nestedDte,
  pagesFrom,
} from './tables.js'
import { Chip, register, place, statusBit } from './chip.js'
import type { ChipOptions } from './chip.js'

type Command = readonly [lo: bigint, hi: bigint]

const features = { ...nestingFeatures, efr: nestingFeatures.efr | 1n }
const gn = 4n
const inval = 0x10n
const prefetch = (count: bigint, hi: bigint, deviceId = 1n, pasid = 0n): Command => [
  0x6000000000000000n | (pasid << 32n) | (count << 24n) | deviceId,
  hi,
]
const chipOf = (domains: readonly number[], options: ChipOptions = {}): Chip =>
  nestedChip(domains, { features, ...options })
const hostRequest = { deviceId: 1, iova: hostPages }
const guestRequest = { deviceId: 1, pasid: 5, iova: guestPages }
const oldPage = { spa: 0x200000000n + hostPages }
const newPage = { spa: 0x300000000n }
const moveHostPage = (chip: Chip): void => chip.put([hostEntryAt(hostPages), 0x6000000300000001n])
const moveGuestPage = (chip: Chip): void => chip.put([guestEntryAt(1, 0n), (hostPages + 0x1000n) | 7n])

describe('PREFETCH_IOMMU_PAGES without Inval', () => {
  it('forgets nothing', () => {
    const chip = chipOf([1])
    for (const request of [hostRequest, guestRequest]) chip.iommu.request(request)
    moveHostPage(chip)
    moveGuestPage(chip)
    chip.command(prefetch(1n, hostPages), prefetch(1n, guestPages | gn, 1n, 5n))
    for (const request of [hostRequest, guestRequest]) {
      expect(chip.iommu.request(request)).toMatchObject({ ...oldPage, from: 'iotlb' })
    }
  })
})

describe('PREFETCH_IOMMU_PAGES with Inval', () => {
  it.each([0, 1])('forgets what domain %d has, and nothing of others', (domainId) => {
    const chip = chipOf([1, 2])
    chip.setDte(1, nestedDte(domainId))
    for (const deviceId of [1, 2]) chip.iommu.request({ ...hostRequest, deviceId })
    moveHostPage(chip)
    chip.command(prefetch(0n, hostPages | inval))
    expect(chip.iommu.request(hostRequest)).toMatchObject(newPage)
    expect(chip.iommu.request({ ...hostRequest, deviceId: 2 })).toMatchObject(oldPage)
  })

  it.each([0, 1])('forgets guest pages of domain %d too', (domainId) => {
    const chip = chipOf([1, 2])
    chip.setDte(1, nestedDte(domainId))
    for (const deviceId of [1, 2]) chip.iommu.request({ ...guestRequest, deviceId })
    moveGuestPage(chip)
    chip.command(prefetch(0n, guestPages | gn | inval, 1n, 5n))
    expect(chip.iommu.request(guestRequest)).toMatchObject({ spa: 0x200000000n + hostPages + 0x1000n })
    expect(chip.iommu.request({ ...guestRequest, deviceId: 2 })).toMatchObject(oldPage)
  })

  it('goes by the DomainID of the cached device table entry', () => {
    const chip = chipOf([1, 2])
    for (const deviceId of [1, 2]) chip.iommu.request({ ...hostRequest, deviceId })
    chip.setDte(1, nestedDte(2))
    moveHostPage(chip)
    chip.command(prefetch(0n, hostPages | inval))
    expect(chip.iommu.request(hostRequest)).toMatchObject(newPage)
    expect(chip.iommu.request({ ...hostRequest, deviceId: 2 })).toMatchObject(oldPage)
  })

  it('has no PDE bit: directories are kept', () => {
    const hashed = { kind: 'hashed' } as const
    const chip = chipOf([1], { microArchitecture: { pageWalkCache: hashed } })
    for (const request of [hostRequest, guestRequest]) chip.iommu.request(request)
    const directories = (): number => chip.iommu.walkCacheEntries().directories.length
    const before = directories()
    expect(before).toBeGreaterThan(0)
    chip.command(prefetch(0n, hostPages | inval), prefetch(0n, guestPages | gn | inval, 1n, 5n))
    expect(directories()).toBe(before)
    expect(chip.iommu.iotlbEntries()).toEqual([])
  })

  it('of a device that no table holds forgets nothing, of whatever domain, and says nothing', () => {
    const chip = chipOf([0, 1])
    for (const deviceId of [0, 1]) {
      chip.iommu.request({ ...hostRequest, deviceId })
      chip.iommu.request({ ...guestRequest, deviceId })
    }
    const before = chip.iommu.iotlbEntries()
    expect(before).toHaveLength(4)
    // One page: 128 entries.
    chip.write(register.deviceTableBase, place.deviceTable)
    chip.command(
      prefetch(0n, hostPages | inval, 0x80n),
      prefetch(0n, guestPages | gn | inval, 0x80n, 5n),
      prefetch(2n, hostPages | inval, 0x80n),
    )
    expect(chip.iommu.iotlbEntries()).toEqual(before)
    expect(chip.hasStatus(statusBit.cmdBufRun)).toBe(true)
    expect(chip.takeEvents()).toEqual([])
  })
})

describe('the pages of PREFETCH_IOMMU_PAGES', () => {
  const table = { root: 0x100000000n, mode: 4 }
  const cached = (chip: Chip): bigint[] => chip.iommu.iotlbEntries().map(({ page }) => page)
  const hostChip = (pages: readonly bigint[]): Chip => {
    const chip = Chip.create({ features })
    chip.setDte(1, [0x6000000100000803n, 1n])
    const tables = pagesFrom(0x100001000n)
    for (const page of pages) mapHost(chip, table, tables, page, 0x5000n)
    return chip
  }

  it('follow each other across a 4 GiB border', () => {
    const pages = [0xffffe000n, 0xfffff000n, 0x100000000n, 0x100001000n]
    const chip = hostChip([...pages, 0n, 0x1000n])
    chip.command(prefetch(4n, 0xffffe000n))
    expect(cached(chip)).toEqual(pages)
  })

  it.each([
    ['2 MiB', [0x40000000n, 0x40200000n, 0x40400000n], 0x400ff001n],
    ['1 GiB', [0x600000000n, 0x640000000n, 0x680000000n], 0x61ffff001n],
  ] as const)(
    'begin where the range does, without its size code, and lie its size apart: %s',
    (_, pages, address) => {
      const chip = hostChip([...pages, address & ~0xfffn, pages[0] + 0x1000n])
      chip.command(prefetch(3n, address))
      expect(cached(chip)).toEqual(pages)
    },
  )

  it.each([0x7fffff001n, 0x7ffffffffffff001n])(
    'begin where a range of many GiB does, or of all: %d',
    (address) => {
      const chip = hostChip([0n])
      chip.command(prefetch(1n, address))
      expect(cached(chip)).toEqual([0n])
    },
  )

  it('are as many as PFCount says, and no more', () => {
    const pages = Array.from({ length: 300 }, (_, n) => 0x40000000n + BigInt(n * 0x1000))
    const chip = hostChip(pages)
    chip.command(prefetch(255n, 0x40000000n))
    expect(cached(chip)).toEqual(pages.slice(0, 255))
  })
})
