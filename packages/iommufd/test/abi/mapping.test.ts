/** Mappings: MAP, MAP_FILE, COPY, UNMAP. Results as a Linux 7.3.4 gave them, and its order of checks. */
import { beforeEach, describe, expect, it } from 'vitest'
import { aperture, ok } from '../mock-program.js'
import { AbiProgram, expectSteps, last64, out64, page } from './program.js'

let program: AbiProgram
let ioas: number
/** A page-aligned buffer of four pages. */
let buffer: bigint
const half = 2048n

beforeEach(() => {
  program = new AbiProgram()
  ioas = program.ioas()
  buffer = program.buffer(4)
})

describe('MAP', () => {
  const map = (iova: bigint, address: bigint, length: bigint, flags = 7) =>
    program.map(ioas, iova, address, length, flags)

  it('refuses arguments', () => {
    expectSteps([
      ['length ULONG_MAX', () => map(0n, buffer, last64), 'EOVERFLOW'],
      ['iova ULONG_MAX without FIXED', () => map(last64, buffer, page, 6), 'EOVERFLOW'],
      ['no rights', () => map(0x5000n, buffer, page, 1), 'EINVAL'],
      ['length 0', () => map(0x5000n, buffer, 0n), 'EINVAL'],
      ['flag 8', () => map(0x5000n, buffer, page, 15), 'EOPNOTSUPP'],
      ['user_va near ULONG_MAX', () => map(0x5000n, last64 - 0x7ffn, page), 'EOVERFLOW'],
      ['8192 bytes at the last page', () => map(last64 - 0xfffn, buffer, 2n * page), 'EOVERFLOW'],
      ['4096 bytes at the last page', () => map(last64 - 0xfffn, buffer, page), 'ok'],
      ['length 2^63 automatic', () => map(0n, 0n, 1n << 63n, 6), 'EOVERFLOW'],
    ])
  })

  it('refuses in the order of the checks', () => {
    const call = (fields: Record<number, number | bigint>) =>
      program.call(0x85, 40, { 4: 7, 8: ioas, 16: buffer, 24: page, 32: 0x5000n, ...fields })
    ok(program.test(2, ioas))
    ok(map(aperture, buffer, page))
    expectSteps([
      ['1: flags, reserved, before ULONG_MAX', () => call({ 12: 1, 24: last64 }), 'EOPNOTSUPP'],
      ['2: ULONG_MAX, before rights', () => call({ 4: 1, 32: last64 }), 'EOVERFLOW'],
      ['3: rights, before the IOAS', () => call({ 4: 1, 8: 99 }), 'EINVAL'],
      ['4: IOAS, before the memory', () => call({ 8: 99, 16: last64 }), 'ENOENT'],
      ['5: memory wraps, before the length', () => call({ 16: last64, 24: last64 - 1n }), 'EOVERFLOW'],
      ['5: length 0', () => call({ 24: 0n }), 'EINVAL'],
      [
        '6: length unaligned, before the address wraps',
        () => call({ 24: 0x801n, 32: last64 - 0x7ffn }),
        'EINVAL',
      ],
      ['7: address unaligned, before it wraps', () => call({ 24: page, 32: last64 - 1n }), 'EINVAL'],
      ['7: wraps', () => call({ 32: last64 - 0x7ffn }), 'EOVERFLOW'],
      ['7: reserved, before an area', () => call({ 24: 0x0100_0000n, 32: 0x1000n }), 'EINVAL'],
      ['7: an area, before the memory is aligned', () => call({ 16: buffer + 1n, 32: aperture }), 'EEXIST'],
      ['8: memory unaligned, before it is pinned', () => call({ 16: 1n, 32: aperture + page }), 'EINVAL'],
      ['9: no memory', () => call({ 16: 0n, 32: aperture + page }), 'EFAULT'],
    ])
  })

  it('shows where an area may begin and end', () => {
    ok(map(0x10000n, buffer, 2n * page))
    expectSteps([
      ['before', () => map(0xf000n, buffer, page), 'ok'],
      ['behind', () => map(0x12000n, buffer, 1n), 'ok'],
      ['at the start', () => map(0x10000n, buffer, 1n), 'EEXIST'],
      ['at the end', () => map(0x11fffn, buffer, 1n), 'EEXIST'],
      ['inside', () => map(0x10800n, buffer, 1n), 'EEXIST'],
      ['around', () => map(0xe000n, buffer, 4n * page), 'EEXIST'],
    ])
  })
})

