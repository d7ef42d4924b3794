/** The model's own caches of paths by themselves: no answer tells whether a path was found, so what they find is tested here. */
import { describe, expect, it } from 'vitest'
import { SparseMemory } from '../memory/sparse-memory.js'
import { load64, store64 } from '../memory/memory.js'
import { switches } from '../switches.js'
import { GuestPathCache } from './guest-path-cache.js'
import { GuestRegime, RegimeFlag } from './guest-regime.js'
import { GuestTables } from './guest-tables.js'
import { HostPathCache } from './host-path-cache.js'
import { HostTrail, marksAccessed, marksDirty } from './host-trail.js'
import { HostWalk } from './host-walk.js'
import { allRights, mayRead, mayWrite } from './rights.js'

/** Low and high word of an address. */
const split = (value: bigint): readonly [number, number] => [
  Number(BigInt.asIntN(32, value)),
  Number(BigInt.asIntN(32, value >> 32n)),
]
/** Bits in every part of the address. */
const iova = 0xfee0_7f12_3456_7000n
/** Address bits 63:21 tell the table of level 1. */
const otherRegions = Array.from({ length: 43 }, (_, n) => iova ^ (1n << BigInt(21 + n)))
const sameRegion = [iova, iova ^ 0x1000n, iova ^ 0x1ff000n, iova ^ 0xfffn]

function memoryWith(words: readonly bigint[]): SparseMemory {
  const memory = SparseMemory.create(2 ** 44)
  memory.words.activate()
  for (const at of words) store64(memory, at, 1n)
  // Something has changed before.
  const changed = 0x7000n
  store64(memory, changed, 1n)
  memory.words.mark(memory.wordOf(...split(changed)))
  store64(memory, changed, 2n)
  return memory
}

describe('a known path through a host table', () => {
  /** Where the entries on the way lie, the leaf last: above 4 GiB, each in a page of its own. */
  const entries = [0x1_2345_6010n, 0x3_4000_7020n, 0x5_6abc_8d38n]
  const root = 0x3_1234_5000n
  const both = mayRead | mayWrite

  interface Asked {
    readonly root?: bigint
    readonly mode?: number
    readonly address?: bigint
    readonly granted?: number
    readonly marking?: number
  }

  const isFound = (paths: HostPathCache, asked: Asked = {}): boolean => {
    const { mode = 3, address = iova, granted = both, marking = marksAccessed } = asked
    const [rootLo, rootHi] = split(asked.root ?? root)
    const [lo, hi] = split(address)
    return paths.find(rootLo, rootHi, mode, lo, hi, granted, marking)
  }

  function kept(rights = both): { readonly memory: SparseMemory; readonly paths: HostPathCache } {
    const memory = memoryWith(entries)
    const paths = new HostPathCache(memory)
    const trail = new HostTrail(memory, true)
    for (const at of entries) trail.add(...split(at))
    expect(isFound(paths)).toBe(false)
    paths.keep(trail, 1, rights)
    return { memory, paths }
  }

  it('is found for its 2 MiB, and tells the table, what is granted, and the reads that it saves', () => {
    for (const rights of [0, mayRead, mayWrite, both, allRights]) {
      const { paths } = kept(rights)
      for (const address of sameRegion) {
        expect(isFound(paths, { address })).toBe(true)
        const { level, frameLo, frameHi, reads } = paths
        expect({ level, frame: [frameLo, frameHi], reads }).toEqual({
          ...{ level: 1, frame: split(0x5_6abc_8000n), reads: 2 },
        })
        expect(paths.rights).toBe(rights & both)
      }
    }
  })

  it('is that of its region, its table and its walk alone', () => {
    const { paths } = kept()
    const others: readonly Asked[] = [
      ...otherRegions.map((address) => ({ address })),
      ...Array.from({ length: 40 }, (_, n) => ({ root: root ^ (1n << BigInt(12 + n)) })),
      ...[1, 2, 4, 5, 6].map((mode) => ({ mode })),
      ...[0, mayRead, mayWrite].map((granted) => ({ granted })),
      ...[0, marksDirty, marksAccessed | marksDirty].map((marking) => ({ marking })),
    ]
    for (const asked of others) {
      expect(isFound(paths, asked)).toBe(false)
      expect(isFound(paths)).toBe(true)
    }
  })

  it('counts until an entry on it changes; the leaf’s table is read anew anyway', () => {
    for (const [n, at] of entries.entries()) {
      const { memory, paths } = kept()
      store64(memory, at, 3n)
      expect(isFound(paths)).toBe(n === 2)
    }
  })
})

