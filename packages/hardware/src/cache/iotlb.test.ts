import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { entriesOf } from '../iotlb-entries.js'
import type { IotlbEntry } from '../iotlb-entries.js'
import { Words } from '../memory/words.js'
import { runs } from '../../test/runs.js'
import { Iotlb, withoutPasid } from './iotlb.js'

/** A cache in words of its own, with the naive list that it must agree with. */
interface Machine {
  readonly words: Words
  readonly iotlb: Iotlb
  entries: IotlbEntry[]
}

function newMachine(capacityLog2?: number, stampLimit?: number): Machine {
  const words = Words.create()
  words.allocate(1)
  return { words, iotlb: Iotlb.create(words, capacityLog2, stampLimit), entries: [] }
}

function forkOf({ words, iotlb, entries }: Machine): Machine {
  const fork = words.fork()
  return { words: fork, iotlb: iotlb.forkOnto(fork), entries: [...entries] }
}

interface Tag {
  readonly domainId: number
  readonly pasid: number
}
type Step = { readonly who: number } & Tag & { readonly address: bigint } & (
    | { readonly what: 'fill'; readonly sizeLog2: number; readonly spa: bigint; readonly rights: number }
    | { readonly what: 'lookup' | 'fork' }
    | {
        readonly what: 'invalidate'
        readonly reach: 'all' | 'domain' | 'guest' | 'range'
        readonly sizeLog2: number
      }
  )

const pages = fc
  .tuple(fc.nat(40), fc.constantFrom(0n, 0n, 0n, 1n << 31n, 1n << 32n, 0xffffn << 28n, 1n << 44n, 1n << 63n))
  .map(([page, high]) => BigInt(page << 12) + high)
const address = fc.tuple(pages, fc.nat(4095)).map(([page, offset]) => page + BigInt(offset))
const common = {
  who: fc.nat(3),
  domainId: fc.constantFrom(0, 1, 2, 64, 0xffff),
  pasid: fc.constantFrom(withoutPasid, 0, 1, 0x1000, 0xfffff),
  address,
}
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      ...common,
      what: fc.constant('fill' as const),
      sizeLog2: fc.constantFrom(12, 12, 12, 13, 14, 16, 21, 30, 43, 44, 45, 51),
      spa: fc.bigInt({ min: 0n, max: (1n << 52n) - 1n }),
      rights: fc.nat(15).map((bits) => bits << 27),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ ...common, what: fc.constantFrom('lookup' as const, 'fork' as const) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      ...common,
      what: fc.constant('invalidate' as const),
      reach: fc.constantFrom('range', 'range', 'range', 'domain', 'guest', 'all'),
      sizeLog2: fc.integer({ min: 12, max: 64 }),
    }),
  },
)

const split = (value: bigint): [number, number] => [
  Number(BigInt.asIntN(32, value)),
  Number(BigInt.asIntN(32, value >> 32n)),
]
const pageOf = (value: bigint, sizeLog2: number): bigint => (value >> BigInt(sizeLog2)) << BigInt(sizeLog2)
const named = (pasid: number): number | undefined => (pasid === withoutPasid ? undefined : pasid)
const hasTag = (entry: IotlbEntry, { domainId, pasid }: Tag): boolean =>
  entry.domainId === domainId && entry.pasid === named(pasid)

/** Whether two naturally aligned blocks have an address in common. */
function meet(entry: IotlbEntry, at: bigint, sizeLog2: number): boolean {
  const wider = Math.max(entry.sizeLog2, sizeLog2)
  return pageOf(entry.page, wider) === pageOf(at, wider)
}

function fill({ iotlb }: Machine, entry: IotlbEntry): void {
  const { domainId, pasid = withoutPasid, page, sizeLog2, frame, rights, filler } = entry
  const record = iotlb.domainRecord(domainId)
  iotlb.fill(record, domainId, pasid, ...split(page), sizeLog2, ...split(frame), rights, filler)
}

function performFill(machine: Machine, each: Step & { what: 'fill' }): void {
  const { domainId, pasid, sizeLog2, rights } = each
  const filler = each.who
  fill(machine, {
    domainId,
    pasid: named(pasid),
    page: each.address,
    sizeLog2,
    frame: each.spa,
    rights,
    filler,
    level: 0,
    flags: 0,
  })
  const page = pageOf(each.address, sizeLog2)
  machine.entries = machine.entries.filter(
    (entry) => !(hasTag(entry, each) && entry.page === page && entry.sizeLog2 === sizeLog2),
  )
  const frame = pageOf(each.spa, sizeLog2)
  machine.entries.push({
    domainId,
    pasid: named(pasid),
    page,
    sizeLog2,
    frame,
    rights,
    filler,
    level: 0,
    flags: 0,
  })
}

