/**
 * The hardware vIOMMU: an IOMMU that carries out commands of guests and writes guests' logs by itself.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software: the register and command layouts
 * have that source alone, and behaviour that it does not show is a switch, or says that it is the model's own. Needs
 * EFR.vIommuSup and Control.vIommuEn; commands need vCmdEn too. Hardware works for guests one step at a time, as it does
 * for the host.
 *
 * @packageDocumentation
 */
import type { DeviceLinks } from '../device-links.js'
import { controlHi, controlLo, mmio } from '../mmio.js'
import type { PageRequestOutcome } from '../page-requests.js'
import type { AccessBytes } from '../port.js'
import type { VirtualCommands } from '../queue/commands.js'
import { BufferAccess } from './buffer-access.js'
import type { BufferAccessParts } from './buffer-access.js'
import { GuestCommandQueue } from './guest-command-queue.js'
import { GuestCommands } from './guest-commands.js'
import type { CommandCarrier } from './guest-commands.js'
import { GuestEvents } from './guest-events.js'
import { GuestMaps } from './guest-maps.js'
import { GuestMmio } from './guest-mmio.js'
import type { QueueGates } from './guest-mmio.js'
import { guestWord } from './guest-records.js'
import type { Guest } from './guest-records.js'
import { guestIdCount, mapControl, vfBytes, vfControl, vfControlBytes } from './guest-registers.js'
import { HostEvents } from './host-events.js'
import { mapKind } from './map-cache.js'
import type { VirtualState } from './virtual-state.js'
import type { VirtualSwitches } from './virtual-switches.js'

/** What a hardware vIOMMU works on: the parts of one IOMMU. */
export interface VirtualIommuParts extends BufferAccessParts {
  readonly devices: DeviceLinks
  readonly choices: VirtualSwitches
  readonly state: VirtualState
}

/** An interrupt that the IOMMU of a guest would raise. */
export interface GuestInterrupt {
  readonly guestId: number
  /** Which of the guest's IOMMU's interrupts: a bit of `interruptLine`. */
  readonly line: number
}

/** See the file's comment. */
export class VirtualIommus implements VirtualCommands {
  private readonly maps: GuestMaps
  private readonly registers: GuestMmio
  private readonly events: GuestEvents
  private readonly queue: GuestCommandQueue

  constructor(private readonly parts: VirtualIommuParts) {
    const { memory, features, choices, devices, state } = parts
    const hostEvents = new HostEvents(parts.registers, memory)
    const access = new BufferAccess(parts, hostEvents)
    this.maps = new GuestMaps(memory, access, state.mapCache, hostEvents)
    this.registers = new GuestMmio(features)
    const shared = { memory, features, choices, devices, maps: this.maps, access, hostEvents }
    this.events = new GuestEvents({ ...shared, guests: state.guests, mmio: this.registers })
    this.queue = new GuestCommandQueue(shared, new GuestCommands(shared), this.events)
  }

  /**
   * Reads a guest's page.
   *
   * @param offset - from the VF BAR: 4 KiB for each GuestID; RangeError otherwise. An access that is not aligned, and
   *   one to a guest that was never written to, reads as zero
   */
  readVf(offset: number, bytes: AccessBytes): bigint {
    const guest = this.guestAt('offset', offset, vfBytes)
    if (guest === undefined || offset % bytes !== 0 || (bytes === 4 && (offset & 4) !== 0)) return 0n
    return BigInt(this.registers.readPage(guest, offset & (vfBytes - 8), this.gates()) >>> 0)
  }

  /** Writes a guest's page; an access that is not aligned, or to one guest too many, changes nothing. */
  writeVf(offset: number, bytes: AccessBytes, value: bigint): void {
    this.guestAt('offset', offset, vfBytes)
    const register = offset & (vfBytes - 8)
    // What can be written is in low words.
    if (offset % bytes !== 0 || (offset & 4) !== 0 || !this.isOn || !this.registers.isWritable(register))
      return
    const guest = this.parts.state.guests.use(Math.floor(offset / vfBytes))
    if (guest !== undefined) this.registers.writePage(guest, register, lowWord(value), this.gates())
  }

  /**
   * Reads the registers that control a guest.
   *
   * @param offset - from the VFCtrl BAR: 64 bytes for each GuestID; RangeError otherwise
   */
  readVfControl(offset: number, bytes: AccessBytes): bigint {
    const guest = this.guestAt('offset', offset, vfControlBytes)
    if (guest === undefined || offset % bytes !== 0) return 0n
    const register = offset & (vfControlBytes - 8)
    const lo = BigInt(guest.controlLo(register) >>> 0)
    const hi = BigInt(guest.controlHi(register) >>> 0)
    if (bytes === 8) return (hi << 32n) | lo
    return (offset & 4) === 0 ? lo : hi
  }

  /**
   * Writes the registers that control a guest. A map entry is written when the write bit is: a host with 32-bit accesses
   * writes the high half first.
   */
  writeVfControl(offset: number, bytes: AccessBytes, value: bigint): void {
    this.guestAt('offset', offset, vfControlBytes)
    if (offset % bytes !== 0 || !this.isOn) return
    const guest = this.parts.state.guests.use(Math.floor(offset / vfControlBytes))
    if (guest === undefined) return
    const register = offset & (vfControlBytes - 8)
    const isHigh = bytes === 4 && (offset & 4) !== 0
    const lo = isHigh ? guest.controlLo(register) : lowWord(value)
    const hi = isHigh ? lowWord(value) : bytes === 4 ? guest.controlHi(register) : lowWord(value >> 32n)
    this.registers.writeControl(guest, register, lo, hi, this.gates())
    if (register === vfControl.deviceMap || register === vfControl.domainMap) this.writeMap(guest, register)
  }

