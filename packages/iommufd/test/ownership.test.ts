/** Binding, groups and their owners, object numbers, and what DESTROY says. */
import { describe, expect, it } from 'vitest'
import { featuresOf, nestingFeatures } from '@nestwalk/hardware'
import { amdHwInfoType, amdViommuType, featuresOfHwInfo } from '../src/index.js'
import { d1, d2, d3, guestEntry, Host, nestingContext } from './host.js'

describe('bind', () => {
  it('knows no device that the driver has not probed', () => {
    const host = Host.create()
    const context = host.iommufd.open()
    expect(host.errno(() => context.bind(0x99))).toBe('ENODEV')
  })

  it('refuses a device that is open already, in whichever context', () => {
    const host = Host.create()
    const [one, other] = [host.iommufd.open(), host.iommufd.open()]
    host.run(one.bind(d1))
    expect(host.errno(() => one.bind(d1))).toBe('EINVAL')
    expect(host.errno(() => other.bind(d1))).toBe('EINVAL')
  })

  it('gives a group to one context at a time', () => {
    const host = Host.create()
    const [one, other] = [host.iommufd.open(), host.iommufd.open()]
    const first = host.run(one.bind(d1))
    expect(host.errno(() => other.bind(d2))).toBe('EPERM')
    const second = host.run(one.bind(d2))
    host.run(one.unbind(first))
    expect(host.errno(() => other.bind(d1))).toBe('EPERM')
    host.run(one.unbind(second))
    host.run(other.bind(d1))
    expect(host.errno(() => one.bind(d2))).toBe('EPERM')
  })

  it('leaves other groups to other contexts', () => {
    const host = Host.create()
    const [one, other] = [host.iommufd.open(), host.iommufd.open()]
    host.run(one.bind(d1))
    host.run(other.bind(d3))
  })

  it('blocks every member of the group, whatever the kernel used them for', () => {
    const host = Host.create()
    const identity = host.run(host.driver.allocateIdentity())
    for (const device of [d1, d2, d3]) host.run(host.driver.attach(device, identity))
    expect(host.leads(d2, 0x1000n)).toBe('1000')
    host.run(host.iommufd.open().bind(d1))
    expect([d1, d2, d3].map((device) => host.leads(device, 0x1000n))).toEqual(['fault', 'fault', '1000'])
  })

  it('leaves a member alone that works already when another one is bound', () => {
    const host = Host.create()
    const context = host.iommufd.open()
    const device = host.run(context.bind(d1))
    host.run(context.attach(device, host.run(context.ioasAlloc())))
    const before = host.entry(d1)
    host.run(context.bind(d2))
    expect(host.entry(d1)).toEqual(before)
  })
})

describe('unbind', () => {
  it('knows bound devices only', () => {
    const host = Host.create()
    const context = host.iommufd.open()
    expect(host.errno(() => context.unbind(1))).toBe('ENOENT')
    const ioas = host.run(context.ioasAlloc())
    expect(host.errno(() => context.unbind(ioas))).toBe('ENOENT')
  })

  it('detaches: afterwards the device is blocked, and its automatic HWPT is gone', () => {
    const host = Host.create()
    const context = host.iommufd.open()
    const device = host.run(context.bind(d3))
    const ioas = host.run(context.ioasAlloc())
    const hwpt = host.run(context.attach(device, ioas))
    host.run(context.unbind(device))
    expect(context.object(hwpt)).toBeUndefined()
    expect(host.leads(d3, 0x1000n)).toBe('fault')
    expect(context.objectCount).toBe(1)
  })

  it('takes the vDEVICE with the device, and its number is never used again', () => {
    const host = Host.create()
    const { context, device, viommu } = nestingContext(host)
    const vdevice = host.run(context.vdeviceAlloc(viommu, device, 3n))
    host.run(context.unbind(device))
    expect(host.errno(() => context.destroy(vdevice))).toBe('ENOENT')
    expect(context.object(vdevice)).toBeUndefined()
    const later = [0, 1, 2].map(() => host.run(context.ioasAlloc()))
    expect(later).toEqual([device, vdevice + 1, vdevice + 2])
    const forked = host.fork().iommufd.context(0)!
    expect(forked.destroy(vdevice).ok).toBe(false)
    host.run(context.destroy(viommu))
  })
})

