/** A look that changes nothing: it goes by memory as it is, whatever is cached, and leaves no trace. */
import { describe, expect, it } from 'vitest'
import type { MicroArchitecture, Request, Translation } from '../src/index.js'
import { controlBit, quietControl } from './chip.js'
import type { Chip } from './chip.js'
import { guestEntryAt, guestPages, hostEntryAt, hostPages, nestedChip, nestedDte } from './tables.js'

const device = 5
const spa = 0x200000000n + hostPages
const marking =
  (quietControl & ~(controlBit.guestAccessedOff | controlBit.guestDirtyOff)) | controlBit.hostDirty
const [q0 = 0n, q1 = 0n] = nestedDte(device)
const entry = [q0 | (3n << 7n), q1, 0n, 0n]

const caching: Partial<MicroArchitecture> = {
  nestedEntries: 'split',
  cachesAbsent: true,
  remembersGpas: true,
  pageWalkCache: { kind: 'hashed' },
  gcr3Cache: { kind: 'hashed' },
}

function chipOf(microArchitecture: Partial<MicroArchitecture> = {}): Chip {
  const chip = nestedChip([device], { control: marking, microArchitecture })
  chip.setDte(device, entry)
  return chip
}

/** With the entries that a walk reads: Mode 3; and two GCR3 tables and four guest tables, each by way of the host. */
const askers: readonly [string, Request, number][] = [
  ['the host table', { deviceId: device, iova: hostPages }, 3],
  ['nested tables', { deviceId: device, iova: guestPages, pasid: 5 }, (2 + 4) * (3 + 1) + 3],
]
const looked = (chip: Chip, asked: Request): Translation => chip.iommu.walkFresh(asked)

describe.each([
  ['one cache', {}],
  ['every cache', caching],
])('on a chip with %s', (_, design) => {
  it.each(askers)('through %s sets neither A nor D, and files nothing', (_name, asked) => {
    const chip = chipOf(design)
    const before = chip.fingerprint()
    for (const write of [false, true]) {
      expect(looked(chip, { ...asked, write })).toMatchObject({ kind: 'translated', from: 'walk', spa })
    }
    expect(chip.fingerprint()).toBe(before)
    expect(chip.iommu.request(asked)).toMatchObject({ from: 'walk', spa })
  })

  it.each(askers)('through %s reads tables anew, though translations are cached', (_name, asked, reads) => {
    const chip = chipOf(design)
    expect(chip.iommu.request(asked)).toMatchObject({ from: 'walk', spa })
    expect(chip.iommu.request(asked)).toMatchObject({ from: 'iotlb', reads: 0 })
    expect(looked(chip, asked)).toMatchObject({ from: 'walk', reads, spa })
    chip.put([hostEntryAt(hostPages), (3n << 61n) | 0x300000001n])
    expect(looked(chip, asked)).toMatchObject({ spa: 0x300000000n })
    chip.put([hostEntryAt(hostPages), 0n])
    expect(looked(chip, asked)).toMatchObject({ kind: 'fault', logged: false })
    expect(chip.iommu.request(asked)).toMatchObject({ from: 'iotlb', spa })
    expect(chip.takeEvents()).toEqual([])
  })

  it('files no absent page either', () => {
    const chip = chipOf(design)
    const [asked] = askers.map(([, each]) => each).slice(1)
    if (asked === undefined) throw new Error('no request')
    const mapped = chip.load(guestEntryAt(1, 0n)) ?? 0n
    chip.put([guestEntryAt(1, 0n), 0n])
    expect(looked(chip, asked)).toMatchObject({ kind: 'fault', logged: false })
    chip.put([guestEntryAt(1, 0n), mapped])
    expect(chip.iommu.request(asked)).toMatchObject({ from: 'walk', spa })
  })

  it('goes by the entry of the device as it is in memory, and leaves the cached one', () => {
    const chip = chipOf(design)
    const asked = { deviceId: device, iova: hostPages }
    chip.iommu.request(asked)
    chip.setDte(device, [1n, q1, 0n, 0n])
    expect(looked(chip, asked)).toMatchObject({ kind: 'fault', logged: false })
    expect(chip.iommu.request(asked)).toMatchObject({ from: 'iotlb', spa })
    expect(chip.takeEvents()).toEqual([])
    const cold = chipOf(design)
    looked(cold, asked)
    expect(cold.iommu.cachedDeviceIds()).toEqual([])
  })
})

describe('with the IOMMU off', () => {
  it('every address passes, whatever the entry says, and the entry is not read', () => {
    const chip = chipOf()
    chip.write(0x18, quietControl & ~controlBit.iommuEn)
    for (const iova of [0x1000n, 0xfee00000n, 0xfdfc000000n]) {
      for (const write of [false, true]) {
        const answer = chip.iommu.request({ deviceId: device, iova, write })
        expect(answer).toEqual({ kind: 'forwarded', address: iova })
      }
    }
    expect(chip.iommu.cachedDeviceIds()).toEqual([])
  })
})
