/** Address spaces: which addresses there are, and options. Results as a Linux 7.3.4 gave them. */
import { beforeEach, describe, expect, it } from 'vitest'
import { aperture, ok } from '../mock-program.js'
import { AbiProgram, expectSteps, last64, longBytes, out32, out64, page } from './program.js'

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

describe('IOAS_ALLOC', () => {
  it('knows no flags', () => {
    expect(program.call(0x81, 12, { 4: 1 }).errno).toBe('EOPNOTSUPP')
  })

  it('makes an IOAS of all addresses, aligned to 1, with huge pages', () => {
    expect(program.ranges(ioas)).toEqual([0n, last64, 1n])
    expect(program.option(1, 1, ioas).u64(16)).toBe(1n)
  })
})

describe('IOVA_RANGES', () => {
  it('tells the holes between reserved ranges, and how many there are if they do not fit', () => {
    ok(program.reserve(ioas, 0x1000n, 0x1000n))
    ok(program.reserve(ioas, last64 - 0xfffn, 0x1000n))
    const call = (room: number) => program.call(0x84, 32, { 4: ioas, 8: room, 16: address })
    const address = program.put(longBytes(7n, 7n, 7n, 7n, 7n, 7n))
    expect(program.ranges(ioas)).toEqual([0n, 0xfffn, 0x2000n, last64 - 0x1000n, 1n])
    program.put(longBytes(7n, 7n, 7n, 7n, 7n, 7n))
    expectSteps([
      ['no room, NULL', () => program.call(0x84, 32, { 4: ioas }), 'EMSGSIZE'],
      ['how many', () => program.call(0x84, 32, { 4: ioas }).u32(8), 2],
      ['room for one', () => call(1), 'EMSGSIZE'],
      [
        'one is written',
        () => [...new BigUint64Array(program.read(address, 32).buffer)],
        [0n, 0xfffn, 7n, 7n],
      ],
      ['room for more', () => out32(call(5), 8), 2],
      ['no more is written', () => [...new BigUint64Array(program.read(address + 32n, 16).buffer)], [7n, 7n]],
    ])
  })

  it('counts and aligns in the answer also where it fails', () => {
    ok(program.reserve(ioas, 0x1000n, 0x1000n))
    ok(program.test(2, ioas))
    const made = program.call(0x84, 32, { 4: ioas })
    expect([made.errno, made.u32(8), made.u64(24)]).toEqual(['EMSGSIZE', 1, half])
  })

  it('is nothing at all when every address is reserved', () => {
    ok(program.reserve(ioas, 0n, last64))
    ok(program.reserve(ioas, last64, 1n))
    expect(program.ranges(ioas)).toEqual([1n])
    expect(program.mapAnywhere(ioas, buffer, page)).toBe('ENOSPC')
  })

  it('refuses in order: a reserved field, the IOAS, memory', () => {
    expectSteps([
      ['reserved', () => program.call(0x84, 32, { 4: 99, 8: 1, 12: 1 }), 'EOPNOTSUPP'],
      ['IOAS', () => program.call(0x84, 32, { 4: 99, 8: 1 }), 'ENOENT'],
      ['NULL', () => program.call(0x84, 32, { 4: ioas, 8: 1 }), 'EFAULT'],
    ])
  })
})

describe('ALLOW_IOVAS', () => {
  it('gives automatic addresses, and keeps nothing from a fixed one', () => {
    expectSteps([
      ['a range of one byte', () => program.allow(ioas, [0x5000n, 0x5000n]), 'EINVAL'],
      ['a range backwards', () => program.allow(ioas, [0x5fffn, 0x5000n]), 'EINVAL'],
      ['a page', () => program.allow(ioas, [0x5000n, 0x5fffn]), 'ok'],
      ['one twice', () => program.allow(ioas, [0x5000n, 0x5fffn], [0x5000n, 0x5fffn]), 'EINVAL'],
      ['ranges', () => program.ranges(ioas), [0n, last64, 1n]],
      ['fixed elsewhere', () => program.map(ioas, 0x10000n, buffer, page), 'ok'],
      ['automatic', () => program.mapAnywhere(ioas, buffer, page), 0x5000n],
      ['another', () => program.mapAnywhere(ioas, buffer, page), 'ENOSPC'],
      ['no list', () => program.allow(ioas), 'ok'],
      ['automatic', () => program.mapAnywhere(ioas, buffer, page), 0x1000n],
      ['B + 3, 5 bytes', () => program.mapAnywhere(ioas, buffer + 3n, 5n), 0x2003n],
      ['fixed at 0', () => program.map(ioas, 0n, buffer, page), 'ok'],
    ])
  })

  it('and reservations exclude each other, and the old list stays', () => {
    expectSteps([
      ['reserve', () => program.reserve(ioas, 0x8000n, 0x1000n), 'ok'],
      ['a list', () => program.allow(ioas, [0x4000n, 0x4fffn]), 'ok'],
      ['one over it', () => program.allow(ioas, [0x1000n, 0x1fffn], [0x8fffn, 0x9fffn]), 'EADDRINUSE'],
      ['the old list', () => program.mapAnywhere(ioas, buffer, page), 0x4000n],
      ['reserve a part of it', () => program.reserve(ioas, 0x4fffn, 1n), 'EADDRINUSE'],
      ['reserve beside it', () => program.reserve(ioas, 0x5000n, 1n), 'ok'],
    ])
  })

  it('refuses in order: a reserved field, the IOAS, memory', () => {
    expectSteps([
      ['reserved', () => program.call(0x82, 24, { 4: 99, 8: 1, 12: 1 }), 'EOPNOTSUPP'],
      ['IOAS', () => program.call(0x82, 24, { 4: 99, 8: 1 }), 'ENOENT'],
      ['NULL', () => program.call(0x82, 24, { 4: ioas, 8: 1 }), 'EFAULT'],
    ])
  })
})

