/**
 * Interrupt remapping: what becomes of one interrupt message of a device.
 *
 * AMD 48882 rev 3.10, interrupt remapping: enable, device table entry, delivery mode, IntCtl, table entry, destination.
 * The answer stands in {@link InterruptRemapper.result}; nothing is allocated. However many interrupts come, nothing
 * grows but the cache, which is bounded: doorbells stand in the answer, and the GA log is its owner's.
 *
 * @packageDocumentation
 */
import type { Features } from '../features.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import { controlLo } from '../mmio.js'
import type { Registers } from '../registers.js'
import { request } from '../walk/answer.js'
import { entryValid } from '../walk/device-entry.js'
import type { DeviceTable } from '../walk/device-table.js'
import { illegalDeviceEntryBits, notPresent, reservedBitSet } from '../walk/fault.js'
import type { Fault } from '../walk/fault.js'
import { signOfHole } from '../walk/special-ranges.js'
import { InterruptEntryReader } from './entry-reader.js'
import type { InterruptTrace } from './entry-reader.js'
import { interruptOutcome, interruptWord, interruptWords, notice } from './interrupt-answer.js'
import type { InterruptTableCache } from './interrupt-cache.js'
import * as device from './interrupt-entry.js'
import * as refusal from './interrupt-fault.js'
import { InterruptGates } from './interrupt-gates.js'
import type { InterruptSwitches } from './interrupt-switches.js'
import { passesSmiFilter } from './smi-filter.js'
import * as table from './table-entry.js'

/** What a remapper works with. */
export interface InterruptParts {
  readonly memory: SparseMemory
  readonly registers: Pick<Registers, 'controlWord' | 'lo'>
  readonly deviceTable: Pick<DeviceTable, 'entryOf' | 'fault' | 'entryLo' | 'entryHi'>
  readonly features: Features
  readonly switches: InterruptSwitches
  readonly cache: InterruptTableCache
  /** Writes four words to the event log. False if they were lost. */
  readonly reportEvent: (event: Int32Array) => boolean
  /** Writes an entry to the GA log. */
  readonly writeGaLog: (lo: number, hi: number) => void
  /** Told what performance counters count, by the number of the source. */
  readonly count?: ((event: number, deviceId: number, domainId: number) => void) | undefined
}

/** Delivery modes of a message, data bits 10:8. Fixed is 0. */
const deliveryMode = { arbitrated: 1, smi: 2, nmi: 4, init: 5, external: 7 } as const

/** Sources of performance counters. */
const counted = { nonGuest: 0x15, guest: 0x16, smiReceived: 0x17, smiBlocked: 0x18 } as const

/** Address bits of a message. */
const redirectionHint = 1 << 3
const destinationMode = 1 << 2
const messageAddress = 0xfee00000 | 0
/** Level and trigger mode, data bits 15:14. */
const levelAndTrigger = 0xc000

/** GACode of a GA log entry, in its high word. */
const guestNotRunning = 1 << 28

/** See the file's comment. */
export class InterruptRemapper {
  /** The answer to the last request; see {@link interruptWord}. */
  readonly result = new Int32Array(interruptWords)
  private readonly event = this.result.subarray(interruptWord.event, interruptWord.event + 4)
  private readonly gates: InterruptGates
  private readonly reader: InterruptEntryReader
  private readonly form = { isLong: false, isX2apic: false, postsToGuests: false }
  /** The request, and the control register and the device's slot that it meets. */
  private deviceId = 0
  private addressLo = 0
  private addressHi = 0
  private data = 0
  private isFresh = false
  private controlLow = 0
  private controlHigh = 0
  private slot = -1

  constructor(private readonly parts: InterruptParts) {
    this.gates = new InterruptGates(parts.features)
    this.reader = new InterruptEntryReader(parts.memory, parts.cache, parts.switches)
  }

  /** Tells `trace` of every read of an interrupt table from now on; null to stop. */
  watch(trace: InterruptTrace | null): void {
    this.reader.trace = trace
  }

  /**
   * Handles one interrupt request: a posted write of 32 bits to FEEx_xxxxh, or to the HyperTransport range. The machine
   * must be active.
   *
   * @param deviceId - 16 bits
   * @param addressLo - low word of the address; with a high word other than 0 it is in the HyperTransport range
   * @param data - 32 bits
   * @param flags - `request.fresh` or 0
   * @returns one of {@link interruptOutcome}; the answer stands in {@link result}
   */
  remap(deviceId: number, addressLo: number, addressHi: number, data: number, flags: number): number {
    const { memory, registers, deviceTable } = this.parts
    this.result.fill(0)
    this.deviceId = deviceId
    this.addressLo = addressLo
    this.addressHi = addressHi
    this.data = data
    this.isFresh = (flags & request.fresh) !== 0
    this.controlLow = memory.words.array[registers.controlWord]!
    this.controlHigh = memory.words.array[registers.controlWord + 1]!
    if ((this.controlLow & controlLo.iommuEn) === 0) return this.forward()
    this.slot = deviceTable.entryOf(deviceId, this.isFresh)
    if (this.slot < 0) return this.refuse(deviceTable.fault, deviceTable.entryLo, deviceTable.entryHi)
    return this.remapBy(memory.words.array, this.slot)
  }

