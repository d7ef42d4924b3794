/**
 * Domains: what a device can be attached to.
 *
 * @packageDocumentation
 */
import type { Spa } from '@nestwalk/bits'
import type { DomainId } from '@nestwalk/hardware'

/** Number of a domain within one driver, from 1; handed out ascending and never again. */
export type DomainNumber = number

/** Nothing may pass. */
export interface BlockedDomain {
  readonly kind: 'blocked'
}

/** Everything passes: an address is a physical address. */
export interface IdentityDomain {
  readonly kind: 'identity'
  readonly number: DomainNumber
}

/** A host (v1) table that the driver owns. */
export interface HostTableDomain {
  readonly kind: 'host-table'
  readonly number: DomainNumber
  /** Whether nested domains may be built on it. */
  readonly nestParent: boolean
  /** Top table, and its level: DTE.Mode. Both change when the table grows. */
  root: Spa
  mode: number
  /** Whether it was allocated for dirty tracking; every IOMMU that its devices are behind can do that then. */
  readonly canTrackDirty: boolean
  /** Whether hardware marks what is written: DTE.HAD. */
  dirtyTracking: boolean
}

/** A guest-format (v2) table that the driver owns, for requests without PASID: the GCR3 tables' entry of PASID 0. */
export interface GuestTableDomain {
  readonly kind: 'guest-table'
  readonly number: DomainNumber
  /** Top table. */
  readonly root: Spa
  /** 4 or 5. */
  readonly levels: number
  /** A domain whose DomainID this one carries too. Sound only if both translate alike: a mistake to be studied. */
  readonly sameIdAs: DomainNumber | undefined
}

/** A process: its page table, in guest format, for requests with a PASID that is bound to it. */
export interface ProcessDomain {
  readonly kind: 'process'
  readonly number: DomainNumber
  readonly root: Spa
  /** 4 or 5. */
  readonly levels: number
}

/** A guest's device table entry on top of a nest parent. */
export interface NestedDomain {
  readonly kind: 'nested'
  readonly number: DomainNumber
  readonly parent: DomainNumber
  readonly viommu: number
  /** The entry as the guest wrote it, lowest quad-word first. */
  readonly guestEntry: readonly bigint[]
  readonly guestDomainId: DomainId
}

/** What a device as a whole can be on; a process it can be on with a PASID only. */
export type Domain = BlockedDomain | IdentityDomain | HostTableDomain | GuestTableDomain | NestedDomain

/** What has a number. */
export type NumberedDomain = Exclude<Domain, BlockedDomain> | ProcessDomain

/** What has a table to map into. */
export type TableDomain = HostTableDomain | GuestTableDomain | ProcessDomain

export const blocked: BlockedDomain = { kind: 'blocked' }

/** Whether two domains are the same one. */
export const isSameDomain = (a: Domain, b: Domain): boolean =>
  a.kind === 'blocked' || b.kind === 'blocked' ? a.kind === b.kind : a.number === b.number
