/**
 * What each command does.
 *
 * AMD 48882 rev 3.10, commands: layouts, reserved bits, which features a command needs.
 *
 * @packageDocumentation
 */
import type { DeviceTableCache } from '../cache/device-table-cache.js'
import { hostAsks } from '../device-links.js'
import type { DeviceLinks } from '../device-links.js'
import type { Features } from '../features.js'
import type { InterruptTableCache } from '../interrupt/interrupt-cache.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import { controlLo, mmio, status } from '../mmio.js'
import type { Registers } from '../registers.js'
import type { Switches } from '../switches.js'
import type { TranslationCaches } from '../translation-caches.js'
import { lowMaskHi, lowMaskLo, trailingOnesSizeLog2 } from '../walk/address-bits.js'
import { request } from '../walk/answer.js'
import { atsEnabled } from '../walk/device-entry.js'
import type { Translator } from '../walk/translate.js'
import { CommandOpcode, CommandOutcome } from './command-outcome.js'

/** Milliseconds of Control.InvTimeOut; 0: no limit. 7 is reserved. */
const timeouts = [0, 1, 10, 100, 1000, 10_000, 100_000, 0]

/** Commands that only a hardware vIOMMU has. */
export interface VirtualCommands {
  insertGuestEvent(guestId: number): void
  resetVmmio(guestId: number, all: boolean, commandsToo: boolean): void
}

/** What commands work on: the parts of one IOMMU. */
export interface CommandTargets {
  readonly memory: SparseMemory
  readonly registers: Registers
  readonly caches: TranslationCaches
  readonly deviceTableCache: DeviceTableCache
  readonly interruptCache: InterruptTableCache
  readonly devices: DeviceLinks
  readonly features: Features
  readonly switches: Switches
  readonly translator: Translator
  /** Undefined without a hardware vIOMMU. */
  readonly viommu: VirtualCommands | undefined
  /** The capability's IotlbSup. */
  readonly remoteIotlbs: boolean
  /** SNP is on: stores have to fall in the window of the exclusion registers. */
  readonly snp: boolean
}

/** See the file's comment. */
export class Commands {
  /** SPA of the store that failed. */
  failedLo = 0
  failedHi = 0
  /** Opcode of the last command. */
  lastOpcode = CommandOpcode.none
  /** Whose ring the commands are from: a GuestID, or the host's. A wait is for the invalidations of its own ring. */
  asker = hostAsks
  /** Whether {@link carryOut} only says what is legal. */
  private checksOnly = false

  private readonly caches: TranslationCaches
  private readonly guestTables: boolean

  constructor(private readonly targets: CommandTargets) {
    this.caches = targets.caches
    this.guestTables = targets.features.guestTables
  }

  /**
   * Carries out one command.
   *
   * @param lo - SPA of the command, for events that name it; `hi` is the high word
   */
  carryOut(w0: number, w1: number, w2: number, w3: number, lo: number, hi: number): CommandOutcome {
    this.lastOpcode = w1 >>> 28
    // The command that there is most of; the others share a function that is too large to be compiled into the queue's.
    if (this.lastOpcode === CommandOpcode.invalidateIommuPages) return this.invalidatePages(w0, w1, w2, w3)
    return this.carryOutOther(w0, w1, w2, w3, lo, hi)
  }

  private carryOutOther(
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    lo: number,
    hi: number,
  ): CommandOutcome {
    switch (this.lastOpcode) {
      case CommandOpcode.completionWait:
        return this.completionWait(w0, w1, w2, w3)
      case CommandOpcode.invalidateDevtabEntry:
        if (!namesOnlyDevice(w0, w1, w2, w3)) return CommandOutcome.illegal
        if (!this.checksOnly) this.targets.deviceTableCache.invalidate(w0)
        return CommandOutcome.done
      case CommandOpcode.invalidateIotlbPages:
        return this.invalidateIotlbPages(w0, w1, w2, w3, lo, hi)
      case CommandOpcode.invalidateInterruptTable:
        if (!namesOnlyDevice(w0, w1, w2, w3)) return CommandOutcome.illegal
        if (!this.checksOnly) this.targets.interruptCache.invalidate(w0)
        return CommandOutcome.done
      case CommandOpcode.prefetchIommuPages:
        return this.targets.features.prefetch ? this.prefetch(w0, w1, w2, w3) : CommandOutcome.illegal
      case CommandOpcode.completePprRequest:
        return this.targets.features.pageRequests ? this.completePpr(w0, w1, w2, w3) : CommandOutcome.illegal
      case CommandOpcode.invalidateIommuAll:
        if (!this.targets.features.invalidateAll || !namesNothing(w0, w1, w2, w3))
          return CommandOutcome.illegal
        if (!this.checksOnly) this.invalidateAll()
        return CommandOutcome.done
      case CommandOpcode.insertGuestEvent:
        return this.insertGuestEvent(w0, w1, w2, w3)
      case CommandOpcode.resetVmmio:
        return this.resetVmmio(w0, w1, w2, w3)
      default:
        return CommandOutcome.illegal
    }
  }

