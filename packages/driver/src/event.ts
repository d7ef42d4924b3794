/**
 * Events: what an IOMMU found wrong, and who is to hear of it.
 *
 * Linux drivers/iommu/amd/iommu.c, `iommu_print_event` and `amd_iommu_report_page_fault`.
 *
 * @packageDocumentation
 */
import { decodeEvent } from '@nestwalk/hardware'
import type { Event, IommuPort, UnknownEvent } from '@nestwalk/hardware'
import type { Books } from './books.js'
import { deviceWith, guestDomainOf, host, toGuest } from './fault-recipient.js'
import type { Recipient } from './fault-recipient.js'
import { eventLog, LogReader } from './log-reader.js'
import type { LogEntry } from './log-reader.js'
import { answerRequest, failure } from './page-request.js'
import type { Plan } from './plan.js'

/** An event that was taken from a log. */
export interface TakenEvent {
  /** As hardware wrote it. For a guest RX is set in it if the host has answered the page request. */
  readonly words: LogEntry
  readonly event: Event | UnknownEvent
  readonly to: Recipient
}

/** What a log held. */
export interface TakenEvents {
  readonly events: readonly TakenEvent[]
  /** Whether an event was announced that has not arrived yet: look again. */
  readonly isIncomplete: boolean
}

/**
 * What a guest is told: what its device asked for and was refused. Of all others the address is the host's, or nothing
 * that the guest did is the cause.
 */
const guestKinds: ReadonlySet<string> = new Set([
  'IllegalDevTableEntry',
  'IoPageFault',
  'GuestIoPageFault',
  'InvalidDeviceRequest',
  'InvalidPprRequest',
])
const pageFaults: ReadonlySet<string> = new Set(['IoPageFault', 'GuestIoPageFault'])

/** RX of INVALID_PPR_REQUEST: no answer is expected. */
const noResponseExpected = 1n << 48n

/** Takes the events of an IOMMU. */
export function takeEvents(books: Books, plan: Plan, port: IommuPort, iommu: number): TakenEvents {
  const events: TakenEvent[] = []
  const isComplete = new LogReader(plan, port, iommu, eventLog).read((words) => {
    events.push(received(books, plan, words))
  })
  return { events, isIncomplete: !isComplete }
}

function received(books: Books, plan: Plan, words: LogEntry): TakenEvent {
  const event = decodeEvent(BigUint64Array.of(...words))
  const to = recipientOf(books, event)
  if (event.kind !== 'InvalidPprRequest' || event.noResponseExpected) return { words, event, to }
  const device = deviceWith(books, event.deviceId)
  if (device === undefined) return { words, event, to }
  // The device waits for the answer to its request, which reached no log of page requests.
  const request = { pasid: event.guestNested ? event.pasid : undefined, group: event.tag & 0x1ff }
  answerRequest(books, plan, device, request, failure)
  if (to.kind !== 'viommu') return { words, event, to }
  const answered: LogEntry = [words[0] | noResponseExpected, words[1]]
  return { words: answered, event: decodeEvent(BigUint64Array.of(...answered)), to }
}

function recipientOf(books: Books, event: Event | UnknownEvent): Recipient {
  const device = 'deviceId' in event ? deviceWith(books, event.deviceId) : undefined
  if (device === undefined) return host
  const nested = guestDomainOf(books, device)
  if (nested !== undefined) return guestKinds.has(event.kind) ? toGuest(device, nested) : host
  if (!pageFaults.has(event.kind) || device.recorded === undefined) return host
  return { kind: 'domain', domain: device.recorded }
}
