/** A chip with random features, switches and caches over a small memory, and how many words it can ever come to. */
import {
  defaultMicroArchitecture,
  featuresOf,
  Iommu,
  nestingFeatures,
  SparseMemory,
  switchChoices,
} from '../../src/index.js'
import type { CacheGeometry, IommuOptions, MicroArchitecture, SwitchChoices } from '../../src/index.js'
import type { Random } from '../slow/random.js'
import { layGround } from './ground.js'
import { memoryBytes } from './wild.js'

export interface HostileMachine {
  readonly iommu: Iommu
  /** Words that memory, registers and full caches take; no traffic whatever makes it more. */
  readonly mostWords: number
  /** Commands other than COMPLETION_WAIT that one step may carry out: one, or all that were put off. */
  readonly commandsOfStep: number
  /** Its caches and switches. */
  readonly description: string
}

function randomGeometry(random: Random): CacheGeometry {
  if (random.chance(0.4)) return { kind: 'hashed', capacityLog2: 6 + random.below(4) }
  const replacement = random.pick(['lru', 'fifo', 'random'] as const)
  return { kind: 'set-associative', setsLog2: random.below(5), ways: 1 + random.below(6), replacement }
}

const randomDesign = (random: Random): MicroArchitecture => ({
  ...defaultMicroArchitecture,
  iotlb: randomGeometry(random),
  nestedEntries: random.pick(['combined', 'split', 'both'] as const),
  remembersGpas: random.chance(0.4),
  pageWalkCache: random.chance(0.4) ? randomGeometry(random) : null,
  gcr3Cache: random.chance(0.4) ? randomGeometry(random) : null,
  cachesAbsent: random.chance(0.3),
  interruptEntries: 1 << random.below(9),
  invalidations: random.pick(['as-fetched', 'as-fetched', 'at-completion-wait'] as const),
})

/** Half of the chips have every choice as it is by default but for a few. */
function randomSwitches(random: Random): Partial<SwitchChoices> {
  const share = random.pick([0, 0.05, 0.5])
  const names = Object.keys(switchChoices) as (keyof typeof switchChoices)[]
  const picked = names.filter(() => random.chance(share))
  return Object.fromEntries(picked.map((name) => [name, random.pick<string>(switchChoices[name])]))
}

function randomFeatures(random: Random): { efr: bigint; efr2: bigint } {
  const { efr, efr2 } = nestingFeatures
  // Six host levels, three GCR3 levels, prefetches, guest APIC, hardware errors, hardware vIOMMU.
  const able = efr | (2n << 10n) | (2n << 14n) | (1n << 55n) | 0x3d7n
  switch (random.below(4)) {
    case 0:
      return { efr: random.bits(64) | (1n << 4n), efr2: random.bits(64) }
    case 1:
      return { efr: able ^ (1n << BigInt(random.below(64))), efr2: efr2 ^ random.bits(16) }
    default:
      return { efr: able, efr2 }
  }
}

/** Words of one cache of translations: records of all domains, and entries with what finds them. */
function wordsOfCache(geometry: CacheGeometry | null): number {
  const entries =
    geometry === null
      ? 0
      : geometry.kind === 'hashed'
        ? // A table that grows leaves its smaller ones behind.
          2 * 2 ** (geometry.capacityLog2 ?? 20)
        : 2 ** geometry.setsLog2 * geometry.ways
  return geometry === null ? 0 : (1 << 16) * 16 + entries * 40 + 4096
}

export function hostileMachine(random: Random): HostileMachine {
  const memory = SparseMemory.create(memoryBytes)
  layGround(memory, random)
  const design = randomDesign(random)
  const counters = { banks: 1 + random.below(3), counters: 1 + random.below(4) }
  const options: IommuOptions = {
    memory,
    features: randomFeatures(random),
    switches: randomSwitches(random),
    microArchitecture: design,
    counters,
    snp: random.chance(0.1),
    tablePageCache: random.chance(0.5),
    pci: { htAtsResv: random.chance(0.3), iotlbSup: random.chance(0.9) },
  }
  const iommu = Iommu.create(options)
  const caches = [design.iotlb, design.pageWalkCache, design.gcr3Cache]
  if (design.nestedEntries !== 'combined') caches.push(design.iotlb)
  const ofCaches = caches.reduce((sum, geometry) => sum + wordsOfCache(geometry), 0)
  const ofDevices = (1 << 16) * 16
  const ofMemory = memoryBytes / 4 + (1 << 14)
  const ofInterrupts = design.interruptEntries * 8 + (1 << 13)
  const ofGuests = featuresOf(iommu.features).viommu ? 64 * 64 + 64 * 16 : 0
  return {
    iommu,
    mostWords: ofMemory + ofDevices + ofCaches + ofInterrupts + ofGuests + (1 << 14),
    description: JSON.stringify({ ...design, ...options.switches, tablePageCache: options.tablePageCache }),
    commandsOfStep: design.invalidations === 'as-fetched' ? 1 : 16,
  }
}
