/** vIOMMUs, vDEVICEs, what they offer to be mapped, and hardware queues. Results as a Linux 7.3.4 gave them. */
import { beforeEach, describe, expect, it } from 'vitest'
import { aperture, ok } from '../mock-program.js'
import { expectSteps, last64, nesting, out32, page, replace, words } from './program.js'
import type { AbiProgram, Nesting } from './program.js'

let place: Nesting
let program: AbiProgram

beforeEach(() => {
  place = nesting()
  program = place.program
})

describe('VIOMMU_ALLOC', () => {
  it('answers as it was measured', () => {
    const { device, parent, automatic } = place
    const nested = program.hwpt(device, parent, { data: [1] })
    const alloc = (options: object, on = parent) => program.viommu(device, on, options)
    expectSteps([
      ['type 0', () => alloc({ type: 0 }), 'EOPNOTSUPP'],
      ['type 3', () => alloc({ type: 3 }), 'EOPNOTSUPP'],
      ['a nested HWPT as parent', () => alloc({}, nested), 'ENOENT'],
      ['the automatic HWPT as parent', () => alloc({}, automatic), 'EINVAL'],
      ['4 bytes of data', () => alloc({ data: [1] }), 'EINVAL'],
      ['28 bytes of data', () => alloc({ data: [1, 0, 0, 0, 0, 0, 0] }), 'EINVAL'],
      ['data at NULL', () => alloc({ length: 24 }), 'EFAULT'],
      ['24 bytes', () => alloc({ data: [7, 0, 0, 0, 0, 0] }), 'ok'],
    ])
    const [inData, outData, offset, high, length] = words(program.read(program.room, 24))
    expect([inData, outData, high, length]).toEqual([7, 7, 0, 8192])
    expect(offset).toBeGreaterThan(0)
    expect(offset! % 4096).toBe(0)
  })

  it('writes as much as there is room for', () => {
    const { device, parent } = place
    const at = program.room
    program.put(new Uint8Array(64).fill(0x55))
    ok(program.viommu(device, parent, { data: [9, 0], length: 8 }))
    expect(words(program.read(at, 16))).toEqual([9, 9, 0x5555_5555, 0x5555_5555])
  })

  it('refuses in the order of the checks', () => {
    const { device, ioas, parent } = place
    const call = (fields: Record<number, number | bigint>) =>
      program.call(0x90, 40, { 8: 0xdead_beef, 12: device, 16: parent, ...fields })
    expectSteps([
      ['flags, before the device', () => call({ 4: 1, 12: 99 }), 'EOPNOTSUPP'],
      ['type 0, before the device', () => call({ 8: 0, 12: 99 }), 'EOPNOTSUPP'],
      ['device, before the type', () => call({ 8: 3, 12: 99 }), 'ENOENT'],
      ['type, before the parent', () => call({ 8: 3, 16: 99 }), 'EOPNOTSUPP'],
      ['parent', () => call({ 16: 99 }), 'ENOENT'],
      ['an IOAS as parent', () => call({ 16: ioas }), 'ENOENT'],
      ['parent, before the data', () => call({ 16: place.automatic, 24: 4 }), 'EINVAL'],
      ['the reserved field is not looked at', () => call({ 28: 7 }), 'ok'],
    ])
  })
})

