/**
 * Many random cases, one after the other, and what came of them.
 *
 * @packageDocumentation
 */
import { InteropError } from '../interop-error.js'
import type { Departure } from './departures.js'
import type { DifferentialCase } from './differential-case.js'
import { generateCase } from './generate/generate.js'
import type { Laboratory } from './laboratory.js'
import { Safety } from './safety.js'
import { shrink } from './shrink.js'
import type { Verdict } from './verdict.js'

/** A difference that nobody has explained, made small. */
export interface FoundDifference {
  readonly testCase: DifferentialCase
  readonly verdict: Extract<Verdict, { kind: 'difference' }>
}

/** What came of all cases. */
export interface CampaignResult {
  readonly cases: number
  /** Cases in which the implementations did the same, and those in which they differ as agreed. */
  readonly same: number
  readonly agreed: number
  /** Cases with a difference that is not agreed. */
  readonly failed: number
  /** The first of them. */
  readonly found: readonly FoundDifference[]
  /** In how many cases each agreed difference showed. */
  readonly counts: ReadonlyMap<Departure, number>
  /** DMA requests compared. */
  readonly requests: number
  readonly seconds: number
}

export interface CampaignOptions {
  readonly cases: number
  readonly seed: number
  /** Told after each case. */
  readonly onCase?: (done: number) => void
}

/** Differences that are made small; one more is merely counted. */
const foundMax = 3

/** @throws InteropError if QEMU fails; it tells at which case */
export async function runCampaign(
  laboratory: Laboratory,
  { cases, seed, onCase }: CampaignOptions,
): Promise<CampaignResult> {
  const safety = new Safety()
  const counts = new Map<Departure, number>()
  const found: FoundDifference[] = []
  const kinds = { same: 0, agreed: 0, difference: 0 }
  const start = performance.now()
  const requestsBefore = laboratory.requests
  for (let n = 0; n < cases; n++) {
    const testCase = safety.made(generateCase(seed, n))
    const verdict = await judged(laboratory, testCase)
    kinds[verdict.kind]++
    if (verdict.kind !== 'difference') {
      for (const each of verdict.departures) counts.set(each, (counts.get(each) ?? 0) + 1)
    } else if (found.length < foundMax) found.push(await shrunk(laboratory, safety, { testCase, verdict }))
    onCase?.(n + 1)
  }
  return {
    cases,
    same: kinds.same,
    agreed: kinds.agreed,
    failed: kinds.difference,
    found,
    counts,
    requests: laboratory.requests - requestsBefore,
    seconds: (performance.now() - start) / 1000,
  }
}

async function judged(laboratory: Laboratory, testCase: DifferentialCase): Promise<Verdict> {
  try {
    return await laboratory.run(testCase)
  } catch (error) {
    if (error instanceof InteropError) throw new InteropError(`at ${testCase.origin}: ${error.message}`)
    throw error
  }
}

/** The same difference in a smaller case: between the same two. */
export async function shrunk(
  laboratory: Laboratory,
  safety: Safety,
  { testCase, verdict }: FoundDifference,
): Promise<FoundDifference> {
  let last = verdict
  const smallest = await shrink(testCase, async (smaller) => {
    if (!safety.isSafe(smaller)) return false
    const now = await judged(laboratory, smaller)
    if (now.kind !== 'difference' || now.between !== verdict.between) return false
    last = now
    return true
  })
  return { testCase: { ...smallest, origin: `${testCase.origin}, made smaller` }, verdict: last }
}
