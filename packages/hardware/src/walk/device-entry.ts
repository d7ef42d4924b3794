/**
 * What is wrong with a device table entry, and where its GCR3 table is.
 *
 * AMD 48882 rev 3.10, device table entry: bits whose feature is absent or not enabled count as reserved.
 *
 * @packageDocumentation
 */
import { hasReservedBits } from '../interrupt/interrupt-entry.js'
import type { Switches } from '../switches.js'
import { illegalDeviceEntryBits, illegalDeviceEntryLevel, noFault } from './fault.js'
import type { Fault } from './fault.js'

/** Low word of quad-word 0. */
export const entryValid = 0x1
export const translationValid = 0x2
const reservedLow = 0x7c
/** High word of quad-word 0. */
const reservedTop = 0x80000000 | 0
const pageRequestBits = 0x00300000
const guestIoProtection = 0x00400000
export const guestValid = 0x00800000
const guestFieldsHigh = 0x1f800000
/** Quad-word 1: GCR3 root pieces, SATS. */
const gcr3PartB = 0xffff0000 | 0
const gcr3PartC = 0xfffff800 | 0
const secureAts = 0x400
/** Quad-word 1, high word: ATS, suppression of IO_PAGE_FAULT events, exclusion range. */
export const atsEnabled = 0x1
export const suppressAfterFirst = 0x2
export const suppressAll = 0x4
export const mayBeExcluded = 0x80

/** Features and controls that decide which bits of an entry are legal. */
export interface EntryGates {
  /** GTSup and Control.GTEn. */
  readonly guestTables: boolean
  /** GIoSup. */
  readonly guestIoProtection: boolean
  /** EPHSup and Control.EPHEn. */
  readonly pageRequests: boolean
  /** SATSSup. */
  readonly secureAts: boolean
  /** Deepest host table: 4 to 6; 0 without host translation. */
  readonly hostLevels: number
  /** Deepest guest table: 4 or 5. */
  readonly guestLevels: number
  /** Deepest GCR3 table: 1 to 3. */
  readonly gcr3Levels: number
  /** Control.vIommuEn. */
  readonly viommu: boolean
  /** SNP is on, and Mode 0 not legal with it. */
  readonly modeZeroIllegal: boolean
}

/** The fault of a reserved or gated bit in the lower half, which requests meet first. Entries with V=0 have none. */
export function reservedBitFault(pool: Int32Array, at: number, gates: EntryGates, switches: Switches): Fault {
  const q0Lo = pool[at]!
  const q0Hi = pool[at + 1]!
  const q1Lo = pool[at + 2]!
  const q1Hi = pool[at + 3]!
  if ((q0Lo & entryValid) === 0) return noFault
  let reservedHi = reservedTop
  if (!gates.pageRequests) reservedHi |= pageRequestBits
  if (!gates.guestIoProtection) reservedHi |= guestIoProtection
  if (!gates.guestTables) reservedHi |= guestFieldsHigh
  const reserved1Lo = gates.guestTables ? 0 : gcr3PartB
  let reserved1Hi = gates.guestTables ? 0 : gcr3PartC
  if (!gates.secureAts) reserved1Hi |= secureAts
  const isReserved =
    (q0Lo & reservedLow) !== 0 ||
    (q0Hi & reservedHi) !== 0 ||
    (q1Lo & reserved1Lo) !== 0 ||
    (q1Hi & reserved1Hi) !== 0
  if (isReserved) return illegalDeviceEntryBits
  if (switches.choices.upperHalfOnMemory !== 'ignored' && hasReservedBits(pool, at, gates.viommu)) {
    return illegalDeviceEntryBits
  }
  // HAD=10 is reserved; it counts only where the entry translates.
  if ((q0Lo & translationValid) !== 0 && ((q0Lo >>> 7) & 3) === 2) return switches.hadReserved
  return noFault
}

/** The fault of a level that cannot be: Mode, GLX, GuestPagingMode. */
export function levelFault(pool: Int32Array, at: number, gates: EntryGates, switches: Switches): Fault {
  const q0Lo = pool[at]!
  const q0Hi = pool[at + 1]!
  if ((q0Lo & 3) !== 3) return noFault
  const mode = (q0Lo >>> 9) & 7
  if (mode > gates.hostLevels) return switches.modeReserved
  if (mode === 0 && gates.modeZeroIllegal) return illegalDeviceEntryLevel
  if ((q0Hi & guestValid) === 0) return noFault
  if (((q0Hi >>> 24) & 3) + 1 > gates.gcr3Levels) return switches.glxReserved
  const paging = (pool[at + 5]! >>> 22) & 3
  if (paging + 4 > gates.guestLevels) return switches.guestPagingModeReserved
  return noFault
}

/** Requests without PASID go through the guest table of PASID 0. */
export const isGiov = (q0Hi: number): boolean => (q0Hi & guestIoProtection) !== 0 && (q0Hi & guestValid) !== 0

/** Low word of the GCR3 root: address bits 14:12, 30:15 and 31 from their three places. */
export function gcr3RootLo(pool: Int32Array, at: number): number {
  return (
    (((pool[at + 1]! >>> 26) & 7) << 12) |
    ((pool[at + 2]! >>> 16) << 15) |
    (((pool[at + 3]! >>> 11) & 1) << 31)
  )
}

/** High word of the GCR3 root: address bits 51:32. */
export const gcr3RootHi = (pool: Int32Array, at: number): number => pool[at + 3]! >>> 12