describe('UNMAP', () => {
  const unmap = (iova: bigint, length: bigint) => program.unmap(ioas, iova, length)

  it('takes whole areas, in order up to one that is cut', () => {
    const a = () => program.map(ioas, 0x10000n, buffer, page)
    ok(a())
    ok(program.map(ioas, 0x12000n, buffer, 2n * page))
    expectSteps([
      ['A and holes', () => out64(unmap(0xf000n, 3n * page), 16), page],
      ['A again', a, 'ok'],
      ['A and half of B', () => unmap(0x10000n, 3n * page), 'ENOENT'],
      ['A is gone', a, 'ok'],
      ['a hole', () => unmap(0x11000n, page), 'ENOENT'],
      ['the end of B', () => unmap(0x13000n, page), 'ENOENT'],
      ['iova ULONG_MAX', () => unmap(last64, page), 'EOVERFLOW'],
      ['length ULONG_MAX elsewhere', () => unmap(1n, last64), 'EOVERFLOW'],
      ['length 0', () => unmap(0x10000n, 0n), 'EINVAL'],
      ['wrapping', () => unmap(last64 - 1n, page), 'EOVERFLOW'],
      ['another object', () => program.unmap(99, 0n, last64), 'ENOENT'],
      ['all', () => out64(unmap(0n, last64), 16), 3n * page],
      ['all of nothing', () => out64(unmap(0n, last64), 16), 0n],
    ])
  })

  it('leaves the length as it was given when it fails', () => {
    ok(program.map(ioas, 0x10000n, buffer, page))
    ok(program.map(ioas, 0x12000n, buffer, 2n * page))
    expect(unmap(0x10000n, 3n * page).u64(16)).toBe(3n * page)
  })
})

describe('COPY', () => {
  const copy = (from: bigint, length: bigint, flags = 6, to = 0n) =>
    program.copy([ioas, from], [ioas, to], length, flags)

  it('maps memory behind areas once more', () => {
    ok(program.map(ioas, 0x12000n, buffer, 2n * page))
    ok(program.map(ioas, 0x20000n, buffer, page, 5))
    expectSteps([
      ['inside an area', () => copy(0x12005n, 100n), 'ok'],
      ['into a hole', () => copy(0x13fc0n, 100n), 'ENOENT'],
      ['length 0', () => copy(0x12000n, 0n), 'EINVAL'],
      ['onto itself', () => copy(0x12000n, page, 7, 0x12000n), 'EEXIST'],
      ['read-only as RW', () => copy(0x20000n, page), 'EPERM'],
      ['read-only as R', () => copy(0x20000n, page, 4), 'ok'],
      ['DESTROY with areas', () => program.destroy(ioas), 'ok'],
    ])
  })

  it('takes adjoining areas together, as so many areas', () => {
    ok(program.map(ioas, 0x12000n, buffer, page))
    ok(program.map(ioas, 0x13000n, buffer + 2n * page, page))
    expectSteps([
      ['both', () => out64(copy(0x12800n, page, 7, 0x40800n), 24), 0x40800n],
      ['the first half', () => out64(program.unmap(ioas, 0x40800n, half), 16), half],
      ['the second half', () => out64(program.unmap(ioas, 0x41000n, half), 16), half],
    ])
  })

  it('refuses in the order of the checks', () => {
    ok(program.map(ioas, 0x12000n, buffer, page))
    const call = (fields: Record<number, number | bigint>) =>
      program.call(0x83, 40, { 4: 7, 8: ioas, 12: ioas, 16: page, 24: 0x5000n, 32: 0x12000n, ...fields })
    const other = program.ioas()
    ok(program.test(2, other))
    expectSteps([
      ['flags, before ULONG_MAX', () => call({ 4: 15, 16: last64 }), 'EOPNOTSUPP'],
      ['length ULONG_MAX, before rights', () => call({ 4: 1, 16: last64 }), 'EOVERFLOW'],
      ['dst_iova ULONG_MAX', () => call({ 24: last64 }), 'EOVERFLOW'],
      ['src_iova ULONG_MAX', () => call({ 32: last64 }), 'EOVERFLOW'],
      ['rights, before the source', () => call({ 4: 1, 12: 99 }), 'EINVAL'],
      ['source, before the length', () => call({ 12: 99, 16: 0n }), 'ENOENT'],
      ['length 0, before the target', () => call({ 8: 99, 16: 0n }), 'EINVAL'],
      ['wrap', () => call({ 16: last64 - 1n }), 'EOVERFLOW'],
      ['a hole, before the target', () => call({ 8: 99, 32: 0x40000n }), 'ENOENT'],
      ['the target', () => call({ 8: 99 }), 'ENOENT'],
      ['placement: reserved', () => call({ 8: other }), 'EINVAL'],
      ['placement: alignment', () => call({ 8: other, 24: aperture + 1n }), 'EINVAL'],
      ['page offset', () => call({ 8: other, 16: half, 24: aperture, 32: 0x12001n }), 'EINVAL'],
      ['all is well', () => call({ 8: other, 24: aperture }), 'ok'],
    ])
  })
})

