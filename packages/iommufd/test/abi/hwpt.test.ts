/** HWPT_ALLOC and GET_HW_INFO. Results as a Linux 7.3.4 gave them with its mock driver, and its order of checks. */
import { beforeEach, describe, expect, it } from 'vitest'
import { aperture, ok } from '../mock-program.js'
import {
  AbiProgram,
  expectSteps,
  last64,
  nesting,
  out32,
  page,
  replace,
  wordBytes,
  words,
} from './program.js'

let program: AbiProgram
let ioas: number
let stdev: number
let device: number
let automatic: number

beforeEach(() => {
  program = new AbiProgram()
  ioas = program.ioas()
  const made = program.device(ioas)
  stdev = made.stdev
  device = made.device
  automatic = made.hwpt
})

const nestParent = 1
const dirtyTracking = 2
const faultIdValid = 4
const pasid = 8

describe('HWPT_ALLOC', () => {
  it('answers as it was measured', () => {
    const parent = program.hwpt(device, ioas, { flags: nestParent })
    expectSteps([
      ['pt_id 9999', () => program.alloc(device, 9999), 'EINVAL'],
      ['dev_id 9999', () => program.alloc(9999, ioas), 'ENOENT'],
      ['pt_id a SELFTEST object', () => program.alloc(device, stdev), 'EINVAL'],
      ['flag 16', () => program.alloc(device, ioas, { flags: 16 }), 'EOPNOTSUPP'],
      ['type 1 with length 0', () => program.alloc(device, ioas, { type: 1 }), 'EINVAL'],
      ['type 1 with 8 bytes', () => program.alloc(device, ioas, { type: 1, data: [0, 0] }), 'EOPNOTSUPP'],
      ['16 bytes with a zero tail', () => program.alloc(device, ioas, { data: [0, 0, 0, 0] }), 'EINVAL'],
      ['4 bytes', () => program.alloc(device, ioas, { data: [0] }), 'ok'],
      ['pagetable_type 7', () => program.alloc(device, ioas, { data: [0, 7] }), 'EOPNOTSUPP'],
      ['nested on the automatic one', () => program.alloc(device, automatic, { data: [1] }), 'EINVAL'],
      ['nested without data', () => program.alloc(device, parent), 'EOPNOTSUPP'],
    ])
  })

  it('refuses in the order of the checks', () => {
    const call = (fields: Record<number, number | bigint>) =>
      program.call(0x89, 48, { 8: device, 12: ioas, ...fields })
    expectSteps([
      ['reserved, before the data', () => call({ 20: 1, 24: 1 }), 'EOPNOTSUPP'],
      ['NONE with data, before the device', () => call({ 8: 99, 28: 4 }), 'EINVAL'],
      ['data of no bytes, before the device', () => call({ 8: 99, 24: 0xdead }), 'EINVAL'],
      ['device, before the page table', () => call({ 8: 99, 12: 99 }), 'ENOENT'],
      ['a device that is none', () => call({ 8: ioas }), 'ENOENT'],
      ['page table, before flags', () => call({ 4: 16, 12: 99 }), 'EINVAL'],
      ['a device as page table', () => call({ 12: device }), 'EINVAL'],
      ['unchecked fields', () => call({ 40: 77, 44: 0x5555_5555 }), 'ok'],
    ])
  })

  it('on an IOAS: flags that the device, or each other, forbids', () => {
    const clean = program.device(program.ioas(), 1).device
    const alloc = (flags: number, on = device, more = {}) => program.alloc(on, ioas, { flags, ...more })
    const queue = program.faultQueue()
    expectSteps([
      ['dirty tracking', () => alloc(dirtyTracking), 'ok'],
      ['on a device without', () => alloc(dirtyTracking, clean), 'EOPNOTSUPP'],
      [
        'fault queue of a parent',
        () => alloc(nestParent | faultIdValid, device, { fault: queue.id }),
        'EOPNOTSUPP',
      ],
      ['fault queue', () => alloc(faultIdValid, device, { fault: queue.id }), 'ok'],
      ['fault queue that is an IOAS', () => alloc(faultIdValid, device, { fault: ioas }), 'ENOENT'],
      ['no fault queue', () => alloc(faultIdValid, device, { fault: 99 }), 'ENOENT'],
      ['parent with dirty tracking', () => alloc(nestParent | dirtyTracking), 'ok'],
      ['PASIDs', () => alloc(pasid), 'ok'],
    ])
  })

  it('leaves nothing behind when it fails late', () => {
    const before = [program.kernel.iommufd.snapshot(), program.backend.snapshot()]
    const other = program.ioas()
    ok(program.map(other, 0x1000n, program.buffer(1), page))
    expectSteps([
      ['no fault queue', () => program.alloc(device, ioas, { flags: faultIdValid, fault: 99 }), 'ENOENT'],
      ['an area outside the aperture', () => program.alloc(device, other), 'EADDRINUSE'],
      ['an area where nothing is', () => program.unmap(other, 0n, last64), 'ok'],
      ['mapped', () => program.map(other, aperture, program.buffer(1), page), 'ok'],
      ['mapped', () => program.map(other, aperture + page, 0x1000n, page), 'ok'],
      ['EFAULT', () => program.alloc(device, other), 'EFAULT'],
      ['nothing is pinned', () => program.host.pinned, 0],
      ['destroy', () => program.destroy(other), 'ok'],
    ])
    expect([program.kernel.iommufd.snapshot(), program.backend.snapshot()]).toEqual(before)
  })

  it('on a parent or a vIOMMU: a fault queue and PASIDs, no other flags', () => {
    const { program: other, device: nested, ioas: below, parent, viommu } = nesting()
    const plain = other.hwpt(nested, below)
    const queue = other.faultQueue()
    for (const on of [parent, viommu]) {
      const alloc = (options: object) => other.alloc(nested, on, { data: [7], ...options })
      expectSteps([
        ['dirty tracking', () => alloc({ flags: dirtyTracking }), 'EOPNOTSUPP'],
        ['parent', () => alloc({ flags: nestParent }), 'EOPNOTSUPP'],
        ['flag 16', () => alloc({ flags: 16 }), 'EOPNOTSUPP'],
        ['no data', () => other.alloc(nested, on), 'EOPNOTSUPP'],
        ['another type', () => alloc({ type: 1 }), 'EOPNOTSUPP'],
        ['too short', () => alloc({ length: 3 }), 'EINVAL'],
        ['too long', () => alloc({ data: [7, 0, 0] }), 'EINVAL'],
        ['NULL', () => alloc({ address: 0n, length: 8 }), 'EFAULT'],
        ['no fault queue', () => alloc({ flags: faultIdValid, fault: 99 }), 'ENOENT'],
        ['fault queue', () => alloc({ flags: faultIdValid, fault: queue.id }), 'ok'],
        ['PASIDs', () => alloc({ flags: pasid }), 'ok'],
      ])
    }
    expectSteps([
      ['on one that is no parent', () => other.alloc(nested, plain, { data: [7] }), 'EINVAL'],
      [
        'on a nested one',
        () => other.alloc(nested, other.hwpt(nested, parent, { data: [7] }), { data: [7] }),
        'EINVAL',
      ],
    ])
  })

  it('takes the memory of a process that has gone from the HWPT that has it', () => {
    const child = new AbiProgram(program)
    const argument = child.put(
      AbiProgram.struct(40, { 4: 7, 8: ioas, 16: child.buffer(1), 24: page, 32: aperture }),
    )
    const map = () =>
      program.file(program.iommu).ioctl({ cmd: 0x3b85, argument, process: child.process }).errno ?? 'ok'
    expect(map()).toBe('ok')
    child.process.kill()
    expectSteps([
      ['another HWPT', () => program.alloc(device, ioas), 'ok'],
      ['unmap', () => program.unmap(ioas, 0n, last64), 'ok'],
    ])
    // Without a HWPT there is nobody who has it.
    const orphan = new AbiProgram(program)
    const alone = program.ioas()
    const again = orphan.put(
      AbiProgram.struct(40, { 4: 7, 8: alone, 16: orphan.buffer(1), 24: page, 32: aperture }),
    )
    const file = program.file(program.iommu)
    expect(file.ioctl({ cmd: 0x3b85, argument: again, process: orphan.process }).errno).toBeUndefined()
    orphan.process.kill()
    expect(program.alloc(device, alone).errno).toBe('EFAULT')
  })
})

