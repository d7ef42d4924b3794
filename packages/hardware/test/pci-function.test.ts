import { describe, expect, it } from 'vitest'
import { featuresOf } from '../src/index.js'
import type { PciFunctionOptions } from '../src/pci/index.js'
import {
  efrBit,
  featuresWith,
  newFunction,
  capabilities,
  at,
  iommuId,
  msiId,
  mappingId,
  vendorId,
  ones,
} from './pci-rig.js'

describe('the configuration space', () => {
  it('is that of an IOMMU: class 08h, sub-class 06h, interface 00h, type 0, no BAR', () => {
    const pci = newFunction({ vendorId: 0x1022, productId: 0x1481, revisionId: 7 })
    expect(pci.readConfig(0x00, 4)).toBe(0x14811022)
    expect(pci.readConfig(0x08, 4)).toBe(0x08060007)
    expect(pci.readConfig(0x0e, 1)).toBe(0)
    for (let bar = 0x10; bar < 0x28; bar += 4) {
      pci.writeConfig(bar, 4, ones)
      expect(pci.readConfig(bar, 4)).toBe(0)
    }
  })

  it('has AMD as its vendor unless told otherwise', () => {
    const pci = newFunction()
    expect(pci.readConfig(0, 2)).toBe(0x1022)
    expect(pci.readConfig(2, 2)).not.toBe(0)
    const other = newFunction({ subsystemVendorId: 0x1234, subsystemId: 0x5678 })
    expect(other.readConfig(0x2c, 4)).toBe(0x56781234)
  })

  it('has Bus Master and INTx Disable, and a list of capabilities', () => {
    const pci = newFunction()
    expect(pci.readConfig(0x04, 4)).toBe(0x00100000)
    expect(pci.isBusMaster()).toBe(false)
    pci.writeConfig(0x04, 4, ones)
    expect(pci.readConfig(0x04, 4)).toBe(0x00100404)
    expect(pci.isBusMaster()).toBe(true)
  })

  it('has the capabilities that the features ask for', () => {
    const ids = (options: Partial<PciFunctionOptions>): number[] =>
      capabilities(newFunction(options)).map(([id]) => id)
    const vIommu = featuresWith(efrBit.vIommuSup)
    expect(ids({})).toEqual([iommuId, msiId, mappingId])
    expect(ids({ hasMsiMapping: false })).toEqual([iommuId, msiId])
    expect(ids({ features: vIommu })).toEqual([iommuId, msiId, mappingId, vendorId])
    expect(ids({ features: vIommu, hasMsiMapping: false })).toEqual([iommuId, msiId, vendorId])
  })

  it('is read and written by bytes and words too', () => {
    const pci = newFunction()
    const msi = at(pci, msiId)
    pci.writeConfig(msi + 8, 4, 0x11223344)
    pci.writeConfig(msi + 9, 1, 0xfa)
    expect(pci.readConfig(msi + 8, 4)).toBe(0x1122fa44)
    pci.writeConfig(msi + 10, 2, 0xbeef)
    expect(pci.readConfig(msi + 8, 4)).toBe(0xbeeffa44)
    pci.writeConfig(msi + 11, 1, 0xffff80)
    expect(pci.readConfig(msi + 8, 4)).toBe(0x80effa44)
    expect([8, 9, 10, 11].map((offset) => pci.readConfig(msi + offset, 1))).toEqual([0x44, 0xfa, 0xef, 0x80])
    expect([8, 10].map((offset) => pci.readConfig(msi + offset, 2))).toEqual([0xfa44, 0x80ef])
  })

  it.each([
    [1, 2],
    [3, 2],
    [1, 4],
    [2, 4],
    [3, 4],
  ] as const)('ignores an access that is not aligned: offset %d, %d bytes', (offset, bytes) => {
    const pci = newFunction()
    const address = at(pci, msiId) + 8
    pci.writeConfig(address + offset, bytes, ones)
    expect(pci.readConfig(address, 4)).toBe(0)
    expect(pci.readConfig(offset, bytes)).toBe(0)
  })

  it.each([-4, 256, 260, 4096, 0x7fffffff, 0.5, Number.NaN, Number.POSITIVE_INFINITY])(
    'has nothing at %d',
    (offset) => {
      const pci = newFunction()
      pci.writeConfig(offset, 4, ones)
      expect(pci.readConfig(offset, 4)).toBe(0)
    },
  )
})

