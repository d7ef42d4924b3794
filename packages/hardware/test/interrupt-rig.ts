/** Interrupt remapping with a device table, an interrupt table and a log in place, for tests to work on. */
import { wordOf } from '@nestwalk/bits'
import { DeviceTableCache } from '../src/cache/device-table-cache.js'
import { Iotlb } from '../src/cache/iotlb.js'
import { featuresOf, nestingFeatures } from '../src/features.js'
import type { FeatureRegisters, Features } from '../src/features.js'
import { interruptOutcome, interruptWord } from '../src/interrupt/interrupt-answer.js'
import { InterruptTableCache } from '../src/interrupt/interrupt-cache.js'
import { defaultInterruptSwitches } from '../src/interrupt/interrupt-switches.js'
import type { InterruptSwitches } from '../src/interrupt/interrupt-switches.js'
import { InterruptRemapper } from '../src/interrupt/remap.js'
import { load64, request, SparseMemory, store64 } from '../src/index.js'
import { Registers } from '../src/registers.js'
import { switches } from '../src/switches.js'
import type { SwitchChoices } from '../src/switches.js'
import { DeviceTable } from '../src/walk/device-table.js'

/** Control bits that interrupts depend on. */
export const on = {
  iommu: 1n << 0n,
  eventLog: 1n << 2n,
  guestApic: 1n << 17n,
  smiFilter: 1n << 22n,
  guestMode: 1n << 25n,
  manyInterrupts: 1n << 43n,
  x2apic: 1n << 50n,
  viommu: 1n << 53n,
  cacheOff: 1n << 59n,
} as const

/** Every feature that interrupts depend on, besides those of the default part. */
export const allFeatures: FeatureRegisters = {
  efr: nestingFeatures.efr | (1n << 2n) | (1n << 55n) | (1n << 16n),
  efr2: nestingFeatures.efr2 | (1n << 8n),
}

export const deviceTableAt = 0x4000000n

/** What became of an interrupt, in readable form. */
export interface Answer {
  readonly outcome: keyof typeof interruptOutcome
  readonly address: bigint
  readonly data: number
  readonly vector: number
  readonly deliveryMode: number
  readonly destinationMode: number
  readonly destination: number
  readonly requestEoi: number
  readonly notice: number
  readonly index: number
  readonly entry: bigint
  readonly source: number
  readonly event: readonly [bigint, bigint]
  readonly logged: boolean
  readonly requestAt: bigint
}

export interface RigOptions {
  readonly features?: FeatureRegisters
  readonly switches?: Partial<InterruptSwitches>
  readonly chipSwitches?: Partial<SwitchChoices>
  readonly control?: bigint
  readonly sizeBytes?: number
  readonly capacity?: number
  readonly logs?: boolean
}

interface Parts {
  readonly memory: SparseMemory
  readonly features: Features
  readonly registers: Registers
  readonly deviceTable: DeviceTable
  readonly deviceTableCache: DeviceTableCache
  readonly iotlb: Iotlb
  readonly cache: InterruptTableCache
  readonly options: RigOptions
}

export class InterruptRig {
  /** What reached the sinks. */
  readonly events: (readonly [bigint, bigint])[] = []
  readonly gaLog: bigint[] = []
  readonly counts: (readonly [event: number, deviceId: number, domainId: number])[] = []
  readonly reads: bigint[] = []
  readonly remapper: InterruptRemapper

  private constructor(private readonly parts: Parts) {
    const { memory, registers, deviceTable, features, cache, options } = parts
    this.remapper = new InterruptRemapper({
      memory,
      registers,
      deviceTable,
      features,
      cache,
      switches: this.switches,
      reportEvent: (event) => {
        const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = event
        this.events.push([wordOf(w0, w1), wordOf(w2, w3)])
        return options.logs !== false
      },
      writeGaLog: (lo, hi) => this.gaLog.push(wordOf(lo, hi)),
      count: (...counted) => this.counts.push(counted),
    })
    this.remapper.watch({ read: (_kind, lo, hi) => this.reads.push(wordOf(lo, hi)) })
  }

