import type { Walk } from './walk.js'

/** Thrown to end a translation; event null: suppressed. */
export class Refusal {
  constructor(
    readonly cause: string,
    readonly event: [bigint, bigint] | null,
  ) {}
}

/** Section 8.1, bits of the first word. */
const GN = 1n << 48n
const NX = 1n << 49n
const US = 1n << 50n
const PR = 1n << 52n
const RW = 1n << 53n
const PE = 1n << 54n
const RZ = 1n << 55n
/** INVALID_DEVICE_REQUEST has US elsewhere. */
const US_CODE_8 = 1n << 49n
const MASTER_ABORT = 1n << 57n

export const notPresent = 0n
export const present = PR
export const denied = PR | PE
export const reservedBits = PR | RZ

function code(value: number): bigint {
  return BigInt(value) << 60n
}

function device(walk: Walk): bigint {
  return BigInt(walk.request.deviceId)
}

function readWrite(walk: Walk): bigint {
  return walk.request.write ? RW : 0n
}

function pasidFields(pasid: number): bigint {
  const value = BigInt(pasid)
  return ((value >> 16n) << 16n) | ((value & 0xffffn) << 32n)
}

interface Naming {
  /** Overrides the DomainID of the DTE. */
  domainId?: bigint
  /** GN=1 and PASID 0 for a request without PASID, although no guest table is in use. */
  asGuest?: boolean
}

/** GN, NX, US and the DomainID/PASID fields of an event of code 2 or 4 (5.3). */
function requester(walk: Walk, naming: Naming): bigint {
  const domain = (naming.domainId ?? walk.dte?.domainId ?? 0n) << 32n
  if (walk.onBehalfOf !== undefined && walk.switches['nested-host-fault'] === 'gpa') return domain
  if (walk.namedPasid !== undefined) {
    return GN | pasidFields(walk.namedPasid) | (walk.user ? US : 0n) | (walk.execute ? NX : 0n)
  }
  if (walk.guestInUse || naming.asGuest === true) {
    if (walk.switches['giov-event'] === 'gn0') return domain
    return GN | (walk.switches['giov-event'] === 'gn1-us1' ? US : 0n)
  }
  return domain
}

/** flags: of PR, PE, RZ. */
export function pageFault(walk: Walk, cause: string, flags: bigint, naming: Naming = {}): Refusal {
  // 5.3: SA=1 never logs. SE=1 logs the first one, and without a DTE cache each one is the first.
  if (walk.dte !== undefined && walk.dte.v && walk.dte.sa) return new Refusal(cause, null)
  const low = code(2) | device(walk) | requester(walk, naming) | flags | readWrite(walk)
  let address = walk.request.iova
  if (walk.onBehalfOf !== undefined && walk.switches['nested-host-fault'] === 'gpa') address = walk.onBehalfOf
  return new Refusal(cause, [low, address])
}

/** GN and PASID from the prefix only: no guest table is in use yet. */
export function illegalDte(walk: Walk, cause: string, rz: boolean): Refusal {
  const tag = walk.pasid === undefined ? 0n : GN | pasidFields(walk.pasid)
  const low = code(1) | device(walk) | tag | readWrite(walk) | (rz ? RZ : 0n)
  return new Refusal(cause, [low, walk.request.iova & ~3n])
}

export function devTabHardwareError(walk: Walk, dteAddress: bigint): Refusal {
  return new Refusal('dte-unreadable', [code(3) | device(walk) | readWrite(walk) | MASTER_ABORT, dteAddress])
}

export function pageTabHardwareError(walk: Walk, entryAddress: bigint): Refusal {
  const tag = requester(walk, {}) & ~(NX | US)
  const low = code(4) | device(walk) | tag | readWrite(walk) | MASTER_ABORT
  return new Refusal('table-unreadable', [low, entryAddress])
}

export function invalidDeviceRequest(walk: Walk, cause: string, type: number): Refusal {
  const tag = walk.pasid === undefined ? 0n : GN | pasidFields(walk.pasid) | (walk.user ? US_CODE_8 : 0n)
  return new Refusal(cause, [code(8) | device(walk) | tag | (BigInt(type) << 57n), walk.request.iova])
}
