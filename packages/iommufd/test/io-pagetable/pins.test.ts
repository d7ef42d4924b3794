/** Pins and accounts: a page is pinned once for each mapping, and whoever mapped it pays. */
import { beforeEach, describe, expect, it } from 'vitest'
import { IoPagetable } from '../../src/io-pagetable/io-pagetable.js'
import type { PinCharge } from '../../src/io-pagetable/pin-accounts.js'
import { SimulatedProcess } from '../../src/simulated-process.js'
import { World, resultOf } from './world.js'

let world: World
let table: IoPagetable

beforeEach(() => {
  world = new World()
  table = IoPagetable.create()
})

const addDomain = (number: number) => resultOf(table.addDomain(world, world.fake.domain(number), number))
const removeDomain = (number: number) => resultOf(table.removeDomain(world, number, number))
const nothing = [[], [], []]

describe('pins', () => {
  it('are one for each page of each mapping, however many domains there are', () => {
    addDomain(1)
    addDomain(2)
    addDomain(3)
    world.map(table, world.buffer, 0x1000n, 0x10000n)
    const physical = world.physical(world.buffer) ?? 0n
    expect(world.host.pinsAt(physical)).toBe(1)
    world.map(table, world.buffer, 0x1000n, 0x20000n)
    expect(world.host.pinsAt(physical)).toBe(2)
    expect(Array.from(table.pinnedPages(), (pages) => [...pages.pinnedRuns()])).toEqual([
      [{ first: physical, pages: 1 }],
      [{ first: physical, pages: 1 }],
    ])
  })

  it('come with the first domain, and go with the last', () => {
    world.map(table, world.buffer, 0x2000n, 0x10000n)
    expect(world.host.pinned).toBe(0)
    addDomain(1)
    addDomain(2)
    expect(world.host.pinned).toBe(2)
    removeDomain(1)
    expect(world.host.pinned).toBe(2)
    removeDomain(2)
    expect(world.host.pinned).toBe(0)
    expect(world.accounts.snapshot()).toEqual(nothing)
  })

  it('outlive the process that mapped, also for a domain that comes later', () => {
    const child = SimulatedProcess.create(world.host)
    const address = child.memory.map(Uint8Array.of(1, 2, 3))
    const physical = child.memory.lookUp(address)?.physical
    world.map(table, address, 0x1000n, 0x10000n, { process: child })
    const other = IoPagetable.create()
    world.map(other, address, 0x1000n, 0x10000n, { process: child })
    addDomain(1)
    child.kill()
    expect(addDomain(2)).toBeUndefined()
    expect(world.fake.translate(2, 0x10000n)).toBe(physical)
    expect(resultOf(other.addDomain(world, world.fake.domain(3), 3))).toBe('EFAULT')
  })

  it('stay where pages were, when the process maps others there', () => {
    addDomain(1)
    world.map(table, world.buffer, 0x1000n, 0x10000n)
    const physical = world.physical(world.buffer)
    world.process.memory.map(0x1000, { address: world.buffer })
    expect(world.physical(world.buffer)).not.toBe(physical)
    addDomain(2)
    expect(world.fake.translate(2, 0x10000n)).toBe(physical)
    removeDomain(1)
    removeDomain(2)
    addDomain(1)
    expect(world.fake.translate(1, 0x10000n)).toBe(world.physical(world.buffer))
  })

  it('are all undone where one page in the middle is missing', () => {
    addDomain(1)
    world.process.memory.unmap(world.buffer + 0x8000n, 1)
    expect(world.map(table, world.buffer, 0x10000n, 0x10000n)).toBe('EFAULT')
    expect(world.host.pinned).toBe(0)
    expect(table.isEmpty).toBe(true)
    expect(world.map(table, world.buffer, 0x8000n, 0x10000n)).toBe(0x10000n)
  })
})

describe('physical runs', () => {
  it('are mapped by one call each', () => {
    addDomain(1)
    const second = world.process.memory.map(0x3000, { address: world.buffer + 0x10000n })
    world.map(table, world.buffer + 0x800n, 0x12000n, 0x800n)
    const mapped = world.fake.mapped.get(1)?.map(({ iova, physical, length }) => [iova, physical, length])
    expect(mapped).toEqual([
      [0x800n, (world.physical(world.buffer) ?? 0n) + 0x800n, 0xf800n],
      [0x10000n, world.physical(second), 0x2800n],
    ])
  })

  it('of a gibibyte cost no more than one of a page, huge pages or not', () => {
    const bytes = 1 << 30
    const address = world.process.memory.map(bytes)
    addDomain(1)
    world.map(table, address, BigInt(bytes), 0n)
    table.unmapAll(world)
    table.setHugePages(false)
    world.map(table, address, BigInt(bytes), 0n)
    expect(world.fake.maps).toBe(2)
    expect(world.host.pinned).toBe(bytes / 4096)
    table.unmapAll(world)
    expect(world.fake.unmaps).toBe(2)
    expect(world.host.pinned).toBe(0)
  })
})

