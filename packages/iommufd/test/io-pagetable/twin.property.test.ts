/** Any sequence of calls has the same answers as with lists that are searched from end to end. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { IoPagetable } from '../../src/io-pagetable/io-pagetable.js'
import { NaiveTable } from './naive-table.js'
import { World, last64, resultOf } from './world.js'

const unit = 0x400n

/** Lengths and addresses of a small world, most of them multiples of 2 KiB. */
const length = fc.oneof(
  fc.bigInt(1n, 8n).map((n) => n * 0x800n),
  fc.bigInt(1n, 20n).map((n) => n * unit),
  fc.bigInt(1n, 0x5000n),
)
const iova = fc.oneof(
  fc.bigInt(0n, 40n).map((n) => n * 0x800n),
  fc.bigInt(0n, 80n).map((n) => n * unit),
  fc.bigInt(0n, 30n).map((n) => last64 + 1n - (n + 1n) * 0x800n),
)
const range = fc.tuple(iova, length).map(([first, size]) => {
  const last = first + size - 1n
  return { first, last: last > last64 ? last64 : last }
})
const rights = fc.constantFrom(
  { readable: true, writeable: true },
  { readable: true, writeable: false },
  { readable: false, writeable: true },
)
const owner = fc.integer({ min: 1, max: 3 })
const apertures = [
  { first: 0n, last: last64 },
  { first: 0x1000n, last: 0x1ffffn },
  { first: 0x4000n, last: last64 - 0x1000n },
]

/** `undefined`: one is chosen. */
const place = fc.oneof(fc.constant(undefined), iova)
const nth = fc.nat(5)

const action = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      call: fc.constant('map'),
      offset: fc.bigInt(0n, 40n),
      length,
      iova: place,
      rights,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      ...{ call: fc.constant('copy'), nth, skip: fc.bigInt(0n, 4n), length, iova: place, rights },
    }),
  },
  { weight: 1, arbitrary: fc.record({ call: fc.constant('unmap'), first: iova, length }) },
  { weight: 2, arbitrary: fc.record({ call: fc.constant('unmapAreas'), nth, count: nth, cut: fc.nat(9) }) },
  {
    weight: 1,
    arbitrary: fc.record({ call: fc.constant('allow'), ranges: fc.array(range, { maxLength: 2 }) }),
  },
  { weight: 1, arbitrary: fc.record({ call: fc.constant('reserve'), owner, range }) },
  { weight: 1, arbitrary: fc.record({ call: fc.constant('release'), owner }) },
  {
    weight: 1,
    arbitrary: fc.record({
      call: fc.constant('addDomain'),
      owner,
      aperture: fc.constantFrom(...apertures),
      smallest: fc.constantFrom(1n, 0x800n, 0x1000n),
    }),
  },
  { weight: 1, arbitrary: fc.record({ call: fc.constant('removeDomain'), owner }) },
  { weight: 1, arbitrary: fc.record({ call: fc.constant('setHugePages'), isOn: fc.boolean() }) },
) as fc.Arbitrary<Action>

interface Rights {
  readonly readable: boolean
  readonly writeable: boolean
}

interface Range {
  readonly first: bigint
  readonly last: bigint
}

type Action =
  | { call: 'map'; offset: bigint; length: bigint; iova: bigint | undefined; rights: Rights }
  | { call: 'copy'; nth: number; skip: bigint; length: bigint; iova: bigint | undefined; rights: Rights }
  | { call: 'unmap'; first: bigint; length: bigint }
  | { call: 'unmapAreas'; nth: number; count: number; cut: number }
  | { call: 'allow'; ranges: Range[] }
  | { call: 'reserve'; owner: number; range: Range }
  | { call: 'release'; owner: number }
  | { call: 'addDomain'; owner: number; aperture: Range; smallest: bigint }
  | { call: 'removeDomain'; owner: number }
  | { call: 'setHugePages'; isOn: boolean }

