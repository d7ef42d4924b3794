/** What a platform with SNP on makes of a device table entry with Mode 0. */
import { describe, expect, it } from 'vitest'
import { nestingFeatures } from '../src/index.js'
import { Chip, event, quietControl } from './chip.js'

const device = 0x4300
/** V, TV, IR, IW, Mode 0, DomainID 1; interrupts are remapped. */
const identity = [0x6000000000000003n, 1n, 0x2000003088b3e013n, 0n]
const snpPageMode0Sup = 1n << 13n
const able = { ...nestingFeatures, efr2: nestingFeatures.efr2 | snpPageMode0Sup }
const write = { deviceId: device, iova: 0x3737b01000n, write: true }

describe('with SNP a device with Mode 0', () => {
  it('is refused: ILLEGAL_DEV_TABLE_ENTRY for the level, not for a reserved bit', () => {
    const chip = Chip.create({ snp: true })
    chip.setDte(device, identity)
    expect(chip.iommu.request(write)).toMatchObject({ kind: 'fault', logged: true })
    expect(chip.takeEvents()).toEqual([event('00004300 10200000 37b01000 00000037')])
  })

  it('is refused for its rights first', () => {
    const chip = Chip.create({ snp: true })
    chip.setDte(device, [0x2000000000000003n, 1n, 0n, 0n])
    chip.iommu.request(write)
    expect(chip.takeEvents()).toEqual([event('00004300 20700001 37b01000 00000037')])
  })

  it.each([
    ['without SNP', { snp: false }],
    ['where EFR2.SnpPageMode0Sup allows it', { snp: true, features: able }],
  ])('is translated to the same address %s', (_, options) => {
    const chip = Chip.create(options)
    chip.setDte(device, identity)
    expect(chip.iommu.request(write)).toMatchObject({
      kind: 'translated',
      from: 'identity',
      spa: write.iova,
    })
    expect(chip.takeEvents()).toEqual([])
  })

  it('passes as any other when V=0', () => {
    const chip = Chip.create({ snp: true, control: quietControl })
    chip.setDte(device, [0n, 0n, 0n, 0n])
    expect(chip.iommu.request(write)).toEqual({ kind: 'forwarded', address: write.iova })
  })
})
