/**
 * What a guest's command does: the IDs in it are the guest's, and become the host's before anything is touched.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software. Every command that names a
 * device or a domain is put together anew with an ID from the guest's map, and is then carried out as the host's would
 * be; there is no other way from a guest to a cache or a device.
 *
 * @packageDocumentation
 */
import type { DeviceLinks } from '../device-links.js'
import type { Features } from '../features.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import { status } from '../mmio.js'
import { interruptLine } from '../log.js'
import { CommandOpcode, CommandOutcome } from '../queue/command-outcome.js'
import type { BufferAccess } from './buffer-access.js'
import type { GuestMaps } from './guest-maps.js'
import { guestWord } from './guest-records.js'
import type { Guest } from './guest-records.js'
import { queueInterruptEnable, vf, vfControl } from './guest-registers.js'
import { errorSource, walkCause } from './host-events.js'
import type { HostEvents } from './host-events.js'
import { mapKind } from './map-cache.js'
import type { VirtualSwitches } from './virtual-switches.js'

/** What carries out the host's commands; see `Commands`. */
export interface CommandCarrier {
  /** Whose ring the commands are from; see `Commands.asker`. */
  asker: number
  carryOut(w0: number, w1: number, w2: number, w3: number, lo: number, hi: number): CommandOutcome
}

/** What guests' commands work on. */
export interface GuestCommandParts {
  readonly memory: SparseMemory
  readonly features: Features
  readonly choices: VirtualSwitches
  readonly devices: DeviceLinks
  readonly maps: GuestMaps
  readonly access: BufferAccess
  readonly hostEvents: HostEvents
}

/** INVALIDATE_IOMMU_PAGES of everything in a domain, directories too: all words but the DomainID. */
const domainAll = { w1: 0x30000000, w2: 0xfffff003 | 0, w3: 0x7fffffff } as const

/** See the file's comment. The machine must be active. */
export class GuestCommands {
  /** GPA of the store that failed. */
  failedLo = 0
  failedHi = 0

  constructor(private readonly parts: GuestCommandParts) {}

  /**
   * Carries out one command of a guest.
   *
   * @param lo - SPA of the command, low word; `hi` is the high word
   */
  carryOut(
    guest: Guest,
    carrier: CommandCarrier,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    lo: number,
    hi: number,
  ): CommandOutcome {
    const { choices, maps } = this.parts
    const code: CommandOpcode = w1 >>> 28
    switch (code) {
      case CommandOpcode.completionWait:
        return this.completionWait(guest, w0, w1, w2, w3)
      case CommandOpcode.invalidateIommuPages: {
        const domainId = maps.hostIdOf(mapKind.domain, guest.id, w1 & 0xffff)
        if (domainId < 0) return CommandOutcome.unmapped
        return carrier.carryOut(w0, (w1 & 0xffff0000) | domainId, w2, w3, lo, hi)
      }
      case CommandOpcode.invalidateInterruptTable:
      case CommandOpcode.prefetchIommuPages:
        if (choices.guestInterruptAndPrefetch === 'illegal') return CommandOutcome.illegal
        break
      case CommandOpcode.invalidateDevtabEntry:
      case CommandOpcode.invalidateIotlbPages:
      case CommandOpcode.completePprRequest:
        break
      case CommandOpcode.invalidateIommuAll:
        return this.invalidateAll(guest, carrier, w0, w1, w2, w3, lo, hi)
      default:
        return CommandOutcome.illegal
    }
    const deviceId = maps.hostIdOf(mapKind.device, guest.id, w0 & 0xffff)
    if (deviceId < 0) return CommandOutcome.unmapped
    // QueueID, too, is shared with others: the device's own stands for whatever the guest wrote there.
    const high = code === CommandOpcode.invalidateIotlbPages ? (w1 & 0xffff0000) | deviceId : w1
    return carrier.carryOut((w0 & 0xffff0000) | deviceId, high, w2, w3, lo, hi)
  }

  private completionWait(guest: Guest, w0: number, w1: number, w2: number, w3: number): CommandOutcome {
    const { access, devices, hostEvents, memory } = this.parts
    if ((w1 & 0x0ff00000) !== 0) return CommandOutcome.illegal
    if (devices.isAwaited(guest.id)) return CommandOutcome.waits
    if ((w0 & 1) !== 0) {
      this.failedLo = w0 & ~7
      this.failedHi = w1 & 0xfffff
      if (!access.toGuest(guest, this.failedLo, this.failedHi, true, walkCause.command)) {
        return CommandOutcome.failed
      }
      if (!memory.store64(access.lo, access.hi, w2, w3)) {
        hostEvents.hardwareError(guest.id, errorSource.commands, this.failedLo, this.failedHi)
        return CommandOutcome.failed
      }
    }
    if ((w0 & 2) !== 0) {
      guest.setPage(vf.status, guest.page(vf.status) | status.comWaitInt)
      if ((guest.controlLo(vfControl.command) & queueInterruptEnable) !== 0) {
        guest.set(guestWord.interrupts, guest.get(guestWord.interrupts) | interruptLine.general)
      }
    }
    return CommandOutcome.done
  }

  /** INVALIDATE_IOMMU_ALL: all that the guest's maps lead to. */
  private invalidateAll(
    guest: Guest,
    carrier: CommandCarrier,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    lo: number,
    hi: number,
  ): CommandOutcome {
    const { choices, features, maps } = this.parts
    const isLegal = features.invalidateAll && w0 === 0 && w1 << 4 === 0 && w2 === 0 && w3 === 0
    if (!isLegal) return CommandOutcome.illegal
    const domains = maps.hostIdsOf(mapKind.domain, guest.id)
    const devices = choices.guestInvalidateAll === 'domains' ? [] : maps.hostIdsOf(mapKind.device, guest.id)
    if (domains === undefined || devices === undefined) return CommandOutcome.unmapped
    for (const domainId of domains) {
      carrier.carryOut(0, domainAll.w1 | domainId, domainAll.w2, domainAll.w3, lo, hi)
    }
    for (const deviceId of devices) {
      carrier.carryOut(deviceId, CommandOpcode.invalidateDevtabEntry << 28, 0, 0, lo, hi)
      carrier.carryOut(deviceId, CommandOpcode.invalidateInterruptTable << 28, 0, 0, lo, hi)
    }
    return CommandOutcome.done
  }
}
