/**
 * What the programs of the cached-answers property work on: three devices, two host tables, two GCR3 tables, three
 * guest tables, few pages, so that everything meets everything.
 */
import fc from 'fast-check'
import { place } from './chip.js'
import type { Chip, ChipOptions } from './chip.js'
import { guestEntryAt, guestPages, hostPages, mapHost, nestedChip, pagesFrom } from './tables.js'

export const worldDevices = [1, 2, 3] as const
export const worldDomains = [1, 2, 3, 4] as const

/** What a device's entry says. */
export interface Entry {
  readonly domainId: number
  /** Which host table, which GCR3 table. */
  readonly host: 0 | 1
  readonly gcr3: 0 | 1
  readonly isValid: boolean
  readonly isTranslating: boolean
  readonly hasHost: boolean
  readonly hasGuest: boolean
  readonly isGiov: boolean
  readonly read: boolean
  readonly write: boolean
}

export interface Ask {
  readonly deviceId: number
  readonly pasid: number | undefined
  readonly iova: bigint
  readonly write: boolean
  readonly supervisor: boolean
  readonly execute: boolean
}

export type Invalidation =
  | {
      readonly of: 'pages'
      readonly domainId: number
      /** Undefined: GN=0. */
      readonly pasid: number | undefined
      readonly start: bigint
      readonly sizeLog2: number
      /** PDE. */
      readonly directories: boolean
    }
  | { readonly of: 'device'; readonly deviceId: number }
  | { readonly of: 'all' }

export type Step =
  | { readonly kind: 'request' | 'prefetch'; readonly asked: Ask }
  | { readonly kind: 'store'; readonly at: bigint; readonly value: bigint }
  | { readonly kind: 'entry'; readonly deviceId: number; readonly entry: Entry }
  | { readonly kind: 'invalidate'; readonly what: Invalidation }
  | { readonly kind: 'evict'; readonly n: number }
  /** COMPLETION_WAIT. */
  | { readonly kind: 'wait' }

const bit = (isSet: boolean, at: number): bigint => (isSet ? 1n << BigInt(at) : 0n)

const hostRoots = [0x100000000n, 0x110000000n] as const
/** GPAs. */
const gcr3Roots = [0x10000n, 0x13000n] as const

/** The lower half of an entry; the upper one is zero. */
export const entryWords = (entry: Entry): readonly [bigint, bigint] => [
  bit(entry.isValid, 0) |
    bit(entry.isTranslating, 1) |
    (3n << 7n) |
    (entry.hasHost ? 0x600n | hostRoots[entry.host] : 0n) |
    bit(entry.isGiov, 54) |
    bit(entry.hasGuest, 55) |
    (1n << 56n) |
    (((gcr3Roots[entry.gcr3] >> 12n) & 7n) << 58n) |
    bit(entry.read, 61) |
    bit(entry.write, 62),
  BigInt(entry.domainId) | ((gcr3Roots[entry.gcr3] >> 15n) << 16n),
]

/** The command for an invalidation, as the manual's size code has it. */
export function commandOf(what: Invalidation): readonly [bigint, bigint] {
  if (what.of === 'all') return [8n << 60n, 0n]
  if (what.of === 'device') return [(2n << 60n) | BigInt(what.deviceId), 0n]
  const size = BigInt(what.sizeLog2)
  const ones = ((1n << (size - 1n)) - 1n) & ~0xfffn
  const address = what.sizeLog2 === 12 ? what.start : ((what.start >> size) << size) | ones
  return [
    (3n << 60n) | (BigInt(what.domainId) << 32n) | BigInt(what.pasid ?? 0),
    address | bit(what.sizeLog2 > 12, 0) | bit(what.directories, 1) | bit(what.pasid !== undefined, 2),
  ]
}

/** No more than it takes, as a chip is made for each program. */
const worldBytes = 2 ** 35
const spaOf = (gpa: bigint): bigint => 0x200000000n + gpa
const guestTable = (tree: number, level: number): bigint => 0x20000n + BigInt(tree * 4 + 4 - level) * 0x1000n
/** The table of each level that leads to the pages, in a host table; `other` is a second table of level 1. */
const hostTable = (host: 0 | 1, level: 1 | 2 | 3 | 'other'): bigint =>
  hostRoots[host] + (level === 'other' ? 0x3000n : BigInt(3 - level) * 0x1000n)

/** GPAs of GCR3 and guest tables. */
const tablePages = Array.from({ length: 5 }, (_, n) => 0x10000n + BigInt(n) * 0x1000n).concat(
  Array.from({ length: 12 }, (_, n) => 0x20000n + BigInt(n) * 0x1000n),
)

