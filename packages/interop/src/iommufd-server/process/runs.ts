/**
 * Pages of an object as physically contiguous runs.
 *
 * @packageDocumentation
 */
import { pageBytes } from '@nestwalk/iommufd'
import type { PhysicalRun } from '@nestwalk/iommufd'
import type { PhysicalPages } from './physical-pages.js'

/** The runs of `pages` pages from page `index` of an object on. @throws RangeError if there are no numbers left */
export function runsOf(numbers: PhysicalPages, object: string, index: number, pages: number): PhysicalRun[] {
  const runs: PhysicalRun[] = []
  for (let at = index; at < index + pages;) {
    const length = Math.min(numbers.contiguousFrom(at), index + pages - at)
    runs.push({ first: BigInt(numbers.numberOf(object, at)) * BigInt(pageBytes), pages: length })
    at += length
  }
  return runs
}

/** The same pages, with runs that go on where the one before ends made one. */
export function joined(runs: readonly PhysicalRun[]): PhysicalRun[] {
  const result: PhysicalRun[] = []
  for (const run of runs) {
    const last = result.at(-1)
    if (last !== undefined && last.first + BigInt(last.pages) * BigInt(pageBytes) === run.first) {
      result[result.length - 1] = { first: last.first, pages: last.pages + run.pages }
    } else {
      result.push(run)
    }
  }
  return result
}
