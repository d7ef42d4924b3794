/**
 * Finding a device's table entry: in the device-table cache, or in the table in memory, in one to eight segments.
 *
 * AMD 48882 rev 3.10, device table. What follows from an entry is worked out once, when it is read.
 *
 * @packageDocumentation
 */
import { dteSlot } from '../cache/device-table-cache.js'
import type { DeviceTableCache } from '../cache/device-table-cache.js'
import type { Iotlb } from '../cache/iotlb.js'
import type { Features } from '../features.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import { controlHi, controlLo, mmio } from '../mmio.js'
import type { Registers } from '../registers.js'
import type { Switches } from '../switches.js'
import {
  entryValid,
  gcr3RootHi,
  gcr3RootLo,
  levelFault,
  reservedBitFault,
  translationValid,
} from './device-entry.js'
import type { EntryGates } from './device-entry.js'
import { deviceEntryUnreadable, noFault } from './fault.js'
import type { Fault } from './fault.js'
import { mayRead, mayWrite } from './rights.js'
import type { WalkTrace } from './trace.js'

/** No slot: the entry has to be read. */
export const notCached = 0

const deviceEntryLog2 = 5
const bothValid = entryValid | translationValid

/** See the file's comment. */
export class DeviceTable {
  /** Why {@link entryOf} found no entry; and the SPA of the entry where no memory answered. */
  fault: Fault = noFault
  entryLo = 0
  entryHi = 0
  trace: WalkTrace | null = null
  /** Whether the last entry asked for was in the cache; null if none was since the owner set it so. */
  wasCached: boolean | null = null
  private gates: EntryGates

  constructor(
    private readonly memory: SparseMemory,
    private readonly registers: Registers,
    private readonly iotlb: Iotlb,
    private readonly deviceTableCache: DeviceTableCache,
    private readonly features: Features,
    private readonly switches: Switches,
    /** Whether the platform has SNP on. */
    private readonly withSnp: boolean,
  ) {
    this.gates = this.gatesNow()
  }

  /** To be called after the control register changed: what is reserved in an entry depends on it. */
  controlChanged(): void {
    this.gates = this.gatesNow()
    for (const deviceId of this.deviceTableCache.deviceIds()) {
      this.judge(this.deviceTableCache.slotOf(deviceId))
    }
  }

  /**
   * The slot with the device's table entry, from the cache or from memory.
   *
   * @param isFresh - read it from memory, and keep it outside the cache
   * @returns -1 if there is none; then {@link fault} and the address tell why
   */
  entryOf(deviceId: number, isFresh: boolean): number {
    const cache = this.deviceTableCache
    if (isFresh) return this.readEntry(cache.scratch, deviceId, true)
    const slot = this.cachedIn(this.memory.words.array, deviceId)
    if (slot !== notCached) return slot
    this.wasCached = false
    return this.readEntry(cache.makeSlot(deviceId), deviceId, false)
  }

  /** The slot if the cache has the entry, for a caller who has the machine's words at hand; else {@link notCached}. */
  cachedIn(pool: Int32Array, deviceId: number): number {
    const slot = this.deviceTableCache.slotOf(deviceId)
    if (slot === 0 || pool[slot + dteSlot.present] !== 1) return notCached
    this.wasCached = true
    return slot
  }

  private readEntry(slot: number, deviceId: number, isFresh: boolean): number {
    const controlHigh = this.registers.hi(mmio.control)
    const segmentsLog2 = Math.min((controlHigh >>> 2) & 7, this.features.segmentsLog2)
    const segment = deviceId >>> (16 - segmentsLog2)
    const base = segment === 0 ? mmio.deviceTableBase : mmio.deviceTableSegment1 + (segment - 1) * 8
    const baseLo = this.registers.lo(base)
    const index = deviceId & (0xffff >>> segmentsLog2)
    const tablePages = (baseLo & 0x1ff) + 1
    if (index >= tablePages << (12 - deviceEntryLog2)) {
      this.fault = this.switches.deviceIdBeyondTable
      return -1
    }
    const tableLo = (baseLo & 0xfffff000) >>> 0
    const sum = tableLo + (index << deviceEntryLog2)
    const lo = sum | 0
    const hi = (this.registers.hi(base) & 0xfffff) + (sum > 0xffffffff ? 1 : 0)
    if (this.trace !== null) this.trace.read('device-table', lo, hi)
    const word = this.memory.wordOf(lo, hi)
    if (word < 0) {
      this.fault = deviceEntryUnreadable
      this.entryLo = lo
      this.entryHi = hi
      return -1
    }
    const pool = this.memory.words.array
    if (isFresh) {
      for (let i = 0; i < 8; i++) pool[slot + i] = pool[word + i]!
    } else {
      const cache = this.deviceTableCache
      for (let i = 0; i < 8; i++) cache.write(slot, deviceId, i, pool[word + i]!)
      cache.write(slot, deviceId, dteSlot.present, 1)
    }
    this.judge(slot)
    return slot
  }

  /** Works out what follows from the raw entry in a slot. */
  private judge(slot: number): void {
    const { words } = this.memory
    const pool = words.array
    const illegal = reservedBitFault(pool, slot, this.gates, this.switches)
    const illegalLevel = levelFault(pool, slot, this.gates, this.switches)
    const isPlain = (pool[slot]! & bothValid) === bothValid && illegal === noFault && illegalLevel === noFault
    words.write(slot + dteSlot.illegal, illegal)
    words.write(slot + dteSlot.illegalLevel, illegalLevel)
    words.write(slot + dteSlot.plainRights, isPlain ? pool[slot + 1]! & (mayRead | mayWrite) : 0)
    words.write(slot + dteSlot.gcr3, gcr3RootLo(pool, slot))
    words.write(slot + dteSlot.gcr3 + 1, gcr3RootHi(pool, slot))
    words.write(slot + dteSlot.domainRecord, this.iotlb.domainRecord(pool[slot + 2]! & 0xffff))
  }

  private gatesNow(): EntryGates {
    const features = this.features
    const guestTables = features.guestTables && (this.registers.lo(mmio.control) & controlLo.gtEn) !== 0
    return {
      guestTables,
      guestIoProtection: features.guestIoProtection,
      pageRequests:
        features.enhancedPageRequests && (this.registers.hi(mmio.control) & controlHi.ephEn) !== 0,
      secureAts: features.secureAts,
      hostLevels: features.hostLevels,
      guestLevels: features.guestLevels,
      gcr3Levels: features.gcr3Levels,
      viommu: features.viommu && (this.registers.hi(mmio.control) & controlHi.viommuEn) !== 0,
      modeZeroIllegal: this.withSnp && !features.snpModeZero,
    }
  }
}
