/** HWPT_INVALIDATE: entries in order, and how many were carried out. Results as a Linux 7.3.4 gave them. */
import { beforeEach, describe, expect, it } from 'vitest'
import { ok } from '../mock-program.js'
import { AbiProgram, expectSteps, nesting, wordBytes } from './program.js'
import type { Nesting } from './program.js'

let place: Nesting
let program: AbiProgram
let nested: number

beforeEach(() => {
  place = nesting()
  program = place.program
  nested = program.hwpt(place.device, place.parent, { data: [77] })
})

/** What the four entries of the nested HWPT hold. */
const iotlb = (): (number | undefined)[] =>
  [0, 1, 2, 3].map((entry) =>
    [77, 0].find((value) => program.test(14, nested, { 16: entry, 20: value }).errno === undefined),
  )

describe('of a nested HWPT', () => {
  it('answers as it was measured', () => {
    const { ioas } = place
    const three = [0, 1, 2].map((id) => [0, id])
    expectSteps([
      ['an IOAS, 3 entries', () => program.invalidate(ioas, three), ['EINVAL', 0]],
      ['ID 9999', () => program.invalidate(9999, three), ['ENOENT', 0]],
      [
        'ok, bad, ok',
        () =>
          program.invalidate(nested, [
            [0, 0],
            [0, 4],
            [0, 1],
          ]),
        ['EINVAL', 1],
      ],
      ['the first took effect', () => iotlb().join(), '0,77,77,77'],
      ['empty with a wrong type', () => program.invalidate(nested, [], { type: 0xdadbeef }), ['EINVAL', 0]],
      ['a bad pointer', () => program.invalidate(nested, three, { address: 0x1000n }), ['EFAULT', 0]],
    ])
  })

  it('clears entries', () => {
    expectSteps([
      [
        'two',
        () =>
          program.invalidate(nested, [
            [0, 0],
            [0, 3],
          ]),
        ['ok', 2],
      ],
      ['cleared', () => iotlb().join(), '0,77,77,0'],
      ['all', () => program.invalidate(nested, [[1, 0]]), ['ok', 1]],
      ['cleared', () => iotlb().join(), '0,0,0,0'],
    ])
  })

  it('refuses in the order of the checks, and tells 0 entries', () => {
    const call = (fields: Record<number, number | bigint>, entry = [0, 0]): (string | number)[] => {
      const address = program.put(wordBytes(...entry))
      const made = program.call(0x8d, 32, {
        ...{ 4: nested, 8: address, 16: 0xdead_beef, 20: 8, 24: 1, ...fields },
      })
      return [made.errno ?? 'ok', made.u32(24)]
    }
    expectSteps([
      ['reserved, before the array', () => call({ 8: 0n, 28: 1 }), ['EOPNOTSUPP', 0]],
      ['NULL, before the object', () => call({ 4: 99, 8: 0n }), ['EINVAL', 0]],
      ['entries of no bytes, before the object', () => call({ 4: 99, 20: 0 }), ['EINVAL', 0]],
      ['entries above a page', () => call({ 4: 99, 20: 4097 }), ['EINVAL', 0]],
      ['more than 2^19', () => call({ 4: 99, 24: (1 << 19) + 1 }), ['EINVAL', 0]],
      ['the object, before the type', () => call({ 4: 99, 16: 1 }), ['ENOENT', 0]],
      ['a paging HWPT', () => call({ 4: place.parent }), ['EINVAL', 0]],
      ['a device', () => call({ 4: place.device }), ['EINVAL', 0]],
      ['the type', () => call({ 16: 1 }), ['EINVAL', 0]],
      ['too short', () => call({ 20: 7 }), ['EINVAL', 0]],
      ['too long, though zero', () => call({ 20: 9 }), ['EINVAL', 0]],
      ['an unknown flag', () => call({}, [2, 0]), ['EOPNOTSUPP', 0]],
      ['an entry too far, also with ALL', () => call({}, [1, 4]), ['EINVAL', 0]],
      ['none, of whatever length, nowhere', () => call({ 8: 0n, 20: 0, 24: 0 }), ['ok', 0]],
      ['none of another type', () => call({ 16: 1, 24: 0 }), ['EINVAL', 0]],
      ['one', () => call({}), ['ok', 1]],
    ])
  })

  it('stops where memory stops, after what could be read', () => {
    const end = program.room + 0x4000n
    program.write(end - 16n, wordBytes(0, 0, 0, 1))
    const entries = [
      [0, 0],
      [0, 1],
      [0, 2],
    ]
    expect(program.invalidate(nested, entries, { address: end - 16n })).toEqual(['EFAULT', 2])
    expect(iotlb().join()).toBe('0,0,77,77')
  })

  it('says EFAULT when it cannot be told how many', () => {
    const file = program.host.createFile(4096)
    const { memory } = program.process
    const address = memory.mapFile(file, 1)
    const readOnly = memory.mapFile(file, 1, { writeable: false })
    memory.write(address, AbiProgram.struct(32, { 4: 9999, 8: 1n, 16: 0, 20: 8, 24: 1 }))
    expect(program.raw(0x3b8d, readOnly).errno).toBe('EFAULT')
  })
})

