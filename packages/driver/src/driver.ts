/**
 * The driver: what a kernel does with the AMD IOMMUs that it finds.
 *
 * It sees ports and memory and nothing else, so the same code is the host's driver on the chip and a guest's on its
 * virtual IOMMU. Each operation brings the books up to date and returns the effects that make it so; whoever runs them
 * decides what happens between two of them.
 *
 * @packageDocumentation
 */
import type { Spa } from '@nestwalk/bits'
import { decodeEfr, decodeEfr2, registers } from '@nestwalk/hardware'
import type { FeatureRegisters, IommuPort } from '@nestwalk/hardware'
import { attachDevice, isOn, moveDevice } from './attach.js'
import { bringUp } from './bring-up.js'
import { forkBooks, hasGap, isAttached } from './books.js'
import type { Books } from './books.js'
import { foundDevice } from './device.js'
import type { Device, DeviceTraits } from './device.js'
import { blocked } from './domain.js'
import type { Domain, DomainNumber, IdentityDomain, NumberedDomain } from './domain.js'
import { enterDomain, removeDomain } from './domain-entry.js'
import { DomainIdAllocator } from './domain-id.js'
import { noDomain, settle } from './driver-state.js'
import type { DriverPlace } from './driver-state.js'
import { mergeEqualTables } from './gcr3-sharing.js'
import type { Gcr3Table } from './gcr3-table.js'
import { invalidateForGuest } from './guest-invalidation.js'
import type { GuestInvalidation } from './guest-invalidation.js'
import { attachGroup, membersOf, membersState } from './group.js'
import type { GroupMember } from './group.js'
import {
  allocateGuestTable,
  allocateHostTable,
  allocateProcess,
  freeTable,
  whyNoGuestTable,
} from './mapping.js'
import {
  allocateNested,
  checkGuestEntry,
  createViommu,
  destroyViommu,
  forgetName,
  freeNested,
  nameDevice,
} from './nesting.js'
import type { Mutant } from './mutant.js'
import { accept, refuse } from './outcome.js'
import type { Outcome, Refusal } from './outcome.js'
import { PageAllocator } from './page-allocator.js'
import type { PageRange } from './page-allocator.js'
import { Plan } from './plan.js'
import { perHostTable } from './policies/per-host-table.js'
import type { DomainIdPolicy } from './policy.js'
import { attachPasid, detachPasid } from './process-binding.js'
import { beginReset, endReset, unplug } from './reset.js'
import { TableOperations } from './table-operations.js'
import { TagTable } from './tag-table.js'
import type { Tag } from './tag-table.js'

/** What a driver is made with. */
export interface DriverOptions extends DriverPlace {
  /** Memory for the driver's own tables and rings. */
  readonly pages: PageRange
  /** Default: the DomainID belongs to the domain. */
  readonly policy?: DomainIdPolicy
  /** Highest DeviceID of the segment. Default 0xffff. */
  readonly lastDeviceId?: number
  /** Highest DomainID to hand out. Default 0xffff. */
  readonly lastDomainId?: number
  /** NpCache of the IOMMUs' PCI capabilities: absent entries may be cached. Default: no. */
  readonly npCache?: boolean
  /** Mistakes to make. Default: none. */
  readonly mutants?: ReadonlySet<Mutant>
}

