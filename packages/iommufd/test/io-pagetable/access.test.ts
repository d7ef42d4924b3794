/** Accesses: the kernel's own use of an IO address space. */
import { beforeEach, describe, expect, it } from 'vitest'
import { Access } from '../../src/io-pagetable/access.js'
import type { AccessOwner } from '../../src/io-pagetable/access.js'
import { Dmabuf } from '../../src/io-pagetable/dmabuf.js'
import { IoPagetable } from '../../src/io-pagetable/io-pagetable.js'
import type { PinEnvironment } from '../../src/io-pagetable/pin-environment.js'
import { SimulatedProcess } from '../../src/simulated-process.js'
import { World, last64, resultOf } from './world.js'

/** Lets go of one range, when it is told. */
class Owner implements AccessOwner {
  access: Access | undefined
  pinned: readonly [bigint, bigint] | undefined
  readonly told: (readonly [bigint, bigint])[] = []
  isDeaf = false

  unmapped(env: PinEnvironment, first: bigint, length: bigint): void {
    this.told.push([first, length])
    if (this.pinned === undefined || this.isDeaf) return
    this.access?.unpin(env, ...this.pinned)
    this.pinned = undefined
  }
}

let world: World
let table: IoPagetable
let owner: Owner
let access: Access

beforeEach(() => {
  world = new World()
  table = IoPagetable.create()
  owner = new Owner()
  access = Access.create({ needsPages: true, owner })
  owner.access = access
  access.attach(world, table)
})

const pin = (iova: bigint, length: bigint, writes = false) =>
  resultOf(access.pin(world, iova, length, writes))
const rw = (iova: bigint, length: number, writes = false, process?: number) =>
  resultOf(access.rw(world, process, iova, new Uint8Array(length), writes))

describe('an access that pins', () => {
  it('makes areas be aligned to pages while it is there', () => {
    expect(table.alignment).toBe(4096n)
    expect(world.map(table, world.buffer, 2048n, 0n)).toBe('EINVAL')
    access.detach(world)
    expect(table.alignment).toBe(1n)
    world.map(table, world.buffer, 2048n, 0n)
    expect(resultOf(access.attach(world, table))).toBe('EADDRINUSE')
    expect(access.table).toBeUndefined()
  })

  it('pins by the rights of the area', () => {
    world.map(table, world.buffer, 0x2000n, 0x10000n, { writeable: false })
    expect(pin(0x10000n, 0x2000n, true)).toBe('EPERM')
    expect(pin(0x10000n, 0x3000n)).toBe('ENOENT')
    expect(pin(0x10000n, 0n)).toBe('EINVAL')
    expect(pin(last64, 2n)).toBe('EOVERFLOW')
    expect(world.host.pinned).toBe(0)
    expect(pin(0x10000n, 0x2000n)).toEqual([{ first: world.physical(world.buffer), pages: 2 }])
    expect(world.host.pinned).toBe(2)
    access.unpin(world, 0x10000n, 0x2000n)
    expect(world.host.pinned).toBe(0)
  })

  it('pins whole pages from the first byte of a page on', () => {
    world.map(table, world.buffer, 0x2000n, 0x10000n)
    expect(pin(0x10800n, 0x800n)).toBe('EINVAL')
    expect(pin(0x10000n, 0x801n)).toHaveLength(1)
    access.unpin(world, 0x10000n, 0x801n)
  })

  it('holds the same pages once, under as many domains as there are', () => {
    world.map(table, world.buffer, 0x3000n, 0x10000n)
    expect(pin(0x11000n, 0x1000n)).toHaveLength(1)
    expect(pin(0x11000n, 0x1000n)).toHaveLength(1)
    expect(world.host.pinned).toBe(1)
    table.addDomain(world, world.fake.domain(1), 1)
    expect(world.host.pinned).toBe(3)
    expect(world.fake.translate(1, 0x11000n)).toBe((world.physical(world.buffer) ?? 0n) + 0x1000n)
    expect(world.fake.maps).toBe(1)
    table.removeDomain(world, 1, 1)
    expect(world.host.pinned).toBe(1)
    access.unpin(world, 0x11000n, 0x1000n)
    expect(world.host.pinned).toBe(1)
    access.unpin(world, 0x11000n, 0x1000n)
    expect(world.host.pinned).toBe(0)
    expect(() => access.unpin(world, 0x11000n, 0x1000n)).toThrow(RangeError)
  })

  it('pins over areas that adjoin, where they meet at a page', () => {
    world.map(table, world.buffer, 0x1000n, 0x10000n)
    world.map(table, world.buffer + 0x3000n, 0x1000n, 0x11000n)
    expect(pin(0x10000n, 0x2000n)).toEqual([
      { first: world.physical(world.buffer), pages: 1 },
      { first: world.physical(world.buffer + 0x3000n), pages: 1 },
    ])
  })

  it('leaves what is pinned to a domain that comes after the process has gone', () => {
    world.map(table, world.buffer, 0x1000n, 0x10000n)
    pin(0x10000n, 0x1000n)
    world.process.kill()
    expect(resultOf(table.addDomain(world, world.fake.domain(1), 1))).toBeUndefined()
    access.unpin(world, 0x10000n, 0x1000n)
    expect(world.host.pinned).toBe(1)
    expect(rw(0x10000n, 16, true)).toBeUndefined()
    table.removeDomain(world, 1, 1)
    expect(rw(0x10000n, 16)).toBe('EFAULT')
    expect(pin(0x10000n, 0x1000n)).toBe('EFAULT')
  })
})