/** A chip in the world as it is at first: each device with an entry of the nth host and GCR3 table. */
export function worldChip(entries: readonly Entry[], options: ChipOptions = {}): Chip {
  const chip = nestedChip([], { sizeBytes: worldBytes, ...options })
  for (let gpa = 0n; gpa < 0x10000n; gpa += 0x1000n) {
    mapHost(chip, { root: hostRoots[0], mode: 3 }, pagesFrom(0n), gpa, spaOf(gpa))
  }
  const freePages = pagesFrom(hostRoots[1] + 0x1000n)
  for (let gpa = 0n; gpa < 0x110000n; gpa += 0x1000n) {
    const spa = gpa < hostPages ? spaOf(gpa) : 0x400000000n + gpa
    mapHost(chip, { root: hostRoots[1], mode: 3 }, freePages, gpa, spa)
    for (const host of [0, 1] as const) {
      const other = gpa < hostPages ? spaOf(gpa) : 0x500000000n + (BigInt(host) << 32n) + gpa
      chip.put([hostTable(host, 'other') + (gpa >> 9n), (3n << 61n) | other | 1n])
    }
  }
  // The second GCR3 table has the guest tables of PASIDs 0 and 5 the other way round.
  chip.put([spaOf(gcr3Roots[1]), 0x14001n])
  chip.put([spaOf(0x14000n), guestTable(1, 4) | 1n], [spaOf(0x14028n), guestTable(0, 4) | 1n])
  // The pages of each guest table are others, so that a table in the place of another one is noticed.
  for (let tree = 0; tree < 3; tree++) {
    for (let at = 0n; at < 4n; at++) {
      const page = hostPages + ((BigInt(tree * 4) + at) << 12n)
      chip.put([guestEntryAt(tree, at << 12n), page | 7n])
    }
  }
  entries.forEach((entry, n) => chip.setDte(worldDevices[n] ?? 0, entryWords(entry)))
  return chip
}

/** The world as it is at first, without devices; a machine of its own, so that reading it disturbs no other. */
export const worldMemory = worldChip([]).memory

const oneOf = <T>(...list: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...list)
/** The first of the list for most: what is there has to be met again. */
const mostly = <T>(usual: T, ...others: readonly T[]): fc.Arbitrary<T> =>
  fc.oneof({ weight: 4, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: oneOf(...others) })
const page = mostly(0n, 0x1000n, 0x1000n, 0x2000n, 0x3000n)
const device = oneOf(...worldDevices)
const zeroOrOne = mostly<0 | 1>(0, 1)

/** DomainIDs stand for (host table, GCR3 table), or for nothing. */
export const entryArbitrary = (isUnique: boolean): fc.Arbitrary<Entry> =>
  fc
    .record({
      domainId: oneOf(1, 1, 2),
      host: zeroOrOne,
      gcr3: zeroOrOne,
      kind: mostly<string>('nested', 'giov', 'giov', 'giov', 'host', 'identity', 'off', 'blocked'),
      rights: mostly<number>(3, 1, 1, 1, 2, 0),
    })
    .map(({ domainId, host, gcr3, kind, rights }) => ({
      domainId: isUnique ? 1 + host * 2 + gcr3 : domainId,
      host,
      gcr3,
      isValid: kind !== 'off',
      isTranslating: kind !== 'blocked',
      hasHost: kind !== 'identity',
      hasGuest: kind === 'nested' || kind === 'giov',
      isGiov: kind === 'giov',
      read: (rights & 1) !== 0,
      write: (rights & 2) !== 0,
    }))

export const askArbitrary: fc.Arbitrary<Ask> = fc
  .record({
    deviceId: device,
    pasid: oneOf(undefined, undefined, 0, 0, 0, 5, 5, 0x200, 6),
    at: page,
    offset: oneOf(0n, 0x123n, 0xfffn),
    /** Without PASID the address is a GPA, or with GIoV a GVA. */
    isGva: fc.boolean(),
    write: fc.boolean(),
    supervisor: oneOf(false, false, false, true),
    execute: oneOf(false, false, false, false, true),
  })
  .map(({ at, offset, isGva, ...asked }) => ({
    ...asked,
    iova: (asked.pasid === undefined && !isGva ? hostPages : guestPages) + at + offset,
  }))

const hostRights = mostly(3n << 61n, 1n << 61n, 1n << 61n, 2n << 61n, 0n)
const hostLeaf = fc
  .record({
    host: zeroOrOne,
    table: mostly<1 | 'other'>(1, 'other'),
    page: fc.oneof(
      page.map((at) => hostPages + at),
      page.map((at) => hostPages + 0x4000n + at),
      page,
      oneOf(...tablePages),
    ),
    to: oneOf(0n, 0x600000000n, 0x601000000n),
    /** Which guest tree's page: tables may be exchanged. */
    tree: mostly(0n, 0x4000n, 0x8000n),
    rights: hostRights,
    low: mostly(1n, 0x61n, 0n, (1n << 52n) | 1n),
  })
  .map((each) => {
    const exchanged = each.page >= 0x20000n && each.page < hostPages ? each.tree : 0n
    const frame =
      each.page >= hostPages && each.to !== 0n ? each.to + each.page : spaOf(each.page) + exchanged
    return { at: hostTable(each.host, each.table) + (each.page >> 9n), value: frame | each.rights | each.low }
  })

