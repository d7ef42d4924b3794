/** Dirty tracking. Results as a Linux 7.3.4 gave them with its mock driver. */
import { beforeEach, describe, expect, it } from 'vitest'
import { aperture, ok } from '../mock-program.js'
import { AbiProgram, expectSteps, last64, nesting, out64, page } from './program.js'

let program: AbiProgram
let ioas: number
let device: number
let hwpt: number

beforeEach(() => {
  program = new AbiProgram()
  ioas = program.ioas()
  device = program.device(ioas).device
  hwpt = program.hwpt(device, ioas, { flags: 2 })
})

const range = { iova: aperture, length: 4n * page, pageSize: 2048n }
const noClear = 1

/** Maps pages that are not physically contiguous. */
function mapScattered(pages: bigint): void {
  for (let nth = 0n; nth < pages; nth++) ok(program.map(ioas, aperture + nth * page, program.buffer(1), page))
}

describe('GET_DIRTY_BITMAP', () => {
  it('answers as it was measured', () => {
    const read = (more: object) => program.dirtyBits(hwpt, { ...range, ...more })
    expectSteps([
      ['over a hole', () => read({}), 0n],
      ['iova no multiple of page_size', () => read({ iova: aperture + 2048n, pageSize: 4096n }), 'EINVAL'],
      ['page_size 0', () => read({ pageSize: 0n }), 'EINVAL'],
      ['wrap', () => read({ iova: last64 - 0x7ffn, length: 4096n }), 'EOVERFLOW'],
      ['NULL bitmap over a hole', () => read({ data: 0n }), 0n],
    ])
  })

  it('refuses in the order of the checks', () => {
    const plain = program.hwpt(device, ioas)
    const call = (fields: Record<number, number | bigint>) =>
      program.call(0x8c, 48, { 4: hwpt, 16: aperture, 24: page, 32: 2048n, 40: program.room, ...fields })
    expectSteps([
      ['flags, before the HWPT', () => call({ 4: 99, 8: 2 }), 'EOPNOTSUPP'],
      ['reserved, before the HWPT', () => call({ 4: 99, 12: 1 }), 'EOPNOTSUPP'],
      ['HWPT, before the length', () => call({ 4: 99, 24: 0n }), 'ENOENT'],
      ['an IOAS', () => call({ 4: ioas }), 'ENOENT'],
      ['length 0, before the operations', () => call({ 4: plain, 24: 0n }), 'EINVAL'],
      ['wrap, before alignment', () => call({ 16: last64, 24: 2n }), 'EOVERFLOW'],
      ['iova unaligned', () => call({ 16: aperture + 1n }), 'EINVAL'],
      ['end unaligned', () => call({ 24: 1024n }), 'EINVAL'],
      ['page size 0, before the operations', () => call({ 4: plain, 32: 0n }), 'EINVAL'],
      ['no operations', () => call({ 4: plain }), 'EOPNOTSUPP'],
      ['all is well', () => call({}), 'ok'],
    ])
  })

  it('shows whole entries, whatever a bit stands for', () => {
    mapScattered(4n)
    const mark = (bits: bigint) => program.markDirty(hwpt, aperture, 4n * page, 2048n, bits)
    const read = (pageSize: bigint, flags = 0) => program.dirtyBits(hwpt, { ...range, pageSize }, flags)
    expectSteps([
      ['DIRTY before enabling', () => mark(1n), 'EINVAL'],
      ['ENABLE', () => program.setDirty(hwpt, 1), 'ok'],
      ['flag 2', () => program.setDirty(hwpt, 2), 'EOPNOTSUPP'],
      ['one bit', () => mark(1n), 1n],
      ['2048, NO_CLEAR', () => read(2048n, noClear), 3n],
      ['16384, NO_CLEAR', () => read(16384n, noClear), 1n],
      ['4096', () => read(4096n), 1n],
      ['again', () => read(4096n), 0n],
      ['outside any mapping', () => program.markDirty(hwpt, 0x2000_0000n, page, 2048n, 3n), 2n],
      ['every entry', () => mark(0b1010_1010n), 4n],
      ['2048', () => read(2048n), 0xffn],
    ])
  })

  it('shows large entries where memory is contiguous and aligned, unless huge pages are off', () => {
    for (const isOn of [1n, 0n]) {
      const other = program.ioas()
      ok(program.option(1, 0, other, isOn))
      const tracked = program.hwpt(device, other, { flags: 2 })
      ok(program.map(other, aperture, program.process.memory.map(0x20_0000, { huge: true }), 4n * page))
      ok(program.setDirty(tracked, 1))
      expect(program.markDirty(tracked, aperture, 4n * page, 2048n, 1n)).toBe(1n)
      expect(program.dirtyBits(tracked, range)).toBe(isOn === 1n ? 0xffn : 3n)
    }
  })

  it('takes the lowest bit of page_size', () => {
    mapScattered(3n)
    ok(program.setDirty(hwpt, 1))
    program.markDirty(hwpt, aperture, 3n * page, 2048n, 0b100n)
    const at = { iova: aperture, length: 3n * page, pageSize: 6144n }
    // 6144 is 2048 + 4096: the masks that check it are those of 6143.
    expect(aperture & 6143n).toBe(0n)
    expect(program.dirtyBits(hwpt, { ...at, length: 8n * page })).toBe(0b1100n)
  })

  it('ors bits in, at any address', () => {
    mapScattered(2n)
    ok(program.setDirty(hwpt, 1))
    program.markDirty(hwpt, aperture, 2n * page, page, 2n)
    const data = program.room + 5n
    program.write(program.room, new Uint8Array(8).fill(0xa0))
    ok(program.call(0x8c, 48, { 4: hwpt, 16: aperture, 24: 2n * page, 32: page, 40: data }))
    expect([...program.read(program.room, 8)]).toEqual([0xa0, 0xa0, 0xa0, 0xa0, 0xa0, 0xa2, 0xa0, 0xa0])
  })

  it('needs no tracking to be on, and is cleared when it comes on', () => {
    mapScattered(1n)
    ok(program.setDirty(hwpt, 1))
    program.markDirty(hwpt, aperture, page, page, 1n)
    const read = () => program.dirtyBits(hwpt, { iova: aperture, length: page, pageSize: page }, noClear)
    expectSteps([
      ['DISABLE', () => program.setDirty(hwpt, 0), 'ok'],
      ['read', read, 1n],
      ['ENABLE', () => program.setDirty(hwpt, 1), 'ok'],
      ['read', read, 0n],
      ['ENABLE again', () => program.setDirty(hwpt, 1), 'ok'],
      ['DISABLE', () => program.setDirty(hwpt, 0), 'ok'],
      ['DISABLE again', () => program.setDirty(hwpt, 0), 'ok'],
    ])
  })
})

