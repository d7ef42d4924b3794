/** The calls of VFIO's type 1 on an iommufd. Results as a Linux 7.3.4 gave them, and the reference's order of checks. */
import { beforeEach, describe, expect, it } from 'vitest'
import { aperture, ok } from '../mock-program.js'
import type { Fields } from '../mock-program.js'
import { AbiProgram, expectSteps, last64, page } from './program.js'

const getApiVersion = 0x3b64
const checkExtension = 0x3b65
const setIommu = 0x3b66
const getInfo = 0x3b70
const mapDma = 0x3b71
const unmapDma = 0x3b72
const dirtyPages = 0x3b75

let program: AbiProgram
let ioas: number
let buffer: bigint

const vfioIoas = (op: number, id = 0): void => {
  ok(program.call(0x88, 12, { 4: id, 8: op }))
}

beforeEach(() => {
  program = new AbiProgram()
  ioas = program.ioas()
  buffer = program.buffer(16)
  vfioIoas(1, ioas)
})

const call = (cmd: number, argument: bigint): string | number => {
  const { errno, ret } = program.raw(cmd, argument)
  return errno ?? ret
}
const struct = (cmd: number, size: number, fields: Fields, argsz = size): string | number =>
  call(cmd, program.put(AbiProgram.struct(argsz, fields, size)))

const map = (iova: bigint, address: bigint, size: bigint, flags = 3): string | number =>
  struct(mapDma, 32, { 4: flags, 8: address, 16: iova, 24: size })

/** What came of it, and the size that was written back. */
function unmap(iova: bigint, size: bigint, flags = 0): (string | number | bigint)[] {
  const done = struct(unmapDma, 24, { 4: flags, 8: iova, 16: size })
  return [done, new DataView(program.read(program.room, 24).buffer).getBigUint64(16, true)]
}

describe('without an IOAS', () => {
  it('knows its version and extensions, then ENODEV', () => {
    vfioIoas(2)
    const { room } = program
    expectSteps([
      ['version', () => call(getApiVersion, 0n), 0],
      ['TYPE1', () => call(checkExtension, 1n), 1],
      ['TYPE1v2', () => call(checkExtension, 3n), 1],
      ['UNMAP_ALL', () => call(checkExtension, 9n), 1],
      ['NOIOMMU', () => call(checkExtension, 8n), 0],
      ['2', () => call(checkExtension, 2n), 0],
      ['DMA_CC', () => call(checkExtension, 4n), 'ENODEV'],
      ['SET_IOMMU 2', () => call(setIommu, 2n), 'EINVAL'],
      ['SET_IOMMU 3', () => call(setIommu, 3n), 'ENODEV'],
      ['GET_INFO', () => struct(getInfo, 24, {}), 'ENODEV'],
      ['GET_INFO, too short', () => struct(getInfo, 24, {}, 15), 'EINVAL'],
      ['GET_INFO of NULL', () => call(getInfo, 0n), 'EFAULT'],
      ['MAP_DMA of NULL', () => call(mapDma, 0n), 'EFAULT'],
      ['MAP_DMA, too short', () => struct(mapDma, 32, {}, 31), 'EINVAL'],
      ['MAP_DMA, flag 4', () => map(0n, 0n, 0n, 4), 'EINVAL'],
      ['MAP_DMA', () => map(0n, 0n, 0n), 'ENODEV'],
      ['UNMAP_DMA of NULL', () => call(unmapDma, 0n), 'EFAULT'],
      ['UNMAP_DMA, too short', () => struct(unmapDma, 24, {}, 23), 'EINVAL'],
      ['UNMAP_DMA, flag 1', () => unmap(0n, 0n, 1)[0], 'EINVAL'],
      ['UNMAP_DMA', () => unmap(0n, 0n)[0], 'ENODEV'],
      ['DIRTY_PAGES', () => call(dirtyPages, room), 'ENOTTY'],
    ])
  })
})

