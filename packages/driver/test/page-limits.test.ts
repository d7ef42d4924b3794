/** Mapping with a limit on the size of pages, and which page an address lies in. */
import { iova, spa } from '@nestwalk/bits'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Machine, readWrite } from './machine.js'

const mib = 1n << 20n

/** A domain with a table of a kind, and how it answers. */
function tableOf(kind: 'host' | 'guest') {
  const machine = Machine.create()
  const { driver } = machine
  const made = kind === 'host' ? driver.allocateHostTable() : driver.allocateGuestTable()
  const domain = machine.run(made)
  const map = (from: bigint, to: bigint, length: bigint, largestLog2?: number): void => {
    const limit = largestLog2 === undefined ? {} : { largestLog2 }
    machine.run(driver.map(domain, iova(from), spa(to), length, { ...readWrite, ...limit }))
  }
  return { machine, driver, domain, map }
}

describe('the page that an address lies in', () => {
  it.each(['host', 'guest'] as const)('is the whole page of a %s table, wherever it is asked for', (kind) => {
    const { driver, domain, map } = tableOf(kind)
    map(0x20_0000n, 0x40_0000n, 2n * mib)
    map(0x1000n, 0x9000n, 0x1000n)
    for (const address of [0x20_0000n, 0x2f_1234n, 0x3f_ffffn]) {
      expect(driver.pageAt(domain, iova(address))).toEqual({ first: 0x20_0000n, last: 0x3f_ffffn })
    }
    expect(driver.pageAt(domain, iova(0x1fffn))).toEqual({ first: 0x1000n, last: 0x1fffn })
  })

  it('of a host table may have a size between those of two levels', () => {
    const { driver, domain, map } = tableOf('host')
    map(0x4000n, 0x8000n, 0x4000n)
    expect(driver.pageAt(domain, iova(0x6abcn))).toEqual({ first: 0x4000n, last: 0x7fffn })
  })

  it('is none where nothing is mapped, above the table, and without a table', () => {
    const { machine, driver, domain, map } = tableOf('host')
    map(0x4000n, 0x8000n, 0x4000n)
    expect(driver.pageAt(domain, iova(0x3fffn))).toBeUndefined()
    expect(driver.pageAt(domain, iova(0x8000n))).toBeUndefined()
    expect(driver.pageAt(domain, iova(1n << 60n))).toBeUndefined()
    expect(driver.pageAt(machine.run(driver.allocateIdentity()), iova(0n))).toBeUndefined()
  })
})

describe('a limit on the size of pages', () => {
  it.each(['host', 'guest'] as const)('of 4 KiB makes every page of a %s table one of 4 KiB', (kind) => {
    const { driver, domain, map } = tableOf(kind)
    map(0x20_0000n, 0x40_0000n, 4n * mib, 12)
    for (const address of [0x20_0000n, 0x20_1000n, 0x3f_f000n, 0x5f_f000n]) {
      expect(driver.pageAt(domain, iova(address))).toEqual({ first: address, last: address + 0xfffn })
      expect(driver.translate(domain, iova(address + 8n))).toBe(address + 0x20_0008n)
    }
  })

  it('lets a page be as large as the limit and the addresses allow', () => {
    const largest = fc.integer({ min: 12, max: 30 })
    const place = fc.record({
      from: fc.integer({ min: 0, max: 0x3fff }),
      to: fc.integer({ min: 0, max: 0x3fff }),
      isCongruent: fc.boolean(),
      pages: fc.integer({ min: 1, max: 0x900 }),
    })
    fc.assert(
      fc.property(largest, place, (limit, { from: a, to: b, isCongruent, pages }) => {
        const { driver, domain, map } = tableOf('host')
        const [from, length] = [BigInt(a) << 12n, BigInt(pages) << 12n]
        const to = isCongruent ? from + 0x4000_0000n : BigInt(b) << 12n
        map(from, to, length, limit)
        for (let done = 0n; done < length;) {
          const fits = [30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12].find(
            (size) => {
              const bytes = 1n << BigInt(size)
              const isAligned = ((from + done) | (to + done)) % bytes === 0n
              return size <= limit && isAligned && bytes <= length - done
            },
          )!
          const first = from + done
          done += 1n << BigInt(fits)
          expect(driver.pageAt(domain, iova(first))).toEqual({ first, last: from + done - 1n })
          expect(driver.translate(domain, iova(first))).toBe(to + first - from)
        }
      }),
      { numRuns: 15 },
    )
  })
})