  /** Whether an invalidation is legal; nothing is done. Not for commands of other kinds. */
  isLegal(w0: number, w1: number, w2: number, w3: number): boolean {
    this.checksOnly = true
    const outcome = this.carryOut(w0, w1, w2, w3, 0, 0)
    this.checksOnly = false
    return outcome !== CommandOutcome.illegal
  }

  private completionWait(w0: number, w1: number, w2: number, w3: number): CommandOutcome {
    const { memory, registers, devices, switches } = this.targets
    if ((w1 & 0x0ff00000) !== 0) return CommandOutcome.illegal
    // All commands before it are done but those that devices have to answer.
    if (devices.isAwaited(this.asker)) return CommandOutcome.waits
    if ((w0 & 1) !== 0) {
      this.failedLo = w0 & ~7
      this.failedHi = w1 & 0xfffff
      if (!this.isInWindow(this.failedLo, this.failedHi)) {
        const isIllegal = switches.choices.storeOutsideWindow === 'illegal-command-error'
        return isIllegal ? CommandOutcome.illegal : CommandOutcome.failed
      }
      if (!memory.store64(this.failedLo, this.failedHi, w2, w3)) return CommandOutcome.failed
    }
    if ((w0 & 2) !== 0) registers.report(status.comWaitInt, controlLo.comWaitIntEn)
    return CommandOutcome.done
  }

  /** With SNP a store has to fall in the pages from the Completion Store Base to its Limit. */
  private isInWindow(lo: number, hi: number): boolean {
    const { registers, snp } = this.targets
    if (!snp) return true
    const page = pageNumber(lo, hi)
    const first = pageNumber(registers.lo(mmio.exclusionBase), registers.hi(mmio.exclusionBase))
    const last = pageNumber(registers.lo(mmio.exclusionLimit), registers.hi(mmio.exclusionLimit))
    return page >= first && page <= last
  }

  private invalidateAll(): void {
    this.targets.caches.invalidateAll()
    this.targets.deviceTableCache.invalidateAll()
    this.targets.interruptCache.invalidateAll()
  }

  private invalidatePages(w0: number, w1: number, w2: number, w3: number): CommandOutcome {
    const isGuest = (w2 & 4) !== 0
    if (((w0 & 0xfff00000) | (w1 & 0x0fff0000) | (w2 & 0xff8)) !== 0) return CommandOutcome.illegal
    if (isGuest ? !this.guestTables : this.hasStrayPasid(isGuest, w0)) return CommandOutcome.illegal
    if (this.checksOnly) return CommandOutcome.done
    const sizeLog2 = sizeOf(w2, w3)
    if (isGuest) this.caches.invalidateGuest(w1 & 0xffff, w0, w2, w3, sizeLog2, (w2 & 2) !== 0)
    else this.caches.invalidateHost(w1 & 0xffff, w2, w3, sizeLog2, (w2 & 2) !== 0)
    return CommandOutcome.done
  }

  private invalidateIotlbPages(
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    lo: number,
    hi: number,
  ): CommandOutcome {
    const { features, devices, registers, remoteIotlbs } = this.targets
    const reservedOfW2 = features.iotlbTypes ? 0xfca : 0xffa
    if (!remoteIotlbs || (w2 & reservedOfW2) !== 0) {
      return CommandOutcome.illegal
    }
    // The PASID comes in three pieces, the middle one first.
    const pasid = ((w1 >>> 16) & 0xff) | (((w0 >>> 16) & 0xff) << 8) | (((w1 >>> 24) & 0xf) << 16)
    const isGuest = (w2 & 4) !== 0
    if (!this.mayBeGuest(w2) || this.hasStrayPasid(isGuest, pasid)) return CommandOutcome.illegal
    const deviceId = w0 & 0xffff
    if (this.checksOnly || !this.isReachable(deviceId)) return CommandOutcome.done
    const isStarted = devices.invalidate(
      deviceId,
      isGuest ? pasid : -1,
      w2 & ~0xfff,
      w3,
      sizeOf(w2, w3),
      w1 & 0xffff,
      w0 >>> 24,
      lo,
      hi,
      timeouts[(registers.lo(mmio.control) >>> 5) & 7]!,
      this.asker,
    )
    return isStarted ? CommandOutcome.done : CommandOutcome.waits
  }

  /** Whether an invalidation is sent to a device: to all, or to those alone that may use ATS. */
  private isReachable(deviceId: number): boolean {
    const { switches, translator, memory } = this.targets
    if (switches.choices.iotlbInvalidationWithoutAts === 'sent') return true
    const slot = translator.deviceTable.entryOf(deviceId, false)
    return slot >= 0 && (memory.words.array[slot + 3]! & atsEnabled) !== 0
  }