  /**
   * Carries out the next command of a guest.
   *
   * @param guestId - 16 bits; RangeError otherwise
   * @param carrier - the chip's own commands
   * @returns false if nothing moved: there is no command, the guest's queue does not run, or the command waits for a device
   */
  stepGuest(guestId: number, carrier: CommandCarrier): boolean {
    const guest = this.guestAt('guestId', guestId, 1)
    if (guest === undefined || !this.registers.commandsRun(guest, this.gates())) return false
    return this.queue.step(guest, carrier)
  }

  /** GuestIDs in use, ascending. */
  guestIds(): number[] {
    this.parts.memory.words.activate()
    return this.parts.state.guests.all().map(({ id }) => id)
  }

  /** Whether an access was ignored because as many guests as there can be are in use; RESET_VMMIO of all clears it. */
  get hasRefusedGuest(): boolean {
    this.parts.memory.words.activate()
    return this.parts.state.guests.hasRefused
  }

  /**
   * The next interrupt that the IOMMU of a guest would raise, the lowest GuestID first; undefined when there is none. How
   * it reaches the guest is not modelled.
   */
  takeGuestInterrupt(): GuestInterrupt | undefined {
    this.parts.memory.words.activate()
    for (const guest of this.parts.state.guests.all()) {
      const pending = guest.get(guestWord.interrupts)
      if (pending === 0) continue
      const line = pending & -pending
      guest.set(guestWord.interrupts, pending & ~line)
      return { guestId: guest.id, line }
    }
    return undefined
  }

  /**
   * Writes an event, already in the guest's terms, to a guest's event log.
   *
   * @param guestId - 16 bits; RangeError otherwise
   * @returns false if it is not there
   */
  deliverGuestEvent(guestId: number, w0: number, w1: number, w2: number, w3: number): boolean {
    this.guestAt('guestId', guestId, 1)
    return this.gates().logs && this.events.deliver(guestId, w0, w1, w2, w3)
  }

  /**
   * Delivers the event of a refused request, if the device is a guest's and the event is for guests. To be called in place
   * of the host's log.
   *
   * @param slot - slot of the device's entry in the device-table cache; 0 or -1: there is none
   * @param event - four words, with the host's IDs
   * @returns whether it was the guest's: then it is none of the host's, even if the guest's log did not take it
   */
  routeEvent(slot: number, event: Int32Array): boolean {
    this.parts.memory.words.activate()
    return this.gates().logs && this.events.route(slot, event)
  }

  /**
   * Takes a page request that the host would log, if the device is a guest's. To be called in place of the host's log.
   *
   * @returns undefined if the device is not a guest's
   */
  routePageRequest(
    slot: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
  ): PageRequestOutcome | undefined {
    this.parts.memory.words.activate()
    return this.gates().logs ? this.events.routePageRequest(slot, w0, w1, w2, w3) : undefined
  }

  /** INSERT_GUEST_EVENT: tries again to deliver the event that the guest's log did not take. */
  insertGuestEvent(guestId: number): void {
    this.parts.memory.words.activate()
    if (this.gates().logs) this.events.insertHeld(guestId)
  }

  /**
   * RESET_VMMIO: the guest's registers are zero, and nothing of its maps is cached.
   *
   * @param commandsToo - vCmd: the registers of the command queue, too
   */
  resetVmmio(guestId: number, all: boolean, commandsToo: boolean): void {
    const { guests, mapCache } = this.parts.state
    this.parts.memory.words.activate()
    if (all) {
      mapCache.dropAll()
      guests.forgetRefused()
    } else mapCache.dropGuest(guestId)
    for (const guest of guests.all()) {
      if (!all && guest.id !== guestId) continue
      guest.clear(!commandsToo)
      guests.release(guest)
    }
  }

  private writeMap(guest: Guest, register: number): void {
    const lo = guest.controlLo(register)
    if ((lo & mapControl.write) === 0) return
    const hi = guest.controlHi(register)
    guest.setControl(register, lo & ~mapControl.write, hi)
    const kind = register === vfControl.deviceMap ? mapKind.device : mapKind.domain
    const index = (hi >>> mapControl.idShift) & 0xffff
    const hostId = (lo >>> mapControl.idShift) & 0xffff
    this.maps.write(kind, guest.id, index, hostId, (hi & mapControl.validHi) !== 0)
  }

  /** The guest that a number is for, with `each` numbers a guest. Makes the machine active. */
  private guestAt(name: string, value: number, each: number): Guest | undefined {
    const limit = guestIdCount * each - 1
    if (!Number.isInteger(value) || value < 0 || value > limit) {
      throw new RangeError(`${name} ${value} is not an integer from 0 to ${limit}`)
    }
    this.parts.memory.words.activate()
    return this.isOn ? this.parts.state.guests.find(Math.floor(value / each)) : undefined
  }

  /** EFR.vIommuSup and Control.vIommuEn. */
  private get isOn(): boolean {
    const { features, registers } = this.parts
    return features.viommu && (registers.hi(mmio.control) & controlHi.viommuEn) !== 0
  }

  private gates(): QueueGates {
    const { registers } = this.parts
    const logs = this.isOn && (registers.lo(mmio.control) & controlLo.iommuEn) !== 0
    return { logs, commands: logs && (registers.hi(mmio.control) & controlHi.virtualCommandsEn) !== 0 }
  }
}

const lowWord = (value: bigint): number => Number(BigInt.asIntN(32, value))
