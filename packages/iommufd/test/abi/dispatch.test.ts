/** Numbers, sizes and what is written back: what holds for every call. */
import { describe, expect, it } from 'vitest'
import { AbiProgram, expectSteps, nesting, page, wordBytes } from './program.js'
import { ok } from '../mock-program.js'

/** Every call: its number, the size of its structure, and the smallest that is accepted. */
const calls: readonly (readonly [name: string, number: number, size: number, min: number])[] = [
  ['DESTROY', 0x80, 8, 8],
  ['IOAS_ALLOC', 0x81, 12, 12],
  ['IOAS_ALLOW_IOVAS', 0x82, 24, 24],
  ['IOAS_COPY', 0x83, 40, 40],
  ['IOAS_IOVA_RANGES', 0x84, 32, 32],
  ['IOAS_MAP', 0x85, 40, 40],
  ['IOAS_UNMAP', 0x86, 24, 24],
  ['OPTION', 0x87, 24, 24],
  ['VFIO_IOAS', 0x88, 12, 12],
  ['HWPT_ALLOC', 0x89, 48, 24],
  ['GET_HW_INFO', 0x8a, 40, 32],
  ['HWPT_SET_DIRTY_TRACKING', 0x8b, 16, 16],
  ['HWPT_GET_DIRTY_BITMAP', 0x8c, 48, 48],
  ['HWPT_INVALIDATE', 0x8d, 32, 32],
  ['FAULT_QUEUE_ALLOC', 0x8e, 16, 16],
  ['IOAS_MAP_FILE', 0x8f, 40, 40],
  ['VIOMMU_ALLOC', 0x90, 40, 24],
  ['VDEVICE_ALLOC', 0x91, 24, 24],
  ['IOAS_CHANGE_PROCESS', 0x92, 8, 8],
  ['VEVENTQ_ALLOC', 0x93, 32, 28],
  ['HW_QUEUE_ALLOC', 0x94, 40, 40],
  ['IOAS_NOIOMMU_GET_PA', 0x95, 40, 40],
  ['TEST_CMD', 0xa0, 72, 68],
]

describe.each(calls)('%s', (_name, number, size, min) => {
  const answer = (length: number, tail = 0, claimed = length): string => {
    const program = new AbiProgram()
    const bytes = AbiProgram.struct(claimed, {}, length)
    if (length > size) bytes.fill(tail, size)
    return program.raw(0x3b00 | number, program.put(bytes)).errno ?? 'ok'
  }

  it('is unreadable before it is anything else: EFAULT', () => {
    const program = new AbiProgram()
    for (const argument of [0n, 0x1234_5000n]) {
      expect(program.raw(0x3b00 | number, argument).errno).toBe('EFAULT')
    }
  })

  it('is refused if it is shorter than its first version: EINVAL', () => {
    for (const length of [4, min - 1]) expect(answer(length)).toBe('EINVAL')
  })

  it('takes zeroes behind what it knows, and nothing else: E2BIG', () => {
    const exact = answer(size)
    for (const length of [size + 1, size + 8, 16384]) {
      expect(answer(length)).toBe(exact)
      expect(answer(length, 0xff)).toBe('E2BIG')
    }
  })

  it('reads its missing end as zeroes', () => {
    expect(answer(min)).toBe(answer(size))
  })

  it('wants all of it, and the tail, to be readable: EFAULT', () => {
    const program = new AbiProgram()
    const address = program.buffer(1)
    const end = address + page
    program.write(end - 4n, wordBytes(size))
    expect(program.raw(0x3b00 | number, end - 4n).errno).toBe('EFAULT')
    const start = end - BigInt(size)
    program.write(start, AbiProgram.struct(size + 1, {}, size))
    expect(program.raw(0x3b00 | number, start).errno).toBe('EFAULT')
  })

  it('has no other command word: ENOTTY', () => {
    const program = new AbiProgram()
    const argument = program.put(AbiProgram.struct(size, {}))
    for (const word of [0x3a00, 0x3c00, 0x4000_3b00, 0x8000_3b00, 0x0008_3b00 | (size << 16), 0xc000_0000]) {
      expect(program.raw((word | number) >>> 0, argument).errno).toBe('ENOTTY')
    }
  })
})

