import { test, expect } from 'vitest'
import { SparseMemory, Iommu, load64 } from '@nestwalk/hardware'
import { Driver, runEffects, viommuMap } from '@nestwalk/driver'
import { spa, iova } from '@nestwalk/bits'
test('smoke', () => {
  const memory = SparseMemory.create(64 << 20)
  const iommu = Iommu.create({ memory })
  const made = Driver.create({ ports: [iommu], memory, pages: { first: spa(0x100000n), pages: 1024 }, policy: viommuMap, lastDeviceId: 255 })
  if (!made.ok) throw new Error(made.why)
  const driver = made.value
  const run = (o: any) => { if (!o.ok) throw new Error(o.errno + ' ' + o.why); expect(runEffects(driver, o.effects, () => iommu.step())).toBe(0); return o.value }
  run(made)
  run(driver.probe(0x18, 1))
  const d = run(driver.allocateHostTable({ nestParent: true }))
  run(driver.map(d, iova(0x10000n), spa(0x200000n), 0x3000n, { read: true, write: true }))
  run(driver.attach(0x18, d))
  console.log(iommu.request({ deviceId: 0x18, iova: 0x11123n }), iommu.request({ deviceId: 0x18, iova: 0x11123n }))
  console.log(iommu.request({ deviceId: 0x18, iova: 0x14123n }))
  expect(run(driver.unmap(d, iova(0x10000n), 0x3000n))).toBe(0x3000n)
  console.log(iommu.request({ deviceId: 0x18, iova: 0x11123n }))
  const g = run(driver.allocateGuestTable())
  run(driver.map(g, iova(0x10000n), spa(0x200000n), 0x3000n, { read: true, write: true }))
  run(driver.attach(0x18, g))
  console.log(iommu.request({ deviceId: 0x18, iova: 0x11123n }))
  console.log(driver.tags, iommu.iotlbEntries())
})
