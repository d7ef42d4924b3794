/**
 * What a replay of many snapshots came to: totals, and the lines that tell them. At most 80 columns, but for the
 * mismatches, which are told in full.
 *
 * @packageDocumentation
 */
import type { InterruptReplay, Mismatch, Replay } from '@nestwalk/hardware'
import type { SnapshotFile } from './snapshot-files.js'

/** A mismatch and where it was found. */
interface FoundMismatch extends Mismatch {
  /** `case/name` */
  readonly snapshot: string
}

/** Sums over all snapshots; the object that `--json` prints. */
export interface ReplayTotals {
  readonly cases: number
  readonly snapshots: number
  readonly queries: number
  readonly compared: number
  readonly skipped: Readonly<Record<string, number>>
  readonly mismatches: number
  /** Requests that the chip was asked; a query may take many. */
  readonly requests: number
  /** Queries compared whose answer depends on an open point of the manual, by the point's name. */
  readonly open: Readonly<Record<string, number>>
  readonly firstMismatches: readonly FoundMismatch[]
  /** Recorded interrupts of devices: what came in, and the message that went out. */
  readonly interrupts: InterruptTotals
}

/** Sums over all traces. */
interface InterruptTotals {
  readonly traces: number
  readonly interrupts: number
  readonly compared: number
  readonly skipped: Readonly<Record<string, number>>
  readonly mismatches: number
  readonly firstMismatches: readonly (InterruptReplay['mismatches'][number] & { readonly trace: string })[]
}

/** The interrupts of one trace. */
export interface TraceReplay {
  /** `case/trace` */
  readonly trace: string
  readonly replay: InterruptReplay
}

/** How many mismatches are told in full. */
const mismatchesTold = 10

const nameWidthMax = 36
/** The row of a case's interrupts, below its snapshots. */
const interruptsLabel = '  interrupts'
const columns = ['queries', 'compared', 'skipped', 'mismatches'] as const
const columnWidths = [10, 10, 10, 12] as const

export const snapshotName = ({ caseName, name }: SnapshotFile): string => `${caseName}/${name}`

export function totalsOf(
  files: readonly SnapshotFile[],
  replays: readonly Replay[],
  traces: readonly TraceReplay[],
): ReplayTotals {
  const sum = (count: (replay: Replay) => number): number => replays.reduce((total, r) => total + count(r), 0)
  const found = replays.flatMap((replay, index) => {
    const file = files[index]
    const snapshot = file === undefined ? '' : snapshotName(file)
    return replay.mismatches.map((mismatch) => ({ snapshot, ...mismatch }))
  })
  return {
    cases: new Set(files.map(({ caseName }) => caseName)).size,
    snapshots: files.length,
    queries: sum(({ queries }) => queries),
    compared: sum(({ compared }) => compared),
    skipped: addUp(replays.map(({ skipped }) => skipped)),
    mismatches: found.length,
    requests: sum(({ requests }) => requests),
    open: addUp(replays.map(({ openCompared }) => openCompared)),
    firstMismatches: found.slice(0, mismatchesTold),
    interrupts: interruptTotalsOf(traces),
  }
}

function interruptTotalsOf(traces: readonly TraceReplay[]): InterruptTotals {
  const sum = (count: (replay: InterruptReplay) => number): number =>
    traces.reduce((total, { replay }) => total + count(replay), 0)
  const found = traces.flatMap(({ trace, replay }) =>
    replay.mismatches.map((mismatch) => ({ trace, ...mismatch })),
  )
  return {
    traces: traces.length,
    interrupts: sum(({ interrupts }) => interrupts),
    compared: sum(({ compared }) => compared),
    skipped: addUp(traces.map(({ replay }) => replay.skipped)),
    mismatches: found.length,
    firstMismatches: found.slice(0, mismatchesTold),
  }
}

/** Whether the chip disagrees with any recorded answer. */
export const disagrees = ({ mismatches, interrupts }: ReplayTotals): boolean =>
  mismatches + interrupts.mismatches > 0

