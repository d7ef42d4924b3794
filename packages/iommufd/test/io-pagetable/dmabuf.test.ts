/** dma-bufs: neither pinned nor charged, and taken back when their exporter wants. */
import { beforeEach, expect, it } from 'vitest'
import { Dmabuf } from '../../src/io-pagetable/dmabuf.js'
import { IoPagetable } from '../../src/io-pagetable/io-pagetable.js'
import { World, resultOf } from './world.js'

let world: World
let table: IoPagetable
let dmabuf: Dmabuf

beforeEach(() => {
  world = new World()
  table = IoPagetable.create()
  dmabuf = Dmabuf.create([
    { first: 0x10_0000n, pages: 2 },
    { first: 0x20_0000n, pages: 1 },
  ])
})

const map = (start: bigint, length: bigint, iova?: bigint) =>
  resultOf(table.mapDmabuf(world, { dmabuf, start, length, iova, readable: true, writeable: true }))

it('a range must lie within the buffer', () => {
  expect(dmabuf.pages).toBe(3)
  expect(map(0n, 0n)).toBe('EINVAL')
  expect(map(0n, 0x3001n)).toBe('EINVAL')
  expect(map(0x3000n, 1n)).toBe('EINVAL')
  expect(map(0xffff_ffff_ffff_ffffn, 2n)).toBe('EOVERFLOW')
  expect(map(0x2fffn, 1n)).toBe(0x1fffn)
})

it('a mapping shows the exporter’s memory, and pins nothing', () => {
  table.addDomain(world, world.fake.domain(1), 1)
  expect(map(0x1800n, 0x1000n, 0x800n)).toBe(0x800n)
  expect(world.fake.translate(1, 0x800n)).toBe(0x10_1800n)
  expect(world.fake.translate(1, 0x17ffn)).toBe(0x20_07ffn)
  expect(world.host.pinned).toBe(0)
  expect(world.accounts.snapshot()).toEqual([[], [], []])
  expect([...table.pinnedPages()]).toEqual([])
})

it('what is taken back is unmapped everywhere; the areas stay, and stay empty', () => {
  const other = IoPagetable.create()
  table.addDomain(world, world.fake.domain(1), 1)
  table.addDomain(world, world.fake.domain(2), 2)
  other.addDomain(world, world.fake.domain(3), 3)
  map(0n, 0x3000n, 0x10000n)
  world.map(table, world.buffer, 0x1000n, 0x20000n)
  table.copyTo(world, other, { from: 0x11000n, length: 0x1000n, to: 0n, readable: true, writeable: true })
  expect(dmabuf.revoke(world).ok).toBe(true)
  expect(dmabuf.isRevoked).toBe(true)
  expect(Array.from(world.fake.mapped.values(), (list) => list.map(({ iova }) => iova))).toEqual([
    [0x20000n],
    [0x20000n],
    [],
  ])
  expect(table.areas).toHaveLength(2)
  expect(map(0n, 0x1000n, 0x40000n)).toBe('ENODEV')

  dmabuf.unrevoke()
  expect(resultOf(table.addDomain(world, world.fake.domain(4), 4))).toBeUndefined()
  expect(world.fake.translate(4, 0x10000n)).toBeUndefined()
  expect(map(0n, 0x1000n, 0x40000n)).toBe(0x40000n)
  expect(world.fake.translate(4, 0x40000n)).toBe(0x10_0000n)
  expect(world.unmap(table, 0x10000n, 0x3000n)).toBe(0x3000n)
  expect(world.unmap(other, 0n, 0x1000n)).toBe(0x1000n)
  dmabuf.revoke(world)
  expect(world.fake.translate(4, 0x40000n)).toBeUndefined()
})

it('a fork has the buffer to itself', () => {
  table.addDomain(world, world.fake.domain(1), 1)
  map(0n, 0x1000n, 0x10000n)
  const memo = new Map<object, object>()
  const forked = table.fork(memo)
  const forkedBuffer = dmabuf.fork(memo)
  const there = new World()
  there.fake.domain(1)
  there.fake.map(1, 0x10000n, 0x10_0000n, 0x1000n, { read: true, write: true })
  forkedBuffer.revoke(there)
  expect(there.fake.translate(1, 0x10000n)).toBeUndefined()
  expect(dmabuf.isRevoked).toBe(false)
  expect(world.fake.translate(1, 0x10000n)).toBe(0x10_0000n)
  expect(forked.snapshot()).not.toEqual(table.snapshot())
})

it('an area of a buffer cannot be cut', () => {
  map(0n, 0x3000n, 0x10000n)
  expect(resultOf(table.cutBehind(0x10fffn))).toBe('EOPNOTSUPP')
})
