/**
 * What iommufd asks of an IOMMU's driver: the kernel's `iommu_ops`, `iommu_domain_ops` and `iommufd_viommu_ops`.
 *
 * Two stand behind it: the AMD driver of this repository and the mock driver of the kernel's selftests.
 *
 * @packageDocumentation
 */
import type { Outcome, Refusal } from './outcome.js'

/** Number of a domain in its backend. */
export type DomainNumber = number

/** An inclusive range of addresses. */
export interface AddressRange {
  readonly first: bigint
  readonly last: bigint
}

export interface BackendDevice {
  readonly deviceId: number
  readonly group: number
  /** Index of the IOMMU that it is behind. */
  readonly iommu: number
  /** How many PASIDs are enabled, 0 for none. */
  readonly pasids: number
  readonly canTrackDirty: boolean
  readonly enforcesCoherency: boolean
  readonly hasAts: boolean
  readonly canExecutePasid: boolean
  readonly hasPrivilegedPasid: boolean
  /** A PCI virtual function with page requests: no HWPT with a fault queue may be attached. */
  readonly isVirtualFunctionWithPri: boolean
  /** Addresses that no IOAS may map while it is attached. */
  readonly reserved: readonly AddressRange[]
}

/** A domain with a table of its own. */
export interface PagingDomain {
  readonly number: DomainNumber
  /** Addresses that the table can map. */
  readonly aperture: AddressRange
  /** Bit n: pages of 2^n bytes. */
  readonly pageSizes: bigint
  readonly canTrackDirty: boolean
  readonly enforcesCoherency: boolean
}

/** Driver data of a call: `iommu_user_data`. */
export interface UserData {
  /** 0: none was given. */
  readonly type: number
  /** Bytes that the caller gave; 0 with none. */
  readonly length: number
  /**
   * As `iommu_copy_struct_from_user`: EINVAL for another type or for a length outside `min..known`, EFAULT where the
   * memory is not there. Missing bytes are zero: the result has `known` bytes.
   */
  copyIn(type: number, min: number, known: number): Uint8Array | Refusal
  /** Copies bytes back to where the structure was: as many as the caller gave room for. EFAULT. */
  copyOut(bytes: Uint8Array): Refusal | undefined
}

/** Invalidation requests of a call: `iommu_user_data_array`. */
export interface UserDataArray {
  readonly type: number
  readonly entryLength: number
  readonly count: number
  /** As `iommu_copy_struct_from_user_array`: one entry. EINVAL for type or length (min..known), EFAULT. */
  copyEntry(type: number, index: number, min: number, known: number): Uint8Array | Refusal
  /** As `iommu_copy_struct_from_full_user_array`: all or none; EINVAL for type or no entries, E2BIG, EFAULT. */
  copyAll(type: number, known: number): readonly Uint8Array[] | Refusal
}

/** What became of an array of requests: how many took effect, and what the one after them broke. */
export interface Invalidated {
  readonly handled: number
  readonly refused?: Refusal
}

/** A piece of memory that the kernel shares with whoever maps it. */
export interface Region {
  readonly bytes: Uint8Array
}

/** A vIOMMU that a backend has made. */
export interface BackendViommu {
  readonly number: number
  /** What the driver offers to be mapped. `place` was given by {@link ViommuRequest.offerRegion}. */
  readonly region?: Region
}

export interface ViommuRequest {
  readonly device: BackendDevice
  readonly parent: DomainNumber
  readonly type: number
  readonly data: UserData
  /** Announces memory for mmap; returns the offset by which it is mapped. At most once for a vIOMMU. */
  readonly offerRegion: (region: Region) => bigint
}

export interface HwQueueRequest {
  readonly viommu: number
  readonly type: number
  readonly index: number
  /** Address in the nest parent. */
  readonly iova: bigint
  readonly length: bigint
  /** Where that is, in one piece. */
  readonly physical: bigint
}

/** An IOMMU driver. Numbers that are not known to it are a bug of the caller. */
export interface IommuBackend {
  readonly name: string
  device(deviceId: number): BackendDevice | undefined
  /** DeviceIDs of all members of a group. */
  groupMembers(group: number): readonly number[]
  /** A context takes a group over: its devices are blocked until they are attached. */
  claimGroup(group: number): Outcome<undefined>
  /** The group goes back to the kernel, and its devices to their default domain. */
  releaseGroup(group: number): Outcome<undefined>
  /** Guests own the PASID tables of nested domains: a fault with a PASID that nothing is attached to goes there. */
  readonly hasGuestPasidTables: boolean

  /** Runs several operations as one: all are done, or nothing has changed. The outcomes of inner ones have no effects. */
  transaction<T>(operations: () => T | Refusal): Outcome<T>

  /** GET_HW_INFO; type 0 is the driver's own. EOPNOTSUPP for a type that it does not have. */
  hwInfo(device: BackendDevice, type: number): Outcome<{ readonly type: number; readonly bytes: Uint8Array }>

