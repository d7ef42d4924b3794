/**
 * HWPT_ALLOC: a domain with an IOAS in its table, or one with a guest's table on top of that.
 *
 * Linux drivers/iommu/iommufd/hw_pagetable.c.
 *
 * @packageDocumentation
 */
import type { BackendDevice, DomainNumber, PagingDomain, UserData } from '../backend.js'
import type { ContextState } from '../context-state.js'
import { kindNames } from '../object/object.js'
import type { BoundDevice, ObjectId, PagingHwpt, Viommu } from '../object/object.js'
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { noData } from '../user-data.js'
import { backendDevice } from './backend-device.js'
import { allHwptFlags, hwptFlags } from './hwpt-flags.js'

/** HWPT_ALLOC. */
export interface HwptRequest {
  readonly device: ObjectId
  /** An IOAS for a paging HWPT; a nest parent or a vIOMMU for a nested one. */
  readonly pageTable: ObjectId
  /** Of {@link hwptFlags}. */
  readonly flags?: number
  /** What the driver needs to know: the guest's device table entry, for a nested HWPT on AMD. */
  readonly data?: UserData
  /** The FAULT object that page requests go to; looked at with the flag `faultIdValid`. */
  readonly faultQueue?: ObjectId
}

/** Allocates. ENOENT for the device, but EINVAL for a page table that is missing. */
export function allocateHwpt(context: ContextState, request: HwptRequest): Outcome<ObjectId> {
  const { objects } = context
  const { data = noData } = request
  if (data.type === 0 ? data.length !== 0 : data.length === 0)
    return refuse('hwpt-data-length', `driver data of type ${data.type} has ${data.length} bytes`)
  const device = objects.need(request.device, 'device', 'no-such-device-object')
  if (isRefusal(device)) return device
  const table = objects.get(request.pageTable)
  if (table === undefined) return refuse('no-such-page-table', `there is no object ${request.pageTable}`)
  const full = objects.whyFull()
  if (full !== undefined) return full
  switch (table.kind) {
    case 'ioas':
      return allocatePaging(context, request, device)
    case 'paging-hwpt':
      return allocateOnParent(context, request, device, table)
    case 'viommu':
      return allocateOnViommu(context, request, device, table)
    default:
      return refuse('not-a-page-table', `object ${request.pageTable} is a ${kindNames[table.kind]}`)
  }
}

/** What a paging HWPT is made for. */
export interface PagingPurpose {
  readonly ioas: ObjectId
  readonly flags: number
  readonly data: UserData
}

/** A domain for an IOAS, still empty. To be called in a transaction of the backend. */
export function allocatePagingDomain(
  { kernel }: ContextState,
  device: BoundDevice,
  { flags, data }: PagingPurpose,
): Outcome<PagingDomain> {
  const on = backendDevice(kernel, device)
  if ((flags & ~allHwptFlags) !== 0)
    return refuse('hwpt-flags', `flags 0x${flags.toString(16)} are not known`)
  if ((flags & hwptFlags.dirtyTracking) !== 0 && !on.canTrackDirty)
    return refuse('dirty-tracking-device', `device ${on.deviceId} cannot track what it writes`)
  if ((flags & hwptFlags.faultIdValid) !== 0 && (flags & hwptFlags.nestParent) !== 0)
    return refuse('fault-on-nest-parent', 'a nest parent has no fault queue')
  return kernel.backend.allocatePaging(on, { flags: flags & ~hwptFlags.faultIdValid, data })
}

/** The object of a paging domain. */
export const pagingHwpt = (
  { ioas, flags }: PagingPurpose,
  domain: PagingDomain,
  rest: Pick<PagingHwpt, 'isAutomatic' | 'faultQueue'>,
): PagingHwpt => ({
  kind: 'paging-hwpt',
  users: 0,
  ioas,
  domain,
  isNestParent: (flags & hwptFlags.nestParent) !== 0,
  allowsPasid: (flags & hwptFlags.pasid) !== 0,
  ...rest,
})