describe('the IOMMU capability', () => {
  const read = (options: Partial<PciFunctionOptions>, offset: number): number => {
    const pci = newFunction(options)
    return pci.readConfig(at(pci, iommuId) + offset, 4)
  }
  const flags = { iotlbSup: false, htTunnel: false, npCache: false }

  it.each([
    ['EFRSup and CapExt', {}, 0x18],
    ['IotlbSup', { iotlbSup: true }, 0x19],
    ['HtTunnel', { htTunnel: true }, 0x1a],
    ['NpCache', { npCache: true }, 0x1c],
    ['no EFRSup without features', { features: featuresOf({ efr: 0n, efr2: 0n }) }, 0x10],
  ] as const)('is of type 3 and revision 1, with %s', (_, options, high) => {
    const header = read({ ...flags, ...options }, 0)
    expect(header & 0xff).toBe(0x0f)
    expect((header >>> 16) & 7).toBe(3)
    expect((header >>> 19) & 31).toBe(1)
    expect(header >>> 24).toBe(high)
  })

  it('has the unit and the range of devices', () => {
    expect(read({ unitId: 0x1f }, 0xc)).toBe(0x1f)
    const range = { bus: 0x12, firstDevice: 0x34, lastDevice: 0xf6 }
    expect(read({ unitId: 3, range }, 0xc)).toBe(0xf6341283)
  })

  it('has the MSI numbers and the address sizes', () => {
    const misc = { msiMessagesLog2: 5, msiNum: 3, msiNumPpr: 31, msiNumGa: 17 }
    const sizes = { guestVirtualSize: 2, physicalBits: 48, virtualBits: 64 }
    // As IVinfo of a real machine has the sizes: 00203043, less its two lowest bits.
    expect(read({ ...sizes, msiNum: 0, msiNumPpr: 0 }, 0x10)).toBe(0x00203040)
    expect(read({ ...sizes, ...misc, htAtsResv: true }, 0x10)).toBe(0xf8603043)
    expect(read({ ...sizes, ...misc }, 0x14)).toBe(17)
    expect(newFunction(misc).identity).toMatchObject({ ...misc, iommuDeviceId: 2 })
  })

  it.each([
    ['16 KiB', 0n, efrBit.pcSup, 0xffffc000, 0x4000],
    ['512 KiB with performance counters', efrBit.pcSup, 0n, 0xfff80000, 0x80000],
  ] as const)('has a base that is aligned to %s', (_, on, off, mask, bytes) => {
    const pci = newFunction({ features: featuresWith(on, off) })
    const base = at(pci, iommuId) + 4
    pci.writeConfig(base + 4, 4, 0x12345678)
    pci.writeConfig(base, 4, 0xfffffffe)
    expect(pci.readConfig(base, 4)).toBe(mask)
    expect(pci.mmioBase()).toBe(0x1234567800000000n | BigInt(mask))
    expect(pci.mmioBytes).toBe(bytes)
    expect(pci.isEnabled()).toBe(false)
  })

  it('locks the base from when it is enabled until reset', () => {
    const pci = newFunction()
    const base = at(pci, iommuId) + 4
    pci.writeConfig(base + 4, 4, 1)
    pci.writeConfig(base, 4, 0xfeb80001)
    expect(pci.isEnabled()).toBe(true)
    expect(pci.mmioBase()).toBe(0x1feb80000n)
    pci.writeConfig(base, 4, 0)
    pci.writeConfig(base, 1, 0)
    pci.writeConfig(base + 2, 2, 0)
    pci.writeConfig(base + 4, 4, 0)
    expect(pci.readConfig(base, 4)).toBe(0xfeb80001)
    expect(pci.mmioBase()).toBe(0x1feb80000n)
    pci.reset()
    expect(pci.isEnabled()).toBe(false)
    expect(pci.mmioBase()).toBe(0n)
    pci.writeConfig(base, 4, 0xfec00000)
    expect(pci.mmioBase()).toBe(0xfec00000n)
  })

  it('may be enabled with one byte, with the base that is there', () => {
    const pci = newFunction()
    const base = at(pci, iommuId) + 4
    pci.writeConfig(base, 4, 0xfeb80000)
    pci.writeConfig(base, 1, 1)
    expect(pci.isEnabled()).toBe(true)
    expect(pci.mmioBase()).toBe(0xfeb80000n)
  })

  it('cannot be written but for the base', () => {
    const pci = newFunction({ unitId: 1 })
    const capability = at(pci, iommuId)
    for (const offset of [0, 0xc, 0x10, 0x14]) {
      const before = pci.readConfig(capability + offset, 4)
      pci.writeConfig(capability + offset, 4, ~before)
      expect(pci.readConfig(capability + offset, 4)).toBe(before)
    }
  })
})

