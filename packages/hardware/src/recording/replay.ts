/**
 * Replays a snapshot: asks the chip every query of it and compares the answers.
 *
 * @packageDocumentation
 */
import { mmio } from '../mmio.js'
import { ColdChip } from './cold-chip.js'
import { compare } from './compare.js'
import type { Difference } from './compare.js'
import type { Query } from './query.js'
import type { SwitchChoices } from '../switches.js'
import type { Snapshot } from './snapshot.js'

/** Why a query cannot be compared. */
export type SkipReason =
  /** The driver had not set the device table base yet. */
  'no-device-table'

/** A query on which the chip and the recording do not agree. */
export interface Mismatch extends Difference {
  /** Index in the snapshot's queries. */
  readonly query: number
  readonly src: Query['src']
}

/** Each query is either compared or skipped; a query counts once, however many requests it takes. */
export interface Replay {
  readonly queries: number
  readonly compared: number
  readonly skipped: Readonly<Partial<Record<SkipReason, number>>>
  readonly mismatches: readonly Mismatch[]
  /** Requests that the chip was asked. */
  readonly requests: number
  /** Queries compared whose answer depends on an open point of the manual, by the point's name. */
  readonly openCompared: Readonly<Record<string, number>>
}

/**
 * See the file's comment. Each query is asked from cold caches, and none sees what another did.
 *
 * @param switches - choices where the manual leaves one; the recorded answers follow the defaults
 */
export function replay(snapshot: Snapshot, switches: Partial<SwitchChoices> = {}): Replay {
  const { queries, registers } = snapshot
  if (!registers.has(mmio.deviceTableBase)) return skipAll(queries.length, 'no-device-table')
  const chip = new ColdChip(snapshot, switches)
  const mismatches: Mismatch[] = []
  const openCompared: Record<string, number> = {}
  queries.forEach((query, index) => {
    const difference = compare(chip, query)
    if (difference !== undefined) mismatches.push({ query: index, src: query.src, ...difference })
    for (const name of query.src === 'model' ? query.open : []) {
      openCompared[name] = (openCompared[name] ?? 0) + 1
    }
  })
  return {
    queries: queries.length,
    compared: queries.length,
    skipped: {},
    mismatches,
    requests: chip.requests,
    openCompared,
  }
}

const skipAll = (queries: number, reason: SkipReason): Replay => ({
  queries,
  compared: 0,
  skipped: queries === 0 ? {} : { [reason]: queries },
  mismatches: [],
  requests: 0,
  openCompared: {},
})
