/**
 * Events of a vIOMMU on their way to user space: the VEVENTQ object's queue, and what is lost of it.
 *
 * Linux drivers/iommu/iommufd/eventq.c, `iommufd_viommu_report_event`.
 *
 * @packageDocumentation
 */
import { defineStruct, u32, writeStruct } from '@nestwalk/bits'
import { accept, refuse } from '../outcome.js'
import type { Outcome } from '../outcome.js'
import { concatenate } from './fault-queue.js'
import { Fifo } from './fifo.js'

/** What comes before the bytes of each event: `struct iommufd_vevent_header`. */
export const eventHeaderStruct = defineStruct({
  name: 'iommufd_vevent_header',
  byteLength: 8,
  fields: { flags: u32(0), sequence: u32(4) },
})

/** Most events that a queue may be asked to hold. */
export const mostEvents = 1 << 19

const lostEvents = 1
/** Sequence numbers go from 0 to this one, and then from 0 again. */
const lastSequence = 0x7fff_ffff

interface QueuedEvent {
  readonly sequence: number
  readonly bytes: Uint8Array
}

/** See the file's comment. */
export class EventQueue {
  private constructor(
    private readonly depth: number,
    private readonly events: Fifo<QueuedEvent>,
    /** Sequence of the last event that found no room, while no later one is queued. It stands at the tail. */
    private lost: number | undefined,
    private next: number,
  ) {}

  /** @param depth - how many events it holds, 1 to {@link mostEvents} */
  static create(depth: number): EventQueue {
    return new EventQueue(depth, Fifo.of(), undefined, 0)
  }

  get isReadable(): boolean {
    return this.events.length > 0 || this.lost !== undefined
  }

  /** Queues an event, or marks it as lost. */
  report(bytes: Uint8Array): void {
    const sequence = this.next
    this.next = sequence === lastSequence ? 0 : sequence + 1
    if (this.events.length >= this.depth) {
      this.lost = sequence
      return
    }
    // The mark of the loss goes: the gap in the sequence tells.
    this.lost = undefined
    this.events.add({ sequence, bytes })
  }

  /** As many whole events as fit, oldest first. EINVAL if not even a header, or the first event, does. */
  read(count: bigint): Outcome<Uint8Array> {
    const header = eventHeaderStruct.byteLength
    if (count < BigInt(header)) return refuse('event-read-size', `${count} bytes have no room for a header`)
    const parts: Uint8Array[] = []
    let room = count
    let taken = 0
    for (const { sequence, bytes } of this.events) {
      const size = BigInt(header + bytes.length)
      if (size > room) break
      room -= size
      parts.push(writeStruct(eventHeaderStruct, { flags: 0, sequence }), bytes)
      taken += 1
    }
    if (taken === 0 && this.events.length > 0)
      return refuse('event-read-room', `${count} bytes have no room for the next event`)
    this.events.drop(taken)
    if (this.lost !== undefined && this.events.length === 0 && room >= BigInt(header)) {
      parts.push(writeStruct(eventHeaderStruct, { flags: lostEvents, sequence: this.lost }))
      this.lost = undefined
    }
    return accept(concatenate(parts))
  }

  fork(): EventQueue {
    return new EventQueue(this.depth, this.events.fork(), this.lost, this.next)
  }

  snapshot(): unknown {
    const events = [...this.events].map(({ sequence, bytes }) => [sequence, [...bytes]])
    return [this.depth, events, this.lost, this.next]
  }
}