describe('MAP_FILE', () => {
  it('refuses in the order of the checks', () => {
    const fd = program.process.open(program.host.createFile(8192))
    const call = (fields: Record<number, number | bigint>) =>
      program.call(0x8f, 40, { 4: 7, 8: ioas, 12: fd, 16: 0n, 24: page, 32: 0x5000n, ...fields })
    expectSteps([
      ['flags', () => call({ 4: 15, 24: last64 }), 'EOPNOTSUPP'],
      ['ULONG_MAX, before rights', () => call({ 4: 1, 24: last64 }), 'EOVERFLOW'],
      ['rights, before the IOAS', () => call({ 4: 1, 8: 99 }), 'EINVAL'],
      ['IOAS, before the length', () => call({ 8: 99, 24: 0n }), 'ENOENT'],
      ['length 0, before the descriptor', () => call({ 12: 999, 24: 0n }), 'EINVAL'],
      ['start wraps, before the descriptor', () => call({ 12: 999, 16: last64 }), 'EOVERFLOW'],
      ['fd 999', () => call({ 12: 999, 32: 0n }), 'EBADF'],
      ['fd -1', () => call({ 12: 0xffff_ffff }), 'EBADF'],
      ['all is well', () => call({}), 'ok'],
      ['placement', () => call({}), 'EEXIST'],
      ['past the end, without HWPT', () => call({ 16: 0x4000n, 32: 0x8000n }), 'ok'],
    ])
  })

  it('takes the offset in the file for the offset in the page', () => {
    const fd = program.process.open(program.host.createFile(8192))
    const iova = out64(program.mapFile(ioas, fd, { start: 0x1234n, length: 16n }, 6), 32)
    expect(Number(iova) & 0xfff).toBe(0x234)
  })

  it('says EINVAL with a HWPT for what has no pages, or too few', () => {
    ok(program.test(2, ioas))
    const file = program.process.open(program.host.createFile(8192))
    const own = program.iommu
    const map = (fd: number, start: bigint, length: bigint) =>
      program.mapFile(ioas, fd, { start, length, iova: aperture })
    expectSteps([
      ['a file of ours', () => map(own, 0n, page), 'EINVAL'],
      ['past the end', () => map(file, 0n, 3n * page), 'EINVAL'],
      ['the last page', () => map(file, page, page), 'ok'],
    ])
  })
})