  /** What the device's entry says: its upper half, whether or not the lower one is valid. */
  private remapBy(pool: Int32Array, slot: number): number {
    if (!device.interruptValid(pool, slot)) return this.forward()
    const takesVirtualImu =
      this.parts.switches.virtualImuOff === 'ignored' || this.gates.takesVirtualImu(this.controlHigh)
    if (device.hasReservedBits(pool, slot, takesVirtualImu)) return this.refuse(illegalDeviceEntryBits)
    const isLogical = (this.addressLo & destinationMode) !== 0
    const mode = (this.data >>> 8) & 7
    // With 2048 interrupts a logical message is remappable, and its delivery mode belongs to the index.
    const isRemappable = isLogical && this.gates.hasManyInterrupts(this.controlHigh)
    if (isRemappable || mode <= deliveryMode.arbitrated) return this.control(pool, slot)
    const passes =
      mode === deliveryMode.smi ? this.passesSmi(isLogical) : !isLogical && passesAs(pool, slot, mode)
    return passes ? this.forward() : interruptOutcome.aborted
  }

  private passesSmi(isLogical: boolean): boolean {
    const { registers, features, switches } = this.parts
    this.count(counted.smiReceived)
    const passes =
      !(isLogical && switches.logicalSmi === 'abort') &&
      (!this.gates.filtersSmis(this.controlLow) || passesSmiFilter(registers, features, this.deviceId))
    if (!passes) this.count(counted.smiBlocked)
    return passes
  }

  /** A fixed or an arbitrated interrupt: IntCtl decides. */
  private control(pool: Int32Array, slot: number): number {
    const { switches } = this.parts
    switch (device.interruptControlOf(pool, slot)) {
      case device.interruptControl.abort:
        return this.addressHi !== 0 || switches.interruptAbort === 'invalid-device-request'
          ? this.refuse(refusal.interruptsOff)
          : interruptOutcome.aborted
      case device.interruptControl.forward:
        return this.forward()
      case device.interruptControl.remap:
        return this.throughTable(pool, slot)
      default:
        return this.refuse(refusal.illegalWith(switches.interruptControlReserved))
    }
  }

  private throughTable(pool: Int32Array, slot: number): number {
    const { switches } = this.parts
    const { result, reader, form, gates } = this
    const lengthLog2 = device.tableLengthLog2(pool, slot)
    if (lengthLog2 > device.tableLengthLog2Max) {
      return this.refuse(refusal.illegalWith(switches.interruptTableTooLong))
    }
    const index = this.data & 0x7ff
    const ignores = device.ignoresUnmapped(pool, slot)
    result[interruptWord.index] = index
    if (index >>> lengthLog2 !== 0) return this.refusePage(table.meaning.beyond, ignores, false)
    form.isLong = gates.hasLongEntries(this.controlLow)
    form.isX2apic = form.isLong && gates.hasX2apicDestinations(this.controlHigh)
    form.postsToGuests = gates.postsToGuests(this.controlLow)
    const usesCache = !this.isFresh && gates.caches(this.controlHigh)
    const isRead = reader.read(slot, this.deviceId, index, form.isLong, usesCache)
    result[interruptWord.entryLo] = reader.lo
    result[interruptWord.entryHi] = reader.hi
    result[interruptWord.source] = reader.source
    if (!isRead) return this.refuse(refusal.unreadableFault(switches), reader.lo, reader.hi)
    const which = table.meaningOf(reader.entry, form, switches)
    if (which === table.meaning.remaps) return this.deliver(reader.entry)
    if (which === table.meaning.posts) return this.post(reader.entry)
    return this.refusePage(which, ignores, (reader.entry[0]! & table.suppressFaults) !== 0)
  }

