/** Attaching to an IOAS: the order in which a new automatic HWPT is made, and what is left when a step is refused. */
import { expect, it } from 'vitest'
import { AbiProgram, out32, page, replace } from '../abi/program.js'
import { ok } from '../mock-program.js'

const pasids = 4
const pasidFlag = 8
const attachPasid = (program: AbiProgram, stdev: number, pasid: number, to: number) =>
  out32(program.test(18, stdev, { 16: pasid, 20: to }), 20)

/** A program whose device is on a HWPT for PASIDs, and an IOAS that no HWPT can take: its area is below the aperture. */
function misfit() {
  const program = new AbiProgram()
  const [ioas, other] = [program.ioas(), program.ioas()]
  const { stdev, device } = program.device(ioas, pasids)
  expect(replace(program, stdev, program.hwpt(device, ioas, { flags: pasidFlag }))).toBeTypeOf('number')
  ok(program.map(other, page, program.buffer(1), page))
  return { program, other, stdev, device }
}

const state = ({ kernel, backend }: AbiProgram) => [kernel.iommufd.snapshot(), backend.snapshot()]

it('an attach is refused by the device before the memory is looked at', () => {
  const { program, other, stdev } = misfit()
  const before = state(program)
  expect(attachPasid(program, stdev, 5, other)).toBe('EINVAL')
  expect(state(program)).toEqual(before)
})

it('an attach that the memory refuses leaves nothing', () => {
  const { program, other } = misfit()
  const before = state(program)
  expect(program.test(12, other, { 28: 0 }).errno).toBe('EADDRINUSE')
  expect(state(program)).toEqual(before)
  // A page that is not there.
  const ioas = program.ioas()
  ok(program.map(ioas, 0x0100_0000n, 0x1000n, page))
  expect(program.test(12, ioas, { 28: 0 }).errno).toBe('EFAULT')
})

it('a replacement looks at the memory before the device', () => {
  const { program, other, stdev, device } = misfit()
  const parent = program.hwpt(device, program.ioas(), { flags: pasidFlag })
  expect(attachPasid(program, stdev, 5, parent)).toBe(parent)
  const before = state(program)
  expect(replace(program, stdev, other)).toBe('EADDRINUSE')
  expect(state(program)).toEqual(before)
})
