/** Files of two machines in one program. */
import { expect, it } from 'vitest'
import { AmdProgram, amdKernel } from './amd-program.js'

const bind = 0x3b76

it('a device cannot be bound to the /dev/iommu of another machine, and both stay as they were', () => {
  const [here, there] = [amdKernel(), amdKernel()]
  const program = new AmdProgram(here)
  const foreign = program.process.open(there.openIommu())
  const device = here.openVfioDevice(1)!
  const before = [here, there].map(({ iommufd }) => iommufd.snapshot())
  expect(() => program.call(device, bind, [16, 0, foreign, 0])).toThrow('EBADFD')
  expect([here, there].map(({ iommufd }) => iommufd.snapshot())).toEqual(before)
  expect(program.call(device, bind, [16, 0, program.process.open(program.iommu), 0])[3]).toBeGreaterThan(0)
})