/** See the file's comment. */
export class Driver extends TableOperations {
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
      dirtyIommus: new Set(ports.flatMap((port, iommu) => (canMarkWrites(port) ? [iommu] : []))),
      npCache: options.npCache ?? false,
      mutants: options.mutants ?? new Set(),
      hostLevels: Math.min(...ports.map(hostLevelsOf)),
      guestLevels: ports.every(hasFiveLevels) ? 5 : 4,
      devices: new Map(),
      domains: new Map(),
      viommus: new Map(),
      tags: TagTable.create(),
      ids: DomainIdAllocator.create(options.lastDomainId),
      deferred: new Map(),
      pages,
      nextDomain: 1,
      nextViommu: 1,
      gcr3Tables: new Map(),
      nextGcr3: 1,
    }
    return accept(new Driver(options, up.rings, books), plan.effects)
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

  /** Makes a device known. It is blocked until it is attached. */
  probe(deviceId: number, group: number, iommu = 0, traits: Partial<DeviceTraits> = {}): Outcome<undefined> {
    if (this.books.devices.has(deviceId))
      return refuse('EEXIST', 'device-known', `device ${deviceId} is known already`)
    if (this.place.ports[iommu] === undefined)
      return refuse('ENODEV', 'no-such-iommu', `there is no IOMMU ${iommu}`)
    const beyond = [deviceId, ...(traits.aliases ?? [])].find((id) => id > this.books.lastDeviceId)
    if (beyond !== undefined)
      return refuse('ENODEV', 'no-device-table-entry', `the device table has no entry for device ${beyond}`)
    const device = foundDevice({ deviceId, group, iommu }, traits, blocked)
    return this.attempt((books, plan) => {
      books.devices.set(deviceId, device)
      return moveDevice(books, plan, device, blocked)
    })
  }

  /** Forgets a device that has gone; it is blocked first, with whatever it was on. */
  unplug(deviceId: number): Outcome<undefined> {
    return this.withDevice(deviceId, unplug)
  }

  /** Blocks a device for the time of its reset. EBUSY for whoever wants to move it meanwhile. */
  beginReset(deviceId: number): Outcome<undefined> {
    return this.withDevice(deviceId, beginReset)
  }

  /** Puts a device back on what it was on before its reset. */
  endReset(deviceId: number): Outcome<undefined> {
    return this.withDevice(deviceId, endReset)
  }

  device(deviceId: number): Device | undefined {
    return this.books.devices.get(deviceId)
  }

  /** The known devices of an IOMMU group, by DeviceID. */
  groupMembers(group: number): Device[] {
    return membersOf(this.books, group)
  }

  /** Where the members of a group stand: each on its own, or all on one tag. */
  groupState(group: number): GroupMember[] {
    return membersState(this.books, group)
  }

  /** The GCR3 tables that the host owns. */
  get gcr3Tables(): readonly Gcr3Table[] {
    return [...this.books.gcr3Tables.values()]
  }

  domain(number: DomainNumber): NumberedDomain | undefined {
    return this.books.domains.get(number)
  }

  /** A domain in which addresses are physical addresses. */
  allocateIdentity(): Outcome<DomainNumber> {
    return this.attempt((books) => {
      const domain: IdentityDomain = { kind: 'identity', number: books.nextDomain }
      return enterDomain(books, domain)
    })
  }

  /**
   * A domain with a host (v1) table. EOPNOTSUPP for a nest parent without the features that nesting needs, and for dirty
   * tracking where the IOMMU of the device that it is for cannot mark what is written.
   */
  allocateHostTable(
    options: {
      readonly nestParent?: boolean
      readonly dirtyTracking?: boolean
      readonly iommu?: number
    } = {},
  ): Outcome<DomainNumber> {
    const { nestParent = false, dirtyTracking: canTrackDirty = false, iommu = 0 } = options
    if (this.books.hostLevels === 0) {
      return refuse('EOPNOTSUPP', 'host-tables-unsupported', 'an IOMMU has no host tables (EFR.HATS is 3)')
    }
    if (nestParent && !this.place.ports.every(canNest)) {
      return refuse('EOPNOTSUPP', 'nesting-unsupported', 'an IOMMU lacks GTSup, GIoSup or GCR3TRPModeSup')
    }
    if (canTrackDirty && !this.books.dirtyIommus.has(iommu)) {
      return refuse('EOPNOTSUPP', 'dirty-tracking-unsupported', `IOMMU ${iommu} lacks HASup or HDSup`)
    }
    return this.attempt((books, plan) => allocateHostTable(books, plan, { nestParent, canTrackDirty }))
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
    if (sameIdAs !== undefined && this.books.policy.keyOfGcr3Table === undefined) {
      return refuse('EOPNOTSUPP', 'same-id-unsupported', 'GCR3 tables have DomainIDs of their own here')
    }
    // The other one may carry a third one's ID itself.
    const owner = other?.kind === 'guest-table' ? (other.sameIdAs ?? other.number) : undefined
    const refused = whyNoGuestTable(this.port(0), levels)
    if (refused !== undefined) return refused
    return this.attempt((books, plan) => allocateGuestTable(books, plan, levels, owner))
  }

  /** A process: a table in guest format that devices use with a PASID. */
  allocateProcess(): Outcome<DomainNumber> {
    const refused = whyNoGuestTable(this.port(0), this.books.guestLevels)
    if (refused !== undefined) return refused
    return this.attempt((books, plan) => allocateProcess(books, plan, books.guestLevels))
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
    return this.move(deviceId, this.attachable(domain), attachDevice)
  }

  /** Attaches a device with a single change of its entry: there is no moment in which it is blocked. */
  replace(deviceId: number, domain: DomainNumber): Outcome<undefined> {
    return this.move(deviceId, this.attachable(domain), moveDevice)
  }

  /** Blocks a device. */
  detach(deviceId: number): Outcome<undefined> {
    return this.move(deviceId, blocked, attachDevice)
  }

  /** Attaches all members of a group, one after the other. */
  attachGroup(group: number, domain: DomainNumber): Outcome<undefined> {
    const found = this.attachable(domain)
    if ('ok' in found) return found
    return this.attempt((books, plan) => attachGroup(books, plan, group, found))
  }

  /** Puts a process behind a PASID of some devices. */
  attachPasid(deviceIds: readonly number[], pasid: number, process: DomainNumber): Outcome<undefined> {
    return this.attempt((books, plan) => attachPasid(books, plan, deviceIds, pasid, process))
  }

  /** Takes the process behind a PASID away from some devices. */
  detachPasid(deviceIds: readonly number[], pasid: number): Outcome<undefined> {
    return this.attempt((books, plan) => detachPasid(books, plan, deviceIds, pasid))
  }

  /** Makes one of GCR3 tables that have become equal, where the policy leaves that to whoever asks. */
  mergeTables(): Outcome<undefined> {
    return this.attempt((books, plan) => {
      mergeEqualTables(books, plan)
      return undefined
    })
  }

  /** A vIOMMU on a nest parent, for devices behind one IOMMU. */
  createViommu(parent: DomainNumber, iommu = 0): Outcome<number> {
    if (this.place.ports[iommu] === undefined)
      return refuse('ENODEV', 'no-such-iommu', `there is no IOMMU ${iommu}`)
    return settle(createViommu(this.books, parent, iommu), [])
  }

  destroyViommu(viommu: number): Outcome<undefined> {
    return settle(destroyViommu(this.books, viommu), [])
  }

  /** Tells which device of the host the guest of a vIOMMU means by a DeviceID. */
  nameDevice(viommu: number, virtualId: number, deviceId: number): Outcome<undefined> {
    return settle(nameDevice(this.books, viommu, virtualId, deviceId), [])
  }

  /** Takes the meaning of a virtual DeviceID away. */
  forgetName(viommu: number, virtualId: number): Outcome<undefined> {
    return settle(forgetName(this.books, viommu, virtualId), [])
  }

  /** Carries a guest's invalidations of pages and of device TLBs out, two quad-words each, and waits. */
  invalidateForGuest(
    viommu: number,
    commands: readonly (readonly [bigint, bigint])[],
  ): Outcome<GuestInvalidation> {
    return this.attempt((books, plan) => invalidateForGuest(books, plan, viommu, commands))
  }

  /** The same driver on a fork of its machine. */
  fork(place: DriverPlace): Driver {
    return new Driver(
      place,
      this.rings.map((ring) => ring.fork()),
      forkBooks(this.books),
    )
  }

  private move(deviceId: number, domain: Domain | Refusal, how: typeof moveDevice): Outcome<undefined> {
    if ('ok' in domain) return domain
    return this.withDevice(deviceId, (books, plan, device) => {
      if (isOn(books, device, domain)) return undefined
      return whyNoMove(books, device) ?? how(books, plan, device, domain)
    })
  }

  private withDevice(
    deviceId: number,
    operation: (books: Books, plan: Plan, device: Device) => Refusal | undefined,
  ): Outcome<undefined> {
    const device = this.books.devices.get(deviceId)
    if (device === undefined) return refuse('ENODEV', 'no-such-device', `device ${deviceId} is not known`)
    return this.attempt((books, plan) => operation(books, plan, device))
  }

  private attachable(number: DomainNumber): Domain | Refusal {
    const domain = this.books.domains.get(number)
    if (domain === undefined) return noDomain(number)
    if (domain.kind !== 'process') return domain
    return refuse('EINVAL', 'pasid-required', `domain ${number} is a process: it is attached to a PASID`)
  }
}

