/** What the server keeps about processes: which pages are pinned, what is mapped, which numbers pages have. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseMaps } from '../src/iommufd-server/process/memory-map.js'
import { PhysicalPages } from '../src/iommufd-server/process/physical-pages.js'
import { PinnedPieces } from '../src/iommufd-server/process/pinned-pieces.js'
import { joined, runsOf } from '../src/iommufd-server/process/runs.js'

describe('pinned pieces', () => {
  it('say of every page what a list of pages says', () => {
    const step = fc.record({
      adds: fc.boolean(),
      first: fc.nat(30),
      count: fc.integer({ min: 1, max: 8 }),
      object: fc.constantFrom('a', 'b'),
      index: fc.nat(3),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
        const pieces = new PinnedPieces()
        const pages = new Map<number, string>()
        for (const { adds, first, count, object, index } of steps) {
          const range = Array.from({ length: count }, (_, at) => first + at)
          if (!adds) {
            const removed = pieces.remove(first, count)
            const named = removed.flatMap((piece) =>
              Array.from({ length: piece.pages }, (_, at) => [
                piece.first + at,
                `${piece.object}${piece.index + at}`,
              ]),
            )
            expect(named).toEqual(range.flatMap((page) => (pages.has(page) ? [[page, pages.get(page)]] : [])))
            for (const page of range) pages.delete(page)
          } else if (!range.some((page) => pages.has(page))) {
            // The same object and place for neighbours as often as not.
            pieces.add({ first, pages: count, object, index: first + index })
            for (const page of range) pages.set(page, `${object}${page + index}`)
          }
          for (let page = 0; page < 40; page++) {
            const found = pieces.at(page)
            const next = [...pages.keys()].filter((each) => each > page).sort((a, b) => a - b)[0] ?? Infinity
            if (typeof found === 'number') expect(found).toBe(next - page)
            else expect(`${found.object}${found.index + page - found.first}`).toBe(pages.get(page))
            expect(typeof found === 'number').toBe(!pages.has(page))
          }
        }
      }),
    )
  })
})

describe('/proc/PID/maps', () => {
  it('is read line by line', () => {
    const text = [
      '558000000000-558000001000 r--p 00000000 08:01 12 /usr/bin/x y',
      '7f0000000000-7f0000002000 rw-s 00003000 00:01 77 /memfd:buffer (deleted)',
      '7f0000002000-7f0000004000 -w-s 00000000 00:01 78 /dev/zero (deleted)',
      '7f0000200000-7f0000400000 rw-s 00000000 00:0e 79 /anon_hugepage (deleted)',
      '7ffc00000000-7ffc00001000 rw-p 00000000 00:00 0 [stack]',
      '7ffc00002000-7ffc00004000 r--p 00000000 00:00 0 [vvar]',
      'ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]',
      '',
    ].join('\n')
    expect(parseMaps(text)).toEqual([
      {
        ...{ start: 0x558000000000, end: 0x558000001000, isReadable: true, isWriteable: false },
        ...{ object: undefined, mayEnd: true, firstPage: 0x558000000, isHugePage: false },
      },
      {
        ...{ start: 0x7f0000000000, end: 0x7f0000002000, isReadable: true, isWriteable: true },
        ...{ object: '1:77', mayEnd: true, firstPage: 3, isHugePage: false },
      },
      {
        ...{ start: 0x7f0000002000, end: 0x7f0000004000, isReadable: false, isWriteable: true },
        ...{ object: '1:78', mayEnd: false, firstPage: 0, isHugePage: false },
      },
      {
        ...{ start: 0x7f0000200000, end: 0x7f0000400000, isReadable: true, isWriteable: true },
        ...{ object: '14:79', mayEnd: true, firstPage: 0, isHugePage: true },
      },
      {
        ...{ start: 0x7ffc00000000, end: 0x7ffc00001000, isReadable: true, isWriteable: true },
        ...{ object: undefined, mayEnd: false, firstPage: 0x7ffc00000, isHugePage: false },
      },
    ])
  })
})

describe('physical pages', () => {
  const windowPages = 1 << 18

  it('are neighbours where they are neighbours in an object, and no two are the same', () => {
    const pages = new PhysicalPages()
    const index = fc.nat(4 * windowPages)
    const seen = new Map<number, string>()
    fc.assert(
      fc.property(fc.constantFrom('a', 'b', 'c'), index, (object, at) => {
        const number = pages.numberOf(object, at)
        expect(seen.get(number) ?? `${object} ${at}`).toBe(`${object} ${at}`)
        seen.set(number, `${object} ${at}`)
        expect(number).toBeLessThan(2 ** 40)
        if (pages.contiguousFrom(at) > 1) expect(pages.numberOf(object, at + 1)).toBe(number + 1)
      }),
    )
  })

  it('of an object across pieces of a gibibyte are as many runs', () => {
    const pages = new PhysicalPages()
    pages.numberOf('object', 2 * windowPages)
    const runs = runsOf(pages, 'object', windowPages - 3, windowPages + 5)
    expect(runs.map((run) => run.pages)).toEqual([3, windowPages, 2])
    // The last piece has its number from before; those of the first two follow each other.
    expect(joined(runs).map((run) => run.pages)).toEqual([windowPages + 3, 2])
  })

  it('are given again when there are no more, but for those that are pinned', () => {
    const pages = new PhysicalPages((1 << 10) + 4)
    pages.pin('kept', 1)
    const kept = pages.numberOf('kept', 5)
    pages.numberOf('gone', 5)
    for (let window = 0; window < 2; window++) pages.numberOf('big', window * windowPages)
    const numbers = ['new', 'newer'].map((object) => pages.numberOf(object, 5))
    expect(numbers).not.toContain(kept)
    expect(pages.numberOf('kept', 5)).toBe(kept)
    pages.unpin('kept', 1)
    expect(pages.isPinned('kept')).toBe(false)
  })

  it('run out where all are pinned', () => {
    const pages = new PhysicalPages((1 << 10) + 4)
    pages.pin('big', 1)
    for (let window = 0; window < 4; window++) pages.numberOf('big', window * windowPages)
    expect(() => pages.numberOf('one more', 0)).toThrow(RangeError)
  })
})
