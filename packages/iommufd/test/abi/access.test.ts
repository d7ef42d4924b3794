/** Checks of the mock driver, and accesses: who in the kernel uses an IOAS. Results as a Linux 7.3.4 gave them. */
import { beforeEach, describe, expect, it } from 'vitest'
import { aperture, ok } from '../mock-program.js'
import { AbiProgram, expectSteps, last64, nesting, out32, page, words } from './program.js'

let program: AbiProgram
let ioas: number
let buffer: bigint

beforeEach(() => {
  program = new AbiProgram()
  ioas = program.ioas()
  buffer = program.buffer(4)
})

const fixedRead = 5
const writes = 1

describe('the mock driver', () => {
  it('reserves, checks mappings and counts pins', () => {
    const one = program.device(ioas)
    const check = (length: bigint, address: bigint) =>
      program.test(3, one.hwpt, { 16: aperture, 24: length, 32: address })
    const refs = (count: number) => program.test(4, 0, { 16: page, 24: buffer, 32: count })
    const second = program.ioas()
    program.device(second)
    expectSteps([
      ['MAP', () => program.map(ioas, aperture, buffer, page), 'ok'],
      ['ADD_RESERVED over an area', () => program.reserve(ioas, aperture + 1n, 1n), 'EADDRINUSE'],
      ['ADD_RESERVED length 0', () => program.reserve(ioas, aperture, 0n), 'EINVAL'],
      ['CHECK_MAP length 0', () => check(0n, buffer), 'ok'],
      ['right page', () => check(page, buffer), 'ok'],
      ['wrong page', () => check(page, buffer + page), 'EINVAL'],
      ['a second HWPT', () => program.alloc(one.device, ioas), 'ok'],
      ['a third', () => program.alloc(one.device, ioas), 'ok'],
      ['refs 1', () => refs(1), 'ok'],
      ['refs 2', () => refs(2), 'EIO'],
      ['a second MAP', () => program.map(ioas, aperture + page, buffer, page), 'ok'],
      ['refs 2', () => refs(2), 'ok'],
      ['COPY of the first', () => program.copy([ioas, aperture], [second, aperture], page), 'ok'],
      ['still 2', () => refs(2), 'ok'],
    ])
  })

  it('destroys a device with its vDEVICE, whose number is not used again', () => {
    const { program: other, stdev, device, viommu } = nesting()
    const vdevice = ok(other.vdevice(viommu, device, 7n)).u32(12)
    expectSteps([
      ['DESTROY', () => other.destroy(stdev), 'ok'],
      ['vDEVICE', () => other.destroy(vdevice), 'ENOENT'],
      ['device', () => other.destroy(device), 'ENOENT'],
      ['30 fresh IOAS', () => Array.from({ length: 30 }, () => other.ioas()).includes(vdevice), false],
    ])
  })
})

