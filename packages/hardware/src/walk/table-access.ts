/**
 * One access through the tables that a device table entry names: the IOTLB, or a walk of host, guest or nested tables.
 *
 * AMD 48882 rev 3.10, translation of requests, the steps after the regime is known. The answer stands in the result
 * words.
 *
 * @packageDocumentation
 */
import { dteSlot } from '../cache/device-table-cache.js'
import { fillerOf, frameHiOf, frameLoOf, rightsOf, sizeLog2Of } from '../cache/entry.js'
import { withoutPasid } from '../cache/iotlb.js'
import type { Iotlb } from '../cache/iotlb.js'
import type { Features } from '../features.js'
import type { SparseMemory } from '../memory/sparse-memory.js'
import type { Registers } from '../registers.js'
import type { Switches } from '../switches.js'
import type { TranslationCaches } from '../translation-caches.js'
import { lowMaskHi, lowMaskLo } from './address-bits.js'
import { RequestFlag, ResultWord, Source } from './answer.js'
import { denied, noFault, notPresent } from './fault.js'
import type { Fault } from './fault.js'
import { NestedParts, partMissing } from './nested-parts.js'
import { allRights, dirtyKept, knownAbsent, leafBitsKept, leafBitsShift, mayWrite } from './rights.js'
import { TableWalk } from './table-walk.js'
import type { WalkTrace } from './trace.js'
import { WalkCaches } from './walk-caches.js'

/** No {@link Fault}: the tables are to be walked. */
const toBeWalked = -1

/** See the file's comment. */
export class TableAccess {
  private readonly iotlb: Iotlb
  /** Whether walks have modelled caches to look at; most chips go without. */
  private readonly modelsWalkCaches: boolean
  private readonly walkCaches: WalkCaches
  private readonly tables: TableWalk
  /** Null where nested translations are filed as wholes only. */
  private readonly parts: NestedParts | null
  private readonly hitFaults: boolean

  constructor(
    private readonly memory: SparseMemory,
    registers: Registers,
    private readonly caches: TranslationCaches,
    features: Features,
    switches: Switches,
    private readonly result: Int32Array,
    /** Whether the model's own caches of paths are used. */
    keepsPaths: boolean,
  ) {
    const { design, iotlb, guestToGpa } = caches
    this.iotlb = iotlb
    this.tables = new TableWalk(memory, registers, features, switches, result, keepsPaths)
    this.walkCaches = new WalkCaches(caches)
    this.parts = guestToGpa === null ? null : new NestedParts(guestToGpa, iotlb, this.tables, result)
    this.modelsWalkCaches =
      design.nestedEntries !== 'combined' ||
      design.remembersGpas ||
      design.pageWalkCache !== null ||
      design.gcr3Cache !== null
    this.hitFaults = switches.choices.hitWithoutRights === 'fault'
  }

  /** Whether the last fault came up in the host table on behalf of a guest table. */
  get faultInHost(): boolean {
    return this.tables.guest.endedInHost
  }
  /** Host table entries that the last walk read. */
  get hostReads(): number {
    return this.tables.host.reads
  }
  get directoryHits(): number {
    return this.walkCaches.directoryHits
  }
  get directoryMisses(): number {
    return this.walkCaches.directoryMisses
  }

  watch(trace: WalkTrace | null): void {
    this.tables.watch(trace)
  }

  /** To be called after the control register changed: what is reserved in an entry depends on it. */
  controlChanged(): void {
    this.tables.controlChanged()
  }

  /**
   * Translates an address.
   *
   * @param slot - the device's table entry
   * @param pasid - the tag's PASID, {@link withoutPasid} for the host table alone
   * @param needed - rights that the request needs: bits of `rights.ts`
   * @param isUntagged - the request brought no PASID, though it goes through guest tables
   */
  access(
    slot: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
    needed: number,
    isUntagged: boolean,
  ): Fault {
    const pool = this.memory.words.array
    return this.accessIn(pool, slot, deviceId, pasid, lo, hi, flags, needed, isUntagged)
  }

  /** The same for a caller who has the machine's words at hand. */
  accessIn(
    pool: Int32Array,
    slot: number,
    deviceId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
    needed: number,
    isUntagged: boolean,
  ): Fault {
    const domainId = pool[slot + 2]! & 0xffff
    this.result[ResultWord.domainId] = domainId
    this.result[ResultWord.pasid] = pasid
    if ((flags & RequestFlag.fresh) === 0) {
      const fault = this.lookUp(pool, slot, domainId, pasid, lo, hi, needed)
      if (fault !== toBeWalked) return fault
    }
    return this.miss(slot, deviceId, domainId, pasid, lo, hi, flags, needed, isUntagged)
  }

  /** Answers from the IOTLB, if it has an entry with the rights. */
  private lookUp(
    pool: Int32Array,
    slot: number,
    domainId: number,
    pasid: number,
    lo: number,
    hi: number,
    needed: number,
  ): Fault {
    const at = this.iotlb.lookupAt(pool, pool[slot + dteSlot.domainRecord]!, domainId, pasid, lo, hi)
    return at < 0 ? toBeWalked : this.answerFrom(pool, at, lo, hi, needed)
  }