/** Adds counts by name; the names come out sorted. */
function addUp(counts: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sums = new Map<string, number>()
  for (const each of counts) {
    for (const [name, n] of Object.entries(each)) sums.set(name, (sums.get(name) ?? 0) + n)
  }
  return Object.fromEntries([...sums].sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** Lines of a table whose first column fits the names of `files`. */
export class ReplayTable {
  private readonly nameWidth: number

  constructor(files: readonly SnapshotFile[]) {
    const longest = Math.max(interruptsLabel.length, ...files.map((file) => snapshotName(file).length))
    this.nameWidth = Math.min(longest, nameWidthMax)
  }

  heading(): string {
    return this.line('snapshot', columns)
  }

  row(file: SnapshotFile, { queries, compared, skipped, mismatches }: Replay): string {
    return this.line(snapshotName(file), [queries, compared, count(skipped), mismatches.length])
  }

  traceRow({ replay: { interrupts, compared, skipped, mismatches } }: TraceReplay): string {
    return this.line(interruptsLabel, [interrupts, compared, count(skipped), mismatches.length])
  }

  total({ queries, compared, skipped, mismatches, interrupts }: ReplayTotals): string {
    const both = { queries: queries + interrupts.interrupts, compared: compared + interrupts.compared }
    const left = count(skipped) + count(interrupts.skipped)
    return this.line('total', [both.queries, both.compared, left, mismatches + interrupts.mismatches])
  }

  private line(name: string, cells: readonly (string | number)[]): string {
    const isTooLong = name.length > this.nameWidth
    const shown = isTooLong ? `...${name.slice(name.length - this.nameWidth + 3)}` : name
    const padded = cells.map((cell, i) => String(cell).padStart(columnWidths[i] ?? 0))
    return `${shown.padEnd(this.nameWidth)}${padded.join('')}\n`
  }
}

const count = (skipped: Readonly<Record<string, number>>): number =>
  Object.values(skipped).reduce((total, n) => total + n, 0)

/** The first mismatches in full; empty where there are none. */
export function tellMismatches(totals: ReplayTotals): string {
  return tellQueries(totals) + tellInterrupts(totals.interrupts)
}

function tellInterrupts({ mismatches, firstMismatches }: InterruptTotals): string {
  if (mismatches === 0) return ''
  const texts = firstMismatches.map(
    ({ trace, line, asked, expected, got }) =>
      `  ${trace}, line ${line}: ${asked}\n    expected  ${expected}\n    got       ${got}\n`,
  )
  return `\n${plural(mismatches, 'interrupt')} with another answer:\n${texts.join('')}`
}

function tellQueries({ mismatches, firstMismatches }: ReplayTotals): string {
  if (mismatches === 0) return ''
  const told = firstMismatches.length
  const heading = told < mismatches ? `the first ${told} of ${mismatches} mismatches:` : 'mismatches:'
  const texts = firstMismatches.map(
    ({ snapshot, query, src, asked, expected, got }) =>
      `  ${snapshot}, query ${query} (${src}): ${asked}\n    expected  ${expected}\n    got       ${got}\n`,
  )
  return `\n${heading}\n${texts.join('')}`
}

/** The last lines: why queries were skipped, and the verdict. */
export function tellVerdict(totals: ReplayTotals): string {
  const skipped = Object.entries(addUp([totals.skipped, totals.interrupts.skipped])).map(
    ([reason, n]) => `skipped ${n}: ${reason}\n`,
  )
  const scope = `${plural(totals.snapshots, 'snapshot')} of ${plural(totals.cases, 'case')}`
  return `\n${skipped.join('')}${scope}: ${verdict(totals)}\n`
}

function verdict({ compared, mismatches: ofQueries, interrupts }: ReplayTotals): string {
  const mismatches = ofQueries + interrupts.mismatches
  if (mismatches > 0) return `the chip disagrees with ${plural(mismatches, 'answer')}`
  return compared + interrupts.compared === 0
    ? 'there was nothing to compare'
    : 'the chip agrees with every answer compared'
}

const plural = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? '' : 's'}`