function allocatePaging(context: ContextState, request: HwptRequest, device: BoundDevice): Outcome<ObjectId> {
  const { objects, kernel } = context
  const purpose = { ioas: request.pageTable, flags: request.flags ?? 0, data: request.data ?? noData }
  const { table } = objects.held(request.pageTable, 'ioas')
  const id = objects.nextId
  const made = kernel.backend.transaction<PagingDomain>(() => {
    const domain = allocatePagingDomain(context, device, purpose)
    if (!domain.ok) return domain
    const added = table.addDomain(kernel, domain.value, id)
    if (!added.ok) return added
    const missing = whyNoFaultQueue(context, request)
    if (missing === undefined) return domain.value
    table.removeDomain(kernel, domain.value.number, id)
    return missing
  })
  if (!made.ok) return made
  const hwpt = pagingHwpt(purpose, made.value, { isAutomatic: false, faultQueue: faultQueueOf(request) })
  return accept(objects.add(hwpt), made.effects)
}

function allocateOnParent(
  context: ContextState,
  request: HwptRequest,
  device: BoundDevice,
  parent: PagingHwpt,
): Outcome<ObjectId> {
  const { backend } = context.kernel
  const refused = whyNotNested(request)
  if (refused !== undefined) return refused
  if (!backend.nestsOnParent)
    return refuse(
      'nesting-through-viommu',
      `with the ${backend.name} driver a nested HWPT is made on a vIOMMU`,
    )
  if (parent.isAutomatic || !parent.isNestParent)
    return refuse('not-a-nest-parent', `HWPT ${request.pageTable} was not allocated as a nest parent`)
  const driverRequest = { flags: (request.flags ?? 0) & hwptFlags.pasid, data: request.data ?? noData }
  const on = backendDevice(context.kernel, device)
  return addNested(context, request, { parent: request.pageTable }, () =>
    backend.allocateNestedOnParent(on, parent.domain.number, driverRequest),
  )
}

function allocateOnViommu(
  context: ContextState,
  request: HwptRequest,
  device: BoundDevice,
  viommu: Viommu,
): Outcome<ObjectId> {
  const { backend } = context.kernel
  const on = backendDevice(context.kernel, device)
  if (on.iommu !== viommu.iommu) return behindOther(on, viommu)
  const refused = whyNotNested(request)
  if (refused !== undefined) return refused
  const driverRequest = { flags: (request.flags ?? 0) & hwptFlags.pasid, data: request.data ?? noData }
  return addNested(context, request, { viommu: request.pageTable }, () =>
    backend.allocateNestedOnViommu(viommu.number, driverRequest),
  )
}

/** A device is not behind the IOMMU that a vIOMMU stands for. */
export const behindOther = (device: BackendDevice, viommu: Viommu): Refusal =>
  refuse('other-iommu', `device ${device.deviceId} is behind IOMMU ${device.iommu}, not ${viommu.iommu}`)

function whyNotNested({ flags = 0, data = noData }: HwptRequest): Refusal | undefined {
  if ((flags & ~(hwptFlags.faultIdValid | hwptFlags.pasid)) !== 0)
    return refuse('nested-flags', `flags 0x${flags.toString(16)} are not for a nested HWPT`)
  if (data.length === 0) return refuse('nested-without-data', 'a nested HWPT needs driver data')
  return undefined
}

function addNested(
  context: ContextState,
  request: HwptRequest,
  on: { readonly viommu: ObjectId } | { readonly parent: ObjectId },
  allocate: () => Outcome<DomainNumber>,
): Outcome<ObjectId> {
  const made = allocateWithFaultQueue(context, request, allocate)
  if (!made.ok) return made
  const id = context.objects.add({
    kind: 'nested-hwpt',
    users: 0,
    on,
    domain: made.value,
    allowsPasid: ((request.flags ?? 0) & hwptFlags.pasid) !== 0,
    faultQueue: faultQueueOf(request),
  })
  return accept(id, made.effects)
}

/** The fault queue is looked up last, and its absence undoes the allocation. */
function allocateWithFaultQueue(
  context: ContextState,
  request: HwptRequest,
  allocate: () => Outcome<DomainNumber>,
): Outcome<DomainNumber> {
  const missing = whyNoFaultQueue(context, request)
  if (missing === undefined) return allocate()
  return context.kernel.backend.transaction<DomainNumber>(() => {
    const made = allocate()
    return made.ok ? missing : made
  })
}

function whyNoFaultQueue({ objects }: ContextState, request: HwptRequest): Refusal | undefined {
  const id = faultQueueOf(request)
  if (id === undefined) return undefined
  const found = objects.need(id, 'fault', 'no-such-fault-queue')
  return isRefusal(found) ? found : undefined
}

const faultQueueOf = ({ flags = 0, faultQueue = 0 }: HwptRequest): ObjectId | undefined =>
  (flags & hwptFlags.faultIdValid) === 0 ? undefined : faultQueue