describe('an access', () => {
  const create = (flags = 1, on = ioas): number => ok(program.test(5, on, { 20: flags })).u32(16)
  const pin = (fd: number, iova: bigint, length: bigint, address = 0n, flags = 0) =>
    out32(program.test(7, fd, { 16: flags, 24: iova, 32: length, 40: address }), 20)
  const unpin = (fd: number, item: number) => program.test(6, fd, { 16: item })
  const rw = (fd: number, iova: bigint, length: bigint, address: bigint, flags = 0) =>
    program.test(8, fd, { 16: iova, 24: length, 32: address, 40: flags })

  it('answers as it was measured', () => {
    const fd = create()
    expectSteps([
      ['DESTROY of the IOAS', () => program.destroy(ioas), 'EBUSY'],
      ['alignment', () => program.ranges(ioas), [0n, last64, 4096n]],
      ['MAP of 2048', () => program.map(ioas, 0x10000n, buffer, 2048n), 'EINVAL'],
      ['MAP of two pages, read-only', () => program.map(ioas, 0x10000n, buffer, 2n * page, fixedRead), 'ok'],
      ['pin for write', () => pin(fd, 0x10000n, page, 0n, writes), 'EPERM'],
      ['pin', () => pin(fd, 0x10000n, page, buffer), 0],
      ['compared with another page', () => pin(fd, 0x10000n, page, buffer + page), 'EBADE'],
      ['past the end', () => pin(fd, 0x11000n, 2n * page), 'ENOENT'],
      ['length 0', () => pin(fd, 0x10000n, 0n), 'EINVAL'],
      ['rw length 0', () => rw(fd, 0x10000n, 0n, program.room), 'EINVAL'],
      ['rw write', () => rw(fd, 0x10000n, 4n, program.room, writes), 'EPERM'],
      ['rw read', () => rw(fd, 0x10000n, 4n, program.room), 'ok'],
      ['on a non-access fd', () => rw(program.iommu, 0x10000n, 4n, program.room), 'EBADFD'],
      ['UNMAP', () => program.unmap(ioas, 0x10000n, 2n * page), 'ok'],
      ['the item', () => unpin(fd, 0), 'ENOENT'],
      ['close', () => program.close(fd), 'ok'],
      ['DESTROY of the IOAS', () => program.destroy(ioas), 'ok'],
      ['nothing is pinned', () => program.host.pinned, 0],
    ])
  })

  it('reads and writes across areas, by either way', () => {
    const fd = create()
    const [left, right] = [program.buffer(1), program.buffer(1)]
    ok(program.map(ioas, 0x10000n, left, page))
    ok(program.map(ioas, 0x11000n, right, page))
    for (const slow of [0, 4]) {
      program.write(left + page - 4n, Uint8Array.of(1, 2, 3, 4))
      program.write(right, Uint8Array.of(5, 6, 7, 8))
      ok(rw(fd, 0x10ffcn, 8n, program.room, slow))
      expect([...program.read(program.room, 8)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
      program.put(Uint8Array.of(9, 8, 7, 6, 5, 4))
      ok(rw(fd, 0x10ffdn, 6n, program.room, slow | writes))
      expect([...program.read(left + page - 4n, 4), ...program.read(right, 4)]).toEqual([
        1, 9, 8, 7, 6, 5, 4, 8,
      ])
    }
    expectSteps([
      ['into a hole', () => rw(fd, 0x11ffcn, 8n, program.room), 'ENOENT'],
      ['wrap', () => rw(fd, last64, 2n, program.room), 'EOVERFLOW'],
      ['above 16 MiB', () => rw(fd, 0x10000n, (16n << 20n) + 1n, program.room), 'ENOMEM'],
      ['no memory of the caller', () => rw(fd, 0x10000n, 8n, 0x1000n), 'EFAULT'],
      ['write without memory of the caller', () => rw(fd, 0x10000n, 8n, 0x1000n, writes), 'EFAULT'],
    ])
  })

  it('moves to another IOAS, letting go of all it had pinned', () => {
    const fd = create()
    const other = program.ioas()
    ok(program.map(ioas, 0x10000n, buffer, page))
    expectSteps([
      ['pin', () => pin(fd, 0x10000n, page, buffer), 0],
      ['pinned', () => program.host.pinned, 1],
      ['replace', () => program.test(11, fd, { 16: other }), 'ok'],
      ['not pinned', () => program.host.pinned, 0],
      ['the item', () => unpin(fd, 0), 'ENOENT'],
      ['the old IOAS', () => program.destroy(ioas), 'ok'],
      ['the new IOAS', () => program.destroy(other), 'EBUSY'],
      ['replace by nothing', () => program.test(11, fd, { 16: 99 }), 'ENOENT'],
      ['not an access', () => program.test(11, program.iommu, { 16: other }), 'EBADFD'],
    ])
  })

  it('shares pins with a HWPT, and holds pages beyond it', () => {
    const fd = create()
    ok(program.map(ioas, aperture, buffer, 2n * page))
    const { stdev } = program.device(ioas)
    expectSteps([
      ['by the HWPT', () => program.host.pinned, 2],
      ['pin one', () => pin(fd, aperture + page, page, buffer + page), 0],
      ['no pin more', () => program.host.pinned, 2],
      ['the device goes', () => program.destroy(stdev), 'ok'],
      ['one is left', () => program.host.pinned, 1],
      ['pin it twice', () => pin(fd, aperture + page, page, buffer + page), 1],
      ['one is left', () => program.host.pinned, 1],
      ['unpin', () => unpin(fd, 0), 'ok'],
      ['one is left', () => program.host.pinned, 1],
      ['unpin', () => unpin(fd, 1), 'ok'],
      ['none', () => program.host.pinned, 0],
    ])
  })

  it('that does not pin leaves the alignment, and cannot pin', () => {
    const fd = create(0)
    ok(program.map(ioas, 0x10001n, buffer + 1n, 100n))
    expectSteps([
      ['alignment', () => program.ranges(ioas), [0n, last64, 1n]],
      ['pin', () => pin(fd, 0x10001n, 100n), 'EOPNOTSUPP'],
      ['read', () => rw(fd, 0x10001n, 100n, program.room), 'ok'],
      ['a pinning one', () => program.test(5, ioas, { 20: 1 }), 'EADDRINUSE'],
      ['an unknown flag', () => program.test(5, ioas, { 20: 2 }), 'EOPNOTSUPP'],
      ['of nothing', () => program.test(5, 99, { 20: 1 }), 'ENOENT'],
    ])
  })

  it('counts as an object that nobody destroys', () => {
    const fd = create()
    const id = [2, 3, 4].find((each) => program.destroy(each) === 'EBUSY')
    expect(id).toBe(2)
    program.close(fd)
    expect(program.destroy(2)).toBe('ENOENT')
  })

  it('reads what a process that has gone had mapped only while it is pinned', () => {
    const child = new AbiProgram(program)
    const memory = child.buffer(1)
    child.write(memory, Uint8Array.of(1, 2, 3, 4))
    const argument = child.put(AbiProgram.struct(40, { 4: 7, 8: ioas, 16: memory, 24: page, 32: aperture }))
    const file = program.file(program.iommu)
    expect(file.ioctl({ cmd: 0x3b85, argument, process: child.process }).errno).toBeUndefined()
    const fd = create()
    const { stdev } = program.device(ioas)
    child.process.kill()
    ok(rw(fd, aperture, 4n, program.room))
    expect(words(program.read(program.room, 4))).toEqual([0x0403_0201])
    expectSteps([
      ['the device goes', () => program.destroy(stdev), 'ok'],
      ['read', () => rw(fd, aperture, 4n, program.room), 'EFAULT'],
      ['pin', () => pin(fd, aperture, page), 'EFAULT'],
    ])
  })
})
