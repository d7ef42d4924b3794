/**
 * Events and page requests of a guest's devices, written to the guest's own logs under the IDs that the guest knows.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software. The device table entry tells the
 * guest and the device's name there. What INSERT_GUEST_EVENT inserts is not published: here, the event that the guest's
 * log did not take when GUEST_EVENT_FAULT was logged; one is held for each guest.
 *
 * @packageDocumentation
 */
import type { DeviceLinks } from '../device-links.js'
import type { Features } from '../features.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import type { PageRequestOutcome } from '../page-requests.js'
import { eventCode, eventFlag } from '../walk/fault.js'
import type { BufferAccess } from './buffer-access.js'
import {
  advance,
  baseHi,
  baseLo,
  dualMode,
  guestEventLog,
  guestPprLog,
  isFull,
  isOn,
  isStopped,
  overflow,
  ringOf,
  tailOf,
} from './guest-log.js'
import type { GuestLog } from './guest-log.js'
import type { GuestMaps } from './guest-maps.js'
import type { GuestMmio } from './guest-mmio.js'
import { guestWord } from './guest-records.js'
import type { Guest, GuestRecords } from './guest-records.js'
import { guestPpr, vf, vfControl } from './guest-registers.js'
import { walkCause } from './host-events.js'
import type { HostEvents } from './host-events.js'
import type { VirtualSwitches } from './virtual-switches.js'

/** What delivery works on. */
export interface GuestEventParts {
  readonly memory: SparseMemory
  readonly features: Features
  readonly choices: VirtualSwitches
  readonly devices: DeviceLinks
  readonly guests: GuestRecords
  readonly maps: GuestMaps
  readonly access: BufferAccess
  readonly mmio: GuestMmio
  readonly hostEvents: HostEvents
}

/** vImuEn, in the low word of an entry's last quad-word. */
const virtualized = 0x8000
/** Bits of a page request's second word. */
const pprBit = { last: 1 << 9, readOrWrite: (1 << 18) | (1 << 21), guest: 1 << 24 }

/** What became of an entry. */
const became = {
  kept: 0,
  /** The ring is full: the guest's status tells. */
  lost: 1,
  /** The guest does not want it. */
  off: 2,
  /** The host's tables do not lead to the ring: the host's log tells. */
  unreachable: 3,
  /** No memory answers: the host's log tells. */
  nowhere: 4,
} as const

/** See the file's comment. The machine must be active. */
export class GuestEvents {
  constructor(private readonly parts: GuestEventParts) {}

  /**
   * Delivers the event of a refused request, if the device is a guest's and the event is for guests.
   *
   * @param slot - slot of the device's entry in the device-table cache; 0 or -1: there is none
   * @param event - four words, with the host's IDs
   * @returns whether it was the guest's: then it is none of the host's, even if the guest's log did not take it
   */
  route(slot: number, event: Int32Array): boolean {
    const w1 = Number(event[1])
    const code = w1 >>> 28
    const guestId = this.guestOf(slot)
    if (guestId < 0 || !this.isForGuests(code)) return false
    const namesDomain = code === eventCode.ioPageFault || code === eventCode.pageTabHardwareError
    const hasDomain = namesDomain && (w1 & (eventFlag.guest << 16)) === 0
    const named = hasDomain ? (w1 & 0xffff0000) | this.domainFor(guestId, w1 & 0xffff) : w1
    this.deliver(
      guestId,
      this.withGuestDevice(slot, Number(event[0])),
      named,
      Number(event[2]),
      Number(event[3]),
    )
    return true
  }

  /** Writes an event, already in the guest's terms, to the guest's log. False if it is not there. */
  deliver(guestId: number, w0: number, w1: number, w2: number, w3: number): boolean {
    const guest = this.parts.guests.find(guestId)
    const end = guest === undefined ? became.off : this.append(guest, guestEventLog, w0, w1, w2, w3)
    if (end === became.off || end === became.unreachable) {
      if (guest?.get(guestWord.holdsEvent) === 0) hold(guest, [w0, w1, w2, w3])
      this.parts.hostEvents.guestEventFault(guestId)
    }
    return end === became.kept
  }

  /** INSERT_GUEST_EVENT. */
  insertHeld(guestId: number): void {
    const guest = this.parts.guests.find(guestId)
    if (guest?.get(guestWord.holdsEvent) !== 1) return
    const held = (n: number): number => guest.get(guestWord.heldEvent + n)
    const [w0, w1, w2, w3] = [held(0), held(1), held(2), held(3)] as const
    guest.set(guestWord.holdsEvent, 0)
    for (let n = 0; n < 4; n++) guest.set(guestWord.heldEvent + n, 0)
    this.deliver(guestId, w0, w1, w2, w3)
  }

