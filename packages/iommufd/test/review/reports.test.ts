/** Reports go to whom the device belonged to when it made them: to nobody else, and they are not lost. */
import { expect, it } from 'vitest'
import { AmdProgram, amdKernel } from './amd-program.js'

it('the next owner of a device does not read what the last one left in the log', () => {
  const kernel = amdKernel()
  const first = new AmdProgram(kernel)
  const last = first.nest(8)
  expect(first.strayDma(0x5000n).errno).toBe('EIO')
  first.device.close()
  expect(first.events(last)).toBe(1)
  const second = new AmdProgram(kernel)
  const queue = second.nest(9)
  expect(second.events(queue)).toBe(0)
  expect(second.strayDma(0x6000n).errno).toBe('EIO')
  expect(second.events(queue)).toBe(1)
})

it('a guest reads what its device did before it was moved', () => {
  const program = new AmdProgram(amdKernel())
  const queue = program.nest(8)
  program.strayDma(0x5000n)
  program.attach(program.ioas())
  expect(program.events(queue)).toBe(1)
})

it('a guest reads what its device did before it was detached', () => {
  const program = new AmdProgram(amdKernel())
  const queue = program.nest(8)
  program.strayDma(0x5000n)
  program.call(program.device, 0x3b78, [8, 0])
  expect(program.events(queue)).toBe(1)
})

it('a guest reads what its device did before it lost its name', () => {
  const program = new AmdProgram(amdKernel())
  const queue = program.nest(8)
  program.strayDma(0x5000n)
  const vdevice = 5
  expect(program.call(program.iommu, 0x3b80, [8, vdevice])).toBeDefined()
  expect(program.events(queue)).toBe(1)
})
