/**
 * The IOMMU: registers, caches, and the steps it takes.
 *
 * It owns no memory: memory is given, and its registers and caches lie in the same {@link Words}, so that a fork of
 * the memory is a fork of the chip.
 *
 * @packageDocumentation
 */
import { createParts, forkParts } from './chip-parts.js'
import type { ChipParts, IommuOptions } from './chip-parts.js'
import { counterSource } from './counters.js'
import type { PerformanceCounters } from './counters.js'
import { ChipCounting } from './counting.js'
import type { DeviceMessage } from './device-links.js'
import type { Features } from './features.js'
import { FunctionRegisters } from './function-registers.js'
import type { InterruptMessage } from './interrupt-message.js'
import type { CachedInterruptEntry } from './interrupt/interrupt-cache.js'
import { InterruptRemapper } from './interrupt/remap.js'
import { entriesOf } from './iotlb-entries.js'
import type { IotlbEntry } from './iotlb-entries.js'
import type { SparseMemory } from './memory/sparse-memory.js'
import type { Words } from './memory/words.js'
import { mmio } from './mmio.js'
import { receivePageRequest } from './page-requests.js'
import type { PageRequest, PageRequestOutcome } from './page-requests.js'
import type { ConfigBytes } from './pci/pci-function.js'
import type { AccessBytes, IommuPort } from './port.js'
import { runCommands } from './queue/command-queue.js'
import type { CommandQueueParts } from './queue/command-queue.js'
import { Commands } from './queue/commands.js'
import { logEvent } from './queue/event-log.js'
import { logGuestInterrupt } from './queue/ga-log.js'
import { describe, describeAts, describeInterrupt } from './translation.js'
import type { AtsAnswer, InterruptAnswer, InterruptRequest, Request, Translation } from './translation.js'
import { request } from './walk/answer.js'
import { VirtualIommus } from './virtual/virtual-iommus.js'
import type { WalkTrace } from './walk/trace.js'
import { Translator } from './walk/translate.js'

/** Commands that {@link Iommu.run} carries out at most: one lap of the longest ring. */
const longestRing = 1 << 15

/** After the counter configuration and the three bank locks. */
const counterConfigurationEnd = mmio.counterConfiguration + 0x20

/** See the file's comment. */
export class Iommu implements IommuPort {
  /** The words of the last answer of {@link translate}; see `resultWord`. */
  readonly result: Int32Array
  /** The words of the last answer of {@link interrupt}; see `interruptWord`. */
  readonly interruptResult: Int32Array
  private readonly translator: Translator
  private readonly remapper: InterruptRemapper
  private readonly queue: CommandQueueParts
  private readonly counting: ChipCounting
  private readonly face: FunctionRegisters
  private readonly virtualIommus: VirtualIommus | null
  /** Of the parts, what every request needs. */
  private readonly words: Words
  private readonly counters: PerformanceCounters

  private constructor(private readonly parts: ChipParts) {
    const { memory, registers, deviceTableCache, features, caches, pci, snp } = parts
    this.words = memory.words
    this.counters = parts.counters
    const platform = {
      snp,
      translationRangeReserved: pci.identity.htAtsResv,
      tablePageCache: parts.tablePageCache,
    }
    this.translator = new Translator(
      memory,
      registers,
      caches,
      deviceTableCache,
      features,
      parts.switches,
      platform,
    )
    this.face = new FunctionRegisters(registers, pci)
    const virtual = this.virtualOf(parts)
    this.virtualIommus = virtual
    this.counting = new ChipCounting(parts, this.translator)
    this.remapper = new InterruptRemapper({
      memory,
      registers,
      features,
      deviceTable: this.translator.deviceTable,
      switches: parts.switches.choices,
      cache: parts.interruptCache,
      reportEvent: (event) => {
        const slot = deviceTableCache.slotOf(event[0]! & 0xffff)
        return virtual?.routeEvent(slot, event) === true || logEvent(registers, memory, event)
      },
      writeGaLog: (lo, hi) => logGuestInterrupt(registers, memory, lo, hi),
      count: (source, deviceId, domainId) => this.counting.count(source, 1, deviceId, domainId, -1),
    })
    const commands = new Commands({
      ...parts,
      translator: this.translator,
      viommu: virtual ?? undefined,
      remoteIotlbs: pci.identity.iotlbSup,
    })
    this.queue = { memory, registers, commands, deferred: parts.deferred }
    this.result = this.translator.result
    this.interruptResult = this.remapper.result
  }

  /** @throws RangeError for an option that is out of its limits */
  static create(options: IommuOptions): Iommu {
    return new Iommu(createParts(options))
  }

  get memory(): SparseMemory {
    return this.parts.memory
  }

