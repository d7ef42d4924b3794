/**
 * An operation while it is being planned: the effects so far, and memory as it will be after them.
 *
 * @packageDocumentation
 */
import { spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import type { CommandFields, Memory } from '@nestwalk/hardware'
import type { DeviceFeature } from './device.js'
import type { Effect } from './effect.js'
import { noMemory, PlannedMemory } from './planned-memory.js'

const pageBytes = 4096n

/** Quad-words of which each is `step` above the one before. */
export interface AscendingWords {
  readonly count: number
  readonly word: bigint
  readonly step: bigint
}

/** See the file's comment. */
export class Plan {
  readonly effects: Effect[] = []
  private readonly memory: PlannedMemory

  constructor(memory: Memory) {
    this.memory = new PlannedMemory(memory)
  }

  /** A quad-word as it will be. The driver only reads what is in its own pages. */
  load(address: Spa): bigint {
    return this.memory.load(address) ?? noMemory(address)
  }

  store(address: Spa, word: bigint, what: string): void {
    this.effects.push({ kind: 'store', address, words: [word], what })
    this.memory.store(address, word)
  }

  /** Stores 128 bits in one access. */
  storeHalf(address: Spa, low: bigint, high: bigint, what: string): void {
    this.effects.push({ kind: 'store', address, words: [low, high], what })
    this.memory.store(address, low)
    this.memory.store(address + 8n, high)
  }

  /** Stores the same quad-word `count` times, one after another. */
  storeRun(address: Spa, count: number, word: bigint, what: string): void {
    if (count === 1) {
      this.store(address, word, what)
      return
    }
    this.fill(address, count, 8, word, what)
  }

  /** Stores quad-words one after another, each `step` above the one before. */
  storeAscending(address: Spa, { count, word, step }: AscendingWords, what: string): void {
    if (count === 1) {
      this.store(address, word, what)
      return
    }
    this.effects.push({ kind: 'fill', address, count, strideBytes: 8, word, step, what })
    for (let i = 0; i < count; i++) this.memory.store(address + BigInt(i * 8), word + BigInt(i) * step)
  }

  /** Stores the same quad-word `count` times, `strideBytes` apart. */
  fill(address: Spa, count: number, strideBytes: number, word: bigint, what: string): void {
    this.effects.push({ kind: 'fill', address, count, strideBytes, word, what })
    for (let i = 0; i < count; i++) this.memory.store(address + BigInt(i * strideBytes), word)
  }

  /** Makes a page of zeros. */
  clearPage(address: Spa, what: string): void {
    for (let offset = 0n; offset < pageBytes; offset += 8n) {
      if (this.load(spa(address + offset)) === 0n) continue
      this.storeRun(address, Number(pageBytes / 8n), 0n, what)
      return
    }
  }

  command(iommu: number, command: CommandFields, why: string): void {
    this.effects.push({ kind: 'command', iommu, command, why })
  }

  wait(iommu: number): void {
    this.effects.push({ kind: 'wait', iommu })
  }

  feature(deviceId: number, feature: DeviceFeature, isOn: boolean): void {
    this.effects.push({ kind: 'feature', deviceId, feature, isOn })
  }

  register(iommu: number, offset: number, value: bigint, what: string): void {
    this.effects.push({ kind: 'register', iommu, offset, value, what })
  }

  configuration(iommu: number, offset: number, value: bigint, what: string): void {
    this.effects.push({ kind: 'configuration', iommu, offset, value, what })
  }
}