const hostDirectory = fc
  .tuple(zeroOrOne, oneOf(0, 0, 1, 1, 1, 2, 2, 3, 4, 5), hostRights)
  .map(([host, kind, rights]) => {
    const root = hostTable(host, 3)
    const middle = hostTable(host, 2)
    const low = rights | 1n
    return [
      { at: root, value: middle | low | 0x400n },
      { at: middle, value: hostTable(host, 1) | low | 0x200n },
      { at: middle, value: hostTable(host, 'other') | low | 0x200n },
      // A page of 2 MiB in the place of the table, and no table.
      { at: middle, value: spaOf(0n) | low },
      { at: middle, value: 0n },
      { at: root, value: rights === 0n ? 0n : middle | low | 0x400n },
    ][kind]!
  })

const tree = oneOf(0, 0, 0, 1, 1, 2)
const gcr3Entry = fc
  .tuple(mostly(0x11000n, 0x11028n, 0x14000n, 0x14028n, 0x12000n), tree, mostly(1n, 1n, 0n, 3n))
  .map(([at, to, low]) => ({ at: spaOf(at), value: guestTable(to, 4) | low }))
const gcr3Top = fc
  .tuple(mostly(0x10000n, 0x13000n), mostly(0x11001n, 0x14001n, 0x14001n, 0n))
  .map(([at, value]) => ({ at: spaOf(at), value }))

const guestBits = mostly(7n, 5n, 5n, 5n, 3n, 0n, 0x27n, 0x67n, (1n << 63n) | 7n)
const guestLeaf = fc.tuple(tree, page, guestBits, fc.boolean(), page).map(([of, at, bits, isHigh, to]) => ({
  at: guestEntryAt(of, at),
  value: (isHigh ? hostPages + to : to) | bits,
}))
const guestDirectory = fc
  .tuple(tree, oneOf<2 | 3 | 4 | 'large'>(4, 3, 2, 2, 2, 'large'), guestBits, tree)
  .map(([of, level, bits, to]) => {
    const index = level === 4 ? 0n : 8n
    const table = level === 'large' ? 2 : level
    const target = level === 'large' ? 0x80n : guestTable(to, table - 1)
    return { at: spaOf(guestTable(of, table)) + index, value: target | bits }
  })

const store = fc.oneof(
  { weight: 4, arbitrary: hostLeaf },
  { weight: 2, arbitrary: hostDirectory },
  { weight: 2, arbitrary: gcr3Entry },
  { weight: 1, arbitrary: gcr3Top },
  { weight: 4, arbitrary: guestLeaf },
  { weight: 3, arbitrary: guestDirectory },
)

const pages = fc
  .record({
    of: fc.constant('pages' as const),
    domainId: mostly<number>(1, ...worldDomains),
    pasid: oneOf(undefined, undefined, 0, 0, 5, 0x200),
    at: page,
    table: fc.oneof(fc.constant(undefined), oneOf(...tablePages)),
    sizeLog2: oneOf(12, 12, 13, 14, 21, 64, 64),
    directories: fc.boolean(),
  })
  .map(({ at, table, ...what }) => {
    const start = what.pasid !== undefined ? guestPages + at : (table ?? hostPages + at)
    return { ...what, start }
  })
const invalidation: fc.Arbitrary<Invalidation> = fc.oneof(
  { weight: 7, arbitrary: pages },
  { weight: 3, arbitrary: device.map((deviceId) => ({ of: 'device' as const, deviceId })) },
  { weight: 1, arbitrary: fc.constant({ of: 'all' as const }) },
)

/** One step of a program. */
export const stepArbitrary = (isUnique: boolean): fc.Arbitrary<Step> =>
  fc.oneof(
    {
      weight: 16,
      arbitrary: askArbitrary.map((asked) => ({ kind: 'request' as const, asked })),
    },
    { weight: 2, arbitrary: askArbitrary.map((asked) => ({ kind: 'prefetch' as const, asked })) },
    { weight: 6, arbitrary: store.map((each) => ({ kind: 'store' as const, ...each })) },
    {
      weight: 2,
      arbitrary: fc
        .record({ deviceId: device, entry: entryArbitrary(isUnique) })
        .map((each) => ({ kind: 'entry' as const, ...each })),
    },
    { weight: 4, arbitrary: invalidation.map((what) => ({ kind: 'invalidate' as const, what })) },
    { weight: 2, arbitrary: fc.constant({ kind: 'wait' as const }) },
    { weight: 1, arbitrary: fc.nat(12).map((n) => ({ kind: 'evict' as const, n })) },
  )

/** Where the lower half of a device's entry lies. */
export const entryAt = (deviceId: number): bigint => place.deviceTable + BigInt(deviceId * 32)