  /** What the entry does not hold, hint, level and trigger mode, stays as the device wrote it. */
  private deliver(entry: Int32Array): number {
    const { result, form } = this
    const vector = table.vectorOf(entry, form)
    const mode = table.interruptType(entry)
    const destination = table.destinationOf(entry, form)
    const isLogical = (entry[0]! & table.logicalDestination) !== 0
    // Of an address in the HyperTransport range the bit means something else.
    const hint = this.addressHi === 0 ? this.addressLo & redirectionHint : 0
    result[interruptWord.addressLo] =
      messageAddress | ((destination & 0xff) << 12) | hint | (isLogical ? destinationMode : 0)
    result[interruptWord.addressHi] = destination & 0xffffff00
    result[interruptWord.data] = vector | (mode << 8) | (this.data & levelAndTrigger)
    result[interruptWord.vector] = vector
    result[interruptWord.deliveryMode] = mode
    result[interruptWord.destinationMode] = isLogical ? 1 : 0
    result[interruptWord.destination] = destination
    result[interruptWord.requestEoi] = (entry[0]! & table.requestEoi) !== 0 ? 1 : 0
    this.count(counted.nonGuest)
    return interruptOutcome.remapped
  }

  /** Sets the vector's bit in the guest's virtual APIC, and tells the processor or the log. */
  private post(entry: Int32Array): number {
    const { memory, switches } = this.parts
    const { result, form } = this
    const lo = table.requestWordLo(entry)
    const hi = table.requestWordHi(entry)
    const word = memory.wordOf(lo, hi)
    if (word < 0) return this.refuse(refusal.unreadableFault(switches), lo, hi)
    const vector = table.vectorOf(entry, form)
    result[interruptWord.vector] = vector
    result[interruptWord.requestLo] = lo
    result[interruptWord.requestHi] = hi
    if (!this.isFresh) memory.store32(lo, hi, memory.words.array[word]! | (1 << (vector & 31)))
    if ((entry[0]! & table.isRunning) !== 0) {
      const isSilent =
        (entry[0]! & table.physicalInterruptDisabled) !== 0 &&
        switches.physicalInterruptDisabled === 'no-doorbell'
      result[interruptWord.destination] = table.destinationOf(entry, form)
      result[interruptWord.notice] = isSilent ? notice.none : notice.doorbell
    } else if ((entry[0]! & table.gaLogInterrupt) !== 0) {
      result[interruptWord.notice] = notice.gaLog
      if (!this.isFresh) this.parts.writeGaLog(entry[1]!, this.deviceId | guestNotRunning)
    }
    this.count(counted.guest)
    return interruptOutcome.posted
  }

  /** High word of the address as events tell it. */
  private toldAddressHi(): number {
    const isExtended = this.parts.switches.hyperTransportAddress === 'sign-extended'
    return isExtended && this.addressHi !== 0 ? this.addressHi | signOfHole : this.addressHi
  }

  private forward(): number {
    this.result[interruptWord.addressLo] = this.addressLo
    this.result[interruptWord.addressHi] = this.addressHi
    this.result[interruptWord.data] = this.data
    return interruptOutcome.forwarded
  }

  /** IO_PAGE_FAULT. */
  private refusePage(which: number, ignores: boolean, suppresses: boolean): number {
    const isSilent = refusal.isPageFaultSilent(which, ignores, suppresses, this.parts.switches)
    return this.end(which === table.meaning.malformed ? reservedBitSet : notPresent, 0, 0, !isSilent)
  }

  /** @param entryLo - SPA of the table entry, for the events that name it; `entryHi` is the high word */
  private refuse(fault: Fault, entryLo = 0, entryHi = 0): number {
    return this.end(fault, entryLo, entryHi, true)
  }

  private end(fault: Fault, entryLo: number, entryHi: number, isLogged: boolean): number {
    const names = refusal.namesTableAddress(fault)
    const lo = names ? entryLo : this.addressLo
    const hi = names ? entryHi : this.toldAddressHi()
    refusal.writeInterruptEvent(this.event, fault, this.deviceId, this.domainId(), lo, hi)
    if (isLogged && !this.isFresh && this.parts.reportEvent(this.event)) {
      this.result[interruptWord.logged] = 1
    }
    return interruptOutcome.aborted
  }

  private count(event: number): void {
    if (!this.isFresh) this.parts.count?.(event, this.deviceId, this.domainId())
  }

  /** DomainID of the device's entry, as it counts in events and counters. */
  private domainId(): number {
    const { memory, switches } = this.parts
    if (this.slot < 0) return 0
    const pool = memory.words.array
    const counts = (pool[this.slot]! & entryValid) !== 0 || switches.domainWithoutValid === 'as-stored'
    return counts ? pool[this.slot + 2]! & 0xffff : 0
  }
}

/** The pass bit of a kind of interrupt that has one. */
function passesAs(pool: Int32Array, slot: number, mode: number): boolean {
  switch (mode) {
    case deliveryMode.nmi:
      return device.passes(pool, slot, device.nmiPass)
    case deliveryMode.init:
      return device.passes(pool, slot, device.initPass)
    case deliveryMode.external:
      return device.passes(pool, slot, device.externalPass)
    default:
      return false
  }
}