describe('object numbers', () => {
  it('start at 1 and are the lowest free one, reused at once', () => {
    const host = Host.create()
    const context = host.iommufd.open()
    const alloc = (): number => host.run(context.ioasAlloc())
    expect([alloc(), alloc(), alloc()]).toEqual([1, 2, 3])
    host.run(context.destroy(2))
    host.run(context.destroy(1))
    expect([alloc(), alloc(), alloc()]).toEqual([1, 2, 4])
  })

  it('belong to their context', () => {
    const host = Host.create()
    const [one, other] = [host.iommufd.open(), host.iommufd.open()]
    const ioas = host.run(one.ioasAlloc())
    expect(host.errno(() => other.destroy(ioas))).toBe('ENOENT')
    expect(host.run(other.ioasAlloc())).toBe(1)
  })

  it('never include 0', () => {
    const host = Host.create()
    const context = host.iommufd.open()
    expect(host.errno(() => context.destroy(0))).toBe('ENOENT')
  })

  it('count as missing where the object is of another kind', () => {
    const host = Host.create()
    const { context, device, ioas, parent, viommu } = nestingContext(host)
    expect(host.errno(() => context.attach(ioas, ioas))).toBe('ENOENT')
    expect(host.errno(() => context.replace(parent, ioas))).toBe('ENOENT')
    expect(host.errno(() => context.detach(viommu))).toBe('ENOENT')
    expect(host.errno(() => context.hwInfo(ioas))).toBe('ENOENT')
    expect(host.errno(() => context.viommuAlloc({ device: device, parent: ioas, type: amdViommuType }))).toBe(
      'ENOENT',
    )
    expect(host.errno(() => context.vdeviceAlloc(parent, device, 1n))).toBe('ENOENT')
    expect(host.errno(() => context.vdeviceAlloc(viommu, ioas, 1n))).toBe('ENOENT')
  })
})

describe('DESTROY', () => {
  it('is refused twice: the second time there is nothing', () => {
    const host = Host.create()
    const context = host.iommufd.open()
    const ioas = host.run(context.ioasAlloc())
    host.run(context.destroy(ioas))
    expect(host.errno(() => context.destroy(ioas))).toBe('ENOENT')
  })

  it('never takes a device: that goes with its file', () => {
    const host = Host.create()
    const context = host.iommufd.open()
    const device = host.run(context.bind(d3))
    expect(host.errno(() => context.destroy(device))).toBe('EBUSY')
  })

  it('is refused for an IOAS with a HWPT, and takes one with mappings only', () => {
    const host = Host.create()
    const context = host.iommufd.open()
    const device = host.run(context.bind(d3))
    const ioas = host.run(context.ioasAlloc())
    const hwpt = host.run(context.hwptAlloc({ device, pageTable: ioas }))
    expect(host.errno(() => context.destroy(ioas))).toBe('EBUSY')
    host.run(context.destroy(hwpt))
    host.run(context.destroy(ioas))
  })

  it('is refused for a HWPT with a device, and for the parent of a vIOMMU', () => {
    const host = Host.create()
    const { context, device, ioas, parent, viommu } = nestingContext(host)
    expect(host.errno(() => context.destroy(parent))).toBe('EBUSY')
    const hwpt = host.run(context.hwptAlloc({ device, pageTable: ioas }))
    host.run(context.attach(device, hwpt))
    expect(host.errno(() => context.destroy(hwpt))).toBe('EBUSY')
    host.run(context.detach(device))
    host.run(context.destroy(hwpt))
    host.run(context.destroy(viommu))
    host.run(context.destroy(parent))
    host.run(context.destroy(ioas))
    expect(context.objectCount).toBe(1)
  })

  it('is refused for a vIOMMU with a nested HWPT or a vDEVICE', () => {
    const host = Host.create()
    const { context, device, viommu } = nestingContext(host)
    const nested = host.run(context.hwptAlloc({ device, pageTable: viommu, data: guestEntry() }))
    expect(host.errno(() => context.destroy(viommu))).toBe('EBUSY')
    host.run(context.destroy(nested))
    const vdevice = host.run(context.vdeviceAlloc(viommu, device, 3n))
    expect(host.errno(() => context.destroy(viommu))).toBe('EBUSY')
    host.run(context.destroy(vdevice))
    host.run(context.destroy(viommu))
  })

  it('takes a vDEVICE while its device sits on a nested HWPT, and another may have its virtual ID', () => {
    const host = Host.create()
    const { context, device, viommu } = nestingContext(host)
    const nested = host.run(context.hwptAlloc({ device, pageTable: viommu, data: guestEntry() }))
    const vdevice = host.run(context.vdeviceAlloc(viommu, device, 3n))
    host.run(context.attach(device, nested))
    expect(host.errno(() => context.destroy(nested))).toBe('EBUSY')
    host.run(context.destroy(vdevice))
    expect(host.run(context.vdeviceAlloc(viommu, device, 3n))).toBe(vdevice)
  })

  it('is refused for the automatic HWPT of an attached device, and for its IOAS', () => {
    const host = Host.create()
    const context = host.iommufd.open()
    const device = host.run(context.bind(d3))
    const ioas = host.run(context.ioasAlloc())
    const hwpt = host.run(context.attach(device, ioas))
    expect(host.errno(() => context.destroy(hwpt))).toBe('EBUSY')
    expect(host.errno(() => context.destroy(ioas))).toBe('EBUSY')
  })
})

describe('GET_HW_INFO', () => {
  it('shows the raw feature registers of the IOMMU', () => {
    const host = Host.create()
    const context = host.iommufd.open()
    const device = host.run(context.bind(d3))
    const { efr, efr2 } = featuresOf(nestingFeatures)
    const { type, bytes } = host.run(context.hwInfo(device))
    expect(type).toBe(amdHwInfoType)
    expect(featuresOfHwInfo(bytes)).toEqual({ efr, efr2 })
    expect(host.errno(() => context.hwInfo(9))).toBe('ENOENT')
  })
})
