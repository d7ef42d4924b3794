/** What a real kernel 7.3.4 answered, with its mock driver: IOVA ranges, MAP, UNMAP, COPY, options, late checks. */
import { beforeEach, describe, expect, it } from 'vitest'
import { IoPagetable } from '../../src/io-pagetable/io-pagetable.js'
import { World, last64, resultOf } from './world.js'

/** The mock driver's aperture and smallest page. */
const aperture = { first: 0x100_0000n, last: 0x7fff_ffffn }
const start = aperture.first

let world: World
let table: IoPagetable

beforeEach(() => {
  world = new World()
  table = IoPagetable.create()
})

const addMock = (number = 1) => resultOf(table.addDomain(world, world.fake.domain(number, aperture), number))
const map = (address: bigint, length: bigint, iova?: bigint) => world.map(table, address, length, iova)

describe('allowed list', () => {
  it('refuses a range of one byte, and ranges that overlap', () => {
    expect(resultOf(table.allow([{ start: 0x5000n, last: 0x5000n }]))).toBe('EINVAL')
    expect(resultOf(table.allow([{ start: 0x5000n, last: 0x5fffn }]))).toBeUndefined()
    const twice = { start: 0x5000n, last: 0x5fffn }
    expect(resultOf(table.allow([twice, twice]))).toBe('EINVAL')
  })

  it('bounds the choice of an IOVA, and nothing else', () => {
    table.allow([{ start: 0x5000n, last: 0x5fffn }])
    expect(table.ranges()).toEqual([{ first: 0n, last: last64 }])
    expect(table.alignment).toBe(1n)
    expect(map(world.buffer, 0x1000n, 0x10000n)).toBe(0x10000n)
    expect(map(world.buffer, 0x1000n)).toBe(0x5000n)
    expect(map(world.buffer, 0x1000n)).toBe('ENOSPC')
    table.allow([])
    expect(map(world.buffer, 0x1000n)).toBe(0x1000n)
    expect(map(world.buffer + 3n, 5n)).toBe(0x2003n)
    expect(map(world.buffer, 0x1000n, 0n)).toBe(0n)
  })
})

describe('MAP', () => {
  it('checks lengths and wraps', () => {
    expect(map(world.buffer, 0n, 0x1000n)).toBe('EINVAL')
    expect(map(last64 - 100n, 0x1000n, 0x1000n)).toBe('EOVERFLOW')
    expect(map(world.buffer, 0x2000n, last64 - 0xfffn)).toBe('EOVERFLOW')
    expect(map(world.buffer, 0x1000n, last64 - 0xfffn)).toBe(last64 - 0xfffn)
    expect(map(0n, 1n << 63n)).toBe('EOVERFLOW')
  })

  it('looks at no page while there is no domain', () => {
    expect(map(0x1000n, 0x1000n, 0x1000n)).toBe(0x1000n)
    expect(addMock()).toBe('EADDRINUSE')
    world.unmap(table, 0x1000n, 0x1000n)
    expect(map(0x1000n, 0x1000n, start)).toBe(start)
    expect(addMock()).toBe('EFAULT')
    expect(world.unmap(table, start, 0x1000n)).toBe(0x1000n)
    expect(addMock()).toBeUndefined()
    expect(map(0x1000n, 0x1000n, start)).toBe('EFAULT')
  })

  it('does not let a domain in beside what it cannot hold', () => {
    expect(map(world.buffer + 1n, 0x1000n, start)).toBe(start)
    expect(addMock()).toBe('EADDRINUSE')
    expect(table.alignment).toBe(1n)
    expect(table.ranges()).toEqual([{ first: 0n, last: last64 }])
    table.unmapAll(world)
    table.allow([{ start: 0x1000n, last: 0x1fffn }])
    expect(addMock()).toBe('EADDRINUSE')
    table.allow([])
    expect(addMock()).toBeUndefined()
    expect(table.alignment).toBe(0x800n)
    expect(table.ranges()).toEqual([aperture])
  })

  it('pins for writing only what is to be written', () => {
    addMock()
    const page = world.process.memory.map(0x1000, { writeable: false })
    expect(map(page, 0x1000n, start)).toBe('EFAULT')
    expect(world.map(table, page, 0x1000n, start, { writeable: false })).toBe(start)
  })

  it('examines a file when it is pinned', () => {
    const file = world.host.createFile(0x2000)
    expect(world.mapFile(table, file, 0x2000n, 0x1000n, start)).toBe(start)
    expect(addMock()).toBe('EINVAL')
    table.unmapAll(world)
    addMock()
    expect(world.mapFile(table, file, 0x1000n, 0x2000n, start)).toBe('EINVAL')
    expect(world.mapFile(table, file, 0x1000n, 0x1000n, start)).toBe(start)
    file.truncate(0x1000)
    expect(world.mapFile(table, file, 0x1000n, 0x1000n, start + 0x10000n)).toBe('EINVAL')
    expect(world.mapFile(table, file, 0x1000n, 0n)).toBe('EINVAL')
    expect(world.mapFile(table, file, last64, 2n)).toBe('EOVERFLOW')
  })

  it('needs some right once there is a domain', () => {
    const none = { readable: false, writeable: false }
    expect(world.map(table, world.buffer, 0x1000n, start, none)).toBe(start)
    expect(addMock()).toBe('EINVAL')
    table.unmapAll(world)
    addMock()
    expect(world.map(table, world.buffer, 0x1000n, start, none)).toBe('EINVAL')
    expect(world.host.pinned).toBe(0)
  })

  it('refuses 2048 bytes where the domain has pages of 2048, and not of 4096', () => {
    resultOf(table.addDomain(world, world.fake.domain(1, undefined, 0x1000n), 1))
    expect(map(world.buffer, 0x800n, start)).toBe('EINVAL')
    expect(map(world.buffer, 0x1000n, start + 0x800n)).toBe('EINVAL')
    expect(map(world.buffer + 0x800n, 0x1000n, start)).toBe('EINVAL')
    expect(map(world.buffer + 0x800n, 0x1000n)).toBe('EINVAL')
    expect(map(world.buffer, 0x1000n, start)).toBe(start)
  })
})

