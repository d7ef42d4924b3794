/**
 * The driver: what a kernel does with the AMD IOMMUs that it finds.
 *
 * It sees ports and memory and nothing else, so the same code is the host's driver on the chip and a guest's on its
 * virtual IOMMU. Each operation brings the books up to date and returns the effects that make it so; whoever runs them
 * decides what happens between two of them.
 *
 * @packageDocumentation
 */
import type { Iova, Spa } from '@nestwalk/bits'
import { decodeEfr, decodeEfr2, load64, registers, store64 } from '@nestwalk/hardware'
import type { FeatureRegisters, IommuPort, Memory } from '@nestwalk/hardware'
import { attachDevice, moveDevice } from './attach.js'
import { bringUp } from './bring-up.js'
import { forkBooks, isAttached, snapshotBooks } from './books.js'
import type { Books, Device } from './books.js'
import type { CommandRing } from './command-ring.js'
import { blocked } from './domain.js'
import { enterDomain, removeDomain } from './domain-entry.js'
import type { Domain, DomainNumber, IdentityDomain } from './domain.js'
import { isSameDomain } from './domain.js'
import { DomainIdAllocator } from './domain-id.js'
import type { Effect } from './effect.js'
import { allocateGuestTable, allocateHostTable, freeTable, lookUpIn, mapInto, unmapFrom } from './mapping.js'
import type { TableDomain } from './mapping.js'
import {
  allocateNested,
  checkGuestEntry,
  createViommu,
  destroyViommu,
  freeNested,
  invalidateForGuest,
} from './nesting.js'
import type { GuestInvalidation } from './nesting.js'
import { accept, InternalError, refuse } from './outcome.js'
import type { Outcome, Refusal } from './outcome.js'
import { PageAllocator } from './page-allocator.js'
import type { PageRange } from './page-allocator.js'
import { Plan } from './plan.js'
import { perHostTable } from './policies/per-host-table.js'
import type { DomainIdPolicy } from './policy.js'
import type { Rights } from './table-format.js'
import { TagTable } from './tag-table.js'
import type { Tag } from './tag-table.js'

/** What a driver is made with. */
export interface DriverOptions {
  /** The IOMMUs, in order; they share one device table. */
  readonly ports: readonly IommuPort[]
  /** Physical memory as this driver sees it: a guest's driver takes its guest-physical memory for the system's. */
  readonly memory: Memory
  /** Memory for the driver's own tables and rings. */
  readonly pages: PageRange
  /** Default: the DomainID belongs to the domain. */
  readonly policy?: DomainIdPolicy
  /** Highest DeviceID of the segment. Default 0xffff. */
  readonly lastDeviceId?: number
  /** Highest DomainID to hand out. Default 0xffff. */
  readonly lastDomainId?: number
}

/** Where a driver runs: what it is given anew when the machine is forked. */
export interface DriverPlace {
  readonly ports: readonly IommuPort[]
  readonly memory: Memory
}

/** See the file's comment. */
export class Driver {
  /** The plan that operations add to while a transaction runs. */
  private joint: Plan | undefined

  private constructor(
    private readonly place: DriverPlace,
    private readonly rings: readonly CommandRing[],
    private books: Books,
  ) {}

  /**
   * Finds the IOMMUs and plans their bring-up; nothing is on until the effects have been carried out.
   *
   * ENOMEM if the pages do not suffice for device table and rings.
   */
  static create(options: DriverOptions): Outcome<Driver> {
    const { ports, memory } = options
    const plan = new Plan(memory)
    const pages = PageAllocator.create(options.pages)
    const lastDeviceId = options.lastDeviceId ?? 0xffff
    const up = bringUp(plan, pages, ports, lastDeviceId)
    if (up === undefined) {
      return refuse('ENOMEM', 'no-bring-up-pages', 'the pages do not suffice for device table and rings')
    }
    const books: Books = {
      policy: options.policy ?? perHostTable,
      deviceTable: up.deviceTable,
      lastDeviceId,
      hostLevels: Math.min(...ports.map(hostLevelsOf)),
      devices: new Map(),
      domains: new Map(),
      viommus: new Map(),
      tags: TagTable.create(),
      ids: DomainIdAllocator.create(options.lastDomainId),
      pages,
      nextDomain: 1,
      nextViommu: 1,
    }
    return accept(new Driver({ ports, memory }, up.rings, books), plan.effects)
  }

  get policy(): DomainIdPolicy {
    return this.books.policy
  }

  /** Address of the device table. */
  get deviceTable(): Spa {
    return this.books.deviceTable
  }

  /** The raw feature registers of an IOMMU. */
  featureRegisters(iommu: number): FeatureRegisters {
    const port = this.port(iommu)
    return { efr: port.readMmio(registers.efr.offset, 8), efr2: port.readMmio(registers.efr2.offset, 8) }
  }

  /** The tags in use, by DomainID. */
  get tags(): readonly Tag[] {
    return this.books.tags.all()
  }

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