it('knows no other numbers', () => {
  const program = new AbiProgram()
  const { room } = program
  expectSteps([
    ['0x96 with NULL', () => program.raw(0x3b96, 0n), 'EFAULT'],
    ['0x96 with a readable word', () => program.raw(0x3b96, room), 'ENOTTY'],
    ['0x9f with NULL', () => program.raw(0x3b9f, 0n), 'EFAULT'],
    ['0xf0', () => program.raw(0x3bf0, room), 'ENOTTY'],
    ['0xf0 with NULL', () => program.raw(0x3bf0, 0n), 'ENOTTY'],
    ['0x7f with NULL', () => program.raw(0x3b7f, 0n), 'ENOTTY'],
    ['0x00', () => program.raw(0x3b00, room), 'ENOTTY'],
  ])
})

it('gives numbers out from 1, the lowest free one first', () => {
  const program = new AbiProgram()
  expectSteps([
    ['first', () => program.ioas(), 1],
    ['second', () => program.ioas(), 2],
    ['DESTROY 1', () => program.destroy(1), 'ok'],
    ['again', () => program.ioas(), 1],
    ['DESTROY 2', () => program.destroy(2), 'ok'],
    ['DESTROY 2 twice', () => program.destroy(2), 'ENOENT'],
    ['DESTROY 0', () => program.destroy(0), 'ENOENT'],
    ['DESTROY of what never was', () => program.destroy(0xffff_ffff), 'ENOENT'],
  ])
})

it('has a file that cannot be read or written, and is always ready', () => {
  const program = new AbiProgram()
  expectSteps([
    ['read', () => program.readWords(program.iommu, 8), 'EINVAL'],
    ['write', () => program.writeWords(program.iommu, [0, 0]), 'EINVAL'],
    ['poll', () => program.file(program.iommu).poll(5), 5],
  ])
})

