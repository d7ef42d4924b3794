/**
 * What a kernel decides about AMD IOMMUs: domains, device table entries, DomainIDs, page tables, invalidations.
 *
 * @packageDocumentation
 */
export type { Device } from './books.js'
export type {
  BlockedDomain,
  Domain,
  DomainNumber,
  GuestTableDomain,
  HostTableDomain,
  IdentityDomain,
  NestedDomain,
} from './domain.js'
export { Driver } from './driver.js'
export type { DriverOptions, DriverPlace } from './driver.js'
export type { CommandEffect, Effect, FillEffect, RegisterEffect, StoreEffect, WaitEffect } from './effect.js'
export { everything, rangeFields, rangeOf } from './invalidation-range.js'
export type { AddressRange, RangeFields } from './invalidation-range.js'
export type { GuestInvalidation } from './nesting.js'
export { accept, InternalError, refuse } from './outcome.js'
export type { Accepted, Errno, Outcome, Refusal } from './outcome.js'
export type { PageRange } from './page-allocator.js'
export { findPolicy, policies } from './policies/all.js'
export { perDevice, perDeviceFanOut } from './policies/per-device.js'
export { perGroup } from './policies/per-group.js'
export { perHostTable } from './policies/per-host-table.js'
export { viommuMap, viommuMapLinux73 } from './policies/viommu-map.js'
export type { DomainIdPolicy, TaggedDevice, TaggedDomain } from './policy.js'
export { runEffects } from './run-effects.js'
export { guestFormat, hostFormat } from './table-format.js'
export type { Rights, TableEntry, TableFormat } from './table-format.js'
export type { Tag } from './tag-table.js'