  /**
   * Takes a page request that the host would log, if the device is a guest's.
   *
   * @param slot - slot of the device's entry in the device-table cache
   * @returns undefined if the device is not a guest's
   */
  routePageRequest(
    slot: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
  ): PageRequestOutcome | undefined {
    const guestId = this.guestOf(slot)
    if (guestId < 0) return undefined
    const { features, guests, mmio } = this.parts
    const guest = guests.find(guestId)
    if (guest === undefined) return 'dropped'
    const control = guest.controlLo(vfControl.ppr)
    if ((control & guestPpr.pprEn) === 0) return 'dropped'
    const isStop = (w1 & pprBit.guest) !== 0 && (w1 & pprBit.last) !== 0 && (w1 & pprBit.readOrWrite) === 0
    if (isStop && features.stopMarkersBlocked && (control & guestPpr.blockStopMarkers) !== 0) return 'dropped'
    const swaps = mmio.hasRingB(guestPprLog) && dualMode(guest, guestPprLog) === 2
    const answers = features.pprAutoResponse && (control & guestPpr.autoRspEn) !== 0 && !swaps
    const mayAnswer = answers && (w1 & pprBit.last) !== 0 && !isStop
    if (answers && (control & guestPpr.autoRspAlways) !== 0) return this.answer(guest, mayAnswer, w0, w1)
    const named = this.withGuestDevice(slot, w0)
    if (this.append(guest, guestPprLog, named, w1, w2, w3) === became.kept) return 'logged'
    return this.answer(guest, mayAnswer, w0, w1)
  }

  /** PprAutoRespCode of the guest, to the device under the name that it has. */
  private answer(guest: Guest, mayAnswer: boolean, w0: number, w1: number): PageRequestOutcome {
    if (!mayAnswer) return 'dropped'
    const how = guest.page(vf.pprAutoResponse)
    const namesPasid = (how & 0x10) === 0 && (w1 & pprBit.guest) !== 0
    const pasid = namesPasid ? (w0 >>> 16) | (((w1 >>> 10) & 15) << 16) : -1
    const isSent = this.parts.devices.respond(w0 & 0xffff, pasid, w1 & 0x1ff, how & 15)
    return isSent ? 'answered' : 'dropped'
  }

  /** Writes an entry to a log of a guest, in the other ring if this one is full and the guest wants that. */
  private append(guest: Guest, log: GuestLog, w0: number, w1: number, w2: number, w3: number): number {
    const { access, memory, mmio, hostEvents } = this.parts
    if (!isOn(guest, log)) return became.off
    if (isStopped(guest, log)) return became.lost
    if (isFull(guest, log, ringOf(guest, log))) {
      if (!overflow(guest, log, mmio.hasRingB(log))) return became.lost
      if (isFull(guest, log, ringOf(guest, log))) {
        overflow(guest, log, true)
        return became.lost
      }
    }
    const ring = ringOf(guest, log)
    const tail = tailOf(guest, log, ring)
    const isReached = access.toBuffer(
      guest,
      ring.area,
      baseLo(guest, ring),
      baseHi(guest, ring),
      tail,
      true,
      walkCause.event,
    )
    if (!isReached) return became.unreachable
    if (!memory.store64(access.lo, access.hi, w0, w1)) {
      hostEvents.hardwareError(guest.id, log.source, access.askedLo, access.askedHi)
      return became.nowhere
    }
    memory.store64(access.lo + 8, access.hi, w2, w3)
    advance(guest, log, ring)
    return became.kept
  }

  /** The guest that the entry in a slot names, or -1. */
  private guestOf(slot: number): number {
    if (slot <= 0) return -1
    const pool = this.parts.memory.words.array
    return (Number(pool[slot + 6]) & virtualized) === 0 ? -1 : Number(pool[slot + 7]) & 0xffff
  }

  private withGuestDevice(slot: number, w0: number): number {
    return (w0 & 0xffff0000) | (Number(this.parts.memory.words.array[slot + 6]) >>> 16)
  }

  private isForGuests(code: number): boolean {
    switch (code) {
      case eventCode.illegalDevTableEntry:
      case eventCode.ioPageFault:
      case eventCode.invalidDeviceRequest:
      case eventCode.invalidPprRequest:
        return true
      // These name the SPA of an entry in the host's tables.
      case eventCode.devTabHardwareError:
      case eventCode.pageTabHardwareError:
        return this.parts.choices.guestEvents === 'every'
      default:
        return false
    }
  }

  private domainFor(guestId: number, hostDomainId: number): number {
    const { choices, guests } = this.parts
    if (choices.guestEventDomain === 'zero' || guests.find(guestId) === undefined) return 0
    return this.parts.maps.guestDomainOf(guestId, hostDomainId)
  }
}

function hold(guest: Guest, event: readonly number[]): void {
  guest.set(guestWord.holdsEvent, 1)
  event.forEach((word, n) => guest.set(guestWord.heldEvent + n, word))
}