describe('what is written back', () => {
  const garbage = 0x5555_5555

  it('is as much as the caller has room for', () => {
    const { program, ioas, device } = nesting()
    // GET_HW_INFO of the first version leaves the capabilities alone.
    const info = program.put(AbiProgram.struct(32, { 8: device, 12: 8, 16: program.room + 512n }, 40))
    program.write(info + 32n, wordBytes(garbage, garbage))
    expect(program.raw(0x3b8a, info)).toMatchObject({ ret: 0 })
    const words = new Uint32Array(program.read(info, 40).buffer)
    expect([...words.subarray(6)]).toEqual([0xfeed_beef, 0, garbage, garbage])
    // HWPT_ALLOC of the first version still tells the number.
    const hwpt = program.put(AbiProgram.struct(24, { 8: device, 12: ioas }))
    expect(program.raw(0x3b89, hwpt)).toMatchObject({ ret: 0 })
    expect(program.destroy(new Uint32Array(program.read(hwpt, 24).buffer)[4]!)).toBeUndefined()
  })

  it('is nothing where a call fails', () => {
    const program = new AbiProgram()
    const before = AbiProgram.struct(40, { 4: 7, 8: 99, 16: 0x1000n, 24: 0x1000n, 32: 0x5000n })
    const argument = program.put(before)
    expect(program.raw(0x3b85, argument).errno).toBe('ENOENT')
    expect(program.read(argument, 40)).toEqual(before)
  })

  it('of OPTION is val64 alone, so that the rest may be read-only', () => {
    const program = new AbiProgram()
    const { memory } = program.process
    const ioas = program.ioas()
    const file = program.host.createFile(8192)
    const address = memory.mapFile(file, 2)
    const border = address + page
    // val64 is the first word behind the border.
    memory.write(border - 16n, AbiProgram.struct(24, { 4: 1, 8: 1, 12: ioas }))
    memory.mapFile(file, 1, { address, writeable: false })
    expect(program.raw(0x3b87, border - 16n)).toMatchObject({ ret: 0 })
    expect([...program.read(border, 8)]).toEqual([1, 0, 0, 0, 0, 0, 0, 0])
  })

  it('is nothing for calls without an answer: a read-only structure will do', () => {
    const { program, ioas, device } = nesting()
    const { memory } = program.process
    const file = program.host.createFile(4096)
    const address = memory.mapFile(file, 1)
    const readOnly = memory.mapFile(file, 1, { writeable: false })
    const tracked = program.hwpt(device, ioas, { flags: 2 })
    const other = program.ioas()
    const call = (number: number, size: number, fields: Record<number, number | bigint>) => () => {
      memory.write(address, AbiProgram.struct(size, fields))
      return program.raw(0x3b00 | number, readOnly)
    }
    const range = { 16: 0x0100_0000n, 24: 4096n, 32: 4096n, 40: program.room }
    expectSteps([
      ['ALLOW_IOVAS', call(0x82, 24, { 4: ioas }), 'ok'],
      ['VFIO_IOAS SET', call(0x88, 12, { 4: other, 8: 1 }), 'ok'],
      ['VFIO_IOAS GET', call(0x88, 12, { 8: 0 }), 'EFAULT'],
      ['VFIO_IOAS CLEAR', call(0x88, 12, { 8: 2 }), 'ok'],
      ['SET_DIRTY_TRACKING', call(0x8b, 16, { 4: 1, 8: tracked }), 'ok'],
      ['GET_DIRTY_BITMAP', call(0x8c, 48, { 4: tracked, ...range }), 'ok'],
      ['CHANGE_PROCESS', call(0x92, 8, {}), 'ok'],
      ['DESTROY', call(0x80, 8, { 4: other }), 'ok'],
      ['IOAS_ALLOC', call(0x81, 12, {}), 'EFAULT'],
      ['and there is no object', () => program.destroy(other), 'ENOENT'],
    ])
  })

  it('that cannot be written takes back what was made', () => {
    const { program, ioas, device, parent, viommu } = nesting()
    const { memory } = program.process
    const file = program.host.createFile(4096)
    const address = memory.mapFile(file, 1)
    const readOnly = memory.mapFile(file, 1, { writeable: false })
    const before = program.kernel.iommufd.snapshot()
    const makes: readonly (readonly [number, Uint8Array])[] = [
      [0x3b81, AbiProgram.struct(12, {})],
      [0x3b89, AbiProgram.struct(48, { 8: device, 12: ioas })],
      [0x3b8e, AbiProgram.struct(16, {})],
      [0x3b90, AbiProgram.struct(40, { 8: 0xdead_beef, 12: device, 16: parent })],
      [0x3b91, AbiProgram.struct(24, { 4: viommu, 8: device, 16: 1n })],
      [0x3b93, AbiProgram.struct(32, { 8: viommu, 12: 0xbeef_beef, 16: 1 })],
    ]
    for (const [cmd, bytes] of makes) {
      memory.write(address, bytes)
      expect([cmd, program.raw(cmd, readOnly).errno]).toEqual([cmd, 'EFAULT'])
      expect(program.kernel.iommufd.snapshot()).toEqual(before)
    }
  })

  it('holds what was given where nothing has changed', () => {
    const program = new AbiProgram()
    const ioas = program.ioas()
    const made = ok(program.map(ioas, 0x5000n, 0x1234_5000n, page))
    expect([made.u32(4), made.u32(8), made.u64(16), made.u64(24), made.u64(32)]).toEqual([
      7,
      ioas,
      0x1234_5000n,
      page,
      0x5000n,
    ])
  })
})
