/** The worked walks of `vectors/walks.json`, access by access, and what equal DomainIDs do to two devices. */
import { parseHex, parseHexNumber } from '@nestwalk/bits'
import { describe, expect, it } from 'vitest'
import dtes from '../vectors/dte.json' with { type: 'json' }
import walks from '../vectors/walks.json' with { type: 'json' }
import type { Translation } from '../src/index.js'
import { Chip, controlBit, place, quietControl } from './chip.js'
import { watching } from './watch.js'

type Example = (typeof walks)[number]

interface Expectation {
  readonly reads: readonly string[]
  readonly spa?: string
  readonly sizeLog2?: number
  readonly readable?: boolean
  readonly writable?: boolean
  readonly fault?: string
  readonly flags?: string
}

function chipOf({ settings, dte, deviceId, memory }: Example): Chip {
  const control = settings.gcr3TrpMode ? quietControl : quietControl & ~controlBit.gcr3TrpMode
  const chip = Chip.create({ control })
  chip.setDte(parseHexNumber(deviceId), dte.map(parseHex))
  for (const [address = '', value = ''] of memory) chip.put([parseHex(address), parseHex(value)])
  return chip
}

function expectAnswer(answer: Translation, iova: bigint, expected: Expectation): void {
  if (expected.spa === undefined) {
    if (answer.kind !== 'fault') throw new Error(`expected a fault, not ${answer.kind}`)
    const [lo, hi] = answer.event
    expect(expected.fault).toBe('IO_PAGE_FAULT')
    expect(lo >> 60n).toBe(2n)
    expect(hi).toBe(iova)
    expect((lo >> 48n) & 0xfffn).toBe(parseHex(expected.flags ?? ''))
    return
  }
  const { sizeLog2, readable, writable } = expected
  expect(answer).toMatchObject({
    kind: 'translated',
    spa: parseHex(expected.spa),
    sizeLog2,
    readable,
    writable,
  })
}

describe.each(walks)('$name', (example) => {
  it.each(example.requests as { iova: string; write: boolean; expect: Expectation }[])(
    '$iova, write $write',
    ({ iova, write, expect: expected }) => {
      const chip = chipOf(example)
      const deviceId = parseHexNumber(example.deviceId)
      const asked = { deviceId, iova: parseHex(iova), write }
      const { value, reads, entryReads } = watching(chip.iommu, () => chip.iommu.request(asked))
      expectAnswer(value, asked.iova, expected)
      expect(reads).toEqual(expected.reads.map(parseHex))
      expect(entryReads).toEqual([place.deviceTable + BigInt(deviceId * 32)])
    },
  )
})

describe('a device table entry', () => {
  it.each(dtes.checks.filter(({ request }) => request === 'read'))(
    '$name',
    ({ words, settings, expect: expected }) => {
      const { ephEn = true, gtEn = true } = settings as { ephEn?: boolean; gtEn?: boolean }
      const control = controlBit.iommuEn | (ephEn ? controlBit.ephEn : 0n) | (gtEn ? controlBit.gtEn : 0n)
      const chip = Chip.create({ control })
      chip.setDte(0x600, words.map(parseHex))
      const answer = chip.iommu.request({ deviceId: 0x600, iova: 0x1000n })
      if (expected === 'legal') expect(answer).toMatchObject({ kind: 'translated', from: 'identity' })
      else if (expected === 'untranslated') expect(answer).toEqual({ kind: 'forwarded', address: 0x1000n })
      else expect(answer).toMatchObject({ kind: 'fault', event: [0x1080000000000600n, 0x1000n] })
    },
  )
})

describe('two devices with one DomainID and different GCR3 tables', () => {
  const deviceX = 0x600
  const deviceY = 0x700
  const iova = 0x40203abcn
  const ofX = 0x800145abcn
  const ofY = 0x800145abcn + 0x10000n
  const invalidateX = [0x3000000700000000n, 0x7ffffffffffff007n] as const
  const invalidateEntryOfY = [0x2000000000000000n | BigInt(deviceY), 0n] as const

  /** Y as X, but its GCR3 table at GPA 20000 leads to a guest table of its own, whose pages lie 64 KiB higher. */
  function aliasing(domainOfY: bigint): Chip {
    const nested = walks.find(({ settings }) => settings.gcr3TrpMode)
    if (nested === undefined) throw new Error('no nested example')
    const chip = chipOf(nested)
    const [q0 = 0n] = nested.dte.map(parseHex)
    chip.setDte(deviceX, [q0, 0x20007n, 0n, 0n])
    chip.setDte(deviceY, [q0, 0x40000n | domainOfY, 0n, 0n])
    chip.put([0x100002100n, 0x7000000200020001n], [0x100002108n, 0x7000000200061001n])
    chip.put([0x100002110n, 0x7000000200062001n], [0x100002118n, 0x7000000200063001n])
    chip.put([0x100002120n, 0x7000000200064001n], [0x200020000n, 0x21001n], [0x200061000n, 0x22027n])
    chip.put([0x200062008n, 0x23027n], [0x200063008n, 0x24027n], [0x200064018n, 0x355067n])
    return chip
  }

  it('serves the second what the first one walked', () => {
    const chip = aliasing(7n)
    expect(chip.iommu.request({ deviceId: deviceX, iova })).toMatchObject({ spa: ofX, from: 'walk' })
    const tag = { domainId: 7, pasid: 0 }
    expect(chip.iommu.request({ deviceId: deviceY, iova })).toMatchObject({
      ...{ spa: ofX, from: 'iotlb', tag, filler: deviceX, reads: 0 },
    })
    expect(chip.iommu.walkFresh({ deviceId: deviceY, iova })).toMatchObject({ spa: ofY, from: 'walk' })
  })

  it('keeps devices with different DomainIDs apart', () => {
    const chip = aliasing(8n)
    chip.iommu.request({ deviceId: deviceX, iova })
    expect(chip.iommu.request({ deviceId: deviceY, iova })).toMatchObject({ spa: ofY, from: 'walk' })
    expect(chip.iommu.request({ deviceId: deviceX, iova })).toMatchObject({ spa: ofX, from: 'iotlb' })
  })

  it('loses the shared entry for both by one INVALIDATE_IOMMU_PAGES of the domain and PASID', () => {
    const chip = aliasing(7n)
    chip.iommu.request({ deviceId: deviceX, iova })
    expect(chip.command(invalidateX)).toBe(1)
    expect(chip.iommu.request({ deviceId: deviceY, iova })).toMatchObject({ spa: ofY, from: 'walk' })
    expect(chip.iommu.request({ deviceId: deviceX, iova })).toMatchObject({ spa: ofY, from: 'iotlb' })
  })

  it('keeps the shared entry through INVALIDATE_DEVTAB_ENTRY of either', () => {
    const chip = aliasing(7n)
    chip.iommu.request({ deviceId: deviceX, iova })
    chip.command(invalidateEntryOfY)
    expect(chip.iommu.request({ deviceId: deviceY, iova })).toMatchObject({ spa: ofX, from: 'iotlb' })
  })
})