describe('accounts', () => {
  const chargeOf = (process: SimulatedProcess, more: Partial<PinCharge>): PinCharge => ({
    ...{ mm: process.memory.key, uid: process.uid, mode: 'user', limitPages: 8n },
    ...more,
  })

  it('count what is pinned for the process, and nothing as locked with CAP_IPC_LOCK', () => {
    addDomain(1)
    const { key } = world.process.memory
    world.map(table, world.buffer, 0x2000n, 0x10000n)
    expect([world.accounts.pinned(key), world.accounts.locked(key), world.accounts.lockedByUser(0)]).toEqual([
      2, 0, 0,
    ])
  })

  it('limit what all processes of a user have locked', () => {
    addDomain(1)
    const a = SimulatedProcess.create(world.host, { uid: 5 })
    const b = SimulatedProcess.create(world.host, { uid: 5 })
    const mapBy = (process: SimulatedProcess, iova: bigint, pages: bigint) =>
      world.map(table, process.memory.map(0x8000), pages * 4096n, iova, {
        process,
        charge: chargeOf(process, {}),
      })
    expect(mapBy(a, 0x10000n, 5n)).toBe(0x10000n)
    expect(mapBy(b, 0x20000n, 4n)).toBe('ENOMEM')
    expect(mapBy(b, 0x20000n, 3n)).toBe(0x20000n)
    expect(world.accounts.lockedByUser(5)).toBe(8)
    expect(world.accounts.pinned(b.memory.key)).toBe(3)
    expect(world.accounts.locked(b.memory.key)).toBe(0)
    expect(mapBy(b, 0x30000n, 1n)).toBe('ENOMEM')
    expect(world.host.pinned).toBe(8)
    table.unmapAll(world)
    expect(world.accounts.snapshot()).toEqual(nothing)
  })

  it('limit what one process has locked, in the mode per process', () => {
    addDomain(1)
    const charge = chargeOf(world.process, { mode: 'mm', limitPages: 2n })
    expect(world.map(table, world.buffer, 0x3000n, 0n, { charge })).toBe('ENOMEM')
    expect(world.map(table, world.buffer, 0x2000n, 0n, { charge })).toBe(0n)
    expect(world.accounts.locked(charge.mm)).toBe(2)
    expect(world.accounts.lockedByUser(0)).toBe(0)
  })

  it('charge no page twice: copies and accesses are of the same pages', () => {
    addDomain(1)
    const charge = chargeOf(world.process, { limitPages: 3n })
    world.map(table, world.buffer, 0x3000n, 0n, { charge })
    const copy = { from: 0x1000n, length: 0x2000n, to: 0x10000n, readable: true, writeable: true }
    expect(resultOf(table.copyTo(world, table, copy))).toBe(0x10000n)
    expect(world.unmap(table, 0n, 0x3000n)).toBe(0x3000n)
    expect(world.accounts.lockedByUser(0)).toBe(2)
  })
})

describe('CHANGE_PROCESS', () => {
  const payer = (process: SimulatedProcess, limitPages = 100n) => ({
    ...{ mm: process.memory.key, uid: process.uid, limitPages },
  })
  const change = (process: SimulatedProcess, limitPages?: bigint) =>
    resultOf(IoPagetable.changeProcess(world, [table], payer(process, limitPages)))

  const charges = { user: 'user', mm: 'mm' } as const

  it.each(Object.values(charges))('moves what is charged in mode %s', (mode) => {
    addDomain(1)
    const parent = SimulatedProcess.create(world.host, { uid: 5 })
    const child = SimulatedProcess.create(world.host, { uid: 6 })
    const file = world.host.createFile(0x4000)
    const charge = { mm: parent.memory.key, uid: 5, mode, limitPages: 4n }
    world.mapFile(table, file, 0n, 0x3000n, 0n, charge)
    const before = [table.snapshot(), world.accounts.snapshot()]
    expect(change(child, 2n)).toBe('ENOMEM')
    expect([table.snapshot(), world.accounts.snapshot()]).toEqual(before)
    expect(change(child)).toBeUndefined()
    const count = (process: SimulatedProcess) => [
      world.accounts.pinned(process.memory.key),
      world.accounts.locked(process.memory.key),
      world.accounts.lockedByUser(process.uid),
    ]
    expect(count(parent)).toEqual([0, 0, 0])
    expect(count(child)).toEqual(mode === 'mm' ? [3, 3, 0] : [3, 0, 3])
    table.unmapAll(world)
    expect(world.accounts.snapshot()).toEqual(nothing)
  })

  it('counts a mapping once, in whichever IOAS its copies are', () => {
    const other = IoPagetable.create()
    addDomain(1)
    const child = SimulatedProcess.create(world.host)
    const charge = { mm: world.process.memory.key, uid: 0, mode: 'mm', limitPages: 4n } as const
    world.mapFile(table, world.host.createFile(0x4000), 0n, 0x3000n, 0n, charge)
    table.copyTo(world, other, { from: 0n, length: 0x3000n, to: 0n, readable: true, writeable: true })
    expect(resultOf(IoPagetable.changeProcess(world, [table, other], payer(child, 3n)))).toBeUndefined()
    expect(world.accounts.pinned(child.memory.key)).toBe(3)
  })

  it('is refused where memory is not of a file', () => {
    world.mapFile(table, world.host.createFile(0x4000), 0n, 0x3000n, 0n)
    world.map(table, world.buffer, 0x1000n, 0x10000n)
    expect(change(SimulatedProcess.create(world.host))).toBe('EINVAL')
  })

  it('leaves what was mapped with CAP_IPC_LOCK where it is charged', () => {
    addDomain(1)
    world.mapFile(table, world.host.createFile(0x4000), 0n, 0x3000n, 0n)
    expect(change(SimulatedProcess.create(world.host))).toBeUndefined()
    expect(world.accounts.pinned(world.process.memory.key)).toBe(3)
  })
})