  /**
   * Answers from an entry of the IOTLB. A function of its own: what calls it may be compiled before there was a hit, and
   * would then call each of these readers.
   */
  private answerFrom(pool: Int32Array, at: number, lo: number, hi: number, needed: number): Fault {
    const rights = rightsOf(pool, at)
    const neededInCache = (needed & mayWrite) !== 0 ? needed | dirtyKept : needed
    if ((rights & neededInCache) !== neededInCache) return this.withoutRights(rights, needed)
    const { result } = this
    const size = sizeLog2Of(pool, at)
    result[ResultWord.spaLo] = frameLoOf(pool, at) | (lo & lowMaskLo(size))
    result[ResultWord.spaHi] = frameHiOf(pool, at) | (hi & lowMaskHi(size))
    result[ResultWord.sizeLog2] = size
    result[ResultWord.rights] = rights & allRights
    result[ResultWord.source] = Source.iotlb
    result[ResultWord.filler] = fillerOf(pool, at)
    result[ResultWord.leafBits] = (rights & leafBitsKept) << leafBitsShift
    return noFault
  }

  /** An entry that lacks rights is walked again: then only a stale grant can show, never a stale refusal. */
  private withoutRights(rights: number, needed: number): Fault {
    this.tables.guest.endedInHost = false
    if ((rights & knownAbsent) !== 0) return notPresent
    return this.hitFaults && (rights & needed) !== needed ? denied : toBeWalked
  }

  /** Walks tables, or finds the parts of a nested translation in the modelled caches; keeps what was found. */
  private miss(
    slot: number,
    deviceId: number,
    domainId: number,
    pasid: number,
    lo: number,
    hi: number,
    flags: number,
    needed: number,
    isUntagged: boolean,
  ): Fault {
    const { result, tables } = this
    const isFresh = (flags & RequestFlag.fresh) !== 0
    const parts = this.parts === null || isFresh || !this.isNested(slot, pasid) ? null : this.parts
    if (this.modelsWalkCaches) this.beginWithCaches(deviceId, domainId, isFresh)
    result[ResultWord.source] = Source.walk
    result[ResultWord.filler] = deviceId
    if (parts !== null) {
      const fault = parts.find(slot, deviceId, domainId, pasid, lo, hi, needed)
      if (fault !== partMissing) {
        this.walkCaches.notePage(result[ResultWord.gpaLo]!, result[ResultWord.gpaHi]!)
        return this.absent(fault, slot, deviceId, domainId, pasid, lo, hi)
      }
    }
    const fault = tables.walk(slot, pasid, lo, hi, needed, isFresh, isUntagged)
    if (isFresh) return fault
    if (fault !== noFault) return this.absent(fault, slot, deviceId, domainId, pasid, lo, hi)
    if (parts !== null) {
      parts.keep(deviceId, domainId, pasid, lo, hi)
      if (this.caches.design.nestedEntries === 'split') return noFault
    }
    const leafBits = result[ResultWord.leafBits]! >>> leafBitsShift
    const rights = result[ResultWord.rights]! | tables.dirtyKept(pasid) | leafBits
    const size = result[ResultWord.sizeLog2]!
    const spaLo = result[ResultWord.spaLo]!
    const spaHi = result[ResultWord.spaHi]!
    this.fill(slot, deviceId, domainId, pasid, lo, hi, size, spaLo, spaHi, rights)
    return noFault
  }

  private isNested(slot: number, pasid: number): boolean {
    return pasid !== withoutPasid && (this.memory.words.array[slot]! & 0xe00) !== 0
  }

  private beginWithCaches(deviceId: number, domainId: number, isFresh: boolean): void {
    const { walkCaches } = this
    this.tables.use(isFresh ? null : walkCaches)
    if (isFresh) return
    walkCaches.domainId = domainId
    walkCaches.filler = deviceId
    walkCaches.forgetGpas()
    walkCaches.directoryHits = 0
    walkCaches.directoryMisses = 0
  }

  /** Ends an access; that a page is absent may be filed too. */
  private absent(
    fault: Fault,
    slot: number,
    deviceId: number,
    domainId: number,
    pasid: number,
    lo: number,
    hi: number,
  ): Fault {
    if (fault === notPresent && this.caches.design.cachesAbsent) {
      this.fill(slot, deviceId, domainId, pasid, lo, hi, 12, 0, 0, knownAbsent)
    }
    return fault
  }

  /** Files a translation in the IOTLB. */
  private fill(
    slot: number,
    deviceId: number,
    domainId: number,
    pasid: number,
    lo: number,
    hi: number,
    size: number,
    spaLo: number,
    spaHi: number,
    rights: number,
  ): void {
    const { iotlb } = this
    const record = this.memory.words.array[slot + dteSlot.domainRecord]!
    if (this.caches.design.remembersGpas && pasid !== withoutPasid) {
      const { gpas, gpaCount } = this.walkCaches
      iotlb.fill(record, domainId, pasid, lo, hi, size, spaLo, spaHi, rights, deviceId, gpas, gpaCount)
    } else iotlb.fill(record, domainId, pasid, lo, hi, size, spaLo, spaHi, rights, deviceId)
  }
}
