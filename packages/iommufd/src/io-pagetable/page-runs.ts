/**
 * Where pages of a memory are, and how often each is in use: run-length, so that contiguous memory costs little.
 *
 * @packageDocumentation
 */
import { InternalError } from '@nestwalk/driver'
import type { PhysicalRun } from '../process.js'

const pageBytes = 4096n

/** Pages of a memory, by their numbers. */
export interface PageSpan {
  readonly first: number
  readonly pages: number
}

interface UsedRun {
  readonly first: number
  readonly pages: number
  /** Physical address of the first. */
  readonly physical: bigint
  uses: number
}

/** Adds pages behind others, to the last run where they adjoin. */
export function appendRun(runs: PhysicalRun[], first: bigint, pages: number): void {
  const last = runs.at(-1)
  if (last !== undefined && last.first + BigInt(last.pages) * pageBytes === first) {
    runs[runs.length - 1] = { first: last.first, pages: last.pages + pages }
  } else runs.push({ first, pages })
}

/** See the file's comment. Runs are as long as they can be: adjoining in memory, and used equally often. */
export class PageRuns {
  /** In order, without overlap. */
  #runs: UsedRun[]
  /** The runs are also those of a fork, and must be copied before a change. */
  #isShared = false

  private constructor(runs: UsedRun[]) {
    this.#runs = runs
  }

  static create(): PageRuns {
    return new PageRuns([])
  }

  fork(): PageRuns {
    const forked = new PageRuns(this.#runs)
    forked.#isShared = this.#isShared = this.#runs.length > 0
    return forked
  }

  snapshot(): unknown {
    return this.#runs.map((run) => [run.first, run.pages, run.physical, run.uses])
  }

  /** All of them, in order of the pages. */
  *[Symbol.iterator](): Iterator<PhysicalRun> {
    for (const run of this.#runs) yield { first: run.physical, pages: run.pages }
  }

  get pages(): number {
    return this.#runs.reduce((sum, run) => sum + run.pages, 0)
  }

  /** Which pages of a span are not here. */
  missing(first: number, pages: number): PageSpan[] {
    const gaps: PageSpan[] = []
    const end = first + pages
    let next = first
    for (let i = this.#from(first); next < end; i++) {
      const run = this.#runs[i]
      const stop = run === undefined || run.first > end ? end : run.first
      if (stop > next) gaps.push({ first: next, pages: stop - next })
      if (run === undefined) break
      next = run.first + run.pages
    }
    return gaps
  }

  /** Where a span is, all of which is here. */
  runsOf(first: number, pages: number): PhysicalRun[] {
    const found: PhysicalRun[] = []
    const end = first + pages
    for (let i = this.#from(first), next = first; next < end; i++) {
      const run = this.#runs[i]
      if (run === undefined || run.first > next) throw new InternalError(`page ${next} is not held`)
      const stop = Math.min(run.first + run.pages, end)
      appendRun(found, run.physical + BigInt(next - run.first) * pageBytes, stop - next)
      next = stop
    }
    return found
  }

  /** Number of the page at a physical address, a multiple of 4096. */
  numberOf(physical: bigint): number | undefined {
    for (const run of this.#runs) {
      const after = physical - run.physical
      if (after >= 0n && after < BigInt(run.pages) * pageBytes) return run.first + Number(after / pageBytes)
    }
    return undefined
  }

  /** Adds a span that is not here, unused. */
  add(first: number, runs: readonly PhysicalRun[]): void {
    this.#own()
    const merged: PhysicalRun[] = []
    for (const run of runs) appendRun(merged, run.first, run.pages)
    let next = first
    const added = merged.map((run) => {
      const used = { first: next, pages: run.pages, physical: run.first, uses: 0 }
      next += run.pages
      return used
    })
    const at = this.#from(first)
    this.#runs =
      at === this.#runs.length
        ? this.#runs.concat(added)
        : [...this.#runs.slice(0, at), ...added, ...this.#runs.slice(at)]
  }

  /** Counts one use more of a span, all of which is here. */
  use(first: number, pages: number): void {
    this.#own()
    const start = this.#cut(first)
    const end = this.#cut(first + pages)
    for (let i = start; i < end; i++) this.#run(i).uses++
    this.#join(end)
    this.#join(start)
  }

  /** Counts one use less. Returns what nobody uses any more, which is no longer here. */
  drop(first: number, pages: number): PageSpan[] {
    this.#own()
    const start = this.#cut(first)
    const end = this.#cut(first + pages)
    const unused: PageSpan[] = []
    let kept = start
    for (let i = start; i < end; i++) {
      const run = this.#run(i)
      run.uses--
      if (run.uses > 0) this.#runs[kept++] = run
      else addSpan(unused, run)
    }
    this.#runs.splice(kept, end - kept)
    this.#join(kept)
    this.#join(start)
    return unused
  }

  /** Number of the first run that ends behind a page. */
  #from(page: number): number {
    let low = 0
    let high = this.#runs.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const run = this.#run(middle)
      if (run.first + run.pages > page) high = middle
      else low = middle + 1
    }
    return low
  }

  /** Makes a page the first of its run. Returns the number of the run there, or of the next. */
  #cut(page: number): number {
    const at = this.#from(page)
    const run = this.#runs[at]
    if (run === undefined || run.first >= page) return at
    const pages = page - run.first
    const rest = {
      first: page,
      pages: run.pages - pages,
      physical: run.physical + BigInt(pages) * pageBytes,
      uses: run.uses,
    }
    this.#runs.splice(at, 1, { ...run, pages }, rest)
    return at + 1
  }

  /** Makes one of a run and the one before, where they are alike. */
  #join(at: number): void {
    const before = this.#runs[at - 1]
    const run = this.#runs[at]
    if (before === undefined || run === undefined) return
    if (before.uses !== run.uses || before.first + before.pages !== run.first) return
    if (before.physical + BigInt(before.pages) * pageBytes !== run.physical) return
    this.#runs.splice(at - 1, 2, { ...before, pages: before.pages + run.pages })
  }

  #own(): void {
    if (!this.#isShared) return
    this.#runs = this.#runs.map((run) => ({ ...run }))
    this.#isShared = false
  }

  #run(at: number): UsedRun {
    const run = this.#runs[at]
    if (run === undefined) throw new InternalError(`there is no run ${at} of pages`)
    return run
  }
}

function addSpan(spans: PageSpan[], { first, pages }: PageSpan): void {
  const last = spans.at(-1)
  if (last !== undefined && last.first + last.pages === first) {
    spans[spans.length - 1] = { first: last.first, pages: last.pages + pages }
  } else spans.push({ first, pages })
}