describe('UNMAP of an area that is pinned', () => {
  beforeEach(() => {
    world.map(table, world.buffer, 0x2000n, 0x10000n)
    pin(0x11000n, 0x1000n)
    owner.pinned = [0x11000n, 0x1000n]
  })

  it('tells the owner of the access, who lets go', () => {
    expect(world.unmap(table, 0x10000n, 0x2000n)).toBe(0x2000n)
    expect(owner.told).toEqual([[0x10000n, 0x2000n]])
    expect(world.host.pinned).toBe(0)
  })

  it('gives up on one who does not, after 100 tries; the area takes no pins any more', () => {
    owner.isDeaf = true
    expect(world.unmap(table, 0x10000n, 0x2000n)).toBe('EDEADLK')
    expect(owner.told).toHaveLength(100)
    expect(pin(0x10000n, 0x1000n)).toBe('EINVAL')
    expect(rw(0x10000n, 1)).toBe('EINVAL')
    expect(resultOf(table.cutBehind(0x10fffn))).toBe('EBUSY')
    owner.isDeaf = false
    expect(world.unmap(table, 0x10000n, 0x2000n)).toBe(0x2000n)
  })

  it('cannot be cut', () => {
    expect(resultOf(table.cutBehind(0x10fffn))).toBe('EINVAL')
  })
})

it('an access of the kernel’s own locks its areas', () => {
  const queue = Access.create({ needsPages: true, isInternal: true })
  queue.attach(world, table)
  world.map(table, world.buffer, 0x1000n, 0x10000n)
  world.map(table, world.buffer, 0x2000n, 0x11000n)
  queue.pin(world, 0x11000n, 0x1000n, false)
  expect(world.unmap(table, 0x12000n, 0x1000n)).toBe('EBUSY')
  expect(world.unmap(table, 0x10000n, 0x3000n)).toBe('EBUSY')
  expect(table.areas.map(({ iova }) => iova)).toEqual([0x11000n])
  queue.unpin(world, 0x11000n, 0x1000n)
  expect(world.unmap(table, 0x11000n, 0x2000n)).toBe(0x2000n)
})

describe('moving an access', () => {
  it('tells its owner to let go of everything, and leaves the first IOAS after that', () => {
    const other = IoPagetable.create()
    world.map(table, world.buffer, 0x1000n, 0x10000n)
    pin(0x10000n, 0x1000n)
    owner.pinned = [0x10000n, 0x1000n]
    expect(resultOf(access.replace(world, other))).toBeUndefined()
    expect(owner.told).toEqual([[0n, last64]])
    expect(world.host.pinned).toBe(0)
    expect([table.alignment, other.alignment]).toEqual([1n, 4096n])
    expect(access.table).toBe(other)
    expect(pin(0x10000n, 0x1000n)).toBe('ENOENT')
  })

  it('is refused, and nothing told, where areas are not aligned', () => {
    const other = IoPagetable.create()
    world.map(other, world.buffer, 2048n, 0n)
    expect(resultOf(access.replace(world, other))).toBe('EADDRINUSE')
    expect(access.table).toBe(table)
    expect(owner.told).toEqual([])
    expect(other.alignment).toBe(1n)
  })

  it('needs an IOAS to move from', () => {
    access.detach(world)
    expect(resultOf(access.replace(world, table))).toBe('ENOENT')
    expect(pin(0n, 1n)).toBe('ENOENT')
    expect(rw(0n, 1)).toBe('ENOENT')
  })
})

describe('reading and writing', () => {
  it('goes by the rights of the area', () => {
    world.map(table, world.buffer, 0x2000n, 0x10000n, { writeable: false })
    expect(rw(0x10000n, 0)).toBe('EINVAL')
    expect(rw(0x10000n, 1, true)).toBe('EPERM')
    expect(rw(0x11fffn, 2)).toBe('ENOENT')
    expect(rw(0x11fffn, 1)).toBeUndefined()
    expect(rw(last64, 2)).toBe('EOVERFLOW')
  })

  it('finds every byte, at any alignment', () => {
    access.detach(world)
    const plain = Access.create({ needsPages: false })
    plain.attach(world, table)
    expect(table.alignment).toBe(1n)
    expect(world.map(table, world.buffer + 0x7fdn, 0x1005n, 0x10003n)).toBe(0x10003n)
    expect(world.map(table, world.buffer + 0x4010n, 0x100n, 0x11008n)).toBe(0x11008n)
    const bytes = Uint8Array.from({ length: 0x1005 + 0x80 }, (_, i) => i * 7)
    expect(plain.rw(world, world.process.memory.key, 0x10003n, bytes, true).ok).toBe(true)
    const first = new Uint8Array(0x1005)
    const second = new Uint8Array(0x80)
    world.process.memory.read(world.buffer + 0x7fdn, first)
    world.process.memory.read(world.buffer + 0x4010n, second)
    expect([...first, ...second]).toEqual([...bytes])
    const back = new Uint8Array(bytes.length)
    plain.rw(world, undefined, 0x10003n, back, false)
    expect(back).toEqual(bytes)
    expect(resultOf(plain.pin(world, 0x10003n, 1n, false))).toBe('EINVAL')
  })

  it('pins nothing', () => {
    world.map(table, world.buffer, 0x1000n, 0x10000n)
    rw(0x10000n, 8)
    rw(0x10000n, 8, false, SimulatedProcess.create(world.host).memory.key)
    expect(world.host.pinned).toBe(0)
  })
})

it('memory of a dma-buf can be neither pinned nor read', () => {
  const request = { iova: 0x10000n, readable: true, writeable: true, start: 0n, length: 0x1000n }
  table.mapDmabuf(world, { ...request, dmabuf: Dmabuf.create([{ first: 0x1234000n, pages: 1 }]) })
  expect(pin(0x10000n, 0x1000n)).toBe('EINVAL')
  expect(rw(0x10000n, 1)).toBe('EINVAL')
})
