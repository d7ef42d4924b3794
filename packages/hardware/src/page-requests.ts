/**
 * Page requests of devices (PRI): accepted into the PPR log, answered by hardware, or refused.
 *
 * AMD 48882 rev 3.10, peripheral page requests: acceptance, overflow, early warning, automatic responses.
 *
 * @packageDocumentation
 */
import type { DeviceLinks } from './device-links.js'
import type { Features } from './features.js'
import { interruptLine, pprLog } from './log.js'
import type { SparseMemory } from './memory/sparse-memory.js'
import { controlHi, controlLo, mmio, status } from './mmio.js'
import { logEvent } from './queue/event-log.js'
import { appendToLog, entriesWaiting, written } from './queue/log-writer.js'
import type { Registers } from './registers.js'
import { dteSlot } from './cache/device-table-cache.js'
import { atsEnabled, entryValid, guestValid, translationValid } from './walk/device-entry.js'
import type { DeviceTable } from './walk/device-table.js'
import { eventCode, noFault } from './walk/fault.js'

/** One page request of a device. */
export interface PageRequest {
  /** 16 bits. */
  readonly deviceId: number
  /** 20 bits; absent: without PASID. */
  readonly pasid?: number | undefined
  /** 64 bits; the offset in the page does not count. */
  readonly address: bigint
  readonly read?: boolean
  readonly write?: boolean
  /** Counts with a PASID only. */
  readonly execute?: boolean
  /** Supervisor privilege; counts with a PASID only. */
  readonly supervisor?: boolean
  /** Page request group, 9 bits. */
  readonly group: number
  /** The last request of its group: it wants an answer. With neither read nor write: a stop marker. */
  readonly last?: boolean
}

/** What became of a page request. */
export type PageRequestOutcome =
  /** It stands in the PPR log. */
  | 'logged'
  /** Hardware has answered it. */
  | 'answered'
  /** Nobody hears of it: no log runs, or a stop marker is not wanted. */
  | 'dropped'
  /** The device may not ask: INVALID_PPR_REQUEST. */
  | 'refused'

interface Parts {
  readonly memory: SparseMemory
  readonly registers: Registers
  readonly features: Features
  readonly deviceTable: DeviceTable
  readonly devices: DeviceLinks
  /** Takes what is for guests' logs; null without a hardware vIOMMU. */
  readonly guests: GuestLogs | null
}

/** Where a hardware vIOMMU takes page requests and events of guests' devices; `slot` is the device's entry. */
interface GuestLogs {
  /** Undefined for a request that is for the host's log. */
  routePageRequest(
    slot: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
  ): PageRequestOutcome | undefined
  /** False for an event that is for the host's log. */
  routeEvent(slot: number, event: Int32Array): boolean
}

/** Bits of a log entry's second word. */
const entryBit = {
  last: 1 << 9,
  execute: 1 << 17,
  read: 1 << 18,
  write: 1 << 21,
  user: 1 << 22,
  guest: 1 << 24,
}
const pageServiceRequest = 1 << 28
const pprEnabled = 0x00100000

/** Takes one page request. RangeError for values out of range. */
export function receivePageRequest(parts: Parts, asked: PageRequest): PageRequestOutcome {
  checkRequest(asked)
  const { registers, features } = parts
  const needed = controlLo.iommuEn | controlLo.pprEn
  if (!features.pageRequests || (registers.lo(mmio.control) & needed) !== needed) return 'dropped'
  const slot = parts.deviceTable.entryOf(asked.deviceId, false)
  if (!mayAsk(parts, slot, asked)) {
    reportInvalid(parts, slot, asked)
    return 'refused'
  }
  const [w0, w1, w2, w3] = entryOf(asked)
  const byGuest = parts.guests?.routePageRequest(slot, w0, w1, w2, w3)
  if (byGuest !== undefined) return byGuest
  const controlHigh = registers.hi(mmio.control)
  if (
    isStopMarker(asked) &&
    features.stopMarkersBlocked &&
    (controlHigh & controlHi.blockStopMarkers) !== 0
  ) {
    return 'dropped'
  }
  const answers =
    features.pprAutoResponse && (controlHigh & controlHi.pprAutoRespEn) !== 0 && !swaps(registers, features)
  if (answers && (controlHigh & controlHi.pprAutoRespAlways) !== 0) return answer(parts, asked)
  if (log(parts, asked)) return 'logged'
  return answers ? answer(parts, asked) : 'dropped'
}

