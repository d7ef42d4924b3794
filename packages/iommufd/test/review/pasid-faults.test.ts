/** Page requests of a device that is on one HWPT by several PASIDs. */
import { expect, it } from 'vitest'
import { AbiProgram, replace } from '../abi/program.js'
import { ok } from '../mock-program.js'

const [faultQueue, pasidFlag] = [4, 8]

it('detaching one PASID answers its requests, and leaves those of the others to be answered', () => {
  const program = new AbiProgram()
  const ioas = program.ioas()
  const { stdev, device } = program.device(ioas, 4)
  const { id, fd } = program.faultQueue()
  const hwpt = program.hwpt(device, ioas, { flags: faultQueue | pasidFlag, fault: id })
  expect(replace(program, stdev, hwpt)).toBe(hwpt)
  for (const pasid of [5, 6]) ok(program.test(18, stdev, { 16: pasid, 20: hwpt }))
  const groups = [0, 5, 6]
  for (const pasid of groups) program.fault(device, 100 + pasid, { pasid })
  ok(program.test(20, stdev, { 16: 5 }))
  const words = program.readWords(fd, 3 * 40)
  expect([words.length, words[3], words[13]]).toEqual([20, 100, 106])
  // As with what has been read already.
  ok(program.test(20, stdev, { 16: 6 }))
  expect(program.writeWords(fd, [2, 0])).toBe('EINVAL')
  expect(program.writeWords(fd, [1, 0])).toBe(8)
})
