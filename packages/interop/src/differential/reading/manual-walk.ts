/**
 * What the manual says of a request without PASID: device table entry, then host table.
 *
 * AMD 48882 rev 3.10, translation of memory requests. Step by step and from memory alone: no cache, nothing kept.
 *
 * @packageDocumentation
 */
import {
  codedSizeLog2,
  directoryReserved,
  dte,
  dte1,
  eventCode,
  frameOf,
  guestLevelsOf,
  guestPagingOf,
  indexOf,
  isPresent,
  leafReserved,
  modeOf,
  nextLevelOf,
  placed,
  rights,
  rightsOf,
  shiftOf,
} from './entry-bits.js'

/** Memory by quad-words; undefined where there is none. */
export type Load = (address: bigint) => bigint | undefined

/** What decides about a request beside memory. */
export interface Settings {
  readonly deviceTable: bigint
  readonly exclusionBase: bigint
  readonly exclusionLimit: bigint
  readonly guestTables: boolean
}

export interface Asked {
  readonly deviceId: number
  readonly iova: bigint
  readonly write: boolean
}

/** Where a request goes, or which event refuses it. */
export interface Outcome {
  readonly address: bigint | undefined
  /** 0 where it is not refused. */
  readonly eventCode: number
  /** Of an address that tables gave: its page, which may be cached. */
  readonly page?: { readonly sizeLog2: number; readonly granted: bigint }
}

/** Four quad-words. */
export type DeviceEntry = readonly [bigint, bigint, bigint, bigint]

const refused = (code: number): Outcome => ({ address: undefined, eventCode: code })
const goesTo = (address: bigint): Outcome => ({ address, eventCode: 0 })

/** Bytes of a device table entry. */
const entryBytes = 32n

export const entryAddress = (deviceTable: bigint, deviceId: number): bigint =>
  frameOf(deviceTable) + BigInt(deviceId) * entryBytes

export const isBeyondTable = (deviceTable: bigint, deviceId: number): boolean =>
  BigInt(deviceId) >= ((deviceTable & 0x1ffn) + 1n) * 128n

/** Undefined where there is no memory. */
export function loadEntry(load: Load, address: bigint): DeviceEntry | undefined {
  const words = [0n, 8n, 16n, 24n].map((offset) => load(address + offset))
  const [q0, q1, q2, q3] = words
  if (q0 === undefined || q1 === undefined || q2 === undefined || q3 === undefined) return undefined
  return [q0, q1, q2, q3]
}

/** See the file's comment. */
export function askManual(load: Load, entry: DeviceEntry, settings: Settings, asked: Asked): Outcome {
  const early = outcomeByEntry(entry, settings, asked)
  if (early !== undefined) return early
  return modeOf(entry[0]) === 0 ? goesTo(asked.iova) : walkManual(load, entry[0], asked)
}

/** The entry of a device, or the refusal of a request for which none can be had. */
export function entryOf(load: Load, { deviceTable }: Settings, deviceId: number): DeviceEntry | Outcome {
  if (isBeyondTable(deviceTable, deviceId)) return refused(eventCode.pageFault)
  return loadEntry(load, entryAddress(deviceTable, deviceId)) ?? refused(eventCode.deviceTableError)
}

/** What the entry decides, by its checks in their order; undefined if translation does. */
export function outcomeByEntry(entry: DeviceEntry, settings: Settings, asked: Asked): Outcome | undefined {
  const [q0, q1] = entry
  if ((q0 & dte.valid) === 0n) return goesTo(asked.iova)
  if (hasIllegalBits(entry, settings.guestTables)) return refused(eventCode.illegalDeviceEntry)
  if ((q0 & dte.translationValid) === 0n) return refused(eventCode.pageFault)
  if (isExcluded(q1, settings, asked.iova)) return goesTo(asked.iova)
  if ((rightsOf(q0) & neededFor(asked)) === 0n) return refused(eventCode.pageFault)
  if (hasIllegalLevels(entry)) return refused(eventCode.illegalDeviceEntry)
  return undefined
}

