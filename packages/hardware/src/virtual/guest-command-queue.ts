/**
 * The command processor of a guest: takes one command from the guest's ring and has it carried out.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software. What halts the queue is taken to
 * be as AMD 48882 rev 3.10 has it for the host's; the guest's own log tells the guest, in addresses that it knows.
 *
 * @packageDocumentation
 */
import { hostAsks } from '../device-links.js'
import { CommandOutcome } from '../queue/command-outcome.js'
import { eventCode } from '../walk/fault.js'
import type { CommandCarrier, GuestCommandParts, GuestCommands } from './guest-commands.js'
import type { GuestEvents } from './guest-events.js'
import { guestWord } from './guest-records.js'
import type { Guest } from './guest-records.js'
import { vf, vfControl } from './guest-registers.js'
import { errorSource, walkCause } from './host-events.js'
import { privateArea } from './private-space.js'

/** Second word of the guest's events; the hardware error's type is 1, master abort. */
const illegalCommand = eventCode.illegalCommandError << 28
const commandHardwareError = (eventCode.commandHardwareError << 28) | 0x02000000

/** See the file's comment. */
export class GuestCommandQueue {
  constructor(
    private readonly parts: GuestCommandParts,
    private readonly commands: GuestCommands,
    private readonly guestEvents: GuestEvents,
  ) {}

  /**
   * Carries out the next command of a guest whose queue runs. The machine must be active.
   *
   * @returns false if nothing moved: there is no command, or it waits for a device
   */
  step(guest: Guest, carrier: CommandCarrier): boolean {
    const { access, hostEvents, memory } = this.parts
    const control = guest.controlLo(vfControl.command)
    const mask = (16 << (control & 15)) - 1
    const head = guest.page(vf.commandHead) & mask
    if (head === (guest.page(vf.commandTail) & mask)) return false
    const baseLo = control & 0xfffff000
    const baseHi = guest.controlHi(vfControl.command)
    const area = privateArea.commands
    // Where the guest believes its command to be.
    const lo = (baseLo + head) | 0
    const hi = baseHi + ((baseLo >>> 0) + head > 0xffffffff ? 1 : 0)
    if (!access.toBuffer(guest, area, baseLo, baseHi, head, false, walkCause.command)) {
      this.halt(guest, commandHardwareError, lo, hi)
      return true
    }
    const { lo: spaLo, hi: spaHi } = access
    const word = memory.wordOf(spaLo, spaHi)
    if (word < 0) {
      hostEvents.hardwareError(guest.id, errorSource.commands, access.askedLo, access.askedHi)
      this.halt(guest, commandHardwareError, lo, hi)
      return true
    }
    const pool = memory.words.array
    const [w0, w1] = [Number(pool[word]), Number(pool[word + 1])]
    const [w2, w3] = [Number(pool[word + 2]), Number(pool[word + 3])]
    carrier.asker = guest.id
    const outcome = this.commands.carryOut(guest, carrier, w0, w1, w2, w3, spaLo, spaHi)
    carrier.asker = hostAsks
    switch (outcome) {
      case CommandOutcome.waits:
        return false
      case CommandOutcome.illegal:
        this.halt(guest, illegalCommand, lo, hi)
        return true
      case CommandOutcome.failed:
        this.halt(guest, commandHardwareError, this.commands.failedLo, this.commands.failedHi)
        return true
      case CommandOutcome.unmapped:
        if (this.parts.choices.unmappedGuestId === 'halts') {
          this.halt(guest, commandHardwareError, lo, hi)
          return true
        }
        break
      default:
    }
    guest.setPage(vf.commandHead, (head + 16) & mask)
    return true
  }

  /** Stops the guest's queue with the head where it is, and tells the guest. */
  private halt(guest: Guest, eventHi: number, lo: number, hi: number): void {
    guest.set(guestWord.commandHalted, 1)
    this.guestEvents.deliver(guest.id, 0, eventHi, lo, hi)
  }
}
