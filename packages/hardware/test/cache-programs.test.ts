/** Caches of every shape against plain lists: random programs of fills, lookups, invalidations, forks and evictions. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createIotlb, withoutPasid } from '../src/cache/iotlb.js'
import type { CacheGeometry, CacheOptions, Iotlb } from '../src/cache/iotlb.js'
import { entriesOf } from '../src/iotlb-entries.js'
import { Words } from '../src/memory/words.js'
import { CacheModel, hasTag, meet, pageOf } from './cache-model.js'
import type { Block, ModelEntry, Tag } from './cache-model.js'
import { runs } from './runs.js'

interface Machine {
  readonly words: Words
  readonly cache: Iotlb
  readonly model: CacheModel
}

interface Common extends Tag {
  readonly who: number
  readonly address: bigint
  readonly sizeLog2: number
}
interface Fill extends Common {
  readonly what: 'fill' | 'fillTable'
  readonly frame: bigint
  readonly rights: number
  readonly level: number
  readonly flags: number
  readonly gpas: readonly bigint[]
}
interface Invalidation extends Common {
  readonly what: 'invalidate'
  readonly reach: 'all' | 'domain' | 'guest' | 'pasid' | 'range' | 'remembered'
}
interface Eviction extends Common {
  readonly what: 'evict'
  readonly n: number
}
type Step = Fill | Invalidation | Eviction | (Common & { readonly what: 'lookup' | 'fork' })

/** Mostly the same few tags and pages, so that programs meet what they filled; and the edges of every field. */
const pages = fc
  .tuple(
    fc.oneof(fc.nat(6), fc.nat(40)),
    fc.oneof(
      { weight: 3, arbitrary: fc.constant(0n) },
      fc.constantFrom(1n << 31n, 1n << 32n, 0xffffn << 28n, 1n << 44n, 1n << 63n),
    ),
  )
  .map(([page, high]) => BigInt(page << 12) + high)
const address = fc.tuple(pages, fc.nat(4095)).map(([page, offset]) => page + BigInt(offset))
const common = {
  who: fc.nat(3),
  domainId: fc.oneof(fc.constant(1), fc.constantFrom(0, 1, 2, 64, 0xffff)),
  pasid: fc.oneof(fc.constantFrom(undefined, 1), fc.constantFrom(undefined, 0, 1, 0x1000, 0xfffff)),
  address,
  sizeLog2: fc.oneof(fc.constantFrom(12, 12, 13, 14, 21, 30), fc.integer({ min: 12, max: 63 })),
}
const gpas = fc.array(
  fc
    .tuple(fc.nat(30), fc.constantFrom(0n, 0n, 1n << 32n, 1n << 51n))
    .map(([n, high]) => BigInt(n << 12) + high),
  { maxLength: 9 },
)
const wide = ['all', 'domain', 'guest'] as const
const narrow = ['range', 'range', 'range', 'pasid', 'remembered'] as const
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      ...common,
      what: fc.constantFrom('fill' as const, 'fillTable' as const),
      frame: fc.bigInt({ min: 0n, max: (1n << 52n) - 1n }),
      rights: fc.integer({ min: -2048, max: 2047 }).map((bits) => bits << 20),
      level: fc.nat(7),
      flags: fc.nat(511),
      gpas,
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({ ...common, what: fc.constantFrom('lookup', 'lookup', 'fork') }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      ...common,
      what: fc.constant('invalidate' as const),
      reach: fc.constantFrom(...wide, ...narrow, ...narrow),
      sizeLog2: fc.integer({ min: 12, max: 64 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ ...common, what: fc.constant('evict' as const), n: fc.nat(9) }) },
)

const split = (value: bigint): [number, number] => [
  Number(BigInt.asIntN(32, value)),
  Number(BigInt.asIntN(32, value >> 32n)),
]