/** Whether requests that the entry lets through go through a table. */
export const hasTable = ([q0]: DeviceEntry): boolean => modeOf(q0) !== 0 && modeOf(q0) !== 7

export const neededFor = ({ write }: { readonly write: boolean }): bigint =>
  write ? rights.write : rights.read

/** Reserved bits of a valid entry's lower half, those of absent or disabled features among them. */
export function hasIllegalBits([q0, q1]: DeviceEntry, guestTables: boolean): boolean {
  const reserved = dte.reserved | dte.absentFeatures | (guestTables ? 0n : dte.guestFields)
  const reserved1 = dte1.secureAts | (guestTables ? 0n : dte1.guestFields)
  if ((q0 & reserved) !== 0n || (q1 & reserved1) !== 0n) return true
  const marks = q0 & dte.hostAccessDirty
  return (q0 & dte.translationValid) !== 0n && marks === dte.hostAccessDirtyReserved
}

/** Levels that the arena's chip does not have: Mode 7, a GCR3 table above one level, guest tables above four. */
export function hasIllegalLevels([q0, , q2]: DeviceEntry): boolean {
  if (modeOf(q0) === 7) return true
  return (q0 & dte.guestValid) !== 0n && (guestLevelsOf(q0) > 1n || guestPagingOf(q2) !== 0n)
}

export function isExcluded(q1: bigint, settings: Settings, iova: bigint): boolean {
  const { exclusionBase, exclusionLimit } = settings
  const isOn = (exclusionBase & 1n) !== 0n
  const isForAll = (exclusionBase & 2n) !== 0n
  if (!isOn || !(isForAll || (q1 & dte1.mayBeExcluded) !== 0n)) return false
  const page = iova >> 12n
  return page >= frameOf(exclusionBase) >> 12n && page <= frameOf(exclusionLimit) >> 12n
}

/** Whether an address has bits from one position up to another. */
export const hasBits = (iova: bigint, from: number, below: number): boolean =>
  BigInt.asUintN(below - from, iova >> BigInt(from)) !== 0n

/** The host table: levels may be skipped where the address has no bits, and rights are ANDed. */
export function walkManual(load: Load, q0: bigint, asked: Asked): Outcome {
  const { iova } = asked
  const needed = neededFor(asked)
  let level = modeOf(q0)
  let table = frameOf(q0)
  let granted = rightsOf(q0)
  if (level < 6 && hasBits(iova, shiftOf(level + 1), 64)) return refused(eventCode.pageFault)
  for (;;) {
    const entry = load(table + indexOf(iova, level) * 8n)
    if (entry === undefined) return refused(eventCode.pageTableError)
    if (!isPresent(entry)) return refused(eventCode.pageFault)
    const nextLevel = nextLevelOf(entry)
    const isLeaf = nextLevel === 0 || nextLevel === 7
    if ((entry & (isLeaf ? leafReserved : directoryReserved)) !== 0n) return refused(eventCode.pageFault)
    granted &= rightsOf(entry)
    if ((granted & needed) === 0n) return refused(eventCode.pageFault)
    if (isLeaf) {
      const sizeLog2 = leafSizeLog2(entry, level)
      if (sizeLog2 === undefined) return refused(eventCode.pageFault)
      return { ...goesTo(placed(frameOf(entry), iova, sizeLog2)), page: { sizeLog2, granted } }
    }
    if (nextLevel >= level) return refused(eventCode.pageFault)
    if (hasBits(iova, shiftOf(nextLevel + 1), shiftOf(level))) return refused(eventCode.pageFault)
    level = nextLevel
    table = frameOf(entry)
  }
}

/** Undefined for a size that the level does not have. */
export function leafSizeLog2(entry: bigint, level: number): number | undefined {
  if (nextLevelOf(entry) === 0) return level === 6 ? undefined : shiftOf(level)
  const sizeLog2 = codedSizeLog2(entry, 51)
  const fits = sizeLog2 > shiftOf(level) && sizeLog2 < shiftOf(level + 1) && sizeLog2 <= 51
  return fits ? sizeLog2 : undefined
}