describe('of a vIOMMU', () => {
  const cacheDefault = 0xba_ddad
  const caches = (): string =>
    [0, 1, 2, 3]
      .map((entry) =>
        [cacheDefault, 0].find(
          (value) => program.test(16, place.device, { 16: entry, 20: value }).errno === undefined,
        ),
      )
      .join()

  it('reaches the devices that the guest can name', () => {
    const { viommu, device } = place
    ok(program.vdevice(viommu, device, 0x99n))
    const d = cacheDefault
    expectSteps([
      ['one entry', () => program.invalidate(viommu, [[0, 0x99, 1]]), ['ok', 1]],
      ['cleared', caches, [d, 0, d, d].join()],
      [
        'ok, unknown vDEVICE, ok',
        () =>
          program.invalidate(viommu, [
            [0, 0x99, 0],
            [0, 0x98, 0],
            [0, 0x99, 3],
          ]),
        ['EINVAL', 1],
      ],
      ['cleared', caches, [0, 0, d, d].join()],
      ['unknown flag', () => program.invalidate(viommu, [[2, 0x99, 0]]), ['EOPNOTSUPP', 0]],
      ['cache too far', () => program.invalidate(viommu, [[0, 0x99, 4]]), ['EINVAL', 0]],
      ['all', () => program.invalidate(viommu, [[1, 0x99, 0]]), ['ok', 1]],
      ['cleared', caches, '0,0,0,0'],
    ])
  })

  it('copies the whole array first', () => {
    const { viommu, device } = place
    ok(program.vdevice(viommu, device, 0x99n))
    const good = [0, 0x99, 1]
    const none = [cacheDefault, cacheDefault, cacheDefault, cacheDefault].join()
    expectSteps([
      ['empty', () => program.invalidate(viommu, []), ['ok', 0]],
      ['empty of another type', () => program.invalidate(viommu, [], { type: 1 }), ['EINVAL', 0]],
      ['another type', () => program.invalidate(viommu, [good], { type: 0xdadbeef }), ['EINVAL', 0]],
      [
        'the second has a tail',
        () =>
          program.invalidate(viommu, [
            [...good, 0],
            [...good, 5],
          ]),
        ['E2BIG', 0],
      ],
      ['bad pointer', () => program.invalidate(viommu, [good], { address: 0x1000n }), ['EFAULT', 0]],
      ['nothing has happened', caches, none],
      [
        'a zero tail',
        () =>
          program.invalidate(viommu, [
            [...good, 0],
            [...good, 0],
          ]),
        ['ok', 2],
      ],
    ])
  })
})