function performInvalidation(machine: Machine, each: Step & { what: 'invalidate' }): void {
  const { iotlb } = machine
  const { domainId, pasid, reach, sizeLog2 } = each
  const isReached = (entry: IotlbEntry): boolean => {
    if (reach === 'all') return true
    if (reach === 'domain') return entry.domainId === domainId
    if (reach === 'guest') return entry.domainId === domainId && entry.pasid !== undefined
    return hasTag(entry, each) && meet(entry, each.address, sizeLog2)
  }
  if (reach === 'all') iotlb.invalidateAll()
  else if (reach === 'domain') iotlb.invalidateDomain(domainId)
  else if (reach === 'guest') iotlb.invalidateGuest(domainId)
  else iotlb.invalidateRange(domainId, pasid, ...split(each.address), sizeLog2)
  machine.entries = machine.entries.filter((entry) => !isReached(entry))
}

/** What the cache says of an address: the entry, as far as a hit tells it. */
function hit({ iotlb }: Machine, { domainId, pasid, address: at }: Step): Partial<IotlbEntry> | undefined {
  if (!iotlb.lookup(iotlb.domainRecord(domainId), domainId, pasid, ...split(at))) return undefined
  const { sizeLog2, rights, filler } = iotlb
  const frame = (BigInt(iotlb.frameHi >>> 0) << 32n) | BigInt(iotlb.frameLo >>> 0)
  return { sizeLog2, rights, filler, frame }
}

/** What may answer, the smallest page first. */
function expectedHits(entries: readonly IotlbEntry[], each: Step): Partial<IotlbEntry>[] {
  return entries
    .filter((entry) => hasTag(entry, each) && meet(entry, each.address, 12))
    .sort((a, b) => a.sizeLog2 - b.sizeLog2)
    .map(({ sizeLog2, rights, filler, frame }) => ({ sizeLog2, rights, filler, frame }))
}

/** Carries out a step; `mayForget` is for caches that are small, or short of stamps. */
function perform(machines: Machine[], each: Step, mayForget: boolean): void {
  const machine = machines[each.who % machines.length]!
  machine.words.activate()
  if (each.what === 'fill') performFill(machine, each)
  else if (each.what === 'invalidate') performInvalidation(machine, each)
  else if (each.what === 'fork' && machines.length < 4) machines.push(forkOf(machine))
  else {
    const found = hit(machine, each)
    const expected = expectedHits(machine.entries, each)
    if (mayForget) expect([undefined, ...expected]).toContainEqual(found)
    else expect(found).toEqual(expected[0])
  }
}

const sorted = (entries: readonly IotlbEntry[]): string[] =>
  entries
    .map(({ domainId, pasid, page, sizeLog2, frame, rights, filler }) =>
      [domainId, pasid, page, sizeLog2, frame, rights, filler].join(),
    )
    .sort()

function live({ words, iotlb }: Machine): IotlbEntry[] {
  words.activate()
  return entriesOf(iotlb)
}

/** The fingerprint of a cache that was filled with just these, the last first. */
function fingerprintOf(entries: readonly IotlbEntry[]): readonly [number, number] {
  const machine = newMachine()
  machine.words.activate()
  for (const entry of [...entries].reverse()) fill(machine, entry)
  return machine.words.fingerprint()
}

const program = fc.array(step, { maxLength: 150 })

