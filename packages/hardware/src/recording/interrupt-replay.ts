/**
 * Replays recorded interrupts: asks the chip each of them and compares the messages that go out.
 *
 * A driver moves interrupts by changing their entries, so the entry that an interrupt used need not stand in a snapshot
 * taken later. Where it does, the snapshot's memory is used as it is. Otherwise the recorded entry is put where it was
 * recorded, and what is compared is that the chip finds it there, and what it makes of it. In both cases the place of
 * the entry follows from the snapshot's device table alone.
 *
 * @packageDocumentation
 */
import { hex } from '@nestwalk/bits'
import { deviceId, formatDeviceId } from '../layout/device-id.js'
import { mmio } from '../mmio.js'
import type { Difference } from './compare.js'
import { InterruptChip } from './interrupt-chip.js'
import type { InterruptAnswer } from './interrupt-chip.js'
import type { RecordedInterrupt, RecordedMessage } from './interrupt-records.js'
import type { Snapshot } from './snapshot.js'

/** Why an interrupt cannot be compared. */
export type InterruptSkipReason =
  /** No snapshot has a device table. */
  | 'no-snapshot'
  /** What went out was not recorded. */
  | 'no-message'
  /** A table entry was used, but not recorded, or it was a short one. */
  | 'no-entry'
  /** No table was used, though the chip would have used one, and whether it was on is not known. */
  | 'enable-unknown'
  /** The entry was recorded at an address that no snapshot has, or that is not aligned. */
  | 'no-place'

/** An interrupt on which the chip and the recording do not agree. */
export interface InterruptMismatch extends Difference {
  /** Line of the trace. */
  readonly line: number
}

/** Each interrupt is either compared or skipped. */
export interface InterruptReplay {
  readonly interrupts: number
  readonly compared: number
  /** What those compared were asked of; the three add up to `compared`. */
  readonly asked: {
    /** The memory of a snapshot as it is. */
    readonly snapshot: number
    /** The memory of a snapshot with the recorded entry put in its place. */
    readonly recordedEntry: number
    /** A chip that is off: the interrupt came before the driver switched it on. */
    readonly off: number
  }
  readonly skipped: Readonly<Partial<Record<InterruptSkipReason, number>>>
  readonly mismatches: readonly InterruptMismatch[]
}

/** How an interrupt was compared, and what came of it. */
interface Comparison {
  readonly asked: keyof InterruptReplay['asked']
  readonly answer: InterruptAnswer
}

/**
 * See the file's comment.
 *
 * @param snapshots - of the machine whose interrupts they are; the first one that has an interrupt's entry serves it
 */
export function replayInterrupts(
  snapshots: readonly Snapshot[],
  interrupts: readonly RecordedInterrupt[],
): InterruptReplay {
  const chips = snapshots
    .filter(({ registers }) => registers.has(mmio.deviceTableBase))
    .map((snapshot) => new InterruptChip(snapshot))
  const off = new InterruptChip(undefined)
  const asked = { snapshot: 0, recordedEntry: 0, off: 0 }
  const skipped: Partial<Record<InterruptSkipReason, number>> = {}
  const mismatches: InterruptMismatch[] = []
  for (const interrupt of interrupts) {
    const { out } = interrupt
    const comparison = ask(chips, off, interrupt)
    if (out === undefined || typeof comparison === 'string') {
      const reason = typeof comparison === 'string' ? comparison : 'no-message'
      skipped[reason] = (skipped[reason] ?? 0) + 1
      continue
    }
    asked[comparison.asked] += 1
    const difference = compare(interrupt, out, comparison.answer)
    if (difference !== undefined) mismatches.push({ line: interrupt.line, ...difference })
  }
  const compared = asked.snapshot + asked.recordedEntry + asked.off
  return { interrupts: interrupts.length, compared, asked, skipped, mismatches }
}

function ask(
  chips: readonly InterruptChip[],
  off: InterruptChip,
  { deviceId, message, entry, isEnabled }: RecordedInterrupt,
): Comparison | InterruptSkipReason {
  if (entry === undefined) {
    if (isEnabled === false) return { asked: 'off', answer: off.ask(deviceId, message) }
    const [chip] = chips
    if (chip === undefined) return 'no-snapshot'
    const answer = chip.ask(deviceId, message)
    // A message that a chip lets pass when on, it lets pass when off: then it need not be known.
    if (isEnabled === undefined && answer.kind !== 'forwarded') return 'enable-unknown'
    return { asked: 'snapshot', answer }
  }
  const { words } = entry
  if (words === undefined) return 'no-entry'
  if (chips.length === 0) return 'no-snapshot'
  const place = entry.table + BigInt(entry.offset)
  let comparison: Comparison | undefined
  for (const chip of chips) {
    const stored = chip.entryAt(place)
    if (stored === undefined) continue
    if (stored[0] === words[0] && stored[1] === words[1]) {
      return { asked: 'snapshot', answer: chip.ask(deviceId, message) }
    }
    comparison ??= { asked: 'recordedEntry', answer: chip.askWith(place, words, stored, deviceId, message) }
  }
  return comparison ?? 'no-place'
}

/** Bytes of the entries that recordings tell. */
const entryBytes = 16

function compare(
  interrupt: RecordedInterrupt,
  out: RecordedMessage,
  answer: InterruptAnswer,
): Difference | undefined {
  const { message, entry } = interrupt
  const device = formatDeviceId(deviceId(interrupt.deviceId))
  const asked = `${device} writes ${show(message)}`
  if (entry !== undefined) {
    const expected = entry.table + BigInt(entry.offset)
    const isFound = answer.entry === expected && answer.index * entryBytes === entry.offset
    if (!isFound) {
      const got = answer.entry === 0n ? `no entry, ${answer.kind}` : `the entry at ${hex(answer.entry)}`
      return { asked, expected: `the entry at ${hex(expected)}`, got }
    }
  }
  const kind = entry === undefined ? 'forwarded' : 'remapped'
  if (answer.kind === kind && isSame(answer.message, out)) return undefined
  const got = answer.kind === 'aborted' ? 'aborted' : `${answer.kind}, ${show(answer.message)}`
  return { asked, expected: `${kind}, ${show(out)}`, got }
}

/** Level, bit 14: QEMU sets it always, and of an edge-triggered interrupt, bit 15 clear, it says nothing. */
const levelAssert = 1 << 14
const levelTriggered = 1 << 15

function isSame(a: RecordedMessage, b: RecordedMessage): boolean {
  const counts = (a.data & levelTriggered) === 0 ? ~levelAssert : -1
  return a.address === b.address && ((a.data ^ b.data) & counts) === 0
}

const show = ({ address, data }: RecordedMessage): string => `${hex(data)} to ${hex(address)}`
