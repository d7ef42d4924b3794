/** Simulated processes: memory that can be pinned, files, and life after the process. */
import { beforeEach, describe, expect, it } from 'vitest'
import { SimulatedHost, SimulatedProcess } from '../src/simulated-process.js'

let host: SimulatedHost
let process: SimulatedProcess

beforeEach(() => {
  host = SimulatedHost.create()
  process = SimulatedProcess.create(host)
})

const read = (
  source: { read(offset: number, into: Uint8Array): boolean },
  offset: number,
  length: number,
) => {
  const bytes = new Uint8Array(length)
  return source.read(offset, bytes) ? [...bytes] : 'EFAULT'
}

describe('memory', () => {
  it('is contiguous within one mapping, and by 2 MiB where pages are huge', () => {
    const address = process.memory.map(0x40_0000, { huge: true })
    const at = process.memory.lookUp(address)
    expect(at?.isHugePage).toBe(true)
    expect((address - (at?.physical ?? 0n)) % 0x20_0000n).toBe(0n)
    expect(process.memory.source(address, 1024).pin(0, 1024, true)).toEqual([
      { first: at?.physical, pages: 1024 },
    ])
    expect(process.memory.lookUp(address + 0x40_0000n)).toBeUndefined()
  })

  it('has pages of its own for each mapping of each process', () => {
    const other = SimulatedProcess.create(host)
    const places = [process, process, other].map(({ memory }) => memory.lookUp(memory.map(0x1000))?.physical)
    expect(new Set(places).size).toBe(3)
    expect(process.memory.key).not.toBe(other.memory.key)
  })

  it('is read and written across pages, where it is', () => {
    const address = process.memory.map(Uint8Array.from({ length: 0x1010 }, (_, i) => i))
    const bytes = new Uint8Array(4)
    expect(process.memory.read(address + 0xffen, bytes)).toBe(true)
    expect([...bytes]).toEqual([0xfe, 0xff, 0, 1])
    expect(process.memory.write(address + 0xfffn, Uint8Array.of(9, 8))).toBe(true)
    process.memory.read(address + 0xffen, bytes)
    expect([...bytes]).toEqual([0xfe, 9, 8, 1])
    expect(process.memory.read(address + 0x1ffen, bytes)).toBe(false)
    process.memory.unmap(address, 1)
    expect(process.memory.read(address, bytes)).toBe(false)
    expect(process.memory.read(address + 0x1000n, bytes)).toBe(true)
  })

  it('cannot be written or pinned for that where it is read only', () => {
    const address = process.memory.map(Uint8Array.of(1), { writeable: false })
    const source = process.memory.source(address, 1)
    expect(process.memory.write(address, Uint8Array.of(2))).toBe(false)
    expect(source.pin(0, 1, true)).toBe('EFAULT')
    expect(source.pin(0, 1, false)).toHaveLength(1)
  })
})

describe('pins', () => {
  it('are counted for each page', () => {
    const address = process.memory.map(0x4000)
    const physical = process.memory.lookUp(address)?.physical ?? 0n
    const source = process.memory.source(address, 4)
    source.pin(0, 4, true)
    source.unpin(1, 2)
    expect([0n, 1n, 2n, 3n].map((page) => host.pinsAt(physical + page * 4096n))).toEqual([1, 0, 0, 1])
    expect(host.pinned).toBe(2)
    expect(() => source.unpin(0, 2)).toThrow(RangeError)
    expect(() => source.pin(3, 2, true)).toThrow(RangeError)
  })

  it('are all or none', () => {
    const address = process.memory.map(0x2000)
    expect(process.memory.source(address, 3).pin(0, 3, true)).toBe('EFAULT')
    expect(host.pinned).toBe(0)
  })

  it('keep pages when their process has gone, and no others', () => {
    const address = process.memory.map(Uint8Array.from({ length: 0x2000 }, (_, i) => i >> 8))
    const source = process.memory.source(address, 2)
    source.pin(1, 1, true)
    process.kill()
    expect(read(source, 0x1fff, 1)).toEqual([0x1f])
    expect(source.write(0x1fff, Uint8Array.of(7))).toBe(true)
    expect(read(source, 0x1ffe, 2)).toEqual([0x1f, 7])
    expect(read(source, 0xfff, 2)).toBe('EFAULT')
    source.unpin(1, 1)
    expect(read(source, 0x1fff, 1)).toBe('EFAULT')
    expect(source.pin(1, 1, true)).toBe('EFAULT')
  })
})

describe('files', () => {
  it('are the same pages for all who map or pin them', () => {
    const file = host.createFile(0x3000)
    const other = SimulatedProcess.create(host)
    const address = process.memory.mapFile(file, 2, { firstPage: 1 })
    const elsewhere = other.memory.mapFile(file, 3)
    process.memory.write(address, Uint8Array.of(5))
    expect(other.memory.lookUp(elsewhere + 0x1000n)).toEqual(process.memory.lookUp(address))
    expect(read(file.source(0x1000n, 1), 0, 1)).toEqual([5])
  })

  it('end where they end', () => {
    const file = host.createFile(0x2800)
    expect(file.source(0n, 4).pin(0, 4, true)).toBe('EINVAL')
    expect(file.source(0n, 3).pin(0, 3, true)).toHaveLength(1)
    file.truncate(0x1000)
    expect(file.source(0x1000n, 1).pin(0, 1, true)).toBe('EINVAL')
    expect(() => file.truncate(0x3001)).toThrow(RangeError)
  })

  it('are opened at the lowest free descriptor', () => {
    const file = host.createFile(1)
    expect([process.open(file), process.open(file), process.open(file)]).toEqual([3, 4, 5])
    process.close(4)
    expect(process.file(4)).toBeUndefined()
    expect(process.open(file)).toBe(4)
    expect(process.file(4)).toBe(file)
    process.kill()
    expect(process.file(3)).toBeUndefined()
  })
})

it('a fork has memory, pins and files to itself', () => {
  const address = process.memory.map(Uint8Array.of(1, 2, 3))
  const source = process.memory.source(address, 1)
  source.pin(0, 1, true)
  const memo = new Map<object, object>()
  const forkedHost = host.fork(memo)
  const forked = process.fork(memo)
  const forkedSource = source.fork?.(memo)
  forked.memory.write(address, Uint8Array.of(9))
  process.memory.write(address + 1n, Uint8Array.of(8))
  expect(read(source, 0, 3)).toEqual([1, 8, 3])
  expect(forkedSource && read(forkedSource, 0, 3)).toEqual([9, 2, 3])
  forkedSource?.unpin(0, 1)
  expect([host.pinned, forkedHost.pinned]).toEqual([1, 0])
  expect(forked.memory.key).toBe(process.memory.key)
})
