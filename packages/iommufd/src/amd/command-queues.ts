/**
 * Extension: the command queues of all vIOMMUs that have a page of registers.
 *
 * @packageDocumentation
 */
import type { Driver } from '@nestwalk/driver'
import type { HwQueueRequest, Region, Report, ViommuRequest } from '../backend.js'
import { isRefusal } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import { forkPlace, offerRegisters, startQueue, stopQueue, takeCommands } from './command-queue.js'
import type { QueuePlace } from './command-queue.js'

/** See the file's comment. A refused transaction goes back to the {@link places} that were before. */
export class CommandQueues {
  private constructor(
    /** By vIOMMU. The map itself is never changed. */
    public places: ReadonlyMap<number, QueuePlace>,
  ) {}

  static create(): CommandQueues {
    return new CommandQueues(new Map())
  }

  /** Makes room for a vIOMMU's queue, if its VMM asks for that. */
  addViommu(viommu: number, request: ViommuRequest): Region | undefined | Refusal {
    const registers = offerRegisters(request)
    if (registers !== undefined && !isRefusal(registers)) this.set(viommu, { registers, queue: undefined })
    return registers
  }

  removeViommu(viommu: number): void {
    this.set(viommu, undefined)
  }

  start(request: HwQueueRequest): Refusal | undefined {
    const started = startQueue(this.places.get(request.viommu), request)
    if (isRefusal(started)) return started
    this.set(request.viommu, started)
    return undefined
  }

  stop(viommu: number): void {
    const place = this.places.get(viommu)
    if (place !== undefined) this.set(viommu, stopQueue(place))
  }

  /** Takes what all guests have queued; what VMMs are told of queues that stop. To be called in a transaction. */
  take(driver: Driver): readonly Report[] | Refusal {
    const reports: Report[] = []
    for (const [viommu, place] of this.places) {
      const report = takeCommands(driver, viommu, place)
      if (isRefusal(report)) return report
      if (report !== undefined) reports.push(report)
    }
    return reports
  }

  fork(): CommandQueues {
    return new CommandQueues(new Map([...this.places].map(([viommu, place]) => [viommu, forkPlace(place)])))
  }

  snapshot(): unknown {
    return [...this.places].map(([viommu, { registers, queue }]) => [viommu, [...registers.bytes], queue])
  }

  private set(viommu: number, place: QueuePlace | undefined): void {
    const places = new Map(this.places)
    if (place === undefined) places.delete(viommu)
    else places.set(viommu, place)
    this.places = places
  }
}
