/**
 * Holds the chip against one query: asks what the query is about, and says where the answers part.
 *
 * @packageDocumentation
 */
import { hex } from '@nestwalk/bits'
import type { Request } from '../translation.js'
import type { ColdAnswer, ColdChip } from './cold-chip.js'
import type { EventWords, GuestQuery, LiveQuery, ModelQuery, ProbeQuery, Query, StoredWord } from './query.js'
import { showAnswer, showRefusal, showRequest, showStore, showTranslation } from './show.js'

/** Two answers that are not the same, for people. */
export interface Difference {
  /** The request, such as `00:07.0 reads 0x12000`. */
  readonly asked: string
  readonly expected: string
  readonly got: string
}

/** Ranges of up to this many pages are asked page by page, larger ones at this many places. */
const pagesAsked = 4096n

const pageBytes = 4096n

/** Undefined: the chip agrees. */
export function compare(chip: ColdChip, query: Query): Difference | undefined {
  switch (query.src) {
    case 'probe':
      return compareProbe(chip, query)
    case 'guest':
      return compareGuest(chip, query)
    case 'live':
      return compareLive(chip, query)
    case 'model':
      return compareModel(chip, query)
  }
}

/** Of an emulator's event only the code and the DeviceID count. */
function compareProbe(chip: ColdChip, query: ProbeQuery): Difference | undefined {
  const answer = chip.ask(query)
  const difference = compareAddress(query, query.pa, answer)
  if (difference !== undefined || query.event === null) return difference
  const expected = codeAndDevice(query.event)
  const got = answer.event === null ? undefined : codeAndDevice(answer.event)
  if (got === expected) return undefined
  return { asked: showRequest(query), expected: showRefusal(query.event), got: showAnswer(answer) }
}

/** Every access to the range: granted at the right address, or refused where no right was asked for. */
function compareGuest(chip: ColdChip, query: GuestQuery): Difference | undefined {
  const { deviceId, iova, pa } = query
  // Entries of guest tables cannot say "written but not read".
  const isReadable = query.readable || (query.writable && chip.hasGuestTables(deviceId))
  for (const offset of offsetsIn(query.sizeBytes)) {
    for (const write of [false, true]) {
      const isGranted = write ? query.writable : isReadable
      const expected = pa === null || !isGranted ? null : pa + offset
      const request = { deviceId, iova: iova + offset, write }
      const difference = compareAddress(request, expected, chip.ask(request))
      if (difference !== undefined) return difference
    }
  }
  return undefined
}

/** First bytes of pages, evenly spread and the first page among them, and the last byte of the range. */
function* offsetsIn(sizeBytes: bigint): Generator<bigint> {
  const pages = (sizeBytes + pageBytes - 1n) / pageBytes
  const asked = pages < pagesAsked ? pages : pagesAsked
  for (let i = 0n; i < asked; i++) yield ((i * pages) / asked) * pageBytes
  yield sizeBytes - 1n
}

/** The page of the leaf, by whichever access it allows: which one the machine made was not recorded. */
function compareLive(chip: ColdChip, { deviceId, iova, hpaBase }: LiveQuery): Difference | undefined {
  const read = chip.ask({ deviceId, iova })
  const answer = read.translation.kind === 'fault' ? chip.ask({ deviceId, iova, write: true }) : read
  const address = addressOf(answer)
  const mask = (1n << BigInt(offsetBits(answer))) - 1n
  if (address !== null && (address & ~mask) === (hpaBase & ~mask)) return undefined
  const asked = `${showRequest({ deviceId, iova })}, or writes it`
  return { asked, expected: `the page of ${hex(hpaBase)}`, got: showAnswer(answer) }
}

/** log2 of the page's size; addresses that pass through have no leaf, and are told by 4 KiB pages. */
function offsetBits({ translation }: ColdAnswer): number {
  return translation.kind === 'translated' && translation.from !== 'identity' ? translation.sizeLog2 : 12
}

function compareModel(chip: ColdChip, query: ModelQuery): Difference | undefined {
  const answer = chip.ask(query)
  const difference = compareAddress(query, query.pa, answer)
  if (difference !== undefined) return difference
  if (query.pa === null)
    return chip.hasEventLog || query.event !== null ? compareEvent(query, answer) : undefined
  const sizeBytes = tableSizeOf(answer)
  if (sizeBytes !== query.sizeBytes) {
    const expected = showTranslation(query.pa, query.sizeBytes)
    return { asked: showRequest(query), expected, got: showAnswer(answer) }
  }
  return query.stores === undefined ? undefined : compareStores(query, query.stores, answer.changedWords())
}

function compareEvent(query: ModelQuery, answer: ColdAnswer): Difference | undefined {
  const isSame = query.event?.[0] === answer.event?.[0] && query.event?.[1] === answer.event?.[1]
  if (isSame) return undefined
  return { asked: showRequest(query), expected: showRefusal(query.event), got: showAnswer(answer) }
}

/** Reports the first word, by address, that one side changes and the other does not, or differently. */
function compareStores(
  query: ModelQuery,
  expected: readonly StoredWord[],
  got: readonly StoredWord[],
): Difference | undefined {
  const asked = showRequest(query)
  for (let i = 0; i < Math.max(expected.length, got.length); i++) {
    const wanted = expected[i]
    const made = got[i]
    if (wanted !== undefined && made !== undefined && isSameStore(wanted, made)) continue
    return { asked, expected: showStore(wanted), got: showStore(made) }
  }
  return undefined
}

const isSameStore = (a: StoredWord, b: StoredWord): boolean =>
  a.address === b.address && a.before === b.before && a.after === b.after

function compareAddress(request: Request, pa: bigint | null, answer: ColdAnswer): Difference | undefined {
  if (addressOf(answer) === pa) return undefined
  const expected = pa === null ? 'refused' : hex(pa)
  return { asked: showRequest(request), expected, got: showAnswer(answer) }
}

/** Where the bytes go; null: nowhere. */
function addressOf({ translation }: ColdAnswer): bigint | null {
  switch (translation.kind) {
    case 'translated':
      return translation.spa
    case 'forwarded':
      return translation.address
    case 'interrupt':
    case 'fault':
      return null
  }
}

/** Bytes of the translation; undefined where no table was walked. */
function tableSizeOf({ translation }: ColdAnswer): bigint | undefined {
  if (translation.kind !== 'translated' || translation.from === 'identity') return undefined
  return 1n << BigInt(translation.sizeLog2)
}

/** DeviceID in bits 15:0, code in 63:60. */
const codeAndDevice = ([low]: EventWords): bigint => low & 0xf00000000000ffffn