describe('mmap', () => {
  const region = (): bigint => {
    program.viommu(place.device, place.parent, { data: [7, 0, 0, 0, 0, 0] })
    return BigInt(words(program.read(program.room, 24))[2]!)
  }

  it('maps a region that is named exactly, shared, not to be executed', () => {
    const offset = region()
    expectSteps([
      ['private', () => program.mmap(8192n, offset, { flags: 2 }), 'EINVAL'],
      ['executable', () => program.mmap(8192n, offset, { protection: 5 }), 'EPERM'],
      ['offset 0', () => program.mmap(8192n, 0n), 'ENXIO'],
      ['half of it', () => program.mmap(4096n, offset), 'ENXIO'],
      ['the other half', () => program.mmap(4096n, offset + page), 'ENXIO'],
      ['more', () => program.mmap(12288n, offset), 'ENXIO'],
      ['no whole pages', () => program.mmap(8000n, offset), 'EINVAL'],
      ['no whole pages, before private', () => program.mmap(8000n, offset, { flags: 2 }), 'EINVAL'],
      [
        'private, before executable',
        () => program.mmap(8192n, offset, { flags: 2, protection: 5 }),
        'EINVAL',
      ],
      ['executable, before the offset', () => program.mmap(8192n, 0n, { protection: 5 }), 'EPERM'],
      ['all', () => program.mmap(8192n, offset), 'ok'],
    ])
    const { region: mapped } = program.mmap(8192n, offset) as { region?: { bytes: Uint8Array } }
    expect(words(mapped!.bytes.subarray(0, 8))).toEqual([7, 0])
    expect(mapped!.bytes.length).toBe(8192)
  })

  it('keeps the vIOMMU for as long as it is mapped, each time', () => {
    const made = ok(program.viommu(place.device, place.parent, { data: [7, 0, 0, 0, 0, 0] }))
    const id = made.u32(20)
    const offset = BigInt(words(program.read(program.room, 24))[2]!)
    const mappings = [0, 1].map(() => program.mmap(8192n, offset) as { region?: never })
    const file = program.file(program.iommu)
    expectSteps([
      ['twice', () => program.destroy(id), 'EBUSY'],
      ['munmap', () => file.munmap(mappings[0]!.region!), 'ok'],
      ['once', () => program.destroy(id), 'EBUSY'],
      ['munmap', () => file.munmap(mappings[1]!.region!), 'ok'],
      ['not at all', () => program.destroy(id), 'ok'],
      ['mmap', () => program.mmap(8192n, offset), 'ENXIO'],
    ])
  })

  it('keeps the context when /dev/iommu is closed, up to the last munmap', () => {
    const offset = region()
    const { region: mapped } = program.mmap(8192n, offset) as { region?: never }
    const file = program.file(program.iommu)
    const contexts = (): number => [...program.kernel.iommufd.contexts].length
    program.close(program.iommu)
    expect(contexts()).toBe(1)
    file.munmap(mapped!)
    expect(contexts()).toBe(0)
  })

  it('has nothing of a vIOMMU without data', () => {
    expect(program.mmap(8192n, page).errno).toBe('ENXIO')
  })
})

describe('VDEVICE_ALLOC', () => {
  it('answers as it was measured', () => {
    const { device, stdev, viommu, automatic } = place
    const nested = program.hwpt(device, viommu, { data: [1] })
    const vdevice = () => program.vdevice(viommu, device, 0x99n)
    let id = 0
    expectSteps([
      ['replace without a vDEVICE', () => replace(program, stdev, nested), 'ENOENT'],
      ['the first', () => typeof (id = Number(out32(vdevice(), 12))), 'number'],
      ['a second', vdevice, 'EEXIST'],
      ['with another ID', () => program.vdevice(viommu, device, 0x98n), 'EEXIST'],
      [
        'nested on a vIOMMU with DIRTY',
        () => program.alloc(device, viommu, { flags: 2, data: [1] }),
        'EOPNOTSUPP',
      ],
      ['replace', () => replace(program, stdev, nested), nested],
      ['replace onto where it is', () => replace(program, stdev, nested), nested],
      ['the former automatic HWPT', () => program.destroy(automatic), 'ENOENT'],
      ['DESTROY of the vDEVICE', () => program.destroy(id), 'ok'],
      ['a new one with the same ID', vdevice, 'ok'],
    ])
  })

  it('refuses in the order of the checks', () => {
    const { device, ioas, viommu, parent } = place
    const other = program.device(ioas).device
    ok(program.vdevice(viommu, device, 1n))
    const second = ok(program.viommu(device, parent)).u32(20)
    expectSteps([
      ['vIOMMU, before the device', () => program.vdevice(99, 99, 1n), 'ENOENT'],
      ['a HWPT as vIOMMU', () => program.vdevice(parent, device, 1n), 'ENOENT'],
      ['device', () => program.vdevice(viommu, 99, 1n), 'ENOENT'],
      ['a device with a vDEVICE in another vIOMMU', () => program.vdevice(second, device, 2n), 'EEXIST'],
      ['an ID that is taken', () => program.vdevice(viommu, other, 1n), 'EEXIST'],
      ['which is free in another vIOMMU', () => program.vdevice(second, other, 1n), 'ok'],
    ])
  })

  it('is lost with its device, whose number then is not used again', () => {
    const { device, stdev, viommu } = place
    const id = ok(program.vdevice(viommu, device, 1n)).u32(12)
    expectSteps([
      ['the device goes', () => program.destroy(stdev), 'ok'],
      ['vDEVICE', () => program.destroy(id), 'ENOENT'],
      ['device', () => program.destroy(device), 'ENOENT'],
      ['30 fresh IOAS', () => Array.from({ length: 30 }, () => program.ioas()).includes(id), false],
      ['the vIOMMU', () => program.destroy(viommu), 'ok'],
    ])
  })
})