describe('GET_HW_INFO', () => {
  const info = (options: Parameters<AbiProgram['hwInfo']>[1] = {}) => program.hwInfo(device, options)

  it('tells the type, its length, and what the device can', () => {
    program.put(wordBytes(9, 9, 9, 9))
    const made = ok(info({ length: 4 }))
    expect([made.u32(12), made.u32(24), made.u32(28), made.u64(32)]).toEqual([8, 0xfeed_beef, 0, 9n])
    expect(words(program.read(program.room, 16))).toEqual([0, 9, 9, 9])
    expect(ok(info({ length: 16 })).u32(12)).toBe(8)
    expect(words(program.read(program.room, 16))).toEqual([0, 0xdead_beef, 0, 0])
  })

  it('tells of PASIDs, and of a device that cannot track what it writes', () => {
    const made = ok(program.hwInfo(program.device(ioas, 4).device))
    expect([made.u32(28), made.u64(32)]).toEqual([20, 9n])
    expect(ok(program.hwInfo(program.device(ioas, 1).device)).u64(32)).toBe(8n)
  })

  it('refuses', () => {
    const reserved = (offset: number) => program.call(0x8a, 40, { 8: 99, [offset]: 0x100 })
    expectSteps([
      ['flag 2', () => info({ flags: 2 }), 'EOPNOTSUPP'],
      ['a reserved byte, before the device', () => reserved(28), 'EOPNOTSUPP'],
      ['another object', () => program.hwInfo(ioas), 'ENOENT'],
      ['type 4 without the flag', () => out32(info({ type: 4 }), 24), 0xfeed_beef],
      ['type 4', () => info({ flags: 1, type: 4 }), 'EOPNOTSUPP'],
      ['its own type', () => info({ flags: 1, type: 0xfeed_beef }), 'ok'],
      ['the default type', () => info({ flags: 1 }), 'ok'],
      ['NULL, no room', () => info({ address: 0n }), 'ok'],
      ['NULL', () => info({ address: 0n, length: 8 }), 'EFAULT'],
      ['room that ends', () => info({ address: program.room + 0x3ff8n, length: 16 }), 'EFAULT'],
    ])
  })
})

