import { beforeEach, describe, expect, it } from 'vitest'
import { MockProgram, ok } from './mock-program.js'

const words = (bytes: Uint8Array): number[] => [...new Uint32Array(bytes.slice().buffer)]
const bytesOf = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer)

let program: MockProgram
let ioas: number

beforeEach(() => {
  program = new MockProgram()
  ioas = program.ioas()
})

describe('TRIGGER_IOPF', () => {
  it('reports a fault to the queue of the HWPT that the device is on', () => {
    const { stdev, device } = program.device(ioas)
    const queue = ok(program.call(0x8e, 16, {}))
    const [fault, fd] = [queue.u32(8), queue.u32(12)]
    const parent = program.hwpt(device, ioas, { flags: 1 })
    const nested = program.hwpt(device, parent, { flags: 4, data: [1], fault })
    const trigger = (group: number, pasid = 0) =>
      program.test(15, 0, { 16: device, 20: pasid, 24: group, 28: 2, 32: 0x1234_5000n })
    expect(trigger(1).errno).toBeUndefined()
    ok(program.test(10, stdev, { 16: nested }))
    const file = program.file(fd)
    const read = (count: number) => file.read(program.process, BigInt(count), -1n)
    expect(read(40).ret).toBe(0)
    ok(trigger(7))
    ok(trigger(8, 9))
    expect(read(0).errno).toBe('EINVAL')
    expect(words(read(80).bytes!)).toEqual([
      ...[2, device, 0, 7, 2, 0, 0x1234_5000, 0, 0, 1],
      ...[3, device, 9, 8, 2, 0, 0x1234_5000, 0, 0, 2],
    ])
    const answer = (...values: number[]) => {
      const bytes = bytesOf(...values)
      return file.write(program.process, bytes, BigInt(bytes.length), -1n)
    }
    expect(answer(1, 0, 1, 0).ret).toBe(8)
    ok(program.test(10, stdev, { 16: parent }))
    expect(answer(2, 0).errno).toBe('EINVAL')
    expect(program.test(15, 0, { 16: fault }).errno).toBe('ENOENT')
  })
})

describe('TRIGGER_VEVENT', () => {
  it('reports what the guest calls the device, to the vIOMMU that it is on', () => {
    const { stdev, device } = program.device(ioas)
    const parent = program.hwpt(device, ioas, { flags: 1 })
    const viommu = ok(program.call(0x90, 40, { 8: 0xdeadbeef, 12: device, 16: parent })).u32(20)
    const nested = program.hwpt(device, viommu, { data: [1] })
    const trigger = (): string | undefined => program.test(17, 0, { 16: device }).errno
    const vdevice = (virtualId: bigint): number =>
      ok(program.call(0x91, 24, { 4: viommu, 8: device, 16: virtualId })).u32(12)
    expect(trigger()).toBe('ENOENT')
    expect(program.test(10, stdev, { 16: nested }).errno).toBe('ENOENT')
    const first = vdevice(0x99n)
    ok(program.test(10, stdev, { 16: nested }))
    expect(trigger()).toBe('EOPNOTSUPP')
    const queue = ok(program.call(0x93, 32, { 8: viommu, 12: 0xbeefbeef, 16: 2 }))
    const file = program.file(queue.u32(24))
    const read = (count: bigint): number[] => words(file.read(program.process, count, -1n).bytes!)
    for (let i = 0; i < 4; i++) expect(trigger()).toBeUndefined()
    expect(read(128n)).toEqual([0, 0, 0x99, 0, 1, 0x99, 1, 3])
    for (let i = 0; i < 3; i++) expect(trigger()).toBeUndefined()
    expect(read(12n)).toEqual([0, 4, 0x99])
    expect(trigger()).toBeUndefined()
    expect(read(128n)).toEqual([0, 5, 0x99, 0, 7, 0x99])
    expect(program.destroy(first)).toBeUndefined()
    vdevice(0x12n)
    ok(program.test(10, stdev, { 16: parent }))
    expect(trigger()).toBe('ENOENT')
    ok(program.test(10, stdev, { 16: nested }))
    expect(trigger()).toBeUndefined()
    expect(read(128n)).toEqual([0, 8, 0x12])
    expect(program.test(17, 0, { 16: viommu }).errno).toBe('ENOENT')
  })

  it('has nothing to say for virtual ID 0', () => {
    const { stdev, device } = program.device(ioas)
    const parent = program.hwpt(device, ioas, { flags: 1 })
    const viommu = ok(program.call(0x90, 40, { 8: 0xdeadbeef, 12: device, 16: parent })).u32(20)
    ok(program.call(0x93, 32, { 8: viommu, 12: 0xbeefbeef, 16: 2 }))
    ok(program.call(0x91, 24, { 4: viommu, 8: device, 16: 0n }))
    ok(program.test(10, stdev, { 16: program.hwpt(device, viommu, { data: [1] }) }))
    expect(program.test(17, 0, { 16: device }).errno).toBe('ENOENT')
  })
})

describe('a mock vIOMMU', () => {
  it('loops its data back through the mapped pages, and is kept by the mapping', () => {
    const { device } = program.device(ioas)
    const parent = program.hwpt(device, ioas, { flags: 1 })
    const data = program.buffer(1)
    program.write(data, bytesOf(0x1234_5678, 0, 0, 0, 0, 0))
    const made = ok(program.call(0x90, 40, { 8: 0xdeadbeef, 12: device, 16: parent, 24: 24, 32: data }))
    const viommu = made.u32(20)
    const [inData, outData, offset, high, length] = words(program.read(data, 24))
    expect([inData, outData, high, length]).toEqual([0x1234_5678, 0x1234_5678, 0, 8192])
    expect(offset).toBeGreaterThan(0)
    const file = program.file(program.iommu)
    const mapping = { length: 8192n, protection: 3, flags: 1, offset: BigInt(offset!) }
    const { region } = file.mmap(mapping)
    expect(words(region!.bytes.subarray(0, 8))).toEqual([0x1234_5678, 0])
    expect(file.mmap({ ...mapping, flags: 2 }).errno).toBe('EINVAL')
    expect(file.mmap({ ...mapping, protection: 5 }).errno).toBe('EPERM')
    expect(file.mmap({ ...mapping, offset: 0n }).errno).toBe('ENXIO')
    expect(program.destroy(viommu)).toBe('EBUSY')
    file.munmap(region!)
    expect(program.destroy(viommu)).toBeUndefined()
  })

  it('loses a vDEVICE with its device, and never gives its number out again', () => {
    const { stdev, device } = program.device(ioas)
    const parent = program.hwpt(device, ioas, { flags: 1 })
    const viommu = ok(program.call(0x90, 40, { 8: 0xdeadbeef, 12: device, 16: parent })).u32(20)
    const vdevice = ok(program.call(0x91, 24, { 4: viommu, 8: device, 16: 5n })).u32(12)
    expect(program.destroy(stdev)).toBeUndefined()
    expect(program.destroy(vdevice)).toBe('ENOENT')
    expect(program.destroy(device)).toBe('ENOENT')
    expect(Array.from({ length: 30 }, () => program.ioas())).not.toContain(vdevice)
  })
})