describe('options', () => {
  it('RLIMIT_MODE is the context’s, set while there is nothing', () => {
    const empty = new AbiProgram()
    const mode = (op: number, value = 0n, object = 0) => empty.option(0, op, object, value)
    const limited = new AbiProgram()
    limited.process.capabilities = { ipcLock: true, sysResource: false, rawIo: true }
    expectSteps([
      ['get', () => out64(mode(1), 16), 0n],
      ['set 1', () => mode(0, 1n), 'ok'],
      ['get', () => out64(mode(1), 16), 1n],
      ['set 2', () => mode(0, 2n), 'EINVAL'],
      ['with object_id', () => mode(1, 0n, 1), 'EOPNOTSUPP'],
      ['op 2', () => mode(2), 'EOPNOTSUPP'],
      ['set 0', () => mode(0, 0n), 'ok'],
      ['objects', () => empty.ioas(), 1],
      ['SET with objects', () => mode(0, 1n), 'EBUSY'],
      ['SET of 2 with objects', () => mode(0, 2n), 'EBUSY'],
      ['get with objects', () => out64(mode(1), 16), 0n],
      ['without CAP_SYS_RESOURCE', () => limited.option(0, 0, 0, 1n), 'EPERM'],
      ['and get', () => limited.option(0, 1, 0), 'ok'],
    ])
  })

  it('HUGE_PAGES is an IOAS’, and raises its alignment', () => {
    const { hwpt } = program.device(ioas)
    const set = (value: bigint) => program.option(1, 0, ioas, value)
    expect(set(2n).errno).toBe('EINVAL')
    ok(program.map(ioas, aperture, buffer, page))
    expectSteps([
      ['0 with HWPT and mapping', () => set(0n), 'EINVAL'],
      ['unmap all', () => program.unmap(ioas, 0n, last64), 'ok'],
      ['0', () => set(0n), 'ok'],
      ['MAP of 2048', () => program.map(ioas, aperture, buffer, half), 'EINVAL'],
      ['MAP of 4096', () => program.map(ioas, aperture, buffer, page), 'ok'],
      ['0 again with a mapping', () => set(0n), 'ok'],
      ['1', () => set(1n), 'ok'],
      ['get', () => out64(program.option(1, 1, ioas), 16), 1n],
      ['2', () => set(2n), 'EINVAL'],
      ['op 2', () => program.option(1, 2, ioas), 'EOPNOTSUPP'],
      ['option 9', () => program.option(9, 1, ioas), 'EOPNOTSUPP'],
      ['object 0', () => program.option(1, 1, 0), 'ENOENT'],
      ['a HWPT', () => program.option(1, 1, hwpt), 'ENOENT'],
      ['reserved', () => program.call(0x87, 24, { 4: 1, 8: 0x1_0001, 12: ioas }), 'EOPNOTSUPP'],
    ])
  })

  it('HUGE_PAGES cannot raise it over mappings that do not fit', () => {
    ok(program.map(ioas, 0x1001n, buffer + 1n, page))
    expectSteps([
      ['set 0', () => program.option(1, 0, ioas, 0n), 'EADDRINUSE'],
      ['still 1', () => out64(program.option(1, 1, ioas), 16), 1n],
      ['alignment', () => program.ranges(ioas), [0n, last64, 1n]],
    ])
  })
})

describe('VFIO_IOAS', () => {
  it('names the IOAS of VFIO’s calls, without holding it', () => {
    const call = (op: number, id = 0) => program.call(0x88, 12, { 4: id, 8: op })
    expectSteps([
      ['GET', () => call(0), 'ENODEV'],
      ['SET of nothing', () => call(1, 99), 'ENOENT'],
      ['SET', () => call(1, ioas), 'ok'],
      ['GET', () => out32(call(0), 4), ioas],
      ['op 3', () => call(3), 'EOPNOTSUPP'],
      ['reserved', () => call(0x1_0000), 'EOPNOTSUPP'],
      ['CLEAR', () => call(2), 'ok'],
      ['GET', () => call(0), 'ENODEV'],
      ['SET', () => call(1, ioas), 'ok'],
      ['DESTROY', () => program.destroy(ioas), 'ok'],
      ['GET', () => call(0), 'ENODEV'],
    ])
  })
})

it('NOIOMMU_GET_PA is for kernels that are configured so', () => {
  expect(program.call(0x95, 40, { 8: ioas, 16: 0n, 24: 1n }).errno).toBe('EOPNOTSUPP')
})
