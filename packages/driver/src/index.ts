/**
 * What a kernel decides about AMD IOMMUs: domains, device table entries, DomainIDs, page tables, invalidations.
 *
 * @packageDocumentation
 */
export type { KnownIommu } from './bring-up.js'
export type { ConfigurationSpace } from './configuration-space.js'
export type { SystemDefault } from './default-domain.js'
export type { DiscoveryFinding, FoundIommu, IommuAccess, LinkFlags } from './discovery.js'
export type { Abilities } from './feature-negotiation.js'
export type { AfterShutdown } from './shutdown.js'
export type { Device, DeviceFeature, DeviceTraits, Parked } from './device.js'
export type {
  BlockedDomain,
  Domain,
  DomainNumber,
  GuestTableDomain,
  HostTableDomain,
  IdentityDomain,
  NestedDomain,
  NumberedDomain,
  ProcessDomain,
  TableDomain,
} from './domain.js'
export type { DomainIdRules } from './domain-id.js'
export { Driver } from './driver.js'
export type { DriverOptions } from './boot.js'
export type { DriverPlace } from './driver-state.js'
export type {
  CommandEffect,
  ConfigurationEffect,
  Effect,
  FeatureEffect,
  FillEffect,
  RegisterEffect,
  StoreEffect,
  WaitEffect,
} from './effect.js'
export type { TakenEvent, TakenEvents } from './event.js'
export type { PageResponse } from './fault-operations.js'
export type { Recipient } from './fault-recipient.js'
export { allGaps, allGapsBut, gaps, noGaps } from './gap.js'
export type { Gap } from './gap.js'
export type { Gcr3Content, Gcr3Shape, Gcr3Table } from './gcr3-table.js'
export type { GroupMember, MemberState } from './group.js'
export { everything, exactBlocks, rangeFields, rangeOf } from './invalidation-range.js'
export type { AddressRange, RangeFields } from './invalidation-range.js'
export type { GuestInvalidation } from './guest-invalidation.js'
export type { GuestQueue, GuestQueueRun, GuestQueueStop } from './guest-queue.js'
export { mutants } from './mutant.js'
export type { Mutant } from './mutant.js'
export { accept, InternalError, refuse } from './outcome.js'
export type { Accepted, Errno, Outcome, Refusal } from './outcome.js'
export type { LogEntry } from './log-reader.js'
export type { PageRange } from './page-allocator.js'
export { requestsPerDevice } from './page-request.js'
export type { PendingGroup, RequestGroup, TakenPageRequest, TakenPageRequests } from './page-request.js'
export { findPolicy, policies } from './policies/all.js'
export { convergingGcr3, convergingMap } from './policies/converging.js'
export { perDevice, perDeviceFanOut } from './policies/per-device.js'
export { perGroup } from './policies/per-group.js'
export { perHostTable } from './policies/per-host-table.js'
export { perNestedDomain } from './policies/per-nested-domain.js'
export { sharedGcr3 } from './policies/shared-gcr3.js'
export { viommuMap, viommuMapLinux73 } from './policies/viommu-map.js'
export type { DomainIdPolicy, TaggedDevice, TaggedDomain } from './policy.js'
export { runEffects } from './run-effects.js'
export { guestFormat, hostFormat } from './table-format.js'
export type { Rights, TableEntry, TableFormat } from './table-format.js'
export type { Tag } from './tag-table.js'
export type { UnityMap } from './unity-map.js'
