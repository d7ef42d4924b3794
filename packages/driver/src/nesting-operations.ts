/**
 * The driver's operations for virtual machines: vIOMMUs, nested domains, and what guests ask to be invalidated.
 *
 * @packageDocumentation
 */
import { DeviceOperations } from './device-operations.js'
import type { DomainNumber } from './domain.js'
import { invalidateForGuest } from './guest-invalidation.js'
import type { GuestInvalidation } from './guest-invalidation.js'
import { runGuestQueue } from './guest-queue.js'
import type { GuestQueue, GuestQueueRun } from './guest-queue.js'
import {
  allocateNested,
  checkGuestEntry,
  createViommu,
  destroyViommu,
  forgetName,
  nameDevice,
} from './nesting.js'
import { refuse } from './outcome.js'
import type { Outcome } from './outcome.js'

/** See the file's comment. */
export abstract class NestingOperations extends DeviceOperations {
  /** A nested domain from a guest's device table entry, four quad-words, lowest first. */
  allocateNested(viommu: number, guestEntry: readonly bigint[]): Outcome<DomainNumber> {
    const refused = checkGuestEntry(guestEntry, this.port(0))
    if (refused !== undefined) return refused
    // A guest may make 65536 of these.
    return this.directly((books, plan) => allocateNested(books, plan, viommu, guestEntry))
  }

  /** A vIOMMU on a nest parent, for devices behind one IOMMU. */
  createViommu(parent: DomainNumber, iommu = 0): Outcome<number> {
    if (this.place.ports[iommu] === undefined)
      return refuse('ENODEV', 'no-such-iommu', `there is no IOMMU ${iommu}`)
    return this.directly((books) => createViommu(books, parent, iommu))
  }

  destroyViommu(viommu: number): Outcome<undefined> {
    return this.directly((books) => destroyViommu(books, viommu))
  }

  /** Tells which device of the host the guest of a vIOMMU means by a DeviceID. */
  nameDevice(viommu: number, virtualId: number, deviceId: number): Outcome<undefined> {
    return this.directly((books) => nameDevice(books, viommu, virtualId, deviceId))
  }

  /** Takes the meaning of a virtual DeviceID away. */
  forgetName(viommu: number, virtualId: number): Outcome<undefined> {
    return this.directly((books) => forgetName(books, viommu, virtualId))
  }

  /** What the guest of a vIOMMU calls a device; `undefined` if it has no name there. */
  virtualIdOf(viommu: number, deviceId: number): number | undefined {
    const names = this.books.viommus.get(viommu)?.virtualDevices ?? []
    return [...names].find(([, device]) => device === deviceId)?.[0]
  }

  /** Carries a guest's invalidations of pages and of device TLBs out, two quad-words each, and waits. */
  invalidateForGuest(
    viommu: number,
    commands: readonly (readonly [bigint, bigint])[],
  ): Outcome<GuestInvalidation> {
    return this.attempt((books, plan) => invalidateForGuest(books, plan, viommu, commands))
  }
  /**
   * Takes the commands that a guest has queued in a ring of its memory, as hardware would that reads the ring by itself, and
   * waits. Waits of the guest end once all before them is done.
   */
  runGuestQueue(viommu: number, queue: GuestQueue): Outcome<GuestQueueRun> {
    return this.attempt((books, plan) => runGuestQueue(books, plan, this.place.memory, viommu, queue))
  }
}
