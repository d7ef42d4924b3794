/** Fault queues and event queues: reads, writes and polls of their files. Results as a Linux 7.3.4 gave them. */
import { beforeEach, describe, expect, it } from 'vitest'
import { ok } from '../mock-program.js'
import { expectSteps, nesting, replace, wordBytes } from './program.js'
import type { AbiProgram, Nesting } from './program.js'

const pollIn = 0x41
const pollOut = 0x104
const everything = 0xffff

let place: Nesting
let program: AbiProgram

beforeEach(() => {
  place = nesting()
  program = place.program
})

describe('a fault queue', () => {
  let id: number
  let fd: number
  let hwpt: number

  beforeEach(() => {
    const queue = program.faultQueue()
    id = queue.id
    fd = queue.fd
    hwpt = program.hwpt(place.device, place.parent, { flags: 4, data: [1], fault: id })
    expect(replace(program, place.stdev, hwpt)).toBe(hwpt)
  })

  const fault = (group: number, more = {}) => program.fault(place.device, group, more)
  const poll = (): number => program.file(fd).poll(everything)
  const read = (count: number, offset?: bigint) => program.readWords(fd, count, offset)
  const write = (...values: readonly number[]) => program.writeWords(fd, values)
  /** A record, as it is read. */
  const record = (group: number, cookie: number, pasid = 0): number[] => [
    ...[pasid === 0 ? 2 : 3, place.device, pasid, group, 1, 0, 0x5000, 0, 0, cookie],
  ]

  it('answers as it was measured', () => {
    expectSteps([
      ['read 0', () => read(0), []],
      ['read 39', () => read(39), 'ESPIPE'],
      ['read 40', () => read(40), []],
      ['write 7', () => program.writeWords(fd, [1, 0], 7), 'ESPIPE'],
      ['an unknown cookie', () => write(1, 0), 'EINVAL'],
      ['poll', poll, pollOut],
      ['three faults', () => [1, 2, 3].map((group) => fault(group).errno ?? 'ok'), ['ok', 'ok', 'ok']],
      ['poll', poll, pollIn | pollOut],
      ['read 0', () => read(0), 'EINVAL'],
      ['read 80', () => read(80), [...record(1, 1), ...record(2, 2)]],
      ['write 1 twice', () => write(1, 0, 1, 0), 8],
      ['code 5', () => write(2, 5), 'EINVAL'],
      ['read 40', () => read(40), record(3, 1)],
      ['poll', poll, pollOut],
      ['pread at 40', () => read(40, 40n), 'ESPIPE'],
      ['pread at 0', () => read(40, 0n), []],
      ['the device moves', () => replace(program, place.stdev, place.parent), place.parent],
      ['cookie 2', () => write(2, 0), 'EINVAL'],
      ['cookie 1', () => write(1, 0), 'EINVAL'],
      ['DESTROY, open', () => program.destroy(id), 'EBUSY'],
      ['close', () => program.close(fd), 'ok'],
      ['DESTROY, used', () => program.destroy(id), 'EBUSY'],
      ['DESTROY of the HWPT', () => program.destroy(hwpt), 'ok'],
      ['DESTROY', () => program.destroy(id), 'ok'],
    ])
  })

  it('takes answers in any order, up to the first bad one', () => {
    for (const group of [1, 2, 3, 4]) ok(fault(group))
    expectSteps([
      ['read', () => read(160), [1, 2, 3, 4].flatMap((each) => record(each, each))],
      ['3, 1', () => write(3, 0, 1, 1), 16],
      ['2, then a bad code, then 4', () => write(2, 0, 4, 2, 4, 0), 8],
      ['4', () => write(4, 1), 8],
      ['nothing', () => write(), 0],
      ['4 again', () => write(4, 1), 'EINVAL'],
    ])
  })

  it('gives the lowest free cookie', () => {
    for (const group of [1, 2, 3]) ok(fault(group))
    expectSteps([
      ['read', () => read(80), [...record(1, 1), ...record(2, 2)]],
      ['1', () => write(1, 0), 8],
      ['read', () => read(40), record(3, 1)],
      ['one more', () => fault(4), 'ok'],
      ['read', () => read(40), record(4, 3)],
    ])
  })

  it('shows a group when its last request has come, as a whole, under one cookie', () => {
    const [context] = program.kernel.iommufd.contexts
    const report = (group: number, isLast: boolean, pasid?: number) =>
      context!.reportFault(place.device, { pasid, group, isLast, permissions: 3, address: 0x5000n })
    const part = (group: number, cookie: number, flags: number, pasid = 0): number[] => [
      ...[flags, place.device, pasid, group, 3, 0, 0x5000, 0, 0, cookie],
    ]
    for (const isLast of [false, false]) report(1, isLast)
    report(1, false, 8)
    expectSteps([
      ['not yet', () => read(400), []],
      ['poll', poll, pollOut],
      ['another group', () => report(2, true).ok, true],
      ['the last one', () => report(1, true).ok, true],
      ['of another PASID', () => report(1, true, 8).ok, true],
      ['the first that is whole', () => read(80), part(2, 1, 2)],
      ['no room for three', () => read(80), 'EINVAL'],
      ['three', () => read(160), [...part(1, 2, 0), ...part(1, 2, 0), ...part(1, 2, 2)]],
      ['two', () => read(80), [...part(1, 3, 1, 8), ...part(1, 3, 3, 8)]],
      ['one answer for all', () => write(2, 0), 8],
      ['no more', () => write(2, 0), 'EINVAL'],
    ])
  })

  it('takes the answers that can be read; EFAULT if that is none', () => {
    ok(fault(1))
    expect(read(40)).toEqual(record(1, 1))
    const file = program.file(fd)
    expect(file.write(program.process, new Uint8Array(), 16n, -1n).errno).toBe('EFAULT')
    expect(file.write(program.process, wordBytes(1, 0), 16n, -1n)).toMatchObject({ ret: 8 })
  })

  it('tells the PASID, where the guest owns the table of them', () => {
    ok(fault(7, { pasid: 0x123 }))
    expect(read(40)).toEqual(record(7, 1, 0x123))
  })

  it('hears nothing of a device that is elsewhere', () => {
    replace(program, place.stdev, place.parent)
    ok(fault(1))
    expect([read(40), poll()]).toEqual([[], pollOut])
  })

  it('loses what nobody has read or answered when the device goes', () => {
    for (const group of [1, 2]) ok(fault(group))
    expect(read(40)).toEqual(record(1, 1))
    expect(program.destroy(place.stdev)).toBeUndefined()
    expect([read(40), write(1, 0), poll()]).toEqual([[], 'EINVAL', pollOut])
  })

  it('knows no flags; and no other calls', () => {
    expectSteps([
      ['flags', () => program.call(0x8e, 16, { 4: 1 }), 'EOPNOTSUPP'],
      ['ioctl', () => program.raw(0x3b80, program.room, fd), 'ENOTTY'],
      ['mmap', () => program.file(fd).mmap({ length: 4096n, protection: 1, flags: 1, offset: 0n }), 'ENODEV'],
    ])
  })
})