/** The entry that a fill makes, as a list holds it. */
function entryOf(each: Fill, options: CacheOptions): ModelEntry {
  const { domainId, pasid, sizeLog2, rights } = each
  const isTable = each.what === 'fillTable'
  const firstSize = isTable ? 12 : sizeLog2
  const blocks = each.gpas.map((gpa, n): Block => {
    const size = n === 0 ? firstSize : 12
    return { address: pageOf(gpa, size), sizeLog2: size }
  })
  return {
    domainId,
    pasid,
    page: pageOf(each.address, sizeLog2),
    sizeLog2,
    frame: pageOf(each.frame, isTable ? 12 : sizeLog2),
    rights,
    filler: each.who,
    level: isTable ? each.level : 0,
    flags: isTable ? each.flags : 0,
    gpas: options.remembersGpas === true ? blocks : [],
  }
}

function performFill({ cache, model }: Machine, each: Fill, options: CacheOptions): void {
  const { domainId, sizeLog2, rights, who } = each
  const record = cache.domainRecord(domainId)
  const pasid = each.pasid ?? withoutPasid
  const gpaWords = new Int32Array(each.gpas.flatMap((gpa) => split(gpa)))
  const count = each.gpas.length
  const address = split(each.address)
  const frame = split(each.frame)
  if (each.what === 'fill') {
    cache.fill(record, domainId, pasid, ...address, sizeLog2, ...frame, rights, who, gpaWords, count)
  } else {
    const { level, flags } = each
    const more = [level, flags, gpaWords, count] as const
    cache.fillTable(record, domainId, pasid, ...address, sizeLog2, ...frame, rights, who, ...more)
  }
  model.fill(entryOf(each, options))
}

type Condition = (entry: ModelEntry) => boolean

/** Carries out an invalidation in the cache, and says what it reaches. */
function invalidate(cache: Iotlb, each: Invalidation, options: CacheOptions): Condition {
  const { domainId, reach, sizeLog2 } = each
  const pasid = each.pasid ?? withoutPasid
  const isOfDomain: Condition = (entry) => entry.domainId === domainId
  const isGuest: Condition = (entry) => isOfDomain(entry) && entry.pasid !== undefined
  switch (reach) {
    case 'all':
      cache.invalidateAll()
      return () => true
    case 'domain':
      cache.invalidateDomain(domainId)
      return isOfDomain
    case 'guest':
      cache.invalidateGuest(domainId)
      return isGuest
    case 'pasid':
      cache.invalidatePasid(domainId, pasid)
      return (entry) => hasTag(entry, each)
    case 'range':
      cache.invalidateRange(domainId, pasid, ...split(each.address), sizeLog2)
      return (entry) => hasTag(entry, each) && meet({ address: entry.page, sizeLog2: entry.sizeLog2 }, each)
    case 'remembered':
      cache.invalidateRemembered(domainId, ...split(each.address), sizeLog2)
      if (options.remembersGpas !== true) return isGuest
      return (entry) => isGuest(entry) && entry.gpas.some((block) => meet(block, each))
  }
}

function performEviction(machine: Machine, { n }: Eviction): void {
  const listed = listing(machine)
  const victim = listed[n]
  expect(machine.cache.evict(n)).toBe(victim !== undefined)
  if (victim !== undefined) machine.model.drop((entry) => show(entry) === victim)
}

function performLookup({ cache, model }: Machine, each: Common): void {
  const { domainId } = each
  const record = cache.domainRecord(domainId)
  const isHit = cache.lookup(record, domainId, each.pasid ?? withoutPasid, ...split(each.address))
  const expected = model.lookup(each, each.address)
  expect(isHit).toBe(expected !== undefined)
  if (expected === undefined) return
  const found = {
    domainId: cache.domainId,
    pasid: cache.pasid === withoutPasid ? undefined : cache.pasid,
    page: join(cache.pageLo, cache.pageHi) << 12n,
    sizeLog2: cache.sizeLog2,
    frame: join(cache.frameLo, cache.frameHi),
    rights: cache.rights,
    filler: cache.filler,
    level: cache.level,
    flags: cache.flags,
  }
  expect(show(found)).toBe(show(expected))
}

