/**
 * The interrupts of a recorded trace: what came in, which table entry was used, what went out.
 *
 * A trace is text with one JSON object a line. Of its kinds `msi`, `irte`, `irte-ga` and `msi-out` make one interrupt,
 * in this order; `mmio-write` tells when the IOMMU was on, and `gap` that it is not known any more. Others do not count.
 *
 * @packageDocumentation
 */
import { mmio } from '../mmio.js'
import { Fields } from './fields.js'
import { RecordingError } from './recording-error.js'

/** A posted write of 32 bits. */
export interface RecordedMessage {
  readonly address: bigint
  readonly data: number
}

/** A table entry as it was used. */
interface RecordedEntry {
  /** Physical address of the table. */
  readonly table: bigint
  /** Of the entry, in bytes. */
  readonly offset: number
  /** The entry's 128 bits; undefined where they were not recorded, or the entry was a short one. */
  readonly words: readonly [lo: bigint, hi: bigint] | undefined
}

/** One interrupt of a device. */
export interface RecordedInterrupt {
  /** Line of the trace where it begins, from 1. */
  readonly line: number
  readonly deviceId: number
  readonly message: RecordedMessage
  /** Undefined where no table was looked at. */
  readonly entry: RecordedEntry | undefined
  /** What went on to the processors; undefined where the recording does not tell. */
  readonly out: RecordedMessage | undefined
  /** Control.IommuEn when it came; undefined where that is not known. */
  readonly isEnabled: boolean | undefined
}

/** An interrupt of which more records may follow. */
type Open = { -readonly [Name in keyof RecordedInterrupt]: RecordedInterrupt[Name] }

const controlBytes = 8n

/**
 * Reads the interrupts of a trace, from the beginning of which the IOMMU is as after a reset.
 *
 * @param text - the whole trace
 * @throws RecordingError for the first thing that is wrong, with the number of its line
 */
export function readInterruptRecords(text: string): RecordedInterrupt[] {
  const interrupts: Open[] = []
  let open: Open | undefined
  let isEnabled: boolean | undefined = false
  text.split('\n').forEach((lineText, index) => {
    if (lineText.trim() === '') return
    const line = index + 1
    const fields = Fields.of(parse(lineText, line), `line ${line}`)
    const kind = fields.text('k')
    if (kind === 'msi') {
      open = readInterrupt(fields, line, isEnabled)
      interrupts.push(open)
      return
    }
    if (kind === 'irte' || kind === 'irte-ga' || kind === 'msi-out') {
      open = continueWith(open, kind, fields)
      return
    }
    open = undefined
    if (kind === 'gap') isEnabled = undefined
    if (kind === 'mmio-write') isEnabled = enabledAfter(fields, isEnabled)
  })
  return interrupts
}

function parse(text: string, line: number): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    const problem = 'is no JSON, so nothing can be read from it: record the trace again'
    throw new RecordingError(`line ${line}`, problem, { cause })
  }
}

const readInterrupt = (fields: Fields, line: number, isEnabled: boolean | undefined): Open => ({
  line,
  deviceId: fields.small('devid', 0xffff),
  message: readMessage(fields),
  entry: undefined,
  out: undefined,
  isEnabled,
})

const readMessage = (fields: Fields): RecordedMessage => ({
  address: fields.number('addr'),
  data: fields.small('data', 0xffffffff),
})

/** Adds a record to the interrupt that it belongs to. Undefined: the interrupt is complete. */
function continueWith(
  open: Open | undefined,
  kind: 'irte' | 'irte-ga' | 'msi-out',
  fields: Fields,
): Open | undefined {
  if (open === undefined) throw stray(fields, kind, 'msi')
  switch (kind) {
    case 'irte':
      if (open.entry !== undefined) throw stray(fields, kind, 'msi')
      open.entry = {
        table: fields.number('table', addressMax),
        offset: fields.small('offset', offsetMax),
        words: undefined,
      }
      return open
    case 'irte-ga':
      if (open.entry === undefined || open.entry.words !== undefined) throw stray(fields, kind, 'irte')
      open.entry = { ...open.entry, words: [fields.number('lo'), fields.number('hi')] }
      return open
    case 'msi-out':
      open.out = readMessage(fields)
      return undefined
  }
}

const addressMax = (1n << 52n) - 1n
/** Of the last entry of the longest table. */
const offsetMax = 2047 * 16

function stray(fields: Fields, kind: string, before: string): RecordingError {
  const problem = `is of kind ${kind}, but no ${before} record stands before it: record the trace again`
  return new RecordingError(fields.where, problem)
}

/** IommuEn after a register was written: bit 0 of the control register. */
function enabledAfter(fields: Fields, before: boolean | undefined): boolean | undefined {
  const offset = fields.small('off', registersEnd)
  const bytes = fields.number('size', controlBytes)
  const value = fields.number('val')
  return offset === mmio.control && bytes >= 4n ? (value & 1n) === 1n : before
}

const registersEnd = 0x7ffff