describe('a known path through guest tables', () => {
  const table = 0x5_6abc_8000n
  const place = 0x6_7bcd_9e10n
  const pasid = 0xa5a5a

  /** A regime in which every field has bits set and clear. */
  function regimeOf(changed: Partial<GuestRegime> = {}): GuestRegime {
    const [hostRootLo, hostRootHi] = split(0x2_4681_3000n)
    const [gcr3Lo, gcr3Hi] = split(0x9_8765_4000n)
    const regime = new GuestRegime()
    const flags = RegimeFlag.gcr3Nested | RegimeFlag.stores | RegimeFlag.setsAccessed
    Object.assign(regime, { gcr3Lo, gcr3Hi, gcr3Levels: 2, guestLevels: 4, hostMode: 3, granted: mayRead })
    return Object.assign(regime, { hostRootLo, hostRootHi, flags, ...changed })
  }

  interface Asked {
    readonly regime?: Partial<GuestRegime>
    readonly pasid?: number
    readonly address?: bigint
    readonly marking?: number
  }

  function isFound(paths: GuestPathCache, asked: Asked = {}): boolean {
    const regime = regimeOf(asked.regime)
    paths.begin(regime, asked.marking ?? marksAccessed)
    return paths.find(regime, asked.pasid ?? pasid, ...split(asked.address ?? iova))
  }

  function kept(regime: Partial<GuestRegime> = {}): {
    readonly memory: SparseMemory
    readonly paths: GuestPathCache
  } {
    const memory = memoryWith([place])
    const paths = new GuestPathCache(memory)
    const tables = new GuestTables(memory, new HostWalk(memory, switches(), 6), switches())
    const [spaLo, spaHi] = split(place)
    Object.assign(tables, { spaLo, spaHi, placeRights: mayWrite })
    expect(isFound(paths, { regime })).toBe(false)
    paths.keep(1, ...split(table), allRights, 5, 18, tables)
    return { memory, paths }
  }

  it('is found for its 2 MiB, and tells the table, where it lies, what is granted, and the reads', () => {
    const { paths } = kept()
    for (const address of sameRegion) {
      expect(isFound(paths, { address })).toBe(true)
      const { level, frameLo, frameHi, rights, guestReads, hostReads, placeLo, placeHi, placeRights } = paths
      expect([level, frameLo, frameHi]).toEqual([1, ...split(table)])
      expect([rights, guestReads, hostReads]).toEqual([allRights, 5, 18])
      expect([placeLo, placeHi, placeRights]).toEqual([...split(place & ~0xfffn), mayWrite])
    }
  })

  it('is that of its region, its PASID and its regime alone', () => {
    const { paths } = kept()
    const { gcr3Lo, gcr3Hi, hostRootLo, hostRootHi, flags } = regimeOf()
    const bits = (from: number, to: number): number[] =>
      Array.from({ length: to - from + 1 }, (_, n) => 1 << (from + n))
    const others: readonly Asked[] = [
      ...otherRegions.map((address) => ({ address })),
      ...bits(0, 19).map((bit) => ({ pasid: pasid ^ bit })),
      ...bits(12, 31).map((bit) => ({ regime: { gcr3Lo: gcr3Lo ^ bit } })),
      ...bits(0, 19).map((bit) => ({ regime: { gcr3Hi: gcr3Hi ^ bit } })),
      ...bits(12, 31).map((bit) => ({ regime: { hostRootLo: hostRootLo ^ bit } })),
      ...bits(0, 19).map((bit) => ({ regime: { hostRootHi: hostRootHi ^ bit } })),
      ...bits(0, 6).map((bit) => ({ regime: { flags: flags ^ bit } })),
      ...[0, 1, 2, 4, 5, 6].map((hostMode) => ({ regime: { hostMode } })),
      ...[1, 3].map((gcr3Levels) => ({ regime: { gcr3Levels } })),
      { regime: { guestLevels: 5 } },
      ...[0, mayWrite, mayRead | mayWrite].map((granted) => ({ regime: { granted } })),
      ...[0, marksDirty, marksAccessed | marksDirty].map((marking) => ({ marking })),
    ]
    for (const asked of others) {
      expect(isFound(paths, asked)).toBe(false)
      expect(isFound(paths)).toBe(true)
    }
  })

  it('is not that of those who share its slot', () => {
    const { paths } = kept()
    const { gcr3Lo } = regimeOf()
    // Several of each fall into the slot.
    for (let n = 1; n < 20_000; n++) {
      expect(isFound(paths, { address: iova ^ (BigInt(n) << 21n) })).toBe(false)
      expect(isFound(paths, { regime: { gcr3Lo: gcr3Lo ^ (n << 12) } })).toBe(false)
      expect(isFound(paths, { pasid: pasid ^ ((n & 0x7fff) << 5) })).toBe(false)
    }
    expect(isFound(paths)).toBe(true)
  })

  it('is that of its numbers of levels', () => {
    const shapes = [1, 2, 3].flatMap((gcr3Levels) =>
      [4, 5].map((guestLevels) => ({ gcr3Levels, guestLevels })),
    )
    for (const shape of shapes) {
      const { paths } = kept(shape)
      expect(shapes.filter((regime) => isFound(paths, { regime }))).toEqual([shape])
    }
  })

  it('counts until a marked word changes, or everything is dropped', () => {
    const { memory, paths } = kept()
    memory.words.mark(memory.wordOf(...split(place)))
    expect(isFound(paths)).toBe(true)
    store64(memory, place, (load64(memory, place) ?? 0n) + 2n)
    expect(isFound(paths)).toBe(false)
    const dropped = kept().paths
    dropped.clear()
    expect(isFound(dropped)).toBe(false)
  })
})