const join = (lo: number, hi: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0)

function perform(machines: Machine[], each: Step, options: CacheOptions, seen: Seen): void {
  const machine = machines[each.who % machines.length]!
  machine.words.activate()
  if (each.what === 'fill' || each.what === 'fillTable') performFill(machine, each, options)
  else if (each.what === 'invalidate') machine.model.drop(invalidate(machine.cache, each, options))
  else if (each.what === 'evict') performEviction(machine, each)
  else if (each.what === 'lookup') performLookup(machine, each)
  else if (machines.length < 4) {
    const words = machine.words.fork()
    machines.push({ words, cache: machine.cache.forkOnto(words), model: machine.model.fork() })
  }
  expectState(machine, seen)
}

/** The fingerprints of the states met so far, and the states of the fingerprints. */
interface Seen {
  readonly fingerprints: Map<string, string>
  readonly states: Map<string, string>
}

function expectState({ words, cache, model }: Machine, { fingerprints, states }: Seen): void {
  words.activate()
  expect(cache.liveCount()).toBe(model.entries.length)
  const fingerprint = words.fingerprint().join()
  const state = model.state()
  expect(fingerprints.get(state) ?? fingerprint).toBe(fingerprint)
  expect(states.get(fingerprint) ?? state).toBe(state)
  fingerprints.set(state, fingerprint)
  states.set(fingerprint, state)
}

const show = (entry: Omit<ModelEntry, 'gpas'>): string => {
  const { domainId, pasid, page, sizeLog2, frame, rights, filler, level, flags } = entry
  return [domainId, pasid, page, sizeLog2, frame, rights, filler, level, flags].join()
}

function listing({ words, cache }: Machine): string[] {
  words.activate()
  return entriesOf(cache).map(show)
}

const hashed: CacheGeometry = { kind: 'hashed' }
const shapes: [string, CacheGeometry, CacheOptions][] = [
  ['hashed', hashed, {}],
  ['hashed, remembering GPAs', hashed, { remembersGpas: true }],
  ['hashed, short of stamps', hashed, { stampLimit: 3 }],
  [
    'hashed, short of room and stamps',
    { kind: 'hashed', capacityLog2: 6 },
    { stampLimit: 4, remembersGpas: true },
  ],
]
for (const replacement of ['lru', 'fifo', 'random'] as const) {
  for (const [setsLog2, ways] of [
    [0, 4],
    [2, 1],
    [2, 3],
    [3, 16],
  ] as const) {
    const geometry = { kind: 'set-associative', setsLog2, ways, replacement } as const
    shapes.push([`2^${setsLog2} sets of ${ways}, ${replacement}`, geometry, {}])
    if (ways === 3) shapes.push([`the same, remembering GPAs`, geometry, { remembersGpas: true }])
  }
}

describe.each(shapes)('a cache: %s', (_, geometry, options) => {
  const newMachine = (): Machine => {
    const words = Words.create()
    words.allocate(5)
    return { words, cache: createIotlb(words, geometry, options), model: CacheModel.create(geometry) }
  }

  it('holds and answers what plain lists would; equal states, and only they, have equal fingerprints', () => {
    const seen = { fingerprints: new Map<string, string>(), states: new Map<string, string>() }
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300, size: 'max' }), (steps) => {
        const machines = [newMachine()]
        for (const each of steps) perform(machines, each, options, seen)
        for (const machine of machines) {
          const listed = listing(machine)
          const expected = machine.model.entries.map(show)
          if (geometry.kind === 'hashed') expect(listed.sort()).toEqual(expected.sort())
          else expect(listed).toEqual(expected)
        }
      }),
      { numRuns: runs(60) },
    )
  })
})