describe('UNMAP', () => {
  it('takes whole areas, in order, up to the first that is cut', () => {
    map(world.buffer, 0x1000n, 0x10000n)
    map(world.buffer, 0x2000n, 0x12000n)
    expect(world.unmap(table, 0xf000n, 0x3000n)).toBe(0x1000n)
    map(world.buffer, 0x1000n, 0x10000n)
    expect(world.unmap(table, 0x10000n, 0x3000n)).toBe('ENOENT')
    expect(table.areas.map(({ iova }) => iova)).toEqual([0x12000n])
    expect(world.unmap(table, 0x10000n, 0x2000n)).toBe('ENOENT')
    expect(world.unmap(table, 0x12000n, 0n)).toBe('EINVAL')
    expect(world.unmap(table, 0x12000n, last64)).toBe('EOVERFLOW')
    expect(resultOf(table.unmapAll(world))).toEqual({ bytes: 0x2000n })
    expect(resultOf(table.unmapAll(world))).toEqual({ bytes: 0n })
  })

  it('says how much is gone when it stops', () => {
    addMock()
    map(world.buffer, 0x1000n, start)
    map(world.buffer, 0x2000n, start + 0x1000n)
    const done = table.unmap(world, start, 0x2000n)
    expect(done).toMatchObject({ ok: true, value: { bytes: 0x1000n, refused: { errno: 'ENOENT' } } })
    expect(world.fake.translate(1, start)).toBeUndefined()
    expect(world.fake.translate(1, start + 0x1000n)).toBe(world.physical(world.buffer))
    expect(world.host.pinned).toBe(2)
  })
})

describe('COPY', () => {
  const copy = (from: bigint, length: bigint, to?: bigint, writeable = true) =>
    resultOf(table.copyTo(world, table, { from, length, to, readable: true, writeable }))

  it('takes any part of adjoining areas', () => {
    map(world.buffer, 0x2000n, 0x12000n)
    expect(copy(0x12005n, 100n)).toBe(0x1005n)
    expect(copy(0x13fffn, 100n)).toBe('ENOENT')
    expect(copy(0x12000n, 0n)).toBe('EINVAL')
    expect(copy(last64, 2n)).toBe('EOVERFLOW')
    expect(copy(0x12000n, 0x1000n, 0x12000n)).toBe('EEXIST')
    map(world.buffer, 0x1000n, 0x14000n)
    expect(copy(0x13800n, 0x1000n, 0x20800n)).toBe(0x20800n)
    expect(table.areasIn({ first: 0x20000n, last: 0x22000n })).toEqual([
      { iova: 0x20800n, length: 0x800n, readable: true, writeable: true },
      { iova: 0x21000n, length: 0x800n, readable: true, writeable: true },
    ])
  })

  it('does not give more rights than the memory was pinned with', () => {
    world.map(table, world.buffer, 0x1000n, 0x10000n, { writeable: false })
    expect(copy(0x10000n, 0x1000n, 0x20000n)).toBe('EPERM')
    expect(copy(0x10000n, 0x1000n, 0x20000n, false)).toBe(0x20000n)
  })

  it('pins no page twice', () => {
    const other = IoPagetable.create()
    addMock()
    resultOf(other.addDomain(world, world.fake.domain(2), 2))
    map(world.buffer, 0x2000n, start)
    const request = { from: start + 0x800n, length: 0x1000n, to: 0x800n, readable: true, writeable: false }
    expect(resultOf(table.copyTo(world, other, request))).toBe(0x800n)
    expect(world.host.pinned).toBe(2)
    expect(world.fake.translate(2, 0x17ffn)).toBe((world.physical(world.buffer) ?? 0n) + 0x17ffn)
    table.unmapAll(world)
    expect(world.host.pinned).toBe(2)
    other.unmapAll(world)
    expect(world.host.pinned).toBe(0)
  })
})

