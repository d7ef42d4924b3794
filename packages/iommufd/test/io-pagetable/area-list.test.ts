/** The list of areas, with more of them than fit into one piece. */
import { expect, it } from 'vitest'
import { AreaList } from '../../src/io-pagetable/area-list.js'
import { createArea } from '../../src/io-pagetable/area.js'
import type { Area } from '../../src/io-pagetable/area.js'
import { DmabufPages, Dmabuf } from '../../src/io-pagetable/dmabuf.js'
import { last64 } from './world.js'

const memory = DmabufPages.create(Dmabuf.create([{ first: 0n, pages: 1 }]), true)
const rights = { readable: true, writeable: true }
const area = (first: bigint, length: bigint): Area =>
  createArea({ memory, firstPage: 0, offset: 0, length }, first, rights)

/** Numbers that look random, the same each time. */
function* numbers(seed: number): Generator<number, never> {
  for (let state = seed; ;) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    yield state >>> 8
  }
}

/** Lowest place for so many bytes, by looking at every area. */
function lowest(areas: readonly Area[], first: bigint, last: bigint, length: bigint): bigint | undefined {
  let start = first
  for (const each of areas) {
    if (each.last < start) continue
    if (each.first > last) break
    if (each.first - start >= length) return start
    start = each.last + 1n
  }
  return last - start + 1n >= length ? start : undefined
}

it('finds, adds, removes and finds room as a sorted array does', () => {
  const random = numbers(1)
  const next = (below: number): number => random.next().value % below
  const list = AreaList.create()
  let all: Area[] = []
  let most = 0
  for (let step = 0; step < 12_000; step++) {
    const isGrowing = Math.floor(step / 3000) % 2 === 0
    if (next(100) < (isGrowing ? 85 : 15)) {
      const one = area(BigInt(next(6000)) * 16n, BigInt(1 + next(2)) * 8n)
      const isTaken = all.some((other) => other.first <= one.last && one.first <= other.last)
      expect(list.meets(one.first, one.last)).toBe(isTaken)
      if (!isTaken) {
        list.add(one)
        all.push(one)
        all.sort((a, b) => (a.first < b.first ? -1 : 1))
      }
    } else if (all.length > 0) {
      const one = all[next(all.length)]!
      list.remove(one)
      all = all.filter((other) => other !== one)
    }
    most = Math.max(most, all.length)
    if (step % 10 !== 0) continue
    const from = BigInt(next(6000)) * 16n
    const to = from + BigInt(next(40_000))
    expect(list.at(from)).toBe(all.find((other) => other.first <= from && from <= other.last))
    const length = BigInt(1 + next(step % 100 === 0 ? 400 : 60))
    const found = list.findHole(from, to, length, (first) => first)
    expect(found).toBe(lowest(all, from, to, length))
    if (step % 500 === 0) {
      expect([...list]).toEqual(all)
      expect(list.size).toBe(all.length)
      const inside = all.filter((other) => other.first <= to && from <= other.last)
      expect(list.in(from, to)).toEqual(inside)
    }
  }
  expect(most).toBeGreaterThan(1200)
})

it('finds room at both ends of all addresses', () => {
  const list = AreaList.create()
  expect(list.findHole(0n, last64, last64 + 1n, (first) => first)).toBe(0n)
  const middle = area(16n, last64 - 31n)
  list.add(middle)
  expect(list.findHole(0n, last64, 16n, (first) => first)).toBe(0n)
  expect(list.findHole(8n, last64, 16n, (first) => first)).toBe(last64 - 15n)
  expect(list.findHole(0n, last64, 17n, (first) => first)).toBeUndefined()
  list.add(area(last64 - 15n, 16n))
  expect(list.findHole(8n, last64, 9n, (first) => first)).toBeUndefined()
  list.remove(middle)
  expect(list.findHole(0n, last64, 17n, (first) => first)).toBe(0n)
})

it('finds each hole that opens among areas without any', () => {
  const list = AreaList.create()
  const all = Array.from({ length: 2000 }, (_, i) => area(BigInt(i) * 16n, 16n))
  const find = () => list.findHole(0n, last64, 16n, (first) => first)
  for (const each of all) {
    expect(find()).toBe(each.first)
    list.add(each)
  }
  const random = numbers(2)
  for (let round = 0; round < 300; round++) {
    const gone = new Set(Array.from({ length: 3 }, () => all[random.next().value % all.length]!))
    const sorted = [...gone].sort((a, b) => (a.first < b.first ? -1 : 1))
    for (const each of gone) list.remove(each)
    for (const each of sorted) {
      expect(find()).toBe(each.first)
      list.add(each)
    }
    expect(find()).toBe(2000n * 16n)
  }
  for (const each of all) list.remove(each)
  expect(list.size).toBe(0)
  expect(find()).toBe(0n)
})
