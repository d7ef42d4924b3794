/**
 * Where two observations of one case differ.
 *
 * @packageDocumentation
 */
import { hex } from '@nestwalk/bits'
import { arena, arenaDevices, halfBufferBytes, pageBytes, patternOf, slotBytes } from './arena.js'
import type { DifferentialCase } from './differential-case.js'
import { codeOf, deviceOf } from './observation.js'
import type { LoggedEvent, Observation, StepObservation } from './observation.js'

/** One thing that two machines do not show alike. */
export interface Discrepancy {
  /** The step that it belongs to; undefined where that cannot be told. */
  readonly step: number | undefined
  readonly what: string
  readonly one: string
  readonly other: string
}

/** How events are compared: by code and DeviceID, or all 128 bits. */
export type EventDetail = 'named' | 'whole'

export function discrepanciesOf(
  testCase: DifferentialCase,
  one: Observation,
  other: Observation,
  detail: EventDetail,
): Discrepancy[] {
  const steps = one.steps.flatMap((step, n) => {
    const beside = other.steps[n]
    return beside === undefined ? [] : stepDiscrepancies(n, step, beside, detail)
  })
  return [...steps, ...wordDiscrepancies(testCase, one, other)]
}

function stepDiscrepancies(
  step: number,
  one: StepObservation,
  other: StepObservation,
  detail: EventDetail,
): Discrepancy[] {
  const values: readonly (readonly [string, string, string])[] = [
    ['command head', hex(one.commandHead), hex(other.commandHead)],
    ['event tail', hex(one.eventTail), hex(other.eventTail)],
    ['status', hex(one.status), hex(other.status)],
    ['read-back', shown(one.readBack), shown(other.readBack)],
    ['events', eventsShown(one.events, detail), eventsShown(other.events, detail)],
  ]
  return values
    .filter(([, left, right]) => left !== right)
    .map(([what, left, right]) => ({ step, what, one: left, other: right }))
}

const shown = (value: bigint | undefined): string => (value === undefined ? 'none' : hex(value))

const eventsShown = (events: readonly LoggedEvent[], detail: EventDetail): string =>
  events.length === 0
    ? 'none'
    : events
        .map((event) =>
          detail === 'whole'
            ? `${hex(event.lo)}:${hex(event.hi)}`
            : `code ${codeOf(event)} of device ${hex(deviceOf(event))}`,
        )
        .join(', ')

function wordDiscrepancies(testCase: DifferentialCase, one: Observation, other: Observation): Discrepancy[] {
  const addresses = new Set([...one.words.keys(), ...other.words.keys()])
  return [...addresses]
    .filter((address) => one.words.get(address) !== other.words.get(address))
    .map((address) => ({
      step: stepOfWord(testCase, address, [one.words.get(address), other.words.get(address)]),
      what: `word at ${hex(address)}`,
      one: unchangedOr(one.words.get(address)),
      other: unchangedOr(other.words.get(address)),
    }))
}

const unchangedOr = (value: bigint | undefined): string => (value === undefined ? 'unchanged' : hex(value))

/** The step that a word of memory tells of: what a device read, or which of them wrote last. */
function stepOfWord(
  testCase: DifferentialCase,
  address: number,
  values: readonly (bigint | undefined)[],
): number | undefined {
  const inDump = address - arena.dump
  const isDump = inDump >= 0 && inDump < arenaDevices.length * pageBytes
  const device = Math.floor(inDump / pageBytes)
  const inPage = inDump % pageBytes
  if (isDump && inPage < halfBufferBytes) return stepOfSlot(testCase, device, Math.floor(inPage / slotBytes))
  const halves = values.flatMap((value = 0n) => [Number(value & 0xffff_ffffn), Number(value >> 32n)])
  const steps = halves.map((half) => stepOfPattern(testCase, half)).filter((step) => step !== undefined)
  return steps.length === 0 ? undefined : Math.max(...steps)
}

function stepOfPattern(testCase: DifferentialCase, word: number): number | undefined {
  const device = (word >>> 20) & 0xff
  const slot = (word >>> 8) & 0xff
  return patternOf(device, slot, word & 0xff) === word ? stepOfSlot(testCase, device, slot) : undefined
}

/** The step with the n-th DMA of a device. */
function stepOfSlot(testCase: DifferentialCase, device: number, slot: number): number | undefined {
  let seen = 0
  const at = testCase.steps.findIndex(
    (step) => step.kind === 'dma' && step.device === device && seen++ === slot,
  )
  return at < 0 ? undefined : at
}
