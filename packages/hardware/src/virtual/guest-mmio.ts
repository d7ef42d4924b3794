/**
 * What the host and the guest read and write in a guest's registers.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software. There, a VMM puts what the guest
 * writes to its base registers and to Control into one register a queue, half of it at a time: so a base or length that
 * changes clears its pointers, a write that leaves it as it is does not, and while the queue runs it stays.
 *
 * @packageDocumentation
 */
import type { Features } from '../features.js'
import { status, statusWriteToClear } from '../mmio.js'
import { dualMode, guestEventLog, guestLogs, guestPprLog, isOn, isStopped } from './guest-log.js'
import type { GuestLog, GuestRing } from './guest-log.js'
import { guestWord } from './guest-records.js'
import type { Guest } from './guest-records.js'
import { queueEnable, vf, vfControl, vfControlWritable, vfWritable } from './guest-registers.js'

/** Base and length bits of the command, event and PPR control registers, low word; the high one is base alone. */
const placeBits = { command: 0xfffff00f | 0, event: 0xfffff0ff | 0, ppr: 0xffff00ff | 0 } as const
/** The length of ring B among them. */
const lengthB = 0xf0

/** What of a guest's queues the chip's own control register lets run. */
export interface QueueGates {
  readonly commands: boolean
  readonly logs: boolean
}

/** See the file's comment. */
export class GuestMmio {
  constructor(private readonly features: Features) {}

  /** Whether hardware fetches a guest's commands. */
  commandsRun(guest: Guest, gates: QueueGates): boolean {
    const control = guest.controlLo(vfControl.command)
    const isEnabled = (control & queueEnable) !== 0 && (control & 15) >= 8
    return gates.commands && isEnabled && guest.get(guestWord.commandHalted) === 0
  }

  /** Whether hardware writes a guest's log. */
  logRuns(guest: Guest, log: GuestLog, gates: QueueGates): boolean {
    return gates.logs && isOn(guest, log) && !isStopped(guest, log)
  }

  /** Whether the chip has the second ring of a log. */
  hasRingB(log: GuestLog): boolean {
    return log === guestEventLog ? this.features.dualEventLog : this.features.dualPprLog
  }

  /** A register of the guest's page, low word, as the guest reads it. */
  readPage(guest: Guest, offset: number, gates: QueueGates): number {
    if (offset !== vf.status) return vfWritable(offset, this.features) === 0 ? 0 : guest.page(offset)
    let bits = guest.page(vf.status)
    if (this.commandsRun(guest, gates)) bits |= status.cmdBufRun
    for (const log of guestLogs) {
      if (this.logRuns(guest, log, gates)) bits |= log.runStatus
      if (guest.get(log.inB) === 1) bits |= log.activeStatus
    }
    return bits
  }

  /** Whether the guest's page has a register that can be written at an offset, a multiple of 8. */
  isWritable(offset: number): boolean {
    return offset === vf.status || vfWritable(offset, this.features) !== 0
  }

  /** A write of the guest to its page, low word. */
  writePage(guest: Guest, offset: number, value: number, gates: QueueGates): void {
    if (offset === vf.status) {
      guest.setPage(vf.status, guest.page(vf.status) & ~(value & statusWriteToClear))
      return
    }
    if (offset === vf.commandHead && this.commandsRun(guest, gates)) return
    for (const log of guestLogs) {
      const isTail = offset === log.a.tail || offset === log.b.tail
      if (isTail && this.logRuns(guest, log, gates)) return
    }
    guest.setPage(offset, value & vfWritable(offset, this.features))
  }

  /** A write of the host to a control register; what a map register asks for is not carried out here. */
  writeControl(guest: Guest, offset: number, lo: number, hi: number, gates: QueueGates): void {
    const writable = vfControlWritable(offset)
    const next = { lo: lo & writable.lo, hi: hi & writable.hi }
    switch (offset) {
      case vfControl.command:
        this.writeCommandControl(guest, next.lo, next.hi, gates)
        break
      case vfControl.event:
        this.writeLogControl(guest, guestEventLog, placeBits.event, next.lo, next.hi, gates)
        break
      case vfControl.ppr:
        this.writeLogControl(guest, guestPprLog, placeBits.ppr, next.lo, next.hi, gates)
        break
      case vfControl.eventBBase:
        this.writeBaseB(guest, guestEventLog, next.lo, next.hi, gates)
        break
      case vfControl.pprBBase:
        this.writeBaseB(guest, guestPprLog, next.lo, next.hi, gates)
        break
      default:
        guest.setControl(offset, next.lo, next.hi)
    }
  }

  private writeCommandControl(guest: Guest, lo: number, hi: number, gates: QueueGates): void {
    const oldLo = guest.controlLo(vfControl.command)
    const oldHi = guest.controlHi(vfControl.command)
    const staysOn = (lo & queueEnable) !== 0 && this.commandsRun(guest, gates)
    const place = placeBits.command
    const newLo = staysOn ? (lo & ~place) | (oldLo & place) : lo
    const newHi = staysOn ? oldHi : hi
    guest.setControl(vfControl.command, newLo, newHi)
    if (((newLo ^ oldLo) & place) !== 0 || newHi !== oldHi) {
      guest.setPage(vf.commandHead, 0)
      guest.setPage(vf.commandTail, 0)
    }
    if ((newLo & ~oldLo & queueEnable) !== 0) guest.set(guestWord.commandHalted, 0)
  }

  private writeLogControl(
    guest: Guest,
    log: GuestLog,
    place: number,
    lo: number,
    hi: number,
    gates: QueueGates,
  ): void {
    const oldLo = guest.controlLo(log.control)
    const oldHi = guest.controlHi(log.control)
    const staysOn = (lo & queueEnable) !== 0 && this.logRuns(guest, log, gates)
    const newLo = staysOn ? (lo & ~place) | (oldLo & place) : lo
    const newHi = staysOn ? oldHi : hi
    guest.setControl(log.control, newLo, newHi)
    const changed = (newLo ^ oldLo) & place
    if ((changed & ~lengthB) !== 0 || newHi !== oldHi) clearPointers(guest, log.a)
    if ((changed & lengthB) !== 0) clearPointers(guest, log.b)
    if ((newLo & ~oldLo & queueEnable) !== 0) {
      guest.set(log.stopped, 0)
      guest.setPage(vf.status, guest.page(vf.status) & ~(log.a.overflow | log.b.overflow))
    }
    const mode = this.hasRingB(log) ? dualMode(guest, log) : 0
    if (mode !== 2) guest.set(log.inB, mode === 1 ? 1 : 0)
  }

  private writeBaseB(guest: Guest, log: GuestLog, lo: number, hi: number, gates: QueueGates): void {
    if (this.logRuns(guest, log, gates)) return
    if (guest.controlLo(log.b.base) === lo && guest.controlHi(log.b.base) === hi) return
    guest.setControl(log.b.base, lo, hi)
    clearPointers(guest, log.b)
  }
}

function clearPointers(guest: Guest, ring: GuestRing): void {
  guest.setPage(ring.head, 0)
  guest.setPage(ring.tail, 0)
}