  /** Makes a device known. It is blocked until it is attached. */
  probe(deviceId: number, group: number, iommu = 0): Outcome<undefined> {
    if (this.books.devices.has(deviceId))
      return refuse('EEXIST', 'device-known', `device ${deviceId} is known already`)
    if (this.place.ports[iommu] === undefined)
      return refuse('ENODEV', 'no-such-iommu', `there is no IOMMU ${iommu}`)
    if (deviceId > this.books.lastDeviceId)
      return refuse('ENODEV', 'no-device-table-entry', `the device table has no entry for device ${deviceId}`)
    const device: Device = { deviceId, group, iommu, domain: blocked, tagKey: undefined }
    return this.attempt((books, plan) => {
      books.devices.set(deviceId, device)
      return moveDevice(books, plan, device, blocked)
    })
  }

  device(deviceId: number): Device | undefined {
    return this.books.devices.get(deviceId)
  }

  /** The known devices of an IOMMU group, by DeviceID. */
  groupMembers(group: number): Device[] {
    const members = [...this.books.devices.values()].filter((device) => device.group === group)
    return members.sort((a, b) => a.deviceId - b.deviceId)
  }

  domain(number: DomainNumber): Domain | undefined {
    return this.books.domains.get(number)
  }

  /** A domain in which addresses are physical addresses. */
  allocateIdentity(): Outcome<DomainNumber> {
    return this.attempt((books) => {
      const domain: IdentityDomain = { kind: 'identity', number: books.nextDomain }
      return enterDomain(books, domain)
    })
  }

  /** A domain with a host (v1) table. EOPNOTSUPP for a nest parent without the features that nesting needs. */
  allocateHostTable(options: { readonly nestParent?: boolean } = {}): Outcome<DomainNumber> {
    const nestParent = options.nestParent ?? false
    if (this.books.hostLevels === 0) {
      return refuse('EOPNOTSUPP', 'host-tables-unsupported', 'an IOMMU has no host tables (EFR.HATS is 3)')
    }
    if (nestParent && !this.place.ports.every(canNest)) {
      return refuse('EOPNOTSUPP', 'nesting-unsupported', 'an IOMMU lacks GTSup, GIoSup or GCR3TRPModeSup')
    }
    return this.attempt((books, plan) => allocateHostTable(books, plan, nestParent))
  }

  /** A domain with a guest-format (v2) table for requests without PASID. */
  allocateGuestTable(
    options: { readonly levels?: 4 | 5; readonly sameIdAs?: DomainNumber } = {},
  ): Outcome<DomainNumber> {
    const { levels = 4, sameIdAs } = options
    const other = sameIdAs === undefined ? undefined : this.books.domains.get(sameIdAs)
    if (sameIdAs !== undefined && other?.kind !== 'guest-table') {
      return refuse('ENOENT', 'no-such-domain', `domain ${sameIdAs} is no guest table`)
    }
    // The other one may carry a third one's ID itself.
    const owner = other?.kind === 'guest-table' ? (other.sameIdAs ?? other.number) : undefined
    return this.attempt((books, plan) => allocateGuestTable(books, plan, this.port(0), levels, owner))
  }

  /** A nested domain from a guest's device table entry, four quad-words, lowest first. */
  allocateNested(viommu: number, guestEntry: readonly bigint[]): Outcome<DomainNumber> {
    const refused = checkGuestEntry(guestEntry, this.port(0))
    if (refused !== undefined) return refused
    // It fails only before it changes anything, so it needs no copy of the books: a guest may make 65536 of these.
    return settle(allocateNested(this.books, viommu, guestEntry), [])
  }

  /** Frees a domain. EBUSY while something is attached to it or built on it. */
  freeDomain(number: DomainNumber): Outcome<undefined> {
    return this.attempt((books, plan) => {
      const domain = books.domains.get(number)
      if (domain === undefined) return noDomain(number)
      if (domain.kind === 'nested') return freeNested(books, plan, domain)
      if (domain.kind !== 'identity') return freeTable(books, plan, domain)
      if (isAttached(books, number)) return refuse('EBUSY', 'domain-in-use', `domain ${number} is in use`)
      removeDomain(books, plan, domain)
      return undefined
    })
  }

  /** Attaches a device by the kernel's rule: between paging domains it is blocked for a while. */
  attach(deviceId: number, domain: DomainNumber): Outcome<undefined> {
    return this.move(deviceId, this.books.domains.get(domain) ?? noDomain(domain), attachDevice)
  }

  /** Attaches a device with a single change of its entry: there is no moment in which it is blocked. */
  replace(deviceId: number, domain: DomainNumber): Outcome<undefined> {
    return this.move(deviceId, this.books.domains.get(domain) ?? noDomain(domain), moveDevice)
  }

  /** Blocks a device. */
  detach(deviceId: number): Outcome<undefined> {
    return this.move(deviceId, blocked, attachDevice)
  }