describe('DESTROY', () => {
  it('keeps what is below', () => {
    const { ioas, device, stdev, parent, viommu } = place
    const nested = program.hwpt(device, viommu, { data: [1] })
    const direct = program.hwpt(device, parent, { data: [1] })
    const vdevice = ok(program.vdevice(viommu, device, 5n)).u32(12)
    expectSteps([
      ['vIOMMU with a nested HWPT', () => program.destroy(viommu), 'EBUSY'],
      ['nested', () => program.destroy(nested), 'ok'],
      ['vIOMMU with a vDEVICE', () => program.destroy(viommu), 'EBUSY'],
      ['vDEVICE', () => program.destroy(vdevice), 'ok'],
      ['parent with a vIOMMU', () => program.destroy(parent), 'EBUSY'],
      ['vIOMMU', () => program.destroy(viommu), 'ok'],
      ['parent with a nested HWPT', () => program.destroy(parent), 'EBUSY'],
      ['nested', () => program.destroy(direct), 'ok'],
      ['parent', () => program.destroy(parent), 'ok'],
      ['IOAS with an automatic HWPT', () => program.destroy(ioas), 'EBUSY'],
      ['device', () => program.destroy(stdev), 'ok'],
      ['IOAS', () => program.destroy(ioas), 'ok'],
    ])
  })
})

describe('HW_QUEUE_ALLOC', () => {
  const queue = (index: number, iova = aperture, length = page, type?: number) =>
    program.hwQueue(place.viommu, index, iova, length, type)

  it('refuses in the order of the checks', () => {
    const { viommu } = place
    const call = (fields: Record<number, number | bigint>) =>
      program.call(0x94, 40, { 8: viommu, 12: 0xdead_beef, 24: aperture, 32: page, ...fields })
    expectSteps([
      ['flags', () => call({ 4: 1, 32: 0n }), 'EOPNOTSUPP'],
      ['type 0, before the length', () => call({ 12: 0, 32: 0n }), 'EOPNOTSUPP'],
      ['length 0, before the vIOMMU', () => call({ 8: 99, 32: 0n }), 'EINVAL'],
      ['wrap, before the vIOMMU', () => call({ 8: 99, 24: last64, 32: 2n }), 'EOVERFLOW'],
      ['vIOMMU, before the type', () => call({ 8: 99, 12: 1 }), 'ENOENT'],
      ['type, before the memory', () => call({ 12: 1 }), 'EOPNOTSUPP'],
      ['no memory, before the index', () => call({ 16: 5 }), 'ENOENT'],
    ])
  })

  it('wants memory in one piece, and its queues in order', () => {
    const { ioas, viommu } = place
    ok(program.map(ioas, aperture, program.buffer(2), 2n * page))
    ok(program.map(ioas, aperture + 2n * page, program.buffer(1), page))
    ok(program.map(ioas, 0x2000_0000n, program.buffer(1), page, 3))
    const before = program.host.pinned
    let first = 0
    let second = 0
    const unmap = () => program.unmap(ioas, aperture, 2n * page)
    expectSteps([
      ['index 2', () => queue(2), 'EINVAL'],
      ['index 1 first', () => queue(1), 'EIO'],
      ['scattered', () => queue(0, aperture + page, 2n * page), 'EFAULT'],
      ['not readable', () => queue(0, 0x2000_0000n), 'EPERM'],
      ['half unmapped', () => queue(0, aperture + 2n * page, 2n * page), 'ENOENT'],
      ['nothing more is pinned', () => program.host.pinned, before],
      ['index 0', () => typeof (first = Number(out32(queue(0), 20))), 'number'],
      ['index 0 again', () => queue(0), 'EEXIST'],
      ['index 1', () => typeof (second = Number(out32(queue(1, aperture + 8n, 16n), 20))), 'number'],
      ['UNMAP of its memory', unmap, 'EBUSY'],
      ['UNMAP of other memory', () => program.unmap(ioas, 0x2000_0000n, page), 'ok'],
      ['vIOMMU', () => program.destroy(viommu), 'EBUSY'],
      ['the one below', () => program.destroy(first), 'EBUSY'],
      ['the later one', () => program.destroy(second), 'ok'],
      ['then the other', () => program.destroy(first), 'ok'],
      ['UNMAP', unmap, 'ok'],
      ['vIOMMU', () => program.destroy(viommu), 'ok'],
    ])
  })

  it('raises the alignment to a page while it lives', () => {
    const { ioas } = place
    ok(program.map(ioas, aperture, program.buffer(1), page))
    const map = () => program.map(ioas, 0x2000_0000n, program.buffer(1), 2048n)
    const id = ok(queue(0)).u32(20)
    expectSteps([
      ['MAP of 2048', map, 'EINVAL'],
      ['destroy', () => program.destroy(id), 'ok'],
      ['MAP of 2048', map, 'ok'],
      ['an area that does not fit', () => queue(0), 'EADDRINUSE'],
    ])
  })
})