it('is of paging HWPTs that were allocated for it', () => {
  const { program: other, device: nested, ioas: below, parent } = nesting()
  const guests = other.hwpt(nested, parent, { data: [1] })
  const at = { iova: aperture, length: page, pageSize: page }
  expectSteps([
    ['set on a nested one', () => other.setDirty(guests, 1), 'ENOENT'],
    ['set without', () => other.setDirty(parent, 1), 'EOPNOTSUPP'],
    ['set on an IOAS', () => other.setDirty(below, 1), 'ENOENT'],
    ['set: unknown flag, before the HWPT', () => other.setDirty(99, 2), 'EOPNOTSUPP'],
    ['set: reserved is not looked at', () => program.call(0x8b, 16, { 4: 1, 8: hwpt, 12: 7 }), 'ok'],
    ['get of a nested one', () => other.dirtyBits(guests, at), 'ENOENT'],
    ['get without', () => other.dirtyBits(parent, at), 'EOPNOTSUPP'],
    ['get without, length 0', () => other.dirtyBits(parent, { ...at, length: 0n }), 'EINVAL'],
  ])
})

it('keeps devices off HWPTs that they cannot track for', () => {
  expectSteps([
    ['a NO_DIRTY device', () => program.test(12, hwpt, { 28: 1 }), 'EINVAL'],
    ['another', () => program.test(12, hwpt, { 28: 0 }), 'ok'],
    [
      'marks nothing of nothing',
      () => out64(program.test(13, hwpt, { 24: aperture, 32: 0n, 40: page, 48: 1n }), 56),
      'EINVAL',
    ],
  ])
})
