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
}

/** A guest-format (v2) table that the driver owns, behind a GCR3 table of its own, for requests without PASID. */
export interface GuestTableDomain {
  readonly kind: 'guest-table'
  readonly number: DomainNumber
  readonly gcr3Root: Spa
  /** Top table. */
  readonly root: Spa
  /** 4 or 5. */
  readonly levels: number
  /** A domain whose DomainID this one carries too. Sound only if both translate alike: a mistake to be studied. */
  readonly sameIdAs: DomainNumber | undefined
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

export type Domain = BlockedDomain | IdentityDomain | HostTableDomain | GuestTableDomain | NestedDomain

export const blocked: BlockedDomain = { kind: 'blocked' }

/** Whether two domains are the same one. */
export const isSameDomain = (a: Domain, b: Domain): boolean =>
  a.kind === 'blocked' || b.kind === 'blocked' ? a.kind === b.kind : a.number === b.number