/** Why a device stays where it is. */
function whyNoMove(books: Books, device: Device): Refusal | undefined {
  const isParked = ({ parked }: Device): boolean => parked !== undefined
  const asked = hasGap(books, 'U16') ? membersOf(books, device.group) : [device]
  if (asked.some(isParked)) {
    return refuse('EBUSY', 'member-in-reset', `device ${device.deviceId} or its group is being reset`)
  }
  if (device.processes.size === 0) return undefined
  return refuse('EBUSY', 'pasids-attached', 'a process is attached to a PASID of the device: detach it first')
}

function hostLevelsOf(port: IommuPort): number {
  const { hats } = decodeEfr(port.readMmio(registers.efr.offset, 8))
  return hats === 3 ? 0 : 4 + hats
}

function canMarkWrites(port: IommuPort): boolean {
  const { haSup, hdSup } = decodeEfr(port.readMmio(registers.efr.offset, 8))
  return haSup && hdSup
}

const hasFiveLevels = (port: IommuPort): boolean =>
  decodeEfr(port.readMmio(registers.efr.offset, 8)).gats === 1

function canNest(port: IommuPort): boolean {
  const efr = decodeEfr(port.readMmio(registers.efr.offset, 8))
  return efr.gtSup && efr.gIoSup && decodeEfr2(port.readMmio(registers.efr2.offset, 8)).gcr3TrpModeSup
}
