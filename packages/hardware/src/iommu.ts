/**
 * The IOMMU: registers, caches, and the steps it takes.
 *
 * It owns no memory: memory is given, and its registers and caches lie in the same {@link Words}, so that a fork of
 * the memory is a fork of the chip.
 *
 * @packageDocumentation
 */
import { DeviceTableCache } from './cache/device-table-cache.js'
import { Iotlb } from './cache/iotlb.js'
import { featuresOf, nestingFeatures } from './features.js'
import type { FeatureRegisters, Features } from './features.js'
import { entriesOf } from './iotlb-entries.js'
import type { IotlbEntry } from './iotlb-entries.js'
import type { SparseMemory } from './memory/sparse-memory.js'
import type { AccessBytes, IommuPort } from './port.js'
import { stepCommand } from './queue/command-queue.js'
import { Registers } from './registers.js'
import { switches } from './switches.js'
import type { SwitchChoices, Switches } from './switches.js'
import { describe } from './translation.js'
import type { Request, Translation } from './translation.js'
import type { WalkTrace } from './walk/trace.js'
import { request } from './walk/answer.js'
import { Translator } from './walk/translate.js'

/** What an IOMMU is made with. */
export interface IommuOptions {
  readonly memory: SparseMemory
  /** Default: {@link nestingFeatures}. */
  readonly features?: FeatureRegisters
  /** Choices where the manual leaves one. */
  readonly switches?: Partial<SwitchChoices>
}

interface Parts {
  readonly memory: SparseMemory
  readonly features: Features
  readonly switches: Switches
  readonly registers: Registers
  readonly iotlb: Iotlb
  readonly deviceTableCache: DeviceTableCache
}

/** See the file's comment. */
export class Iommu implements IommuPort {
  /** The words of the last answer of {@link translate}; see `resultWord`. */
  readonly result: Int32Array
  private readonly translator: Translator

  private constructor(private readonly parts: Parts) {
    const { memory, registers, iotlb, deviceTableCache, features } = parts
    this.translator = new Translator(memory, registers, iotlb, deviceTableCache, features, parts.switches)
    this.result = this.translator.result
  }

  static create(options: IommuOptions): Iommu {
    const { memory } = options
    const features = featuresOf(options.features ?? nestingFeatures)
    return new Iommu({
      memory,
      features,
      switches: switches(options.switches),
      registers: Registers.create(memory.words, features),
      iotlb: Iotlb.create(memory.words),
      deviceTableCache: DeviceTableCache.create(memory.words),
    })
  }

  get memory(): SparseMemory {
    return this.parts.memory
  }

  get features(): Features {
    return this.parts.features
  }

  readMmio(offset: number, bytes: AccessBytes): bigint {
    return this.parts.registers.readMmio(offset, bytes)
  }

  writeMmio(offset: number, bytes: AccessBytes, value: bigint): void {
    if (this.parts.registers.writeMmio(offset, bytes, value)) this.translator.controlChanged()
  }

  takeInterrupt(): boolean {
    this.memory.words.activate()
    return this.parts.registers.takeInterrupt()
  }

  /** Carries out the next command of the ring. False if there is none, or the queue does not run. */
  step(): boolean {
    this.memory.words.activate()
    return stepCommand(this.parts)
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
    this.memory.words.activate()
    return this.translator.translate(deviceId, pasid, lo, hi, flags)
  }

  /** Translates the address of one memory request: the readable form. RangeError for values out of range. */
  request(asked: Request): Translation {
    return describe(this, asked, 0)
  }

  /** What a walk of the tables as they are now would answer: no cache is asked or filled, nothing changes. */
  walkFresh(asked: Request): Translation {
    return describe(this, asked, request.fresh)
  }

  /** The live IOTLB entries, in no particular order. */
  iotlbEntries(): IotlbEntry[] {
    this.memory.words.activate()
    return entriesOf(this.parts.iotlb)
  }

  /** DeviceIDs whose device table entries are cached, ascending. */
  cachedDeviceIds(): number[] {
    this.memory.words.activate()
    return this.parts.deviceTableCache.deviceIds()
  }

  /** Tells `trace` of every table access from now on; null to stop. */
  watch(trace: WalkTrace | null): void {
    this.translator.watch(trace)
  }

  /**
   * The same chip over a fork of its memory.
   *
   * @param memory - made by `fork()` of this chip's memory; one fork serves all chips on it
   */
  forkOnto(memory: SparseMemory): Iommu {
    const { words } = memory
    words.activate()
    const { parts } = this
    return new Iommu({
      memory,
      features: parts.features,
      switches: parts.switches,
      registers: parts.registers.forkOnto(words),
      iotlb: parts.iotlb.forkOnto(words),
      deviceTableCache: parts.deviceTableCache.forkOnto(words),
    })
  }
}