describe('an event queue', () => {
  const virtualId = 0x99
  let id: number
  let fd: number

  beforeEach(() => {
    const { device, viommu, stdev } = place
    ok(program.vdevice(viommu, device, BigInt(virtualId)))
    const nested = program.hwpt(device, viommu, { data: [1] })
    expect(replace(program, stdev, nested)).toBe(nested)
  })

  function open(depth: number, type?: number): void {
    const made = ok(program.veventq(place.viommu, depth, type))
    id = made.u32(20)
    fd = made.u32(24)
  }
  const event = () => program.event(place.device)
  const events = (count: number): string => Array.from({ length: count }, () => event().errno ?? 'ok').join()
  const read = (count: number, offset?: bigint) => program.readWords(fd, count, offset)
  const poll = (): number => program.file(fd).poll(everything)

  it('answers as it was measured', () => {
    expect(event().errno).toBe('EOPNOTSUPP')
    open(1, 77)
    expectSteps([
      ['trigger without a queue of the type', event, 'EOPNOTSUPP'],
      ['write', () => program.writeWords(fd, [0, 0]), 'EINVAL'],
      ['read 7', () => read(7), 'EINVAL'],
      ['read 8, empty', () => read(8), []],
      ['poll', poll, 0],
      ['DESTROY, open', () => program.destroy(id), 'EBUSY'],
    ])
    open(2)
    expectSteps([
      ['four triggers', () => events(4), 'ok,ok,ok,ok'],
      ['poll', poll, pollIn],
      ['read 128', () => read(128), [0, 0, virtualId, 0, 1, virtualId, 1, 3]],
      ['poll', poll, 0],
      ['three triggers', () => events(3), 'ok,ok,ok'],
      ['read 12', () => read(12), [0, 4, virtualId]],
      ['one more trigger', () => events(1), 'ok'],
      ['read', () => read(128), [0, 5, virtualId, 0, 7, virtualId]],
      ['read', () => read(128), []],
    ])
  })

  it('reads whole events, as many as fit', () => {
    open(8)
    expectSteps([
      ['five', () => events(5), 'ok,ok,ok,ok,ok'],
      ['no room for a header', () => read(7), 'EINVAL'],
      ['no room for an event', () => read(11), 'EINVAL'],
      ['one and a half', () => read(23), [0, 0, virtualId]],
      ['two', () => read(24), [0, 1, virtualId, 0, 2, virtualId]],
      ['pread at 8', () => read(24, 8n), 'ESPIPE'],
      ['pread at 0', () => read(24, 0n), [0, 3, virtualId, 0, 4, virtualId]],
    ])
  })

  it('tells a loss by a header of its own, which needs 8 bytes', () => {
    open(1)
    expectSteps([
      ['three', () => events(3), 'ok,ok,ok'],
      ['the first', () => read(12), [0, 0, virtualId]],
      ['poll', poll, pollIn],
      ['the loss', () => read(8), [1, 2]],
      ['the next', () => events(1), 'ok'],
      ['goes on', () => read(12), [0, 3, virtualId]],
    ])
  })

  it('refuses in the order of the checks', () => {
    const { viommu } = place
    const call = (fields: Record<number, number>) =>
      program.call(0x93, 32, { 8: viommu, 12: 0xbeef_beef, 16: 4, ...fields })
    expectSteps([
      ['flags, before the depth', () => call({ 4: 1, 16: 0 }), 'EOPNOTSUPP'],
      ['reserved', () => call({ 16: 0, 28: 1 }), 'EOPNOTSUPP'],
      ['type 0, before the depth', () => call({ 12: 0, 16: 0 }), 'EOPNOTSUPP'],
      ['depth 0, before the vIOMMU', () => call({ 8: 99, 16: 0 }), 'EINVAL'],
      ['depth above 2^19', () => call({ 16: (1 << 19) + 1 }), 'EINVAL'],
      ['vIOMMU', () => call({ 8: 99 }), 'ENOENT'],
      ['all is well', () => call({}), 'ok'],
      ['a second of the type', () => call({}), 'EEXIST'],
      ['one of another', () => call({ 12: 1, 16: 1 << 19 }), 'ok'],
    ])
  })

  it('keeps its vIOMMU, also when its file is closed', () => {
    open(2)
    expectSteps([
      ['close', () => program.close(fd), 'ok'],
      ['vIOMMU', () => program.destroy(place.viommu), 'EBUSY'],
      ['DESTROY', () => program.destroy(id), 'ok'],
      ['trigger', event, 'EOPNOTSUPP'],
      ['a new one begins at 0', () => open(1), 'ok'],
      ['trigger', event, 'ok'],
      ['read', () => read(12), [0, 0, virtualId]],
    ])
  })

  it('is not told of by a device that is on no HWPT of a vIOMMU, or has no vDEVICE', () => {
    open(2)
    replace(program, place.stdev, place.parent)
    expect(event().errno).toBe('ENOENT')
    expect(program.event(99).errno).toBe('ENOENT')
  })
})

it('open queues keep a context when its /dev/iommu is closed', () => {
  const { fd } = program.faultQueue()
  const { kernel, iommu } = program
  const contexts = (): number => [...kernel.iommufd.contexts].length
  program.close(iommu)
  expect(contexts()).toBe(1)
  expect(program.readWords(fd, 40)).toEqual([])
  program.close(fd)
  expect(contexts()).toBe(0)
})