  /** HWPT_ALLOC on an IOAS: a table of the driver's choice by the flags (`hwptFlags`). */
  allocatePaging(
    device: BackendDevice,
    request: { readonly flags: number; readonly data: UserData },
  ): Outcome<PagingDomain>
  /** Whether nested HWPTs are made on a nest parent; elsewhere nesting goes through a vIOMMU. */
  readonly nestsOnParent: boolean
  /** HWPT_ALLOC on a nest parent; asked only where that is the way. */
  allocateNestedOnParent(
    device: BackendDevice,
    parent: DomainNumber,
    request: { readonly flags: number; readonly data: UserData },
  ): Outcome<DomainNumber>
  /** HWPT_ALLOC on a vIOMMU. */
  allocateNestedOnViommu(
    viommu: number,
    request: { readonly flags: number; readonly data: UserData },
  ): Outcome<DomainNumber>
  freeDomain(domain: DomainNumber): Outcome<undefined>

  /** Maps one physically contiguous piece. `largestPage`: no page larger than that many bytes. */
  map(
    domain: DomainNumber,
    iova: bigint,
    physical: bigint,
    length: bigint,
    rights: { readonly read: boolean; readonly write: boolean },
    largestPage?: bigint,
  ): Outcome<undefined>
  /** Unmaps; returns the bytes that were mapped. */
  unmap(domain: DomainNumber, iova: bigint, length: bigint): Outcome<bigint>
  /** Physical address of a byte. */
  translate(domain: DomainNumber, iova: bigint): bigint | undefined
  /** First and last byte of the page (the table's entry) that holds an address. */
  pageAt(domain: DomainNumber, iova: bigint): AddressRange | undefined
  setDirtyTracking(domain: DomainNumber, isOn: boolean): Outcome<undefined>
  /** Whole pages in the range, or reaching into it, that were written, ascending. */
  readDirty(domain: DomainNumber, range: AddressRange, clears: boolean): Outcome<readonly AddressRange[]>

  /**
   * Puts devices on a domain, all or none. PASID 0: requests without PASID.
   *
   * @param from - what they are on now, if it is a domain of iommufd
   */
  attach(
    deviceIds: readonly number[],
    pasid: number,
    domain: DomainNumber,
    from: DomainNumber | undefined,
  ): Outcome<undefined>
  /** Blocks them. */
  detach(deviceIds: readonly number[], pasid: number): Outcome<undefined>

  /** Whether there are vIOMMUs of a type for a device. */
  hasViommu(device: BackendDevice, type: number): boolean
  createViommu(request: ViommuRequest): Outcome<BackendViommu>
  destroyViommu(viommu: number): Outcome<undefined>
  /** The memory that a vIOMMU offers: in a fork, the fork's own. */
  regionOf(viommu: number): Region | undefined
  /** VDEVICE_ALLOC: tells which device a virtual ID means. */
  addVdevice(viommu: number, device: BackendDevice, virtualId: bigint): Outcome<undefined>
  removeVdevice(viommu: number, device: BackendDevice, virtualId: bigint): Outcome<undefined>
  /** HWPT_INVALIDATE on a nested domain. EOPNOTSUPP where there is no such thing. */
  invalidateNested(domain: DomainNumber, array: UserDataArray): Outcome<Invalidated>
  /** HWPT_INVALIDATE on a vIOMMU. */
  invalidateViommu(viommu: number, array: UserDataArray): Outcome<Invalidated>
  /** Whether there are hardware queues of a type. */
  hasHwQueue(viommu: number, type: number): boolean
  /** Returns the index of the queue that must outlive this one, if any. */
  createHwQueue(request: HwQueueRequest): Outcome<{ readonly dependsOn?: number }>
  destroyHwQueue(viommu: number, index: number): Outcome<undefined>

  /** What the IOMMUs have reported since the last call, in order; the core delivers it. */
  takeReports(): Outcome<readonly Report[]>
  /** Answers a page request that was handed on. */
  respond(device: BackendDevice, response: PageResponse): Outcome<undefined>
}

/** What an IOMMU reports for user space. */
export type Report =
  | { readonly kind: 'fault'; readonly deviceId: number; readonly fault: PageFault }
  | {
      readonly kind: 'event'
      readonly viommu: number
      /** Type of the event queue that it is for. */
      readonly type: number
      readonly bytes: Uint8Array
    }

/** A page request of a device: one of a group, whose last one completes it. */
export interface PageFault {
  readonly pasid: number | undefined
  readonly group: number
  readonly isLast: boolean
  /** READ 1, WRITE 2, EXEC 4, PRIV 8. */
  readonly permissions: number
  readonly address: bigint
}

export interface PageResponse {
  readonly pasid: number | undefined
  readonly group: number
  readonly code: 'success' | 'invalid'
}