  get features(): Features {
    return this.parts.features
  }

  readMmio(offset: number, bytes: AccessBytes): bigint {
    this.memory.words.activate()
    if (this.isCounter(offset)) return this.counting.readMmio(offset, bytes)
    this.countIgnored(offset)
    return this.face.readMmio(offset, bytes)
  }

  writeMmio(offset: number, bytes: AccessBytes, value: bigint): void {
    this.memory.words.activate()
    if (this.isCounter(offset)) this.counting.writeMmio(offset, bytes, value)
    else if (this.face.writeMmio(offset, bytes, value)) this.translator.controlChanged()
    this.countIgnored(offset)
  }

  /** Reads configuration space of the PCI function: an aligned access of 1, 2 or 4 bytes below 256. */
  readConfig(offset: number, bytes: ConfigBytes): number {
    this.memory.words.activate()
    return this.face.readConfig(offset, bytes)
  }

  writeConfig(offset: number, bytes: ConfigBytes, value: number): void {
    this.memory.words.activate()
    this.face.writeConfig(offset, bytes, value)
  }

  takeInterrupt(): InterruptMessage | undefined {
    this.memory.words.activate()
    return this.face.takeInterrupt()
  }

  /**
   * Carries out the next command of the ring. False if nothing moved: there is none, the queue does not run, or the
   * command waits for a device.
   */
  step(): boolean {
    this.memory.words.activate()
    const moved = runCommands(this.queue, 1) === 1
    if (moved && this.counting.isOn) this.counting.countCommand(this.queue.commands.lastOpcode)
    return moved
  }

  /** Carries out commands until nothing moves, at most one lap of the longest ring; tells how many. */
  run(): number {
    this.memory.words.activate()
    if (!this.counting.isOn) return runCommands(this.queue, longestRing)
    let steps = 0
    while (steps < longestRing && this.step()) steps++
    return steps
  }

  /**
   * Translates the address of one memory request: the fast form.
   *
   * @param deviceId - 16 bits
   * @param pasid - 20 bits, or -1 for a request without PASID
   * @param lo - low word of the address; `hi` is the high word
   * @param flags - bits of `request`
   * @returns one of `outcome`; the answer stands in {@link result}
   */
  translate(deviceId: number, pasid: number, lo: number, hi: number, flags: number): number {
    const pool = this.words.activate()
    const outcome = this.translator.translateIn(pool, deviceId, pasid, lo, hi, flags)
    if (this.counters.isOn && (flags & request.fresh) === 0) {
      this.counting.countTranslation(outcome, deviceId, pasid, flags)
    }
    return outcome
  }

  /** Translates the address of one memory request: the readable form. RangeError for values out of range. */
  request(asked: Request): Translation {
    return describe(this, asked, 0)
  }

  /** What a walk of the tables as they are now would answer: no cache is asked or filled, nothing changes. */
  walkFresh(asked: Request): Translation {
    return describe(this, asked, request.fresh)
  }

  /** A request of a device for a translation to keep (ATS). RangeError for values out of range. */
  translationRequest(asked: Request & { readonly noWrite?: boolean }): AtsAnswer {
    return describeAts(this, this.parts, asked)
  }

  /** A request by an address that ATS gave the device before. RangeError for values out of range. */
  translatedRequest(asked: Request): Translation {
    return describe(this, asked, request.translated)
  }

  /** Fills the caches as hardware may at any time: no event, no target abort. */
  prefetch(asked: Request): Translation {
    return describe(this, asked, request.prefetch)
  }

  /**
   * Handles an interrupt of a device, a posted write of 32 bits to the interrupt range: the fast form.
   *
   * @param flags - `request.fresh` or 0
   * @returns one of `interruptOutcome`; the answer stands in {@link interruptResult}
   */
  interrupt(deviceId: number, addressLo: number, addressHi: number, data: number, flags: number): number {
    this.memory.words.activate()
    this.translator.deviceTable.wasCached = null
    const outcome = this.remapper.remap(deviceId, addressLo, addressHi, data, flags)
    if (this.counting.isOn && flags === 0) this.counting.countInterrupt(deviceId)
    return outcome
  }

  /** Handles an interrupt of a device: the readable form. RangeError for values out of range. */
  requestInterrupt(asked: InterruptRequest): InterruptAnswer {
    return describeInterrupt(this, asked)
  }

  /** Takes a page request of a device (PRI). RangeError for values out of range. */
  pageRequest(asked: PageRequest): PageRequestOutcome {
    this.memory.words.activate()
    const { deviceTable } = this.translator
    return receivePageRequest({ ...this.parts, deviceTable, guests: this.virtualIommus }, asked)
  }