describe('MAP_FILE of a dma-buf', () => {
  const get = (length: number): number => ok(program.test(22, 0, { 16: length })).ret
  const revoke = (fd: number, isRevoked: number) => program.test(23, 0, { 16: fd, 20: isRevoked })

  it('looks at its size at once, and at who has taken it back', () => {
    const fd = get(2 * 4096)
    const map = (start: bigint, length: bigint, iova = 0x5000n) =>
      program.mapFile(ioas, fd, { start, length, iova })
    expectSteps([
      ['past the end', () => map(page, 2n * page), 'EINVAL'],
      ['from the end', () => map(2n * page, page), 'EINVAL'],
      ['length 0', () => map(0n, 0n), 'EINVAL'],
      ['all', () => map(0n, 2n * page), 'ok'],
      ['revoke', () => revoke(fd, 1), 'ok'],
      ['revoked', () => map(0n, page, 0x8000n), 'ENODEV'],
      ['no longer', () => revoke(fd, 0), 'ok'],
      ['again', () => map(0n, page, 0x8000n), 'ok'],
    ])
  })

  it('costs no pins, and is nothing for accesses', () => {
    const fd = get(4096)
    ok(program.test(2, ioas))
    const access = ok(program.test(5, ioas, { 20: 1 })).u32(16)
    expectSteps([
      ['map', () => program.mapFile(ioas, fd, { length: page, iova: aperture }), 'ok'],
      ['pinned', () => program.kernel.pinned(program.process.memory.key), 0],
      ['pin', () => program.test(7, access, { 24: aperture, 32: page }), 'EINVAL'],
      ['read', () => program.test(8, access, { 16: aperture, 24: 4n, 32: program.room }), 'EINVAL'],
      ['unmap', () => program.unmap(ioas, aperture, page), 'ok'],
    ])
  })
})

describe('late checks', () => {
  it('of an IOAS without HWPT come when a device does', () => {
    const procfs = program.process.open({
      kind: 'other',
      source: () => ({ pin: () => 'EINVAL', unpin: () => undefined, read: () => false, write: () => false }),
    })
    const attach = () => program.test(2, ioas)
    const undo = () => program.unmap(ioas, 0n, last64)
    const fine = (): string => {
      const made = attach()
      return made.errno ?? program.destroy(made.u32(16)) ?? 'ok'
    }
    expectSteps([
      ['MAP of no memory', () => program.map(ioas, aperture, 0x1000n, page), 'ok'],
      ['attach', attach, 'EFAULT'],
      ['undo', undo, 'ok'],
      ['attach', fine, 'ok'],
      [
        'MAP_FILE of a procfs file',
        () => program.mapFile(ioas, procfs, { length: page, iova: aperture }),
        'ok',
      ],
      ['attach', attach, 'EINVAL'],
      ['undo', undo, 'ok'],
      ['attach', fine, 'ok'],
      ['MAP outside the aperture', () => program.map(ioas, 0x1000n, buffer, page), 'ok'],
      ['attach', attach, 'EADDRINUSE'],
      ['undo', undo, 'ok'],
      ['attach', fine, 'ok'],
      ['MAP of B + 1', () => program.map(ioas, aperture, buffer + 1n, page), 'ok'],
      ['attach', attach, 'EADDRINUSE'],
      ['undo', undo, 'ok'],
      ['attach', fine, 'ok'],
      ['allowed outside the aperture', () => program.allow(ioas, [0x1000n, 0x1fffn]), 'ok'],
      ['attach', attach, 'EADDRINUSE'],
      ['no list', () => program.allow(ioas), 'ok'],
      ['attach', fine, 'ok'],
    ])
  })

  it('of an IOAS with one come at once', () => {
    const procfs = program.process.open({
      kind: 'other',
      source: () => ({ pin: () => 'EINVAL', unpin: () => undefined, read: () => false, write: () => false }),
    })
    const readOnly = program.buffer(1, { writeable: false })
    const { hwpt, device } = program.device(ioas)
    expectSteps([
      ['mock flags 2', () => program.test(12, ioas, { 28: 2 }), 'EINVAL'],
      ['DESTROY of the device', () => program.destroy(device), 'EBUSY'],
      ['DESTROY of the automatic HWPT', () => program.destroy(hwpt), 'EBUSY'],
      ['DESTROY of the IOAS', () => program.destroy(ioas), 'EBUSY'],
      ['MAP RW of a read-only page', () => program.map(ioas, aperture, readOnly, page), 'EFAULT'],
      ['MAP R of it', () => program.map(ioas, aperture, readOnly, page, 5), 'ok'],
      [
        'MAP_FILE of a procfs file',
        () => program.mapFile(ioas, procfs, { length: page, iova: 0x2000_0000n }),
        'EINVAL',
      ],
    ])
  })
})
