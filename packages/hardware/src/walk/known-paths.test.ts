/** Which walks go by known paths, and which keep one: no answer tells, so uses are counted. */
import { describe, expect, it } from 'vitest'
import { SparseMemory } from '../memory/sparse-memory.js'
import { store64 } from '../memory/memory.js'
import { switches } from '../switches.js'
import { denied, noFault, notPresent } from './fault.js'
import { GuestPathCache } from './guest-path-cache.js'
import { GuestRegime, RegimeFlag } from './guest-regime.js'
import { GuestWalk } from './guest-walk.js'
import { HostPathCache } from './host-path-cache.js'
import { HostWalk, marksDirty } from './host-walk.js'
import { allRights, mayRead, mayWrite } from './rights.js'

const both = mayRead | mayWrite
const readWrite = 3n << 61n
const iova = 0x1234_5000
const indexOf = (level: number): bigint => (BigInt(iova) >> BigInt(3 + 9 * level)) & 511n
const tableAt = (level: number): bigint => 0x10000n + BigInt(level) * 0x1000n
const entryAt = (level: number): bigint => tableAt(level) + indexOf(level) * 8n

function memoryWith(entryOf: (level: number) => bigint, levels: number): SparseMemory {
  const memory = SparseMemory.create(2 ** 32)
  memory.words.activate()
  for (let level = 1; level <= levels; level++) store64(memory, entryAt(level), entryOf(level))
  return memory
}

describe('a walk of a host table', () => {
  class CountedPaths extends HostPathCache {
    used = 0
    kept = 0
    override get reads(): number {
      this.used++
      return super.reads
    }
    override keep(...args: Parameters<HostPathCache['keep']>): void {
      this.kept++
      super.keep(...args)
    }
  }

  function walkOf(directoryRights = readWrite) {
    const memory = memoryWith((level) => {
      const next = level === 1 ? 0x555000n : tableAt(level - 1) | (BigInt(level - 1) << 9n)
      return (level === 2 ? directoryRights : readWrite) | next | 1n
    }, 3)
    const paths = new CountedPaths(memory)
    const walk = new HostWalk(memory, switches(), 6, paths)
    walk.marking = 0
    const go = (needed = mayRead, granted = both): number =>
      walk.walk(Number(tableAt(3)), 0, 3, iova, 0, granted, needed)
    return { memory, paths, walk, go }
  }

  it('keeps the path to a page, and goes by it the next time', () => {
    const { paths, walk, go } = walkOf()
    expect([go(), paths.kept, paths.used, walk.reads]).toEqual([noFault, 1, 0, 3])
    expect([go(), paths.kept, paths.used, walk.reads]).toEqual([noFault, 1, 1, 6])
    expect([walk.spaLo, walk.spaHi, walk.sizeLog2, walk.rights & both]).toEqual([0x555000, 0, 12, both])
  })

  it('keeps none to a page that is not there', () => {
    const { memory, paths, go } = walkOf()
    store64(memory, entryAt(1), 0n)
    expect([go(), paths.kept]).toEqual([notPresent, 0])
  })

  it('goes by none while it is watched, and by it again afterwards', () => {
    const { paths, walk, go } = walkOf()
    go()
    let seen = 0
    walk.trace = { read: () => seen++, store: () => undefined }
    expect([go(), paths.used, seen]).toEqual([noFault, 0, 3])
    walk.trace = null
    expect([go(), paths.used, seen]).toEqual([noFault, 1, 3])
  })

  it('goes by none that lacks the right that is needed', () => {
    const { paths, walk, go } = walkOf(1n << 61n)
    expect([go(), paths.kept, paths.used]).toEqual([noFault, 1, 0])
    walk.reads = 0
    expect([go(mayWrite), paths.used, walk.reads]).toEqual([denied, 0, 2])
    expect([go(), paths.used]).toEqual([noFault, 1])
  })

  it('goes by none of another marking', () => {
    const { paths, walk, go } = walkOf()
    go()
    walk.marking = marksDirty
    expect([go(), paths.used, paths.kept]).toEqual([noFault, 0, 2])
  })
})

describe('a walk of guest tables', () => {
  class CountedPaths extends GuestPathCache {
    used = 0
    kept = 0
    override get guestReads(): number {
      this.used++
      return super.guestReads
    }
    override keep(...args: Parameters<GuestPathCache['keep']>): void {
      this.kept++
      super.keep(...args)
    }
  }

  function walkOf(directoryBits = 7n) {
    const memory = memoryWith((level) => {
      const next = level === 1 ? 0x555000n : tableAt(level - 1)
      return next | (level === 2 ? directoryBits : 7n)
    }, 4)
    const gcr3 = 0x20000
    store64(memory, BigInt(gcr3) + 5n * 8n, tableAt(4) | 1n)
    const paths = new CountedPaths(memory)
    const host = new HostWalk(memory, switches(), 6)
    const walk = new GuestWalk(memory, host, switches(), paths)
    const regime = new GuestRegime()
    const flags = RegimeFlag.gcr3Nested | RegimeFlag.checksUser | RegimeFlag.stores
    Object.assign(regime, { gcr3Lo: gcr3, granted: both, impliedGranted: both, flags })
    const go = (needed = mayRead, pasid = 5): number => {
      walk.tables.reads = 0
      paths.begin(regime, 0)
      return walk.walk(regime, pasid, iova, 0, needed)
    }
    return { memory, paths, walk, go }
  }

  it('keeps the path to a page, and goes by it the next time', () => {
    const { paths, walk, go } = walkOf()
    expect([go(), paths.kept, paths.used, walk.tables.reads]).toEqual([noFault, 1, 0, 5])
    expect([go(), paths.kept, paths.used, walk.tables.reads]).toEqual([noFault, 1, 1, 5])
    expect([walk.spaLo, walk.spaHi, walk.sizeLog2, walk.rights]).toEqual([0x555000, 0, 12, allRights])
  })

  it('keeps none to a page that is not there', () => {
    const { memory, paths, go } = walkOf()
    store64(memory, entryAt(1), 0n)
    expect([go(), paths.kept]).toEqual([notPresent, 0])
  })

  it('goes by none while it is watched, and by it again afterwards', () => {
    const { paths, walk, go } = walkOf()
    go()
    let seen = 0
    walk.tables.trace = { read: () => seen++, store: () => undefined }
    expect([go(), paths.used, paths.kept, seen]).toEqual([noFault, 0, 1, 5])
    walk.tables.trace = null
    expect([go(), paths.used, seen]).toEqual([noFault, 1, 5])
  })

  it('goes by none that lacks the right that is needed', () => {
    const { paths, walk, go } = walkOf(5n)
    expect([go(), paths.kept, paths.used]).toEqual([noFault, 1, 0])
    expect([go(mayWrite), paths.used, walk.tables.reads]).toEqual([denied, 0, 4])
    expect([go(), paths.used]).toEqual([noFault, 1])
  })
})