  private prefetch(w0: number, w1: number, w2: number, w3: number): CommandOutcome {
    const { memory, switches, translator, caches } = this.targets
    if ((w0 & 0x00ff0000) !== 0 || (w1 & 0x0ff00000) !== 0 || (w2 & 0xfea) !== 0)
      return CommandOutcome.illegal
    const isGuest = (w2 & 4) !== 0
    const pasid = w1 & 0xfffff
    if (!this.mayBeGuest(w2) || this.hasStrayPasid(isGuest, pasid)) return CommandOutcome.illegal
    if (switches.choices.prefetch === 'ignored') return CommandOutcome.done
    const sizeLog2 = sizeOf(w2, w3)
    const deviceId = w0 & 0xffff
    if ((w2 & 0x10) !== 0) {
      const slot = translator.deviceTable.entryOf(deviceId, false)
      if (slot >= 0) {
        const domainId = memory.words.array[slot + 2]! & 0xffff
        if (isGuest) caches.invalidateGuest(domainId, pasid, w2, w3, sizeLog2, false)
        else caches.invalidateHost(domainId, w2, w3, sizeLog2, false)
      }
    }
    const flags = switches.choices.prefetchFaults === 'silent' ? request.prefetch : 0
    const step = sizeLog2 > 30 ? 2 ** 30 : 2 ** sizeLog2
    let pageLo = w2 & ~lowMaskLo(sizeLog2)
    let pageHi = w3 & ~lowMaskHi(sizeLog2)
    for (let n = w0 >>> 24; n > 0; n--) {
      translator.translate(deviceId, isGuest ? pasid : -1, pageLo, pageHi, flags)
      const next = (pageLo >>> 0) + step
      pageLo = next | 0
      if (next >= 2 ** 32) pageHi = (pageHi + 1) | 0
    }
    return CommandOutcome.done
  }

  private completePpr(w0: number, w1: number, w2: number, w3: number): CommandOutcome {
    const isGuest = (w2 & 4) !== 0
    const pasid = w1 & 0xfffff
    const isLegal = w0 >>> 16 === 0 && (w1 & 0x0ff00000) === 0 && (w2 & ~4) === 0 && (w3 & 0xffff0e00) === 0
    if (!isLegal || !this.mayBeGuest(w2)) return CommandOutcome.illegal
    // Whether the device asked is not checked.
    const response = w3 >>> 12
    const isSent = this.targets.devices.respond(w0, isGuest ? pasid : -1, w3 & 0x1ff, response)
    return isSent ? CommandOutcome.done : CommandOutcome.waits
  }

  private insertGuestEvent(w0: number, w1: number, w2: number, w3: number): CommandOutcome {
    const { viommu } = this.targets
    if (viommu === undefined || w0 !== 0 || (w1 & 0x0fff0000) !== 0 || w2 !== 0 || w3 !== 0) {
      return CommandOutcome.illegal
    }
    viommu.insertGuestEvent(w1 & 0xffff)
    return CommandOutcome.done
  }

  private resetVmmio(w0: number, w1: number, w2: number, w3: number): CommandOutcome {
    const { viommu } = this.targets
    if (viommu === undefined || (w0 & 0x6fff0000) !== 0 || w1 << 4 !== 0 || w2 !== 0 || w3 !== 0) {
      return CommandOutcome.illegal
    }
    viommu.resetVmmio(w0 & 0xffff, (w0 & 0x10000000) !== 0, w0 < 0)
    return CommandOutcome.done
  }

  /** GN=1 asks for guest tables. */
  private mayBeGuest(w2: number): boolean {
    return (w2 & 4) === 0 || this.guestTables
  }

  private hasStrayPasid(isGuest: boolean, pasid: number): boolean {
    return !isGuest && pasid !== 0 && this.targets.switches.choices.strayPasid === 'illegal'
  }
}

const namesOnlyDevice = (w0: number, w1: number, w2: number, w3: number): boolean =>
  w0 >>> 16 === 0 && w1 << 4 === 0 && w2 === 0 && w3 === 0

const namesNothing = (w0: number, w1: number, w2: number, w3: number): boolean =>
  w0 === 0 && w1 << 4 === 0 && w2 === 0 && w3 === 0

/** log2 of the bytes that an invalidation names: a page, or what the address encodes. */
const sizeOf = (w2: number, w3: number): number => ((w2 & 1) === 0 ? 12 : trailingOnesSizeLog2(w2, w3, 31))

/** Page number of an address of 52 bits, exact in a double. */
const pageNumber = (lo: number, hi: number): number => (hi & 0xfffff) * 2 ** 20 + (lo >>> 12)