describe('an automatic HWPT', () => {
  it('goes with its last device, and is none that was allocated', () => {
    const explicit = program.hwpt(device, ioas)
    const other = program.ioas()
    expectSteps([
      ['to the explicit one', () => replace(program, stdev, explicit), explicit],
      ['the automatic one', () => program.destroy(automatic), 'ENOENT'],
      ['to the IOAS: another automatic one', () => replace(program, stdev, ioas), automatic],
      ['to another IOAS', () => typeof replace(program, stdev, other), 'number'],
      ['the first', () => program.destroy(automatic), 'ENOENT'],
      ['the explicit one', () => program.destroy(explicit), 'ok'],
      ['the first IOAS', () => program.destroy(ioas), 'ok'],
      ['the other', () => program.destroy(other), 'EBUSY'],
    ])
  })

  it('is shared, unless it does not fit the device', () => {
    // Automatic HWPTs have no flags: they fit every device.
    const second = program.device(ioas, 1)
    expect(second.hwpt).toBe(automatic)
    expect(program.destroy(stdev)).toBeUndefined()
    expect(program.destroy(automatic)).toBe('EBUSY')
    expect(program.destroy(second.stdev)).toBeUndefined()
    expect(program.destroy(automatic)).toBe('ENOENT')
  })
})
