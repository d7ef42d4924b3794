/**
 * The parts of one IOMMU, made together and forked together.
 *
 * @packageDocumentation
 */
import { DeviceTableCache } from './cache/device-table-cache.js'
import { defaultCounterShape, PerformanceCounters } from './counters.js'
import type { CounterShape } from './counters.js'
import { DeviceLinks } from './device-links.js'
import { featuresOf, nestingFeatures } from './features.js'
import type { FeatureRegisters, Features } from './features.js'
import { InterruptTableCache } from './interrupt/interrupt-cache.js'
import type { SparseMemory } from './memory/sparse-memory.js'
import type { PciIdentity } from './pci/config-space.js'
import { PciFunction } from './pci/pci-function.js'
import { DeferredCommands } from './queue/deferred-commands.js'
import { Registers } from './registers.js'
import { switches } from './switches.js'
import type { SwitchChoices, Switches } from './switches.js'
import { defaultMicroArchitecture, TranslationCaches } from './translation-caches.js'
import type { MicroArchitecture } from './translation-caches.js'
import { VirtualState } from './virtual/virtual-state.js'
import type { VirtualOptions } from './virtual/virtual-state.js'

/** What an IOMMU is made with. */
export interface IommuOptions {
  readonly memory: SparseMemory
  /** Default: {@link nestingFeatures}. */
  readonly features?: FeatureRegisters
  /** Choices where the manual leaves one. */
  readonly switches?: Partial<SwitchChoices>
  /** What the caches are like. */
  readonly microArchitecture?: Partial<MicroArchitecture>
  /** What the PCI function says of itself. */
  readonly pci?: Partial<PciIdentity>
  /** How many performance counters, where EFR.PCSup says that there are any. */
  readonly counters?: CounterShape
  /** The platform has SNP on: the exclusion registers are the window of completion stores. Default: no. */
  readonly snp?: boolean
  /**
   * The model remembers where table pages lie rather than walk to them each time: the same answers, sooner. Default: no,
   * so that checkers see what they check.
   */
  readonly tablePageCache?: boolean
  /** Room of the hardware vIOMMU, where EFR.vIommuSup says that there is one. */
  readonly virtual?: VirtualOptions
}

/** See the file's comment. */
export interface ChipParts {
  readonly memory: SparseMemory
  readonly features: Features
  readonly switches: Switches
  readonly snp: boolean
  readonly tablePageCache: boolean
  readonly pci: PciFunction
  readonly registers: Registers
  readonly counters: PerformanceCounters
  readonly caches: TranslationCaches
  readonly deviceTableCache: DeviceTableCache
  readonly interruptCache: InterruptTableCache
  readonly devices: DeviceLinks
  /** Null where invalidations take effect as they are fetched. */
  readonly deferred: DeferredCommands | null
  /** Null without EFR.vIommuSup. */
  readonly virtual: VirtualState | null
}

/** @throws RangeError for an option that is out of its limits */
export function createParts(options: IommuOptions): ChipParts {
  const { memory } = options
  if (options.tablePageCache === true && memory.isOutside) {
    throw new RangeError(
      'tablePageCache needs memory of the model’s own: others’ stores would not be noticed',
    )
  }
  const { words } = memory
  words.activate()
  const features = featuresOf(options.features ?? nestingFeatures)
  const chosen = switches(options.switches)
  const design = { ...defaultMicroArchitecture, ...options.microArchitecture }
  const hasCounters = features.performanceCounters
  return {
    memory,
    features,
    switches: chosen,
    snp: options.snp ?? false,
    tablePageCache: options.tablePageCache ?? false,
    pci: PciFunction.create(words, { features, npCache: design.cachesAbsent, ...options.pci }),
    registers: Registers.create(words, features, options.snp),
    counters: PerformanceCounters.create(
      words,
      hasCounters ? (options.counters ?? defaultCounterShape) : null,
    ),
    caches: TranslationCaches.create(words, design, chosen.choices),
    deviceTableCache: DeviceTableCache.create(words),
    interruptCache: InterruptTableCache.create(words, design.interruptEntries),
    devices: DeviceLinks.create(words),
    deferred: design.invalidations === 'as-fetched' ? null : DeferredCommands.create(words),
    virtual: features.viommu ? VirtualState.create(words, options.virtual) : null,
  }
}

/** The same parts over a fork of their memory. */
export function forkParts(parts: ChipParts, memory: SparseMemory): ChipParts {
  const { words } = memory
  words.activate()
  return {
    ...parts,
    memory,
    pci: parts.pci.forkOnto(words),
    registers: parts.registers.forkOnto(words),
    counters: parts.counters.forkOnto(words),
    caches: parts.caches.forkOnto(words),
    deviceTableCache: parts.deviceTableCache.forkOnto(words),
    interruptCache: parts.interruptCache.forkOnto(words),
    devices: parts.devices.forkOnto(words),
    deferred: parts.deferred?.forkOnto(words) ?? null,
    virtual: parts.virtual?.forkOnto(words) ?? null,
  }
}
