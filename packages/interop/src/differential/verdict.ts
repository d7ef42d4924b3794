/**
 * What comes of a case: the same, an agreed difference, or one that nobody has explained.
 *
 * Agreed means: our chip did what the manual says, to the last word, and QEMU what is known of it. So an answer of our
 * chip's that is wrong is never taken for a known weakness of QEMU's, nor a new weakness of QEMU's for an old one.
 *
 * @packageDocumentation
 */
import { discrepanciesOf } from './compare.js'
import type { Discrepancy } from './compare.js'
import type { Departure } from './departures.js'
import type { DifferentialCase } from './differential-case.js'
import type { Observation } from './observation.js'

/** What the four machines showed of a case. */
export interface Testimony {
  readonly ours: Observation
  readonly qemu: Observation
  readonly manual: Observation
  readonly known: Observation
  /** Departures from the manual, those before the first step first. */
  readonly departures: readonly ReadonlySet<Departure>[]
}

export type Verdict =
  | {
      /** Whether there was anything to agree on. */
      readonly kind: 'same' | 'agreed'
      readonly departures: ReadonlySet<Departure>
    }
  | {
      readonly kind: 'difference'
      /** Whom the discrepancies are between: the first is the one that is doubted. */
      readonly between: Parties
      readonly discrepancies: readonly Discrepancy[]
    }

export type Parties = 'our chip and the manual' | 'QEMU and what is known of it' | 'our chip and QEMU'

export function judge(testCase: DifferentialCase, said: Testimony): Verdict {
  const wrong = discrepanciesOf(testCase, said.ours, said.manual, 'named')
  if (wrong.length > 0) return difference('our chip and the manual', wrong)
  const unknown = discrepanciesOf(testCase, said.qemu, said.known, 'whole')
  if (unknown.length > 0) return difference('QEMU and what is known of it', unknown)
  const differing = discrepanciesOf(testCase, said.ours, said.qemu, 'named')
  const unlisted = differing.filter(({ step }) => reasonsFor(step, said.departures).length === 0)
  if (unlisted.length > 0) return difference('our chip and QEMU', unlisted)
  const reasons = differing.flatMap(({ step }) => reasonsFor(step, said.departures))
  return {
    kind: differing.length === 0 ? 'same' : 'agreed',
    departures: new Set([...reasons, ...operandDepartures(said)]),
  }
}

/** Of events only code and DeviceID are compared; that the rest is not alike is listed like all that is not alike. */
function operandDepartures({ ours, qemu }: Testimony): Departure[] {
  const differ = ours.steps.some(({ events }, n) =>
    events.some((event, k) => {
      const beside = qemu.steps[n]?.events[k]
      return beside !== undefined && (beside.lo !== event.lo || beside.hi !== event.hi)
    }),
  )
  return differ ? ['event-operands'] : []
}

const difference = (between: Parties, discrepancies: readonly Discrepancy[]): Verdict => ({
  kind: 'difference',
  between,
  discrepancies,
})

/** The departures of a step; of all steps before it, where it has none of its own and merely follows. */
function reasonsFor(step: number | undefined, departures: readonly ReadonlySet<Departure>[]): Departure[] {
  const own = step === undefined ? undefined : departures[step + 1]
  if (own !== undefined && own.size > 0) return [...own]
  const before = step === undefined ? departures : departures.slice(0, step + 1)
  return before.flatMap((each) => [...each])
}
