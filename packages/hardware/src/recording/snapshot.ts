/**
 * A snapshot: the memory and registers of a machine at one moment, and requests whose answers are known.
 *
 * @packageDocumentation
 */
import { hex } from '@nestwalk/bits'
import type { FeatureRegisters } from '../features.js'
import { mmio } from '../mmio.js'
import { Fields, numberOf, show } from './fields.js'
import { readQuery } from './query.js'
import type { Query } from './query.js'
import { RecordingError } from './recording-error.js'

/** See the file's comment. */
export interface Snapshot {
  /** Bytes of memory from physical address 0: a multiple of 64 KiB, at most 2^52. */
  readonly memoryBytes: number
  /** Physical address of each recorded 4 KiB page; all other memory is of no account. */
  readonly pages: readonly bigint[]
  /** The pages, one after another, in the order of `pages`. */
  readonly pageBytes: Uint8Array
  /** 64-bit register values by MMIO offset. */
  readonly registers: ReadonlyMap<number, bigint>
  /** Undefined where neither the features nor register 30h were recorded. */
  readonly features: FeatureRegisters | undefined
  readonly queries: readonly Query[]
}

const pageBytesEach = 4096
const memoryStep = 1n << 16n
const memoryMax = 1n << 52n
const offsetMax = 0x7fff8n

/**
 * Reads and checks one snapshot.
 *
 * @param json - the parsed description
 * @param pageBytes - the uncompressed pages
 * @throws RecordingError for the first thing that is wrong
 */
export function readSnapshot(json: unknown, pageBytes: Uint8Array): Snapshot {
  const fields = Fields.of(json, '')
  const memoryBytes = readMemoryBytes(fields)
  const pages = readPages(fields, memoryBytes)
  if (pageBytes.length !== pages.length * pageBytesEach) {
    const problem =
      `lists ${pages.length} pages, but the page bytes are ${pageBytes.length}, ` +
      `not ${pages.length} times ${pageBytesEach}: take both files from the same recording`
    throw new RecordingError('pages', problem)
  }
  const registers = readRegisters(fields.object('regs'))
  return {
    memoryBytes: Number(memoryBytes),
    pages,
    pageBytes,
    registers,
    features: readFeatures(fields, registers),
    queries: fields.list('queries').map((query, index) => readQuery(query, `queries[${index}]`)),
  }
}

function readMemoryBytes(fields: Fields): bigint {
  const bytes = fields.number('memBytes', memoryMax)
  if (bytes !== 0n && bytes % memoryStep === 0n) return bytes
  const problem = `is ${bytes}, but memory comes in steps of 64 KiB: round it up to a multiple of 65536`
  throw new RecordingError('memBytes', problem)
}

function readPages(fields: Fields, memoryBytes: bigint): bigint[] {
  const seen = new Map<bigint, number>()
  return fields.list('pages').map((value, index) => {
    const where = `pages[${index}]`
    const page = numberOf(value, where)
    if (page % BigInt(pageBytesEach) !== 0n) {
      const problem = `is ${hex(page)}, where no page begins: give a multiple of ${pageBytesEach}`
      throw new RecordingError(where, problem)
    }
    if (page >= memoryBytes) {
      const problem = `is ${hex(page)}, beyond the memory of ${hex(memoryBytes)} bytes: correct it or memBytes`
      throw new RecordingError(where, problem)
    }
    const first = seen.get(page)
    if (first !== undefined) {
      const problem = `is ${hex(page)}, the same page as pages[${first}]: leave one of the two out`
      throw new RecordingError(where, problem)
    }
    seen.set(page, index)
    return page
  })
}

function readRegisters(fields: Fields): Map<number, bigint> {
  const registers = new Map<number, bigint>()
  for (const name of fields.names()) {
    const where = fields.placeOf(name)
    const offset = Number(numberOf(name, where, offsetMax))
    if (offset % 8 !== 0) {
      const problem =
        'names no register, as each begins at a multiple of 8: give the offset of a whole register'
      throw new RecordingError(where, problem)
    }
    if (registers.has(offset)) {
      throw new RecordingError(where, `names register ${hex(offset)} again: leave one of the two out`)
    }
    registers.set(offset, fields.number(name))
  }
  return registers
}

/** The `features` of the snapshot, or what the feature registers hold; if both are there they agree. */
function readFeatures(fields: Fields, registers: Map<number, bigint>): FeatureRegisters | undefined {
  const efr = registers.get(mmio.efr)
  const efr2 = registers.get(mmio.efr2)
  if (!fields.has('features')) return efr === undefined ? undefined : { efr, efr2: efr2 ?? 0n }
  const named = fields.object('features')
  const features = { efr: named.number('efr'), efr2: named.number('efr2') }
  checkAgreement('features.efr', features.efr, mmio.efr, efr)
  checkAgreement('features.efr2', features.efr2, mmio.efr2, efr2)
  return features
}

function checkAgreement(where: string, named: bigint, offset: number, register: bigint | undefined): void {
  if (register === undefined || register === named) return
  const problem = `is ${show(named)}, but register ${hex(offset)} holds ${show(register)}: leave one of the two out`
  throw new RecordingError(where, problem)
}
