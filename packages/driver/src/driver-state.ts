/**
 * What every operation of the driver shares: books that change as a whole or not at all, effects in order, forks.
 *
 * @packageDocumentation
 */
import { load64, store64 } from '@nestwalk/hardware'
import type { Memory } from '@nestwalk/hardware'
import { forkBooks, snapshotBooks } from './books.js'
import type { Books } from './books.js'
import type { CommandRing } from './command-ring.js'
import type { DeviceFeature } from './device.js'
import type { IommuAccess } from './discovery.js'
import type { DomainNumber } from './domain.js'
import type { Effect } from './effect.js'
import { accept, InternalError, refuse } from './outcome.js'
import type { Outcome, Refusal } from './outcome.js'
import { Plan } from './plan.js'
import { noMemory } from './planned-memory.js'

/** Where a driver runs: what it is given anew when the machine is forked. */
export interface DriverPlace {
  /** The IOMMUs, in order; they share one device table. */
  readonly ports: readonly IommuAccess[]
  /** Physical memory as this driver sees it: a guest's driver takes its guest-physical memory for the system's. */
  readonly memory: Memory
  /** Turns a feature of a device on or off, in its configuration space. Without, nobody does. */
  readonly setDeviceFeature?: (deviceId: number, feature: DeviceFeature, isOn: boolean) => void
}

/** See the file's comment. */
export abstract class DriverState {
  /** The plan that operations add to while a transaction runs. */
  private joint: Plan | undefined

  protected constructor(
    protected readonly place: DriverPlace,
    protected readonly rings: readonly CommandRing[],
    protected books: Books,
  ) {}

  /**
   * Runs several operations as one: all are accepted, with their effects in order, or nothing has changed.
   *
   * Outside of it the effects of an operation must have been carried out before the next one is planned.
   *
   * @param operations - returns the first refusal it meets; the effects of the inner outcomes are empty
   */
  transaction<T>(operations: () => T | Refusal): Outcome<T> {
    if (this.joint !== undefined) return settle(operations(), [])
    const before = this.books
    const plan = new Plan(this.place.memory)
    this.books = forkBooks(before)
    this.joint = plan
    let isAccepted = false
    try {
      const result = operations()
      isAccepted = !isRefusal(result)
      return settle(result, plan.effects)
    } finally {
      this.joint = undefined
      if (!isAccepted) this.books = before
    }
  }

  /** Carries one effect out, or carries it on. False while it waits for hardware. */
  apply(effect: Effect): boolean {
    const { memory } = this.place
    switch (effect.kind) {
      case 'store':
        effect.words.forEach((word, i) => this.storeOwn(effect.address + BigInt(i * 8), word))
        return true
      case 'fill':
        for (let i = 0; i < effect.count; i++) {
          const word = effect.word + BigInt(i) * (effect.step ?? 0n)
          this.storeOwn(effect.address + BigInt(i * effect.strideBytes), word)
        }
        return true
      case 'register':
        this.port(effect.iommu).writeMmio(effect.offset, 8, effect.value)
        return true
      case 'configuration':
        this.port(effect.iommu).writeConfig?.(effect.offset, 4, Number(effect.value))
        return true
      case 'feature':
        this.place.setDeviceFeature?.(effect.deviceId, effect.feature, effect.isOn)
        return true
      case 'command':
        return this.ring(effect.iommu).push(this.port(effect.iommu), memory, effect.command)
      case 'wait':
        return this.ring(effect.iommu).wait(this.port(effect.iommu), memory)
    }
  }

  /** Gives up an effect that waits for hardware which no longer moves, as the kernel does after its time-out. */
  giveUp(effect: Effect): void {
    if (effect.kind === 'wait') this.ring(effect.iommu).giveUp()
  }

  /** What the future depends on besides memory and chip, as plain data in a fixed order. */
  snapshot(): unknown {
    return [snapshotBooks(this.books), this.rings.map((ring) => ring.snapshot())]
  }

  /** Runs an operation on a copy of the books, and keeps the copy if it was accepted: a refusal changes nothing. */
  protected attempt<T>(operation: (books: Books, plan: Plan) => T | Refusal): Outcome<T> {
    if (this.joint !== undefined) return settle(operation(this.books, this.joint), [])
    const books = forkBooks(this.books)
    const plan = new Plan(this.place.memory)
    const outcome = settle(operation(books, plan), plan.effects)
    if (outcome.ok) this.books = books
    return outcome
  }

  /** Runs an operation that refuses, if at all, before it has changed anything: it needs no copy of the books. */
  protected directly<T>(operation: (books: Books, plan: Plan) => T | Refusal): Outcome<T> {
    if (this.joint !== undefined) return settle(operation(this.books, this.joint), [])
    const plan = new Plan(this.place.memory)
    return settle(operation(this.books, plan), plan.effects)
  }

  protected port(iommu: number): IommuAccess {
    const port = this.place.ports[iommu]
    if (port === undefined) throw new InternalError(`there is no IOMMU ${iommu}`)
    return port
  }

  private ring(iommu: number): CommandRing {
    const ring = this.rings[iommu]
    if (ring === undefined) throw new InternalError(`there is no ring for IOMMU ${iommu}`)
    return ring
  }

  private storeOwn(address: bigint, word: bigint): void {
    if (load64(this.place.memory, address) === word) return
    if (!store64(this.place.memory, address, word)) noMemory(address)
  }
}

export const noDomain = (number: DomainNumber): Refusal =>
  refuse('ENOENT', 'no-such-domain', `there is no domain ${number}`)

const isRefusal = (value: unknown): value is Refusal =>
  typeof value === 'object' && value !== null && 'ok' in value && value.ok === false

/** A value or a refusal, as an outcome. */
function settle<T>(result: T | Refusal, effects: readonly Effect[]): Outcome<T> {
  return isRefusal(result) ? result : accept(result, effects)
}
