/**
 * The driver's operations on what IOMMUs report: events, and page requests of devices.
 *
 * @packageDocumentation
 */
import { takeEvents } from './event.js'
import type { TakenEvents } from './event.js'
import { NestingOperations } from './nesting-operations.js'
import { refuse } from './outcome.js'
import type { Outcome, Refusal } from './outcome.js'
import { failure, invalidRequest, respond, success, takePageRequests } from './page-request.js'
import type { PendingGroup, RequestGroup, TakenPageRequests } from './page-request.js'

/** How a page request is answered. */
const responseCodes = { success, 'invalid-request': invalidRequest, failure } as const

export type PageResponse = keyof typeof responseCodes

/** See the file's comment. */
export abstract class FaultOperations extends NestingOperations {
  /**
   * Takes the events that an IOMMU has logged. Whoever was called by an interrupt goes on until there are no effects:
   * then the status bit is clear, and the next event raises another interrupt.
   *
   * An event goes to whom the device belongs now. So take what is logged while a device is blocked between two guests.
   */
  takeEvents(iommu: number): Outcome<TakenEvents> {
    return (
      this.reading(iommu) ?? this.attempt((books, plan) => takeEvents(books, plan, this.port(iommu), iommu))
    )
  }

  /**
   * Takes the page requests that an IOMMU has logged, as {@link takeEvents}. Those that nobody can be asked for are
   * answered; the others wait for {@link respond}, or for their device to leave whoever was asked.
   */
  takePageRequests(iommu: number): Outcome<TakenPageRequests> {
    return (
      this.reading(iommu) ??
      this.attempt((books, plan) => takePageRequests(books, plan, this.port(iommu), iommu))
    )
  }

  /** The groups of page requests of a device that have been handed on and not been answered. */
  pendingPageRequests(deviceId: number): readonly PendingGroup[] {
    return this.books.pageRequests.get(deviceId) ?? []
  }

  /** Answers a group of page requests that was handed on. ENOENT if the device does not wait for that. */
  respond(deviceId: number, group: RequestGroup, response: PageResponse): Outcome<undefined> {
    const device = this.books.devices.get(deviceId)
    if (device === undefined) return refuse('ENODEV', 'no-such-device', `device ${deviceId} is not known`)
    return this.attempt((books, plan) => respond(books, plan, device, group, responseCodes[response]))
  }

  private reading(iommu: number): Refusal | undefined {
    if (this.place.ports[iommu] !== undefined) return undefined
    return refuse('ENODEV', 'no-such-iommu', `there is no IOMMU ${iommu}`)
  }
}
