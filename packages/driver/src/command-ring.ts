/**
 * The driver's side of one IOMMU: its command ring and the completion word.
 *
 * As Linux: a ring of 512 entries of which two stay free, and a 64-bit word in memory that COMPLETION_WAIT sets to a
 * running number.
 *
 * @packageDocumentation
 */
import { spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import { encodeCommand, load64, registers, store64 } from '@nestwalk/hardware'
import type { CommandFields, IommuPort, Memory } from '@nestwalk/hardware'

export const ringEntries = 512
/** ComLen of a ring of 512 entries. */
export const ringLengthLog2 = 9
const entryBytes = 16
const ringBytes = ringEntries * entryBytes
const keptFree = 2

/** Where an IOMMU's ring and completion word lie. */
export interface RingPlace {
  readonly ring: Spa
  readonly completion: Spa
}

/** See the file's comment. */
export class CommandRing {
  private constructor(
    private readonly place: RingPlace,
    private tail: number,
    /** Number that the last COMPLETION_WAIT stores. */
    private sequence: bigint,
    /** Whether the wait being carried out has its command in the ring already. */
    private isWaiting: boolean,
  ) {}

  static create(place: RingPlace): CommandRing {
    return new CommandRing(place, 0, 0n, false)
  }

  /** Puts a command into the ring. False if it is full: hardware has to take some first. */
  push(port: IommuPort, memory: Memory, command: CommandFields): boolean {
    const head = Number(port.readMmio(registers.commandHead.offset, 8))
    const used = (this.tail - head + ringBytes) % ringBytes
    if (used >= ringBytes - keptFree * entryBytes) return false
    const [lo, hi] = encodeCommand(command)
    store64(memory, this.place.ring + BigInt(this.tail), lo ?? 0n)
    store64(memory, this.place.ring + BigInt(this.tail + 8), hi ?? 0n)
    this.tail = (this.tail + entryBytes) % ringBytes
    port.writeMmio(registers.commandTail.offset, 8, BigInt(this.tail))
    return true
  }

  /** Carries a wait on: queues its COMPLETION_WAIT, then looks for the store. True once it is there. */
  wait(port: IommuPort, memory: Memory): boolean {
    if (!this.isWaiting) {
      const storeData = this.sequence + 1n
      const storeAddress = spa(this.place.completion)
      if (!this.push(port, memory, { kind: 'CompletionWait', store: true, storeAddress, storeData }))
        return false
      this.sequence = storeData
      this.isWaiting = true
    }
    const stored = load64(memory, this.place.completion)
    if (stored === undefined || BigInt.asIntN(64, stored - this.sequence) < 0n) return false
    this.isWaiting = false
    return true
  }

  /** Gives the wait being carried out up, as the kernel does after its time-out. */
  giveUp(): void {
    this.isWaiting = false
  }

  fork(): CommandRing {
    return new CommandRing(this.place, this.tail, this.sequence, this.isWaiting)
  }

  snapshot(): unknown {
    return [this.tail, this.sequence, this.isWaiting]
  }
}