/** Does the same to both; the two answers. */
function run(
  world: World,
  table: IoPagetable,
  naive: NaiveTable,
  action: Action,
): readonly [unknown, unknown] {
  switch (action.call) {
    case 'map': {
      const address = world.buffer + action.offset * unit
      const { iova: to } = action
      const memory = { address, writeable: action.rights.writeable }
      return [
        world.map(table, address, action.length, to, action.rights),
        naive.map({ memory, address, ...action.rights }, action.length, to),
      ]
    }
    case 'copy': {
      const { length: size, rights: right, iova: to } = action
      const from = (naive.areas[action.nth % (naive.areas.length + 1)]?.first ?? 0n) + action.skip * unit
      if (from + size - 1n > last64) return [undefined, undefined]
      return [
        resultOf(table.copyTo(world, table, { from, length: size, to, ...right })),
        naive.copy(from, size, right, to),
      ]
    }
    case 'unmap':
      if (action.first + action.length - 1n > last64) return [undefined, undefined]
      return [world.unmap(table, action.first, action.length), naive.unmap(action.first, action.length)]
    case 'unmapAreas': {
      // From the nth area on, so many: whole ones, but that the last is cut in one case of ten.
      const at = action.nth % (naive.areas.length + 1)
      const [first, last] = [naive.areas[at], naive.areas[at + action.count] ?? naive.areas.at(-1)]
      if (first === undefined || last === undefined) return [undefined, undefined]
      const size = last.last - first.first + (action.cut === 0 ? 0n : 1n)
      if (size === 0n) return [undefined, undefined]
      return [world.unmap(table, first.first, size), naive.unmap(first.first, size)]
    }
    case 'allow':
      return [
        resultOf(table.allow(action.ranges.map(({ first, last }) => ({ start: first, last })))),
        naive.allow(action.ranges),
      ]
    case 'reserve':
      return [resultOf(table.reserve(action.owner, action.range)), naive.reserve(action.owner, action.range)]
    case 'release':
      table.releaseReserved(action.owner)
      naive.release(action.owner)
      return [undefined, undefined]
    case 'addDomain': {
      const { owner: number, aperture, smallest } = action
      if (naive.domains.has(number)) return [undefined, undefined]
      const domain = world.fake.domain(number, aperture, smallest)
      return [resultOf(table.addDomain(world, domain, number)), naive.addDomain(number, aperture, smallest)]
    }
    case 'removeDomain':
      if (!naive.domains.has(action.owner)) return [undefined, undefined]
      naive.removeDomain(action.owner)
      return [resultOf(table.removeDomain(world, action.owner, action.owner)), undefined]
    case 'setHugePages':
      return [resultOf(table.setHugePages(action.isOn)), naive.setHugePages(action.isOn)]
  }
}

/** Every domain translates every area, page by page, and nothing else. */
function expectMapped(world: World, naive: NaiveTable): void {
  for (const number of naive.domains.keys()) {
    const bytes = world.fake.mapped.get(number)?.reduce((sum, { length: size }) => sum + size, 0n)
    expect(bytes).toBe(naive.areas.reduce((sum, { first, last }) => sum + last - first + 1n, 0n))
    for (const { first, last, address } of naive.areas) {
      expect(world.fake.translate(number, first)).toBe(world.physical(address))
      expect(world.fake.translate(number, last)).toBe(world.physical(address + last - first))
    }
  }
}

it('answers, areas, holes, pins and mappings are those of the slow twin', () => {
  fc.assert(
    fc.property(fc.array(action, { minLength: 1, maxLength: 40, size: 'max' }), (actions) => {
      const world = new World()
      const naive = new NaiveTable()
      let table = IoPagetable.create()
      for (const each of actions) {
        const [answer, expected] = run(world, table, naive, each)
        expect(answer).toEqual(expected)
        expect(table.areas).toEqual(
          naive.areas.map(({ first, last, readable, writeable }) => ({
            ...{ iova: first, length: last - first + 1n, readable, writeable },
          })),
        )
        expect(table.ranges()).toEqual(naive.ranges())
        expect(table.alignment).toBe(naive.alignment)
        expect(world.host.pinned).toBe(naive.pinned)
        expect(world.accounts.pinned(world.process.memory.key)).toBe(naive.pinned)
        expectMapped(world, naive)
        const before = table.snapshot()
        table = forkOf(table)
        expect(table.snapshot()).toEqual(before)
      }
      table.unmapAll(world)
      expect(world.host.pinned).toBe(0)
      expect(world.accounts.snapshot()).toEqual([[], [], []])
    }),
    { numRuns: 200 },
  )
})

/** A fork that has the same memory: the fork goes on, and the first is dropped. */
function forkOf(table: IoPagetable): IoPagetable {
  const memo = new Map<object, object>()
  for (const pages of table.pinnedPages()) memo.set(pages.source, pages.source)
  return table.fork(memo)
}