  /** The next message to a device; undefined when there is none. */
  takeDeviceMessage(): DeviceMessage | undefined {
    this.memory.words.activate()
    return this.parts.devices.take()
  }

  /** A device's completion of an invalidation. False if it was not asked under this tag: nothing has changed then. */
  completeInvalidation(deviceId: number, tag: number): boolean {
    this.memory.words.activate()
    return Number.isInteger(tag) && tag >= 0 && tag < 32 && this.parts.devices.complete(deviceId, tag)
  }

  /**
   * Lets time pass: invalidations that devices have not answered in Control.InvTimeOut are given up.
   *
   * @param milliseconds - a whole number up to 2^30; RangeError otherwise
   */
  elapse(milliseconds: number): void {
    if (!Number.isInteger(milliseconds) || milliseconds < 0 || milliseconds > 2 ** 30) {
      throw new RangeError(`milliseconds ${milliseconds} is not an integer from 0 to 2^30`)
    }
    const { registers, memory, devices } = this.parts
    memory.words.activate()
    devices.elapse(milliseconds, (deviceId, lo, hi) => {
      logEvent(registers, memory, Int32Array.of(deviceId, 0x70000000, lo, hi))
    })
  }

  /**
   * The hardware vIOMMU: registers of guests, what it has for them. To be asked for anew after other machines were used.
   * Null without EFR.vIommuSup.
   */
  get virtual(): VirtualIommus | null {
    this.memory.words.activate()
    return this.virtualIommus
  }

  /** Carries out the next command of a guest's ring. False if nothing moved. RangeError for a GuestID out of range. */
  stepGuest(guestId: number): boolean {
    this.memory.words.activate()
    return this.virtualIommus?.stepGuest(guestId, this.queue.commands) === true
  }

  /** The live IOTLB entries, in no particular order. */
  iotlbEntries(): IotlbEntry[] {
    this.memory.words.activate()
    return entriesOf(this.parts.caches.iotlb)
  }

  /** The contents of the caches beside the IOTLB that this chip has; see `MicroArchitecture`. */
  walkCacheEntries(): Record<'guestToGpa' | 'directories' | 'guestRoots', IotlbEntry[]> {
    this.memory.words.activate()
    const { guestToGpa, directories, guestRoots } = this.parts.caches
    return {
      guestToGpa: guestToGpa === null ? [] : entriesOf(guestToGpa),
      directories: directories === null ? [] : entriesOf(directories),
      guestRoots: guestRoots === null ? [] : entriesOf(guestRoots),
    }
  }

  /** DeviceIDs whose device table entries are cached, ascending. */
  cachedDeviceIds(): number[] {
    this.memory.words.activate()
    return this.parts.deviceTableCache.deviceIds()
  }

  /** Cached entries of interrupt tables, by DeviceID and index. */
  interruptEntries(): CachedInterruptEntry[] {
    this.memory.words.activate()
    return this.parts.interruptCache.entries()
  }

  /** Drops the n-th IOTLB entry, as hardware may at any time. False if there are not so many. */
  evict(n: number): boolean {
    this.memory.words.activate()
    return this.parts.caches.iotlb.evict(n)
  }

  /** Tells `trace` of every table access from now on; null to stop. */
  watch(trace: WalkTrace | null): void {
    this.translator.watch(trace)
    this.remapper.watch(trace)
  }

  /**
   * The same chip over a fork of its memory.
   *
   * @param memory - made by `fork()` of this chip's memory; one fork serves all chips on it
   */
  forkOnto(memory: SparseMemory): Iommu {
    return new Iommu(forkParts(this.parts, memory))
  }

  private virtualOf(parts: ChipParts): VirtualIommus | null {
    const { virtual, memory, registers, features, devices, pci } = parts
    if (virtual === null) return null
    const made = new VirtualIommus({
      memory,
      registers,
      features,
      devices,
      switches: parts.switches,
      deviceTable: this.translator.deviceTable,
      iommuDeviceId: pci.identity.iommuDeviceId,
      choices: parts.switches.choices,
      state: virtual,
    })
    this.translator.routeEvents((slot, event) => made.routeEvent(slot, event))
    return made
  }

  private isCounter(offset: number): boolean {
    if (!this.parts.features.performanceCounters || offset >= this.parts.pci.mmioBytes) return false
    return (
      offset >= mmio.counterConfiguration && (offset < counterConfigurationEnd || offset >= mmio.counterBanks)
    )
  }

  /** Accesses to 1FF8h do nothing but count. */
  private countIgnored(offset: number): void {
    if (this.counting.isOn && (offset & ~7) === mmio.ignored) {
      this.counting.count(counterSource.ignoredAccesses, 1, -1, -1, -1)
    }
  }
}
