/** Runs of pages against a list of single pages. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { PageRuns, appendRun } from '../../src/io-pagetable/page-runs.js'
import type { PhysicalRun } from '../../src/process.js'

const size = 24
/** Where each page is: runs of three, and two that happen to adjoin. */
const physical = Array.from({ length: size }, (_, page) => BigInt(page + Math.floor(page / 3) * 5) * 4096n)
physical[6] = physical[5]! + 4096n

const span = fc
  .tuple(fc.nat(size - 1), fc.integer({ min: 1, max: size }))
  .map(([first, pages]) => ({ first, pages: Math.min(pages, size - first) }))

const runsOf = (pages: readonly number[]): PhysicalRun[] => {
  const runs: PhysicalRun[] = []
  for (const page of pages) appendRun(runs, physical[page]!, 1)
  return runs
}

it('uses of pages are counted one by one, and runs are as long as they can be', () => {
  const action = fc.record({ span, isDrop: fc.boolean(), forks: fc.boolean() })
  fc.assert(
    fc.property(fc.array(action, { maxLength: 40, size: 'max' }), (actions) => {
      let runs = PageRuns.create()
      const uses = Array.from({ length: size }, () => 0)
      const used: { first: number; pages: number }[] = []
      const forks: { readonly fork: PageRuns; readonly before: unknown }[] = []
      for (const { span: next, isDrop, forks: isForked } of actions) {
        if (isForked) {
          forks.push({ fork: runs, before: runs.snapshot() })
          runs = runs.fork()
        }
        const { first, pages } = isDrop ? (used.pop() ?? next) : next
        const all = Array.from({ length: pages }, (_, i) => first + i)
        if (!isDrop) {
          const gaps = runs.missing(first, pages)
          expect(gaps.flatMap((gap) => Array.from({ length: gap.pages }, (_, i) => gap.first + i))).toEqual(
            all.filter((page) => uses[page] === 0),
          )
          for (const gap of gaps)
            runs.add(gap.first, runsOf(Array.from({ length: gap.pages }, (_, i) => gap.first + i)))
          runs.use(first, pages)
          for (const page of all) uses[page]!++
          used.push({ first, pages })
          expect(runs.runsOf(first, pages)).toEqual(runsOf(all))
        } else if (all.every((page) => uses[page]! > 0)) {
          for (const page of all) uses[page]!--
          const gone = runs.drop(first, pages)
          expect(gone.flatMap((gap) => Array.from({ length: gap.pages }, (_, i) => gap.first + i))).toEqual(
            all.filter((page) => uses[page] === 0),
          )
        }
        const expected: [number, number, bigint, number][] = []
        uses.forEach((count, page) => {
          const last = expected.at(-1)
          if (count === 0) return
          const isJoined =
            last !== undefined &&
            last[0] + last[1] === page &&
            last[3] === count &&
            last[2] + BigInt(last[1]) * 4096n === physical[page]
          if (isJoined) last[1]++
          else expected.push([page, 1, physical[page]!, count])
        })
        expect(runs.snapshot()).toEqual(expected)
        expect(runs.pages).toBe(uses.filter((count) => count > 0).length)
      }
      for (const { fork, before } of forks) expect(fork.snapshot()).toEqual(before)
    }),
  )
})
