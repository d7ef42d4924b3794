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
import { registers } from '@nestwalk/hardware'
import type { FeatureRegisters } from '@nestwalk/hardware'
import { boot } from './boot.js'
import type { DriverOptions } from './boot.js'
import type { KnownIommu } from './bring-up.js'
import { forkBooks, isAttached } from './books.js'
import { isDefaultDomain } from './default-domain.js'
import type { DiscoveryFinding } from './discovery.js'
import type { DomainNumber, IdentityDomain, NumberedDomain } from './domain.js'
import { enterDomain, removeDomain } from './domain-entry.js'
import { noDomain } from './driver-state.js'
import type { DriverPlace } from './driver-state.js'
import { FaultOperations } from './fault-operations.js'
import type { Abilities } from './feature-negotiation.js'
import { mergeEqualTables } from './gcr3-sharing.js'
import type { Gcr3Table } from './gcr3-table.js'
import {
  allocateGuestTable,
  allocateHostTable,
  allocateProcess,
  freeTable,
  whyNoGuestTable,
} from './mapping.js'
import { freeNested } from './nesting.js'
import { accept, refuse } from './outcome.js'
import type { Outcome } from './outcome.js'
import { Plan } from './plan.js'
import type { DomainIdPolicy } from './policy.js'
import { shutDown } from './shutdown.js'
import type { AfterShutdown } from './shutdown.js'
import type { Tag } from './tag-table.js'

/** See the file's comment. */
export class Driver extends FaultOperations {
  /**
   * Finds the IOMMUs and plans their bring-up; nothing is on until the effects have been carried out.
   *
   * ENOMEM if the pages do not suffice for device table, rings and logs; ENODEV or EINVAL if the IVRS table does not serve.
   */
  static create(options: DriverOptions): Outcome<Driver> {
    const plan = new Plan(options.memory)
    const booted = boot(options, plan)
    if ('ok' in booted) return booted
    return accept(new Driver(options, booted.rings, booted.books), plan.effects)
  }

  get policy(): DomainIdPolicy {
    return this.books.policy
  }

  /** Address of the device table. */
  get deviceTable(): Spa {
    return this.books.deviceTable
  }

  /** The IOMMUs, in order: what they are, and where their rings and logs lie. */
  get iommus(): readonly KnownIommu[] {
    return this.books.iommus
  }

  /** What the IOMMUs can do together. */
  get abilities(): Abilities {
    return this.books
  }

  /** Where firmware and the hardware do not agree. */
  get findings(): readonly DiscoveryFinding[] {
    return this.books.firmware.findings
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

  /** The GCR3 tables that the host owns. */
  get gcr3Tables(): readonly Gcr3Table[] {
    return [...this.books.gcr3Tables.values()]
  }

  domain(number: DomainNumber): NumberedDomain | undefined {
    return this.books.domains.get(number)
  }

  /** A domain in which addresses are physical addresses. */
  allocateIdentity(): Outcome<DomainNumber> {
    return this.attempt((books, plan) => {
      const domain: IdentityDomain = { kind: 'identity', number: books.nextDomain }
      return enterDomain(books, plan, domain)
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
    if (nestParent && !this.books.nesting) {
      return refuse('EOPNOTSUPP', 'nesting-unsupported', 'an IOMMU lacks GTSup, GIoSup or GCR3TRPModeSup')
    }
    if (canTrackDirty && !this.books.dirtyIommus.has(iommu)) {
      return refuse('EOPNOTSUPP', 'dirty-tracking-unsupported', `IOMMU ${iommu} lacks HASup or HDSup`)
    }
    return this.attempt((books, plan) => allocateHostTable(books, plan, { nestParent, canTrackDirty }))
  }

  /** A domain with a guest-format (v2) table for requests without PASID, of as many levels as all IOMMUs can walk. */
  allocateGuestTable(
    options: { readonly levels?: 4 | 5; readonly sameIdAs?: DomainNumber } = {},
  ): Outcome<DomainNumber> {
    const { levels = this.books.guestLevels, sameIdAs } = options
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

  /** Frees a domain. EBUSY while something is attached to it or built on it. */
  freeDomain(number: DomainNumber): Outcome<undefined> {
    return this.attempt((books, plan) => {
      const domain = books.domains.get(number)
      if (domain === undefined) return noDomain(number)
      if (isDefaultDomain(books, number)) {
        return refuse('EBUSY', 'default-domain', `domain ${number} is the default domain of a group`)
      }
      if (domain.kind === 'nested') return freeNested(books, plan, domain)
      if (domain.kind !== 'identity') return freeTable(books, plan, domain)
      if (isAttached(books, number)) return refuse('EBUSY', 'domain-in-use', `domain ${number} is in use`)
      removeDomain(books, plan, domain)
      return undefined
    })
  }

  /** Makes one of GCR3 tables that have become equal, where the policy leaves that to whoever asks. */
  mergeTables(): Outcome<undefined> {
    return this.attempt((books, plan) => {
      mergeEqualTables(books, plan)
      return undefined
    })
  }

  /**
   * Blocks every device and gives the IOMMUs up, which go on refusing all requests, or forward all of them.
   *
   * Afterwards commands are no longer carried out: the driver has come to its end.
   */
  shutDown(after: AfterShutdown = 'refused'): Outcome<undefined> {
    return this.attempt((books, plan) => {
      shutDown(books, plan, this.place.ports, after)
      return undefined
    })
  }

  /** The same driver on a fork of its machine. */
  fork(place: DriverPlace): Driver {
    return new Driver(
      place,
      this.rings.map((ring) => ring.fork()),
      forkBooks(this.books),
    )
  }
}
