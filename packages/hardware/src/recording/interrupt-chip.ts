/**
 * Interrupt remapping as a snapshot describes it, asked each request with cold caches.
 *
 * @packageDocumentation
 */
import { wordOf } from '@nestwalk/bits'
import { nestingFeatures } from '../features.js'
import { interruptOutcome, interruptWord } from '../interrupt/interrupt-answer.js'
import { Iommu } from '../iommu.js'
import { loadPages } from '../memory/image.js'
import { load64, store64 } from '../memory/memory.js'
import { SparseMemory } from '../memory/sparse-memory.js'
import { mmio } from '../mmio.js'
import { request } from '../walk/answer.js'
import type { RecordedMessage } from './interrupt-records.js'
import type { Snapshot } from './snapshot.js'

/** What became of an interrupt. */
export interface InterruptAnswer {
  readonly kind: keyof typeof interruptOutcome
  /** What goes on; of a forwarded or a remapped interrupt. */
  readonly message: RecordedMessage
  readonly index: number
  /** Physical address of the table entry; 0 where none was read. */
  readonly entry: bigint
}

/** Registers that decide about interrupts, in the order in which a driver writes them. */
const writtenRegisters = [
  mmio.deviceTableBase,
  ...[1, 2, 3, 4, 5, 6, 7].map((segment) => mmio.deviceTableSegment1 + 8 * (segment - 1)),
  mmio.control,
]

const entryBytes = 16n
const addressEnd = 1n << 52n

/** See the file's comment. */
export class InterruptChip {
  private readonly memory: SparseMemory
  private readonly chip: Iommu

  /** @param snapshot - undefined: a chip after a reset, on 64 KiB of memory */
  constructor(snapshot: Snapshot | undefined) {
    this.memory = SparseMemory.create(snapshot?.memoryBytes ?? 0x10000)
    if (snapshot !== undefined) loadPages(this.memory, snapshot.pages, snapshot.pageBytes)
    this.chip = Iommu.create({ memory: this.memory, features: snapshot?.features ?? nestingFeatures })
    for (const offset of writtenRegisters) {
      const value = snapshot?.registers.get(offset)
      if (value !== undefined) this.chip.writeMmio(offset, 8, value)
    }
  }

  /** The 128 bits at an address; undefined where no entry can be: beyond the memory, or not aligned. */
  entryAt(address: bigint): readonly [lo: bigint, hi: bigint] | undefined {
    if (address % entryBytes !== 0n || address >= addressEnd) return undefined
    const lo = load64(this.memory, address)
    const hi = load64(this.memory, address + 8n)
    return lo === undefined || hi === undefined ? undefined : [lo, hi]
  }

  /** Looks what becomes of an interrupt; nothing changes. */
  ask(deviceId: number, { address, data }: RecordedMessage): InterruptAnswer {
    const became = this.chip.interrupt(deviceId, ...halves(address), data, request.fresh)
    const result = this.chip.interruptResult
    const word = (at: number): number => Number(result[at])
    const pair = (at: number): bigint => wordOf(word(at), word(at + 1))
    const kinds = Object.keys(interruptOutcome) as InterruptAnswer['kind'][]
    return {
      kind: kinds[became] ?? 'aborted',
      message: { address: pair(interruptWord.addressLo), data: word(interruptWord.data) >>> 0 },
      index: word(interruptWord.index),
      entry: pair(interruptWord.entryLo),
    }
  }

  /** The same as if other 128 bits stood at an address; `before` are those that do. */
  askWith(
    place: bigint,
    entry: readonly [lo: bigint, hi: bigint],
    before: readonly [lo: bigint, hi: bigint],
    deviceId: number,
    message: RecordedMessage,
  ): InterruptAnswer {
    this.put(place, entry)
    const answer = this.ask(deviceId, message)
    this.put(place, before)
    return answer
  }

  private put(place: bigint, [lo, hi]: readonly [lo: bigint, hi: bigint]): void {
    store64(this.memory, place, lo)
    store64(this.memory, place + 8n, hi)
  }
}

/** An address as two int32 words. */
const halves = (address: bigint): [lo: number, hi: number] => [
  Number(BigInt.asIntN(32, address)),
  Number(BigInt.asIntN(32, address >> 32n)),
]