  /** Maps `length` bytes from `from` in a domain to `to`, with the largest pages possible. */
  map(domain: DomainNumber, from: Iova, to: Spa, length: bigint, rights: Rights): Outcome<undefined> {
    const table = this.tableDomain(domain)
    if ('ok' in table) return table
    return this.attempt((books, plan) =>
      mapInto(books, plan, this.tableIn(books, domain), { from, to, length, rights }),
    )
  }

  /** Unmaps; returns the bytes that were mapped. */
  unmap(domain: DomainNumber, from: Iova, length: bigint): Outcome<bigint> {
    const table = this.tableDomain(domain)
    if ('ok' in table) return table
    return this.attempt((books, plan) => unmapFrom(books, plan, this.tableIn(books, domain), from, length))
  }

  /** Where an address of a domain leads, as its table stands in memory. */
  translate(domain: DomainNumber, address: Iova): bigint | undefined {
    const table = this.tableDomain(domain)
    return 'ok' in table ? undefined : lookUpIn(this.books, new Plan(this.place.memory), table, address)
  }

  /** A vIOMMU on a nest parent. */
  createViommu(parent: DomainNumber): Outcome<number> {
    return settle(createViommu(this.books, parent), [])
  }

  destroyViommu(viommu: number): Outcome<undefined> {
    return settle(destroyViommu(this.books, viommu), [])
  }

  /** Carries a guest's INVALIDATE_IOMMU_PAGES commands out, two quad-words each, and waits. */
  invalidateForGuest(
    viommu: number,
    commands: readonly (readonly [bigint, bigint])[],
  ): Outcome<GuestInvalidation> {
    const plan = this.joint ?? new Plan(this.place.memory)
    const effects = this.joint === undefined ? plan.effects : []
    return settle(invalidateForGuest(this.books, plan, viommu, commands), effects)
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
          this.storeOwn(effect.address + BigInt(i * effect.strideBytes), effect.word)
        }
        return true
      case 'register':
        this.port(effect.iommu).writeMmio(effect.offset, 8, effect.value)
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

  /** The same driver on a fork of its machine. */
  fork(place: DriverPlace): Driver {
    return new Driver(
      place,
      this.rings.map((ring) => ring.fork()),
      forkBooks(this.books),
    )
  }

  /** What the future depends on besides memory and chip, as plain data in a fixed order. */
  snapshot(): unknown {
    return [snapshotBooks(this.books), this.rings.map((ring) => ring.snapshot())]
  }

  /** Runs an operation on a copy of the books, and keeps the copy if it was accepted: a refusal changes nothing. */
  private attempt<T>(operation: (books: Books, plan: Plan) => T | Refusal): Outcome<T> {
    if (this.joint !== undefined) return settle(operation(this.books, this.joint), [])
    const books = forkBooks(this.books)
    const plan = new Plan(this.place.memory)
    const outcome = settle(operation(books, plan), plan.effects)
    if (outcome.ok) this.books = books
    return outcome
  }

  private move(deviceId: number, domain: Domain | Refusal, how: typeof moveDevice): Outcome<undefined> {
    if ('ok' in domain) return domain
    const device = this.books.devices.get(deviceId)
    if (device === undefined) return refuse('ENODEV', 'no-such-device', `device ${deviceId} is not known`)
    if (isSameDomain(device.domain, domain)) return accept(undefined)
    return this.attempt((books, plan) => how(books, plan, device, domain))
  }

  private tableDomain(number: DomainNumber): TableDomain | Refusal {
    const domain = this.books.domains.get(number)
    if (domain === undefined) return noDomain(number)
    if (domain.kind === 'host-table' || domain.kind === 'guest-table') return domain
    return refuse('EINVAL', 'no-own-table', `domain ${number} is ${domain.kind}: it has no table to map into`)
  }

  private tableIn(books: Books, number: DomainNumber): TableDomain {
    const domain = books.domains.get(number)
    if (domain?.kind === 'host-table' || domain?.kind === 'guest-table') return domain
    throw new InternalError(`domain ${number} changed its kind`)
  }

  private port(iommu: number): IommuPort {
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
    if (!store64(this.place.memory, address, word)) {
      throw new RangeError(`the driver was given pages without memory, at 0x${address.toString(16)}`)
    }
  }
}

const noDomain = (number: DomainNumber): Refusal =>
  refuse('ENOENT', 'no-such-domain', `there is no domain ${number}`)

const isRefusal = (value: unknown): value is Refusal =>
  typeof value === 'object' && value !== null && 'ok' in value && value.ok === false

/** A value or a refusal, as an outcome. */
function settle<T>(result: T | Refusal, effects: readonly Effect[]): Outcome<T> {
  return isRefusal(result) ? result : accept(result, effects)
}

function hostLevelsOf(port: IommuPort): number {
  const { hats } = decodeEfr(port.readMmio(registers.efr.offset, 8))
  return hats === 3 ? 0 : 4 + hats
}

function canNest(port: IommuPort): boolean {
  const efr = decodeEfr(port.readMmio(registers.efr.offset, 8))
  return efr.gtSup && efr.gIoSup && decodeEfr2(port.readMmio(registers.efr2.offset, 8)).gcr3TrpModeSup
}
