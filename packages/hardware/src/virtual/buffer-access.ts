/**
 * How hardware reaches what it keeps for guests: from a private address or a GPA to an SPA, through a host table.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software. Private addresses go through the
 * entry of the IOMMU's own DeviceID; GPAs through that of the guest's translate-DeviceID, 0 being none, as the series
 * writes 0 to take one away. An entry that does not translate by a host table is ILLEGAL_DEV_TABLE_ENTRY, so that a
 * guest never reaches an SPA of its own choice. Nothing but the entry is cached.
 *
 * @packageDocumentation
 */
import { dteSlot } from '../cache/device-table-cache.js'
import type { Features } from '../features.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import { controlHi, mmio } from '../mmio.js'
import type { Registers } from '../registers.js'
import type { Switches } from '../switches.js'
import { entryValid, translationValid } from '../walk/device-entry.js'
import type { DeviceTable } from '../walk/device-table.js'
import { eventCode, faultCode, illegalDeviceEntryLevel, noFault } from '../walk/fault.js'
import type { Fault } from '../walk/fault.js'
import {
  HostWalk,
  leafReservedHi,
  leafReservedMigratingHi,
  marksAccessed,
  marksDirty,
  marksNothing,
} from '../walk/host-walk.js'
import { mayRead, mayWrite } from '../walk/rights.js'
import type { Guest } from './guest-records.js'
import { vfControl } from './guest-registers.js'
import type { HostEvents } from './host-events.js'
import { privateHi, privateLo } from './private-space.js'
import type { PrivateArea } from './private-space.js'

/** What walks go through. */
export interface BufferAccessParts {
  readonly memory: SparseMemory
  readonly registers: Registers
  readonly features: Features
  readonly switches: Switches
  readonly deviceTable: DeviceTable
  /** The DeviceID under which the IOMMU reads its own tables. */
  readonly iommuDeviceId: number
}

/** See the file's comment. */
export class BufferAccess {
  /** SPA that the last walk gave. */
  lo = 0
  hi = 0
  /** Private address or GPA that {@link BufferAccess.toBuffer} was for. */
  askedLo = 0
  askedHi = 0
  private readonly host: HostWalk

  constructor(
    private readonly parts: BufferAccessParts,
    private readonly events: HostEvents,
  ) {
    this.host = new HostWalk(parts.memory, parts.switches, parts.features.hostLevels)
  }

  /**
   * Translates an address in a guest's piece of private memory.
   *
   * @param cause - one of `walkCause`, for the event
   * @returns false if there is no way; then the host's log tells why
   */
  toPrivate(area: PrivateArea, guestId: number, offset: number, isWrite: boolean, cause: number): boolean {
    this.askedLo = privateLo(area, guestId, offset)
    this.askedHi = privateHi(area, guestId)
    return this.walk(this.parts.iommuDeviceId, this.askedLo, this.askedHi, isWrite, cause)
  }

  /** Translates a GPA of a guest. */
  toGuest(guest: Guest, lo: number, hi: number, isWrite: boolean, cause: number): boolean {
    return this.walk(guest.controlLo(vfControl.misc) >>> 16, lo, hi, isWrite, cause)
  }

  /**
   * Translates the place of an entry in one of a guest's buffers: in private memory, or, with GstBufferTRPMode, in the
   * guest's own.
   *
   * @param baseLo - the buffer's GPA, low word; `baseHi` is the high word
   */
  toBuffer(
    guest: Guest,
    area: PrivateArea,
    baseLo: number,
    baseHi: number,
    offset: number,
    isWrite: boolean,
    cause: number,
  ): boolean {
    const isNested = (this.parts.registers.hi(mmio.control) & controlHi.guestBuffersNested) !== 0
    if (!isNested) return this.toPrivate(area, guest.id, offset, isWrite, cause)
    this.askedLo = (baseLo + offset) | 0
    // A buffer that starts below a multiple of 4 GiB may go on above it.
    this.askedHi = baseHi + ((baseLo >>> 0) + offset > 0xffffffff ? 1 : 0)
    return this.toGuest(guest, this.askedLo, this.askedHi, isWrite, cause)
  }

  private walk(deviceId: number, lo: number, hi: number, isWrite: boolean, cause: number): boolean {
    const { memory, deviceTable } = this.parts
    // The walk may serve a request that is still to be counted, which needs to know about its own entry.
    const { wasCached } = deviceTable
    const slot = deviceTable.entryOf(deviceId, false)
    deviceTable.wasCached = wasCached
    const fault = slot < 0 ? deviceTable.fault : this.walkFrom(slot, lo, hi, isWrite)
    if (fault === noFault) {
      this.lo = this.host.spaLo
      this.hi = this.host.spaHi
      return true
    }
    const code = faultCode(fault)
    const domainId = slot < 0 ? 0 : Number(memory.words.array[slot + 2]) & 0xffff
    let namedLo = lo
    let namedHi = hi
    if (code === eventCode.devTabHardwareError) {
      namedLo = deviceTable.entryLo
      namedHi = deviceTable.entryHi
    } else if (code === eventCode.pageTabHardwareError) {
      namedLo = this.host.spaLo
      namedHi = this.host.spaHi
    }
    this.events.walkFault(deviceId, cause, fault, isWrite, domainId, namedLo, namedHi)
    return false
  }

  private walkFrom(slot: number, lo: number, hi: number, isWrite: boolean): Fault {
    const { host } = this
    const pool = this.parts.memory.words.array
    const word = (n: number): number => Number(pool[slot + n])
    const q0Lo = word(0)
    const q0Hi = word(1)
    if (word(dteSlot.illegal) !== noFault) return word(dteSlot.illegal)
    const mode = (q0Lo >>> 9) & 7
    const translates = (q0Lo & entryValid) !== 0 && (q0Lo & translationValid) !== 0 && mode !== 0
    if (!translates) return illegalDeviceEntryLevel
    if (word(dteSlot.illegalLevel) !== noFault) return word(dteSlot.illegalLevel)
    host.reads = 0
    host.marking = this.marking(q0Lo)
    host.leafReserved = this.migrates() ? leafReservedMigratingHi : leafReservedHi
    const granted = q0Hi & (mayRead | mayWrite)
    return host.walk(q0Lo, q0Hi, mode, lo, hi, granted, isWrite ? mayWrite : mayRead)
  }

  private migrates(): boolean {
    const { features, registers } = this.parts
    return features.pageMigration && (registers.hi(mmio.control) & controlHi.pageMigrationEn) !== 0
  }

  /** What hardware stores for a guest dirties the guest's pages: A and D are set as for a device's request. */
  private marking(q0Lo: number): number {
    const { hostAccessed, hostDirty } = this.parts.features
    const asked = (q0Lo >>> 7) & (this.parts.registers.hi(mmio.control) >>> 14) & 3
    if ((asked & 1) === 0) return marksNothing
    return (hostAccessed ? marksAccessed : 0) | (asked === 3 && hostDirty ? marksDirty : 0)
  }
}