describe('OPTION HUGE_PAGES', () => {
  it('cannot be turned off with areas in a page table', () => {
    addMock()
    map(world.buffer, 0x800n, start)
    expect(resultOf(table.setHugePages(false))).toBe('EINVAL')
    expect(table.isHugePagesOn).toBe(true)
    table.unmapAll(world)
    expect(resultOf(table.setHugePages(false))).toBeUndefined()
    expect(map(world.buffer, 0x800n, start)).toBe('EINVAL')
    expect(map(world.buffer, 0x1000n, start)).toBe(start)
    expect(world.fake.mapped.get(1)?.[0]?.largestPage).toBe(0x1000n)
    expect(resultOf(table.setHugePages(false))).toBeUndefined()
    expect(resultOf(table.setHugePages(true))).toBeUndefined()
    expect(table.alignment).toBe(0x800n)
  })

  it('cannot be turned off beside areas that are not aligned to pages', () => {
    map(world.buffer, 0x800n, 0x800n)
    expect(resultOf(table.setHugePages(false))).toBe('EADDRINUSE')
    expect(table.isHugePagesOn).toBe(true)
    expect(table.alignment).toBe(1n)
  })
})

describe('reserved ranges', () => {
  it('may overlap each other, but meet neither areas nor allowed ranges', () => {
    map(world.buffer, 0x1000n, 0x10000n)
    table.allow([{ start: 0x40000n, last: 0x4ffffn }])
    const reserve = (first: bigint, last: bigint, owner?: number) =>
      resultOf(table.reserve(owner, { first, last }))
    expect(reserve(0x10fffn, 0x20000n)).toBe('EADDRINUSE')
    expect(reserve(0x4ffffn, 0x50000n)).toBe('EADDRINUSE')
    expect(reserve(0x20000n, 0x2ffffn, 7)).toBeUndefined()
    expect(reserve(0x28000n, 0x30000n, 7)).toBeUndefined()
    expect(reserve(0x2a000n, 0x2a000n)).toBeUndefined()
    expect(table.ranges()).toEqual([
      { first: 0n, last: 0x1ffffn },
      { first: 0x30001n, last: last64 },
    ])
    expect(map(world.buffer, 0x1000n, 0x2f000n)).toBe('EINVAL')
    expect(resultOf(table.allow([{ start: 0x30000n, last: 0x30fffn }]))).toBe('EADDRINUSE')
    table.releaseReserved(7)
    expect(table.ranges()).toEqual([
      { first: 0n, last: 0x29fffn },
      { first: 0x2a001n, last: last64 },
    ])
  })

  it('leave room for nothing where all is reserved', () => {
    table.reserve(undefined, { first: 0n, last: last64 - 1n })
    expect(table.ranges()).toEqual([{ first: last64, last: last64 }])
    expect(map(world.buffer, 1n)).toBe('ENOSPC')
    expect(map(world.buffer, 0x1000n)).toBe('ENOSPC')
  })
})

describe('cutting an area, for VFIO type 1', () => {
  beforeEach(() => {
    table.setHugePages(false)
    addMock()
    map(world.buffer, 0x3000n, start)
  })

  it('leaves memory mapped and pinned as it was', () => {
    const before = world.fake.mapped
    expect(table.cutBehind(start + 0xfffn)).toBeUndefined()
    expect(table.areas.map(({ iova, length }) => [iova, length])).toEqual([
      [start, 0x1000n],
      [start + 0x1000n, 0x2000n],
    ])
    expect(world.fake.mapped).toEqual(before)
    expect(world.host.pinned).toBe(3)
    expect(world.unmap(table, start, 0x1000n)).toBe(0x1000n)
    expect(world.host.pinned).toBe(2)
    expect(world.fake.translate(1, start + 0x1000n)).toBe((world.physical(world.buffer) ?? 0n) + 0x1000n)
  })

  it('does nothing at the edges and where nothing is', () => {
    for (const at of [start, start + 0x2fffn, start - 1n, start + 0x3000n])
      expect(table.cutBehind(at)).toBeUndefined()
    expect(table.areas).toHaveLength(1)
  })

  it('keeps to the alignment', () => {
    expect(resultOf(table.cutBehind(start + 0x7ffn))).toBe('EINVAL')
  })

  it('is refused where a huge page may lie across', () => {
    table.unmapAll(world)
    table.setHugePages(true)
    map(world.buffer, 0x3000n, start)
    expect(resultOf(table.cutBehind(start + 0xfffn))).toBe('EINVAL')
  })
})

it('a domain with no page as small as the processor’s is refused', () => {
  expect(resultOf(table.addDomain(world, world.fake.domain(1, aperture, 0x2000n), 1))).toBe('EINVAL')
  expect(table.domains).toEqual([])
})
