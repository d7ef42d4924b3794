/** A counter counts what a request did, and nothing that a request before it did. */
import { describe, expect, it } from 'vitest'
import { counterSource, nestingFeatures } from '../src/index.js'
import type { Chip } from './chip.js'
import { worldChip } from './cached-answers-world.js'
import type { Entry } from './cached-answers-world.js'
import { guestPages } from './tables.js'

const nested: Entry = {
  ...{ domainId: 1, host: 0, gcr3: 0, isValid: true, isTranslating: true, hasHost: true, hasGuest: true },
  ...{ isGiov: false, read: true, write: true },
}
const features = { ...nestingFeatures, efr: nestingFeatures.efr | (1n << 9n) }
const counterAt = 0x40000
const domainFilterAt = 0x18

/** A chip whose first counter counts one thing, for one domain or for all. */
function counting(what: number, domainId?: number): Chip {
  const microArchitecture = { pageWalkCache: { kind: 'hashed' } } as const
  // The second device has no guest table, and so no use for a PASID; both may use ATS.
  const chip = worldChip([nested, { ...nested, domainId: 2, hasGuest: false }], {
    features,
    microArchitecture,
  })
  chip.write(counterAt + 8, BigInt(what))
  if (domainId !== undefined) chip.write(counterAt + domainFilterAt, 0xffff80000000n | BigInt(domainId))
  return chip
}

const counted = (chip: Chip, work: () => void): bigint => {
  const before = chip.read(counterAt)
  work()
  return chip.read(counterAt) - before
}

describe('a counter', () => {
  const asked = { deviceId: 1, pasid: 0, iova: guestPages }

  it.each([
    ['hits', counterSource.directoryHit],
    ['misses', counterSource.directoryMiss],
  ])('of directory %s stands still when the IOTLB answers', (_, what) => {
    const chip = counting(what)
    expect(counted(chip, () => chip.iommu.request(asked))).toBeGreaterThan(0n)
    expect(counted(chip, () => expect(chip.iommu.request(asked)).toMatchObject({ from: 'iotlb' }))).toBe(0n)
  })

  it.each([
    ['hits', counterSource.dteHit],
    ['misses', counterSource.dteMiss],
  ])('of device entry %s stands still when no entry was asked for', (_, what) => {
    for (const requestsBefore of [1, 2]) {
      const chip = counting(what)
      for (let n = 0; n < requestsBefore; n++) chip.iommu.request(asked)
      // A read of the interrupt range is refused by its address alone.
      const refused = { deviceId: 1, iova: 0xfee00000n }
      expect(counted(chip, () => expect(chip.iommu.request(refused)).toMatchObject({ kind: 'fault' }))).toBe(
        0n,
      )
    }
  })

  it('of one domain leaves out a request of another domain that never came to its tables', () => {
    const chip = counting(counterSource.targetAbort, 1)
    chip.iommu.request(asked)
    const refused = { deviceId: 2, pasid: 0, iova: guestPages }
    expect(counted(chip, () => expect(chip.iommu.request(refused)).toMatchObject({ kind: 'fault' }))).toBe(0n)
  })
})