describe('with an IOAS', () => {
  it('answers as it was measured', () => {
    ok(program.test(2, ioas))
    expectSteps([
      ['UNMAP_DMA of an empty range', () => unmap(aperture, page), [0, 0n]],
      ['MAP_DMA flags 0 with a HWPT', () => map(aperture, buffer, page, 0), 'EINVAL'],
      ['DMA_CC', () => call(checkExtension, 4n), 0],
      ['2', () => call(checkExtension, 2n), 0],
      ['UNMAP_ALL', () => call(checkExtension, 9n), 1],
      ['SET_IOMMU 2', () => call(setIommu, 2n), 'EINVAL'],
      ['DIRTY_PAGES', () => call(dirtyPages, program.room), 'ENOTTY'],
      ['VFIO_IOAS op 3', () => program.call(0x88, 12, { 8: 3 }), 'EOPNOTSUPP'],
    ])
  })

  it('maps without rights where no HWPT is; none can come then', () => {
    expectSteps([
      ['MAP_DMA flags 0', () => map(aperture, buffer, page, 0), 0],
      ['a device', () => program.test(2, ioas), 'EINVAL'],
      ['unmap', () => unmap(aperture, page), [0, page]],
      ['a device', () => program.test(2, ioas), 'ok'],
    ])
  })

  it('maps at the address that is given, and unmaps', () => {
    ok(program.test(2, ioas))
    expectSteps([
      ['map', () => map(aperture, buffer, 2n * page), 0],
      ['over it', () => map(aperture + page, buffer, page), 'EEXIST'],
      ['where nothing is', () => map(aperture + 4n * page, 0x1000n, page), 'EFAULT'],
      ['outside the aperture', () => map(0x1000n, buffer, page), 'EINVAL'],
      ['half of it, by v2', () => unmap(aperture, page), ['ENOENT', 0n]],
      ['more than it', () => unmap(aperture, 8n * page), [0, 2n * page]],
      ['again', () => unmap(aperture, 8n * page), [0, 0n]],
      ['size 0', () => unmap(aperture, 0n)[0], 'EINVAL'],
    ])
  })

  it('unmaps all, named by nothing', () => {
    map(aperture, buffer, page)
    map(aperture + 4n * page, buffer, 3n * page)
    expectSteps([
      ['with a size', () => unmap(0n, page, 2), ['EINVAL', page]],
      ['with an address', () => unmap(page, 0n, 2)[0], 'EINVAL'],
      ['all', () => unmap(0n, 0n, 2), [0, 4n * page]],
      ['all of nothing', () => unmap(0n, 0n, 2), [0, 0n]],
    ])
  })

  it('charges the process in a context that was opened as /dev/vfio/vfio', () => {
    const { kernel, process } = program
    process.capabilities = { ipcLock: false, sysResource: true, rawIo: true }
    const container = program.process.open(kernel.openVfioContainer())
    const on = (cmd: number, bytes: Uint8Array) => program.raw(cmd, program.put(bytes), container)
    expect(on(0x3b81, AbiProgram.struct(12, {})).errno).toBeUndefined()
    expect(on(0x3b88, AbiProgram.struct(12, { 4: 1, 8: 1 })).errno).toBeUndefined()
    expect(on(0x3ba0, AbiProgram.struct(72, { 4: 2, 8: 1 })).errno).toBeUndefined()
    const request = { 4: 3, 8: buffer, 16: aperture, 24: 2n * page }
    expect(on(mapDma, AbiProgram.struct(32, request)).errno).toBeUndefined()
    expect([kernel.pinned(process.memory.key), kernel.locked(process.memory.key)]).toEqual([2, 2])
    program.close(container)
    expect([kernel.pinned(process.memory.key), kernel.locked(process.memory.key)]).toEqual([0, 0])
  })
})