describe('the vendor-specific capability', () => {
  const features = featuresWith(efrBit.vIommuSup)

  it('has the two BARs of a hardware vIOMMU: 256 MiB and 4 MiB', () => {
    const pci = newFunction({ features, vendorCapabilityId: 0x1234, vendorCapabilityRevision: 0x56 })
    const vendor = at(pci, vendorId)
    expect(pci.readConfig(vendor + 2, 1)).toBe(24)
    expect(pci.readConfig(vendor + 4, 4)).toBe(0x561234)
    expect([pci.vfBase(), pci.vfControlBase()]).toEqual([null, null])
    for (let offset = 0; offset < 24; offset += 4) pci.writeConfig(vendor + offset, 4, ones)
    expect([8, 12, 16, 20].map((offset) => pci.readConfig(vendor + offset, 4))).toEqual([
      0xf0000001, 0xffffffff, 0xffc00001, 0xffffffff,
    ])
    expect(pci.readConfig(vendor + 4, 4)).toBe(0x561234)
    expect(pci.vfBase()).toBe(0xfffffffff0000000n)
    expect(pci.vfControlBase()).toBe(0xffffffffffc00000n)
  })

  it('lets its BARs be moved and switched off', () => {
    const pci = newFunction({ features })
    const vendor = at(pci, vendorId)
    pci.writeConfig(vendor + 8, 4, 0x30000001)
    pci.writeConfig(vendor + 16, 4, 0x12400001)
    pci.writeConfig(vendor + 20, 4, 2)
    expect([pci.vfBase(), pci.vfControlBase()]).toEqual([0x30000000n, 0x212400000n])
    pci.writeConfig(vendor + 8, 1, 0)
    pci.writeConfig(vendor + 16, 1, 0)
    expect([pci.vfBase(), pci.vfControlBase()]).toEqual([null, null])
    expect(newFunction().vfBase()).toBeNull()
  })
})

describe('an option out of range', () => {
  it.each([
    ['vendorId', { vendorId: 0x10000 }],
    ['productId', { productId: -1 }],
    ['revisionId', { revisionId: 256 }],
    ['subsystemVendorId', { subsystemVendorId: 0.5 }],
    ['subsystemId', { subsystemId: 0x10000 }],
    ['iommuDeviceId', { iommuDeviceId: 0x10000 }],
    ['unitId', { unitId: 32 }],
    ['physicalBits', { physicalBits: 53 }],
    ['virtualBits', { virtualBits: 65 }],
    ['guestVirtualSize', { guestVirtualSize: 8 }],
    ['msiMessagesLog2', { msiMessagesLog2: 6 }],
    ['msiNum', { msiMessagesLog2: 0, msiNum: 1 }],
    ['msiNumPpr', { msiMessagesLog2: 2, msiNumPpr: 4 }],
    ['msiNumGa', { msiMessagesLog2: 5, msiNumGa: 32 }],
    ['vendorCapabilityId', { vendorCapabilityId: 0x10000 }],
    ['vendorCapabilityRevision', { vendorCapabilityRevision: 0x100 }],
    ['range.bus', { range: { bus: 256, firstDevice: 0, lastDevice: 0 } }],
    ['range.firstDevice', { range: { bus: 0, firstDevice: 256, lastDevice: 0 } }],
    ['range.lastDevice', { range: { bus: 0, firstDevice: 0, lastDevice: 256 } }],
  ] as const)('is refused with its name: %s', (name, options) => {
    expect(() => newFunction(options)).toThrow(RangeError)
    expect(() => newFunction(options)).toThrow(new RegExp(`^${name} cannot be .*: it takes 0 to \\d+$`))
  })
})
