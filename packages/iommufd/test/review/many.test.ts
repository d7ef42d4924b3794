/** What grows with a hostile program's objects must not grow with their square: these end, or take minutes. */
import { expect, it } from 'vitest'
import { AbiProgram, nesting } from '../abi/program.js'
import { ok } from '../mock-program.js'

const faultQueue = 4

it('a program reads all page requests that a queue can hold, in one call', () => {
  const program = new AbiProgram()
  const ioas = program.ioas()
  const { stdev, device } = program.device(ioas)
  const { id, fd } = program.faultQueue()
  const hwpt = program.hwpt(device, ioas, { flags: faultQueue, fault: id })
  ok(program.test(10, stdev, { 16: hwpt }))
  const groups = 30_000
  for (let group = 0; group < groups; group++) program.fault(device, group)
  const words = program.readWords(fd, groups * 40)
  expect(words.length).toBe(groups * 10)
  // The cookie is the last word of each; freed ones are given again, the lowest first.
  expect([words[9], words[groups * 10 - 1]]).toEqual([1, groups])
  expect(program.writeWords(fd, [7, 0, 3, 0])).toBe(16)
  for (const group of [1, 2, 3]) program.fault(device, group)
  const again = program.readWords(fd, 3 * 40)
  expect([again[9], again[19], again[29]]).toEqual([3, 7, groups + 1])
})

it('a context with thousands of HWPTs on one IOAS is closed at once', () => {
  const program = new AbiProgram()
  const ioas = program.ioas()
  const { device } = program.device(ioas)
  for (let i = 0; i < 12_000; i++) program.hwpt(device, ioas)
  program.close(program.iommu)
  expect(program.backend.snapshot()).toMatchObject({ devices: [], domains: [] })
})

it('a context with thousands of regions is closed at once, and their offsets are given anew', () => {
  const { program, device, parent } = nesting()
  const region = (): { id: number; offset: bigint } => {
    const made = ok(program.viommu(device, parent, { data: [1, 0, 0, 0, 0, 0] }))
    return {
      id: made.u32(20),
      offset: new DataView(program.read(program.room, 24).buffer).getBigUint64(8, true),
    }
  }
  const made = Array.from({ length: 4000 }, region)
  expect(made.map(({ offset }) => offset)).toEqual(made.map((_, i) => 0x1000n + BigInt(i) * 0x2000n))
  for (const nth of [9, 5]) program.destroy(made[nth]!.id)
  expect([region().offset, region().offset, region().offset]).toEqual([0xb000n, 0x13000n, 0x1f41000n])
  program.close(program.iommu)
  expect(program.backend.snapshot()).toMatchObject({ devices: [], viommus: [] })
})