  static create(options: RigOptions = {}): InterruptRig {
    const memory = SparseMemory.create(options.sizeBytes ?? 2 ** 34)
    const features = featuresOf(options.features ?? allFeatures)
    const registers = Registers.create(memory.words, features)
    const deviceTableCache = DeviceTableCache.create(memory.words)
    const iotlb = Iotlb.create(memory.words)
    const cache = InterruptTableCache.create(memory.words, options.capacity)
    const rig = new InterruptRig(
      assemble({ memory, features, registers, deviceTableCache, iotlb, cache, options }),
    )
    registers.writeMmio(0x0, 8, deviceTableAt | 0x1ffn)
    rig.control = options.control ?? on.iommu
    return rig
  }

  fork(): InterruptRig {
    const memory = this.parts.memory.fork()
    const { words } = memory
    words.activate()
    return new InterruptRig(
      assemble({
        ...this.parts,
        memory,
        registers: this.parts.registers.forkOnto(words),
        deviceTableCache: this.parts.deviceTableCache.forkOnto(words),
        iotlb: this.parts.iotlb.forkOnto(words),
        cache: this.parts.cache.forkOnto(words),
      }),
    )
  }

  get switches(): InterruptSwitches {
    return { ...defaultInterruptSwitches, ...this.parts.options.switches }
  }

  get memory(): SparseMemory {
    return this.parts.memory
  }

  get cache(): InterruptTableCache {
    this.memory.words.activate()
    return this.parts.cache
  }

  set control(value: bigint) {
    this.write(0x18, value)
  }

  write(offset: number, value: bigint): void {
    if (this.parts.registers.writeMmio(offset, 8, value)) this.parts.deviceTable.controlChanged()
  }

  put(address: bigint, ...words: readonly bigint[]): void {
    words.forEach((word, n) => store64(this.memory, address + BigInt(8 * n), word))
  }

  load(address: bigint): bigint {
    return load64(this.memory, address) ?? -1n
  }

  setDte(deviceId: number, words: readonly bigint[]): void {
    this.put(deviceTableAt + BigInt(deviceId * 32), ...words)
  }

  /** As INVALIDATE_DEVTAB_ENTRY. */
  dropDte(deviceId: number): void {
    this.memory.words.activate()
    this.parts.deviceTableCache.invalidate(deviceId)
  }

  interrupt(deviceId: number, data: number, address = 0xfee00000n, flags = 0): Answer {
    this.memory.words.activate()
    const lo = Number(BigInt.asIntN(32, address))
    const hi = Number(BigInt.asIntN(32, address >> 32n))
    const became = this.remapper.remap(deviceId, lo, hi, data, flags)
    const { result } = this.remapper
    const pair = (at: number): bigint => wordOf(result[at]!, result[at + 1]!)
    return {
      outcome: (Object.keys(interruptOutcome) as Answer['outcome'][])[became]!,
      address: pair(interruptWord.addressLo),
      data: result[interruptWord.data]! >>> 0,
      vector: result[interruptWord.vector]!,
      deliveryMode: result[interruptWord.deliveryMode]!,
      destinationMode: result[interruptWord.destinationMode]!,
      destination: result[interruptWord.destination]! >>> 0,
      requestEoi: result[interruptWord.requestEoi]!,
      notice: result[interruptWord.notice]!,
      index: result[interruptWord.index]!,
      entry: pair(interruptWord.entryLo),
      source: result[interruptWord.source]!,
      event: [pair(interruptWord.event), pair(interruptWord.event + 2)],
      logged: result[interruptWord.logged] === 1,
      requestAt: pair(interruptWord.requestLo),
    }
  }

  look(deviceId: number, data: number, address = 0xfee00000n): Answer {
    return this.interrupt(deviceId, data, address, request.fresh)
  }

  fingerprint(): string {
    return this.memory.words.fingerprint().join()
  }
}

function assemble(parts: Omit<Parts, 'deviceTable'>): Parts {
  const { memory, registers, iotlb, deviceTableCache, features, options } = parts
  const deviceTable = new DeviceTable(
    memory,
    registers,
    iotlb,
    deviceTableCache,
    features,
    switches(options.chipSwitches),
    false,
  )
  return { ...parts, deviceTable }
}
