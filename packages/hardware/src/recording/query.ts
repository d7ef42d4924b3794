/**
 * The questions of a recording, each with the answer that is known to be right.
 *
 * Four kinds of witness speak: an emulator's own IOMMU (`probe`), the kernel of the machine that was recorded
 * (`guest`), a translation seen while that machine ran (`live`), and an independent slow model (`model`).
 *
 * @packageDocumentation
 */
import { wordOf } from '@nestwalk/bits'
import { Fields, listOf, numberOf, show } from './fields.js'
import { RecordingError } from './recording-error.js'

/** An event log entry: two quad-words. */
export type EventWords = readonly [bigint, bigint]

/** An 8-byte access that an emulator was made to do. */
export interface ProbeQuery {
  readonly src: 'probe'
  readonly deviceId: number
  readonly iova: bigint
  readonly write: boolean
  /** Physical address at which the bytes arrived; null: refused. */
  readonly pa: bigint | null
  /** What the emulator put into its event log. Trust the code and the DeviceID alone. */
  readonly event: EventWords | null
}

/** A range that the recorded kernel says is mapped, or was and is no more. */
export interface GuestQuery {
  readonly src: 'guest'
  readonly deviceId: number
  readonly iova: bigint
  readonly sizeBytes: bigint
  /** Physical address of the first byte; null: unmapped again, every access must be refused. */
  readonly pa: bigint | null
  /** Rights that the kernel asked for. */
  readonly readable: boolean
  readonly writable: boolean
}

/** A translation that an emulator made while the machine ran. Whether it was for a read was not recorded. */
export interface LiveQuery {
  readonly src: 'live'
  readonly deviceId: number
  readonly iova: bigint
  /** Physical address of the page that the leaf describes; the page's size was not recorded. */
  readonly hpaBase: bigint
}

/** A 64-bit word that a walk changes. */
export interface StoredWord {
  readonly address: bigint
  readonly before: bigint
  readonly after: bigint
}

/** A request to which an independent model gave the full answer. */
export interface ModelQuery {
  readonly src: 'model'
  readonly deviceId: number
  readonly pasid: number | undefined
  readonly iova: bigint
  readonly write: boolean
  readonly execute: boolean
  readonly supervisor: boolean
  /** Null: refused. */
  readonly pa: bigint | null
  /** Bytes of the translation; undefined where no table was walked. */
  readonly sizeBytes: bigint | undefined
  /** Null with `pa` null: the device table entry suppresses events. */
  readonly event: EventWords | null
  /** Open points of the manual on which the answer depends; it follows the default of each. */
  readonly open: readonly string[]
  /** Every word that must have changed, by address; undefined where that was not recorded. */
  readonly stores: readonly StoredWord[] | undefined
}

export type Query = ProbeQuery | GuestQuery | LiveQuery | ModelQuery

/** Highest DeviceID and PASID. */
const deviceIdMax = 0xffff
const pasidMax = 0xfffff

/**
 * Reads one query.
 *
 * @throws RecordingError naming the field
 */
export function readQuery(value: unknown, where: string): Query {
  const fields = Fields.of(value, where)
  const src = fields.text('src')
  switch (src) {
    case 'probe':
      return readProbe(fields)
    case 'guest':
      return readGuest(fields)
    case 'live':
      return { src, ...readTarget(fields), hpaBase: fields.number('hpaBase') }
    case 'model':
      return readModel(fields)
    default:
      throw new RecordingError(
        fields.placeOf('src'),
        `is ${show(src)}, of which nothing is known: it must be "probe", "guest", "live" or "model"`,
      )
  }
}

const readTarget = (fields: Fields): { deviceId: number; iova: bigint } => ({
  deviceId: fields.small('devid', deviceIdMax),
  iova: fields.number('iova'),
})

const readProbe = (fields: Fields): ProbeQuery => ({
  src: 'probe',
  ...readTarget(fields),
  write: fields.flag('w'),
  pa: fields.numberOrNull('pa'),
  event: fields.has('event') ? readEvent(fields) : null,
})

function readGuest(fields: Fields): GuestQuery {
  const target = readTarget(fields)
  const sizeBytes = fields.number('size')
  if (sizeBytes === 0n || target.iova + sizeBytes > 1n << 64n) {
    const problem = 'makes the range empty or lets it end above 2^64, and no mapping can: correct the range'
    throw new RecordingError(fields.placeOf('size'), problem)
  }
  return {
    src: 'guest',
    ...target,
    sizeBytes,
    pa: fields.numberOrNull('pa'),
    readable: fields.flag('r'),
    writable: fields.flag('wr'),
  }
}

const readModel = (fields: Fields): ModelQuery => ({
  src: 'model',
  ...readTarget(fields),
  pasid: fields.has('pasid') ? fields.small('pasid', pasidMax) : undefined,
  write: fields.flag('w'),
  execute: fields.flagOr('x', false),
  supervisor: !fields.flagOr('u', true),
  pa: fields.numberOrNull('pa'),
  sizeBytes: fields.has('size') ? fields.number('size') : undefined,
  event: readEvent(fields),
  open: fields.has('open') ? fields.text('open').split(',') : [],
  stores: fields.has('stores') ? fields.list('stores').map(readStore(fields.placeOf('stores'))) : undefined,
})

const readStore =
  (where: string) =>
  (value: unknown, index: number): StoredWord => {
    const place = `${where}[${index}]`
    const parts = listOf(value, place)
    if (parts.length !== 3) {
      const problem = `has ${parts.length} parts, but a store is its address, the old and the new word: give all three`
      throw new RecordingError(place, problem)
    }
    const [address, before, after] = parts
    return {
      address: numberOf(address, `${place}[0]`),
      before: numberOf(before, `${place}[1]`),
      after: numberOf(after, `${place}[2]`),
    }
  }

const eventHex = /^[0-9a-f]{32}$/i

/** An event is text: 16 bytes in hexadecimal, first byte first. */
function readEvent(fields: Fields): EventWords | null {
  if (fields.value('event') === null) return null
  const text = fields.text('event')
  if (!eventHex.test(text)) {
    const problem = `is ${show(text)}, but an event is 16 bytes: write 32 hexadecimal digits, first byte first`
    throw new RecordingError(fields.placeOf('event'), problem)
  }
  const dword = (at: number): number => {
    const bytes = [3, 2, 1, 0].map((i) => text.slice((at * 4 + i) * 2, (at * 4 + i) * 2 + 2))
    return parseInt(bytes.join(''), 16)
  }
  return [wordOf(dword(0), dword(1)), wordOf(dword(2), dword(3))]
}
