/** Values that no chip has and no device can send: a RangeError that names them, and nothing has changed. */
import { describe, expect, it } from 'vitest'
import type { SwitchChoices } from '../src/index.js'
import { Chip } from './chip.js'

describe('a switch', () => {
  it.each([
    [{ nonCanonicall: 'pr-0' }, 'there is no switch nonCanonicall'],
    [{ toString: 'pr-0' }, 'toString'],
    [{ nonCanonical: 'pr-2' }, 'switch nonCanonical is pr-2: it must be pr-0 or pr-1'],
    [{ prefetch: '' }, 'switch prefetch is '],
  ])('that does not exist, or has no such choice: %o', (chosen, text) => {
    const make = (): unknown => Chip.create({ switches: chosen as Partial<SwitchChoices> })
    expect(make).toThrow(RangeError)
    expect(make).toThrow(text)
  })
})

describe('an interrupt', () => {
  it.each([
    0xfee00002n,
    0xfee00001n,
    0xfedffffcn,
    0xfef00000n,
    0x1_fee0_0000n,
    0xfc_ffff_fffcn,
    0xfd_f900_0000n,
    0xff_0000_0000n,
    -4n,
  ])('to address %i', (address) => {
    const chip = Chip.create()
    const before = chip.fingerprint()
    const send = (): unknown => chip.iommu.requestInterrupt({ deviceId: 6, address, data: 0 })
    expect(send).toThrow(RangeError)
    expect(send).toThrow(`address 0x${address.toString(16)} is not`)
    expect(chip.fingerprint()).toBe(before)
  })

  it.each([0xfee00000n, 0xfeeffffcn, 0xfd_f800_0000n, 0xfd_f8ff_fffcn])(
    'to address %i may be sent',
    (address) => {
      const { iommu } = Chip.create()
      expect(iommu.requestInterrupt({ deviceId: 6, address, data: 0 })).toMatchObject({ address })
    },
  )

  it.each([
    [{ deviceId: 0x10000 }, 'deviceId'],
    [{ deviceId: -1 }, 'deviceId'],
    [{ data: 0x1_0000_0000 }, 'data'],
    [{ data: 0.5 }, 'data'],
  ])('with %o', (wrong, text) => {
    const { iommu } = Chip.create()
    const send = (): unknown =>
      iommu.requestInterrupt({ ...{ deviceId: 6, address: 0xfee00000n, data: 0 }, ...wrong })
    expect(send).toThrow(RangeError)
    expect(send).toThrow(text)
  })
})
