import { iova, spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import { exactBlocks } from '@nestwalk/driver'
import type { Mutant, Outcome } from '@nestwalk/driver'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { IotlbGather } from '../src/iotlb-gather.js'
import { Machine, readWrite, withoutTables } from './machine.js'
import type { MachineOptions } from './machine.js'
import { runs } from './runs.js'

const deviceId = 0x18

/** An IOMMU that caches absent entries, and a driver that knows. */
const emulated: MachineOptions = { npCache: true, microArchitecture: { cachesAbsent: true } }

/** A device on a host table (1). */
class Bench {
  readonly machine: Machine

  constructor(options: MachineOptions = {}) {
    this.machine = Machine.create(options)
    const { driver } = this.machine
    this.machine.run(driver.probe(deviceId, 1))
    this.machine.run(driver.allocateHostTable())
    this.machine.run(driver.attach(deviceId, 1))
  }

  map(from: bigint, length: bigint, to = 0x40_0000_1000n): Outcome<undefined> {
    return this.machine.driver.map(1, iova(from), to as Spa, length, readWrite)
  }

  unmap(from: bigint, length: bigint, mode: 'strict' | 'lazy' = 'strict'): Outcome<bigint> {
    return this.machine.driver.unmap(1, iova(from), length, mode)
  }

  ask(address: bigint): string {
    return this.machine.iommu.request({ deviceId, iova: address }).kind
  }
}

describe('exact blocks of a range', () => {
  it('are those of the example: 5 to 14 is 1, 2, 4 and 3 more pages', () => {
    const blocks = exactBlocks({ first: 0x5000n, last: 0xefffn })
    const shown = blocks.map(({ first, last }) => `${first.toString(16)}+${(last - first + 1n).toString(16)}`)
    expect(shown).toEqual(['5000+1000', '6000+2000', '8000+4000', 'c000+2000', 'e000+1000'])
  })

  it('of everything is one', () => {
    const everything = { first: 0n, last: (1n << 64n) - 1n }
    expect(exactBlocks(everything)).toEqual([everything])
  })

  it('are aligned powers of two that follow each other from end to end, and no two neighbours make one', () => {
    const page = fc.bigInt({ min: 0n, max: (1n << 52n) - 1n })
    fc.assert(
      fc.property(page, page, (a, b) => {
        const [first, last] = a < b ? [a << 12n, (b << 12n) | 0xfffn] : [b << 12n, (a << 12n) | 0xfffn]
        const blocks = exactBlocks({ first, last })
        let next = first
        for (const block of blocks) {
          const bytes = block.last - block.first + 1n
          expect([block.first, block.first & (bytes - 1n), bytes & (bytes - 1n)]).toEqual([next, 0n, 0n])
          next = block.last + 1n
        }
        expect(next).toBe(last + 1n)
        // Sizes go up and then down, each at most once on either side.
        expect(blocks.length).toBeLessThanOrEqual(104)
      }),
    )
  })
})

describe('a gather', () => {
  /** What is flushed when ranges are noted one after the other; a table of `n` for each that has one. */
  function gathered(
    rules: { swallowsGaps: boolean; losesRanges?: boolean },
    ...noted: readonly (readonly [first: bigint, last: bigint, table?: bigint])[]
  ): string[] {
    const flushed: string[] = []
    const gather = new IotlbGather({ losesRanges: false, ...rules }, ({ range, tables }) => {
      flushed.push([range.first, range.last, ...tables].map((each) => each.toString(16)).join(' '))
    })
    for (const [first, last, table] of noted) {
      gather.add({ first, last }, table === undefined ? undefined : spa(table))
    }
    gather.sync()
    gather.sync()
    return flushed
  }
  const [low, middle, high] = [
    [0x1000n, 0x1fffn],
    [0x2000n, 0x2fffn],
    [0x4000n, 0x4fffn],
  ] as const

  it('is flushed once, as one range, in whatever order it was noted', () => {
    expect(gathered({ swallowsGaps: true }, low, high)).toEqual(['1000 4fff'])
    expect(gathered({ swallowsGaps: true }, high, low)).toEqual(['1000 4fff'])
    expect(gathered({ swallowsGaps: true }, [0x0n, 0xffffn], middle)).toEqual(['0 ffff'])
    expect(gathered({ swallowsGaps: true }, middle, [0x0n, 0xffffn])).toEqual(['0 ffff'])
    expect(gathered({ swallowsGaps: true })).toEqual([])
  })

  it('is flushed before a gap where gaps are not swallowed, before or behind it; what touches is no gap', () => {
    expect(gathered({ swallowsGaps: false }, low, high)).toEqual(['1000 1fff', '4000 4fff'])
    expect(gathered({ swallowsGaps: false }, high, low)).toEqual(['4000 4fff', '1000 1fff'])
    expect(gathered({ swallowsGaps: false }, low, middle)).toEqual(['1000 2fff'])
    expect(gathered({ swallowsGaps: false }, middle, low)).toEqual(['1000 2fff'])
    expect(gathered({ swallowsGaps: false }, low, middle, high, low)).toEqual([
      ...['1000 2fff', '4000 4fff', '1000 1fff'],
    ])
  })

  it('has the tables of what is flushed, each once', () => {
    const noted = [[...low, 0xa000n] as const, middle, [...high, 0xb000n] as const]
    expect(gathered({ swallowsGaps: true }, ...noted)).toEqual(['1000 4fff a000 b000'])
    expect(gathered({ swallowsGaps: false }, ...noted)).toEqual(['1000 2fff a000', '4000 4fff b000'])
  })

  it('that loses ranges goes to the highest address there is (S31)', () => {
    const rules = { swallowsGaps: false, losesRanges: true }
    expect(gathered(rules, [...low, 0xa000n], high)).toEqual(['fffffffffffff000 ffffffffffffffff a000'])
  })
})

describe('where absent entries may be cached (NpCache)', () => {
  it('a map that is refused is refused, and nothing is flushed', () => {
    const bench = new Bench(emulated)
    bench.machine.run(bench.map(0x5000n, 0x1000n))
    expect(bench.machine.refusal(() => bench.map(0x4000n, 0x2000n))).toBe('EADDRINUSE mapped-already')
  })

  it('a map is flushed, directory entries too, in exact blocks', () => {
    const bench = new Bench(emulated)
    const lines = bench.machine.tell(bench.map(0x5000n, 0x3000n))
    expect(withoutTables(lines)).toEqual(['PAGES 1 5000+1000 PDE', 'PAGES 1 6000+2000 PDE', 'WAIT'])
  })

  it('a device that had been refused is answered after the map, for the driver knows', () => {
    for (const [npCache, kind] of [
      [true, 'translated'],
      [false, 'fault'],
    ] as const) {
      const bench = new Bench({ ...emulated, npCache })
      expect(bench.ask(0x5000n)).toBe('fault')
      bench.machine.run(bench.map(0x5000n, 0x1000n))
      expect(bench.ask(0x5000n)).toBe(kind)
    }
  })

  it('nobody else has a map flushed', () => {
    const bench = new Bench()
    expect(withoutTables(bench.machine.tell(bench.map(0x5000n, 0x3000n)))).toEqual([])
  })

  it('an unmap is flushed in exact blocks, one command each, and one wait', () => {
    const bench = new Bench(emulated)
    bench.machine.run(bench.map(0x5000n, 0x5000n))
    const lines = bench.machine.tell(bench.unmap(0x5000n, 0x5000n))
    expect(withoutTables(lines)).toEqual([
      'PAGES 1 5000+1000',
      'PAGES 1 6000+2000',
      'PAGES 1 8000+2000',
      'WAIT',
    ])
  })

  it('a gap makes it flush what it has, and wait, before it goes on', () => {
    const bench = new Bench(emulated)
    for (const from of [0x10000n, 0x11000n, 0x13000n]) bench.machine.run(bench.map(from, 0x1000n))
    const lines = bench.machine.tell(bench.unmap(0x10000n, 0x8000n))
    const flushes = ['PAGES 1 10000+2000', 'WAIT', 'PAGES 1 13000+1000', 'WAIT']
    expect(withoutTables(lines)).toEqual(flushes)
    // The pages behind the gap are cleared before the flush of those before it, as Linux clears first and gathers then.
    expect(lines.slice(0, 3)).toEqual(['tables', 'tables', flushes[0]])
  })

  it('pages that follow each other in two tables are no gap', () => {
    const bench = new Bench(emulated)
    for (const from of [0x1ff000n, 0x200000n]) bench.machine.run(bench.map(from, 0x1000n))
    expect(withoutTables(bench.machine.tell(bench.unmap(0x1ff000n, 0x2000n)))).toEqual([
      ...['PAGES 1 1ff000+1000', 'PAGES 1 200000+1000', 'WAIT'],
    ])
  })

  it('a table goes with its whole reach and PDE; what was flushed before a gap went without', () => {
    const bench = new Bench(emulated)
    bench.machine.run(bench.map(0x200000n, 0x1000n))
    bench.machine.run(bench.map(0x203000n, 0x1000n))
    const lines = bench.machine.tell(bench.unmap(0x200000n, 0x200000n))
    const flushes = ['PAGES 1 200000+1000', 'WAIT', 'PAGES 1 200000+200000 PDE', 'WAIT']
    expect(withoutTables(lines)).toEqual(flushes)
  })

  it('nothing is deferred', () => {
    const bench = new Bench(emulated)
    bench.machine.run(bench.map(0x5000n, 0x1000n))
    expect(withoutTables(bench.machine.tell(bench.unmap(0x5000n, 0x1000n, 'lazy')))).toEqual([
      'PAGES 1 5000+1000',
      'WAIT',
    ])
  })

  const steps = fc.array(
    fc.record({
      isMap: fc.boolean(),
      page: fc.integer({ min: 0, max: 1100 }),
      pages: fc.integer({ min: 1, max: 40 }),
      asked: fc.array(fc.integer({ min: 0, max: 1140 }), { maxLength: 6 }),
    }),
    { maxLength: 12 },
  )
  it.each([
    ['as emulated ones do', emulated],
    ['not at all', {}],
  ])('no request finds what was before a map or an unmap: absent entries are cached %s', (_name, options) => {
    fc.assert(
      fc.property(steps, (all) => {
        const bench = new Bench(options)
        for (const { isMap, page, pages, asked } of all) {
          for (const each of asked) bench.ask(BigInt(each) << 12n)
          const [from, length] = [BigInt(page) << 12n, BigInt(pages) << 12n]
          const outcome = isMap ? bench.map(from, length, 0x40_0000_0000n + from) : bench.unmap(from, length)
          if (outcome.ok) bench.machine.carryOut(outcome.effects)
          for (let at = from - 0x4000n; at < from + length + 0x4000n; at += 0x1000n) {
            if (at < 0n) continue
            const isMapped = bench.machine.driver.translate(1, iova(at)) !== undefined
            expect(bench.ask(at)).toBe(isMapped ? 'translated' : 'fault')
          }
        }
      }),
      { numRuns: runs(25), endOnFailure: true },
    )
  })
})

describe('a flush without the range of the pages (S31)', () => {
  /** What a device gets from a page that was unmapped, along with the table that it was in. */
  function afterUnmap(options: MachineOptions, ...mutants: Mutant[]): { kind: string; lines: string[] } {
    const bench = new Bench({ ...options, mutants: new Set(mutants) })
    bench.machine.run(bench.map(0x200000n, 0x200000n))
    expect(bench.ask(0x234000n)).toBe('translated')
    const lines = withoutTables(bench.machine.tell(bench.unmap(0x200000n, 0x200000n)))
    return { kind: bench.ask(0x234000n), lines }
  }

  it('drops directory entries, and leaves the page cached', () => {
    const { kind, lines } = afterUnmap(emulated, 'S31')
    expect(lines).toEqual(['PAGES 1 fffffffffffff000+1000 PDE', 'WAIT'])
    expect(kind).toBe('translated')
  })

  it('is a mistake that the driver does not make', () => {
    expect(afterUnmap(emulated)).toEqual({ kind: 'fault', lines: ['PAGES 1 200000+200000 PDE', 'WAIT'] })
    expect(afterUnmap({}).kind).toBe('fault')
  })
})

describe('lazily', () => {
  it('unmapped pages stay in use until the domain is flushed, all at once', () => {
    const bench = new Bench()
    const { machine } = bench
    for (const page of [0x5000n, 0x6000n, 0x7000n]) machine.run(bench.map(page, 0x1000n))
    for (const page of [0x5000n, 0x7000n]) expect(bench.ask(page)).toBe('translated')
    for (const page of [0x5000n, 0x7000n]) {
      expect(withoutTables(machine.tell(bench.unmap(page, 0x1000n, 'lazy')))).toEqual([])
    }
    expect(bench.ask(0x7000n)).toBe('translated')
    expect(machine.tell(machine.driver.flush(1))).toEqual(['PAGES 1 all PDE', 'WAIT'])
    for (const page of [0x5000n, 0x7000n]) expect(bench.ask(page)).toBe('fault')
    expect(machine.tell(machine.driver.flush(1))).toEqual([])
  })

  it('a domain that is not there, or has no table, has nothing to flush', () => {
    const { machine } = new Bench()
    expect(machine.refusal(() => machine.driver.flush(77))).toBe('ENOENT no-such-domain')
    const identity = machine.run(machine.driver.allocateIdentity())
    expect(machine.refusal(() => machine.driver.flush(identity))).toBe('EINVAL no-own-table')
  })

  it('flushing a domain from which nothing was unmapped is nothing', () => {
    const bench = new Bench()
    bench.machine.run(bench.map(0x5000n, 0x1000n))
    expect(bench.machine.tell(bench.machine.driver.flush(1))).toEqual([])
    bench.machine.run(bench.unmap(0x5000n, 0x1000n))
    expect(bench.machine.tell(bench.machine.driver.flush(1))).toEqual([])
  })

  /** How many tables can still be made. */
  const tablesLeft = (machine: Machine): number => {
    const copy = machine.fork()
    let left = 0
    while (copy.driver.allocateHostTable().ok) left += 1
    return left
  }

  it('tables go back to the allocator after the flush only', () => {
    const bench = new Bench({ pages: { first: spa(0x100000n), pages: 40 } })
    const { machine } = bench
    const before = tablesLeft(machine)
    machine.run(bench.map(0x200000n, 0x200000n))
    machine.run(bench.unmap(0x200000n, 0x200000n, 'lazy'))
    expect(tablesLeft(machine)).toBe(before - 2)
    machine.run(machine.driver.flush(1))
    expect(tablesLeft(machine)).toBe(before - 1)
  })

  it('freeing the domain flushes first, and gives every table back', () => {
    const bench = new Bench({ pages: { first: spa(0x100000n), pages: 40 } })
    const { machine } = bench
    const { driver } = machine
    const before = tablesLeft(machine)
    machine.run(bench.map(0x200000n, 0x200000n))
    machine.run(bench.unmap(0x200000n, 0x200000n, 'lazy'))
    machine.run(driver.detach(deviceId))
    expect(machine.tell(driver.freeDomain(1)).slice(0, 2)).toEqual(['PAGES 1 all PDE', 'WAIT'])
    expect(tablesLeft(machine)).toBe(before + 1)
  })

  it('a domain in use is not freed, and stays unflushed', () => {
    const bench = new Bench()
    bench.machine.run(bench.map(0x200000n, 0x200000n))
    bench.machine.run(bench.unmap(0x200000n, 0x200000n, 'lazy'))
    expect(bench.machine.refusal(() => bench.machine.driver.freeDomain(1))).toBe('EBUSY domain-in-use')
  })
})

describe('a gibibyte in pages of 4 KiB', () => {
  it('is planned in one effect for each table and one for each entry that leads to it', () => {
    const bench = new Bench()
    const mapped = bench.map(0n, 1n << 30n)
    if (!mapped.ok) throw new Error(mapped.why)
    // 512 tables and the one above them.
    expect(mapped.effects.length).toBe(2 * 512 + 1)
    bench.machine.carryOut(mapped.effects)
    const unmapped = bench.unmap(0n, 1n << 30n)
    expect(unmapped).toMatchObject({ value: 1n << 30n })
    expect(bench.machine.tell(unmapped).length).toBe(2 * 512 + 1 + 2)
  })
})
