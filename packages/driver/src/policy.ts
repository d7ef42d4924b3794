/**
 * The DomainID policy: who shares a tag in the IOTLB.
 *
 * The IOTLB files a translation under (DomainID, PASID, page) and not under the device, so this choice decides whether
 * one device is served another's translation (no merge), and whether one invalidation of a guest reaches all it must
 * (no split). Jason Gunthorpe, 11 Dec 2023, "Re: [PATCH v6 0/6] iommufd: Add nesting infrastructure (part 2/2)".
 *
 * @packageDocumentation
 */
import type { Gap } from './gap.js'

/** The domain that wants a tag. */
export interface TaggedDomain {
  /** Number of the domain whose table hardware walks last: its own, or its nest parent's. */
  readonly table: number
  /** What the guest asked for, if the domain is nested. */
  readonly guest: { readonly viommu: number; readonly domainId: number; readonly nested: number } | undefined
}

/** The device that wants to be attached. */
export interface TaggedDevice {
  readonly deviceId: number
  /** IOMMU group. */
  readonly group: number
}

/** See the file's comment. Equal keys mean equal DomainIDs, at any time. */
export interface DomainIdPolicy {
  /** The letter of the policy in tables. */
  readonly letter: string
  readonly name: string
  /** One line for people. */
  readonly summary: string
  /**
   * Key of a domain for all devices attached to it. The ID then lives as long as the domain. `undefined`: it depends on
   * the device, and lives as long as the attachment.
   */
  keyOfDomain(domain: TaggedDomain): string | undefined
  /** Key of one attachment; asked only when {@link keyOfDomain} has no answer. */
  keyOfAttachment(device: TaggedDevice, domain: TaggedDomain): string
  /**
   * Key of a GCR3 table of the host that has the domain behind PASID 0. Default: the table has a DomainID of its own.
   */
  keyOfGcr3Table?(domain: TaggedDomain): string
  /**
   * Where a guest's invalidation of one of its DomainIDs goes when several host IDs carry it: to the first of them, as
   * with one table slot for each guest DomainID, or to all.
   */
  readonly guestInvalidation: 'first' | 'all'
  /** What Linux 7.3 gets wrong and this policy gets wrong with it. Default: nothing. */
  readonly gaps?: ReadonlySet<Gap>
  /**
   * When GCR3 tables of the host that have become equal are made one: in the same operation, or when the driver is asked
   * to, so that a table that changes to and fro is not moved each time. Default: at once.
   */
  readonly merging?: 'at-once' | 'when-asked'
  /**
   * What becomes of devices that hardware cannot tell apart, for they share a DeviceID, when they are given different
   * domains: the last one decides for all, as Linux has it, or nothing may pass until they agree. Default: the last one.
   */
  readonly aliasConflict?: 'last-writer' | 'block'
}