/** The device's entry lets it use page requests, and guest tables where the request has a PASID. */
function mayAsk({ memory, registers, features }: Parts, slot: number, { pasid }: PageRequest): boolean {
  if (slot < 0) return false
  const pool = memory.words.array
  if ((pool[slot]! & entryValid) === 0 || pool[slot + dteSlot.illegal]! !== noFault) return false
  if ((pool[slot + 3]! & atsEnabled) === 0) return false
  const isEnhanced = features.enhancedPageRequests && (registers.hi(mmio.control) & controlHi.ephEn) !== 0
  if (isEnhanced && (pool[slot + 1]! & pprEnabled) === 0) return false
  const translates = (pool[slot]! & translationValid) !== 0
  return pasid === undefined || (translates && (pool[slot + 1]! & guestValid) !== 0)
}

/** The four words of a request's log entry. */
function entryOf(asked: PageRequest): readonly [number, number, number, number] {
  const { deviceId, pasid = 0, address } = asked
  const hasPasid = asked.pasid !== undefined
  const bits =
    (asked.read === true ? entryBit.read : 0) |
    (asked.write === true ? entryBit.write : 0) |
    (hasPasid && asked.execute === true ? entryBit.execute : 0) |
    (hasPasid && asked.supervisor !== true ? entryBit.user : 0) |
    (hasPasid ? entryBit.guest : 0)
  return [
    deviceId | (pasid << 16),
    tagOf(asked) | ((pasid >>> 16) << 10) | bits | pageServiceRequest,
    Number(BigInt.asIntN(32, address)) & ~0xfff,
    Number(BigInt.asIntN(32, address >> 32n)),
  ]
}

function log({ memory, registers, features }: Parts, asked: PageRequest): boolean {
  const became = appendToLog(registers, memory, pprLog, 16, ...entryOf(asked))
  if (became === written.lost) return false
  if (features.pprEarlyWarning) warnEarly(registers)
  return true
}

/** The log in use holds as many entries as software wants to be told of. */
function warnEarly(registers: Registers): void {
  const isB = registers.ringOf(pprLog) === pprLog.b
  const threshold = registers.lo(isB ? mmio.pprBEarly : mmio.pprEarly)
  if (threshold >= 0 || entriesWaiting(registers, pprLog, 16) < (threshold & 0x7fff)) return
  registers.report(isB ? status.pprEarlyB : status.pprEarly, 0)
  if ((threshold & 0x40000000) !== 0) registers.raise(interruptLine.ppr)
}

/** PprAutoRespCode for the last request of a group; the others need no answer. */
function answer({ registers, devices }: Parts, asked: PageRequest): PageRequestOutcome {
  if (asked.last !== true || isStopMarker(asked)) return 'dropped'
  const how = registers.lo(mmio.pprAutoResponse)
  const pasid = (how & 0x10) !== 0 ? -1 : (asked.pasid ?? -1)
  return devices.respond(asked.deviceId, pasid, asked.group, how & 15) ? 'answered' : 'dropped'
}

const invalid = new Int32Array(4)

function reportInvalid({ registers, memory, guests }: Parts, slot: number, asked: PageRequest): void {
  const { deviceId, pasid = 0, address } = asked
  invalid[0] = deviceId | (pasid << 16)
  // RX: the device expects no answer. GN stands elsewhere than in other events.
  const bits = (asked.last === true ? 0 : 1 << 16) | (asked.pasid === undefined ? 0 : 1 << 25)
  invalid[1] = (eventCode.invalidPprRequest << 28) | tagOf(asked) | ((pasid >>> 16) << 10) | bits
  invalid[2] = Number(BigInt.asIntN(32, address)) & ~0xfff
  invalid[3] = Number(BigInt.asIntN(32, address >> 32n))
  if (guests?.routeEvent(slot, invalid) !== true) logEvent(registers, memory, invalid)
}

const tagOf = ({ group, last }: PageRequest): number => group | (last === true ? entryBit.last : 0)

const isStopMarker = ({ pasid, read, write, last }: PageRequest): boolean =>
  pasid !== undefined && last === true && read !== true && write !== true

/** DualPprLogEn: the two logs take turns, and nothing is answered by hardware. */
const swaps = (registers: Registers, features: Features): boolean =>
  features.dualPprLog && registers.lo(mmio.control) >>> 30 === 2

function checkRequest({ deviceId, pasid = 0, group, address }: PageRequest): void {
  checkField('deviceId', deviceId, 0xffff)
  checkField('pasid', pasid, 0xfffff)
  checkField('group', group, 0x1ff)
  if (address < 0n || address >= 1n << 64n)
    throw new RangeError(`address ${address} is not from 0 to 2^64 - 1`)
}

function checkField(name: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`${name} ${value} is not an integer from 0 to ${max}`)
  }
}