describe('type 1 of the first version', () => {
  beforeEach(() => {
    ok(program.test(2, ioas))
    expect(call(setIommu, 1n)).toBe(0)
  })

  it('turns huge pages off', () => {
    expect(program.option(1, 1, ioas).u64(16)).toBe(0n)
    expect(call(setIommu, 3n)).toBe(0)
    expect(program.option(1, 1, ioas).u64(16)).toBe(0n)
  })

  it('cuts areas at both edges', () => {
    expectSteps([
      ['map', () => map(aperture, buffer, 16n * page), 0],
      ['out of the middle', () => unmap(aperture + 4n * page, 2n * page), [0, 2n * page]],
      ['again', () => unmap(aperture + 4n * page, 2n * page), [0, 0n]],
      ['half a page', () => unmap(aperture, 2048n), ['EINVAL', 2048n]],
      ['the first', () => unmap(aperture, page), [0, page]],
      ['over the hole', () => unmap(aperture + 3n * page, 4n * page), [0, 2n * page]],
      ['pinned', () => program.host.pinned, 11],
      ['the rest', () => unmap(0n, 0n, 2), [0, 11n * page]],
      ['pinned', () => program.host.pinned, 0],
    ])
  })

  it('leaves the parts mapped to where they were', () => {
    const { hwpt } = program.device(ioas)
    map(aperture, buffer, 4n * page)
    unmap(aperture + page, page)
    const check = (nth: bigint) =>
      program.test(3, hwpt, { 16: aperture + nth * page, 24: page, 32: buffer + nth * page })
    expect([0n, 1n, 2n, 3n].map((nth) => check(nth).errno)).toEqual([
      undefined,
      'EINVAL',
      undefined,
      undefined,
    ])
  })
})

describe('GET_INFO', () => {
  const pageSizes = (bytes: DataView) => bytes.getBigUint64(8, true)

  it('tells page sizes and a chain of capabilities', () => {
    ok(program.test(2, ioas))
    program.put(AbiProgram.struct(256, {}, 256))
    expect(call(getInfo, program.room)).toBe(0)
    const view = new DataView(program.read(program.room, 256).buffer)
    const word = (at: number): number => view.getUint32(at, true)
    // Head, DMA_AVAIL, IOVA_RANGE with one range: the aperture of the mock.
    expect(word(0)).toBe(24 + 16 + 16 + 16)
    expect([word(4), word(16)]).toEqual([3, 24])
    // From 2 KiB to 2^36, what is below a page collapsed into it.
    expect(pageSizes(view)).toBe((1n << 37n) - page)
    expect([word(24), word(28), word(32)]).toEqual([0x1_0003, 40, 0xffff_ffff])
    expect([word(40), word(44), word(48), word(52)]).toEqual([0x1_0001, 0, 1, 0])
    expect([view.getBigUint64(56, true), view.getBigUint64(64, true)]).toEqual([aperture, 0x7fff_ffffn])
  })

  it('is nothing but all sizes without a HWPT', () => {
    program.put(AbiProgram.struct(256, {}, 256))
    expect(call(getInfo, program.room)).toBe(0)
    const view = new DataView(program.read(program.room, 256).buffer)
    expect(pageSizes(view)).toBe(last64 - 0xfffn)
  })

  it.each(Array.from({ length: 72 - 16 + 2 }, (_, i) => 16 + i))('writes no byte past argsz %i', (argsz) => {
    ok(program.test(2, ioas))
    const size = 72
    program.put(new Uint8Array(128).fill(0x55))
    program.put(AbiProgram.struct(argsz, {}, 16))
    expect(call(getInfo, program.room)).toBe(0)
    const bytes = program.read(program.room, 128)
    const view = new DataView(bytes.buffer)
    expect(bytes.subarray(Math.min(argsz, size)).every((byte) => byte === 0x55)).toBe(true)
    expect([view.getUint32(0, true), view.getUint32(4, true)]).toEqual([size, 3])
    if (argsz >= 20) expect(view.getUint32(16, true)).toBe(argsz >= size ? 24 : 0)
  })
})