/** Far more than it takes: these run beside other tests. */
describe('the IOTLB', { timeout: 120_000 }, () => {
  it('finds what a plain list would find, whatever is filled, invalidated and forked', () => {
    fc.assert(
      fc.property(program, (steps) => {
        const machines = [newMachine()]
        for (const each of steps) perform(machines, each, false)
        for (const machine of machines) expect(sorted(live(machine))).toEqual(sorted(machine.entries))
      }),
      { numRuns: runs(400) },
    )
  })

  it('has the fingerprint of its live entries, in whatever order they came', () => {
    fc.assert(
      fc.property(program, (steps) => {
        const machines = [newMachine()]
        for (const each of steps) perform(machines, each, true)
        for (const { words, entries } of machines) expect(words.fingerprint()).toEqual(fingerprintOf(entries))
      }),
      { numRuns: runs(300) },
    )
  })

  it.each([
    ['short of stamps', 20, 4],
    ['short of room', 6, undefined],
    ['short of both', 6, 3],
  ] as const)('may forget when %s, but never holds what was invalidated', (_, capacity, stamps) => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 100, maxLength: 400 }), (steps) => {
        const machines = [newMachine(capacity, stamps)]
        for (const each of steps) perform(machines, each, true)
        for (const machine of machines) {
          const held = live(machine)
          expect(sorted(machine.entries)).toEqual(expect.arrayContaining(sorted(held)))
          expect(machine.words.fingerprint()).toEqual(fingerprintOf(held))
        }
      }),
      { numRuns: runs(60) },
    )
  })

  it('starts its stamps again when they are used up, and works on', () => {
    const machine = newMachine(20, 4)
    const entry = {
      domainId: 1,
      pasid: undefined,
      sizeLog2: 12,
      frame: 0x5000n,
      rights: 0,
      filler: 0,
      level: 0,
      flags: 0,
    }
    for (let round = 1n; round <= 20n; round++) {
      fill(machine, { ...entry, page: round << 12n })
      expect(live(machine)).toHaveLength(1)
      machine.iotlb.invalidateDomain(1)
      expect(live(machine)).toEqual([])
    }
    expect(machine.words.fingerprint()).toEqual(fingerprintOf([]))
  })

  it('grows with what it holds: a hundred thousand pages of three sizes', () => {
    const machine = newMachine()
    const sizes = [12, 21, 30] as const
    const filled = Array.from({ length: runs(100_000) }, (_, n): IotlbEntry => {
      const sizeLog2 = sizes[n % 3]!
      const page = BigInt(n) << BigInt(sizeLog2)
      return {
        domainId: n % 7,
        pasid: n % 2 ? n % 5 : undefined,
        page,
        sizeLog2,
        frame: page,
        rights: 0,
        filler: n & 0xffff,
        level: 0,
        flags: 0,
      }
    })
    for (const entry of filled) fill(machine, entry)
    expect(sorted(live(machine))).toEqual(sorted(filled))
    machine.iotlb.invalidateRange(3, withoutPasid, 0, 0, 64)
    expect(live(machine).length).toBe(
      filled.filter((one) => one.domainId !== 3 || one.pasid !== undefined).length,
    )
  })

  it('of 2^6 slots holds at most 48 translations: it is emptied when the next one comes', () => {
    const machine = newMachine(6)
    const counts = new Set<number>()
    for (let n = 0n; n < 1000n; n++) {
      const page = n << 12n
      fill(machine, {
        domainId: 1,
        pasid: 0,
        page,
        sizeLog2: 12,
        frame: page,
        rights: 0,
        filler: 0,
        level: 0,
        flags: 0,
      })
      counts.add(live(machine).length)
    }
    expect(Math.max(...counts)).toBe(48)
    expect(counts.has(1)).toBe(true)
  })

  it('uses slots again whose translations are dead', () => {
    const machine = newMachine()
    const before = machine.words.array.length
    for (let n = 0n; n < BigInt(runs(100_000)); n++) {
      const page = n << 12n
      fill(machine, {
        domainId: 1,
        pasid: 0,
        page,
        sizeLog2: 12,
        frame: page,
        rights: 0,
        filler: 0,
        level: 0,
        flags: 0,
      })
      if (n % 40n === 39n) machine.iotlb.invalidateDomain(1)
    }
    expect(machine.words.array.length).toBe(before)
  })

  it('keeps a range invalidation by probes and one by a sweep to the same result', () => {
    fc.assert(
      fc.property(
        fc.array(pages, { maxLength: 40 }),
        address,
        fc.integer({ min: 12, max: 19 }),
        (filled, at, size) => {
          const [few, many] = [newMachine(), newMachine()]
          for (const page of filled) {
            const entry = {
              domainId: 1,
              pasid: 3,
              page,
              sizeLog2: 12,
              frame: page & 0xfffffn,
              rights: 0,
              filler: 0,
              level: 0,
              flags: 0,
            }
            fill(few, entry)
            fill(many, entry)
          }
          // With more slots than pages in the range, every page is probed.
          for (let n = 0n; n < 300n; n++) {
            const page = n << 12n
            fill(many, {
              domainId: 2,
              pasid: 3,
              page,
              sizeLog2: 12,
              frame: page,
              rights: 0,
              filler: 0,
              level: 0,
              flags: 0,
            })
          }
          for (const { iotlb } of [few, many]) iotlb.invalidateRange(1, 3, ...split(at), size)
          const ofDomain = live(many).filter(({ domainId }) => domainId === 1)
          expect(sorted(ofDomain)).toEqual(sorted(live(few)))
        },
      ),
      { numRuns: runs(100) },
    )
  })

  it.each([5, 25, 6.5])('cannot have 2^%d slots', (capacity) => {
    expect(() => newMachine(capacity)).toThrow(RangeError)
  })
})
