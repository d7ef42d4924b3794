/**
 * One open `/dev/iommu`: the calls of a VMM, as typed functions.
 *
 * Each returns the kernel's errno and the rule that was broken, or the result and the driver's effects, which must be
 * carried out before the next call. Linux drivers/iommu/iommufd, include/uapi/linux/iommufd.h. The same calls in binary
 * form are those of {@link IommuFile}.
 *
 * @packageDocumentation
 */
import type { AddressRange, Invalidated, PageFault, UserDataArray } from './backend.js'
import type { ContextState } from './context-state.js'
import { allocateHwpt } from './hwpt/allocate.js'
import type { HwptRequest } from './hwpt/allocate.js'
import { attach, detach, replace } from './hwpt/attach.js'
import { backendDevice } from './hwpt/backend-device.js'
import { bind, unbind } from './hwpt/bind.js'
import { readDirtyBitmap, setDirtyTracking } from './hwpt/dirty-bitmap.js'
import type { DirtyRequest } from './hwpt/dirty-bitmap.js'
import { invalidate } from './hwpt/invalidate.js'
import type { KernelState } from './kernel-state.js'
import { IoPagetable } from './io-pagetable/io-pagetable.js'
import type { Unmapped } from './io-pagetable/io-pagetable.js'
import { destroyAll, destroyObject } from './object/destroy.js'
import { ObjectTable } from './object/object-table.js'
import type { IommufdObject, ObjectId } from './object/object.js'
import { accept, isRefusal, refuse } from './outcome.js'
import type { Outcome } from './outcome.js'
import { answer, reportFault } from './queue/report-fault.js'
import { EventQueue, mostEvents } from './queue/event-queue.js'
import { FaultQueue } from './queue/fault-queue.js'
import type { ByteSource } from './user-data.js'
import { allocateVdevice, allocateViommu } from './viommu/allocate.js'
import type { ViommuAllocation } from './viommu/allocate.js'
import { allocateHwQueue } from './viommu/hw-queue.js'
import type { HwQueueAllocation } from './viommu/hw-queue.js'
import { Regions } from './viommu/regions.js'
import { copyMapping, flagsOfRights, mapMemory, unmapMemory, whyNoMapping } from './ioas/map.js'
import type { CopyRequest, MapRequest } from './ioas/map.js'

/** How pinned pages are charged: per user, or per process (`IOMMU_OPTION_RLIMIT_MODE`). */
export type AccountingMode = 'user' | 'mm'

/** See the file's comment. */
export class Context implements ContextState {
  /** How pages that are mapped from now on are charged. */
  accounting: AccountingMode = 'user'
  /** The IOAS that the calls of VFIO's type 1 act on. */
  compatibleIoas: ObjectId | undefined

  private constructor(
    readonly kernel: KernelState,
    readonly number: number,
    readonly objects: ObjectTable,
    readonly regions: Regions,
    readonly partialFaults: Map<ObjectId, readonly PageFault[]>,
  ) {}

  static create(kernel: KernelState, number: number): Context {
    return new Context(kernel, number, ObjectTable.create(), Regions.create(), new Map())
  }

  /** The object with a number. */
  object(id: ObjectId): IommufdObject | undefined {
    return this.objects.get(id)
  }

  /** How many objects there are. */
  get objectCount(): number {
    return this.objects.size
  }

  /** VFIO_DEVICE_BIND_IOMMUFD: takes a device over. Its group then belongs to this context, and is blocked. */
  bind(deviceId: number): Outcome<ObjectId> {
    return bind(this, deviceId)
  }

  /**
   * Closing the device: detaches it, PASIDs first; removes its vDEVICE, whose number is then never used again; and gives
   * its group back with the last member.
   */
  unbind(id: ObjectId): Outcome<undefined> {
    return unbind(this, id)
  }

  /** GET_HW_INFO: what the driver tells of the IOMMU that a device is behind. Type 0: of its own type. */
  hwInfo(device: ObjectId, type = 0): Outcome<{ readonly type: number; readonly bytes: Uint8Array }> {
    const bound = this.objects.need(device, 'device', 'no-such-device-object')
    if (isRefusal(bound)) return bound
    return this.kernel.backend.hwInfo(backendDevice(this.kernel, bound), type)
  }

  /** IOAS_ALLOC. */
  ioasAlloc(): Outcome<ObjectId> {
    const full = this.objects.whyFull()
    return full ?? accept(this.objects.add({ kind: 'ioas', users: 0, table: IoPagetable.create() }))
  }

  /** IOAS_MAP and IOAS_MAP_FILE. Returns the address. */
  ioasMap(request: MapRequest): Outcome<bigint> {
    const { iova = 0n, length } = request
    return whyNoMapping(flagsOfRights(request), 0, [iova, length]) ?? mapMemory(this, request)
  }

  /** IOAS_COPY. Returns the address. */
  ioasCopy(request: CopyRequest): Outcome<bigint> {
    const { from, to = 0n, length } = request
    return whyNoMapping(flagsOfRights(request), 0, [length, to, from]) ?? copyMapping(this, request)
  }

  /**
   * IOAS_UNMAP: takes whole areas away. A range that cuts an area is refused when it comes to it: the areas before it are
   * gone then, as in Linux, and the outcome says so.
   */
  ioasUnmap(ioas: ObjectId, first: bigint, length: bigint): Outcome<Unmapped> {
    return unmapMemory(this, ioas, first, length)
  }

  /** IOAS_IOVA_RANGES: the addresses that can be mapped. */
  ioasRanges(
    ioas: ObjectId,
  ): Outcome<{ readonly ranges: readonly AddressRange[]; readonly alignment: bigint }> {
    const found = this.objects.need(ioas, 'ioas', 'no-such-ioas')
    if (isRefusal(found)) return found
    return accept({ ranges: found.table.ranges(), alignment: found.table.alignment })
  }

  /** IOAS_ALLOW_IOVAS: where addresses are chosen, and what no device may reserve. */
  ioasAllow(ioas: ObjectId, ranges: readonly AddressRange[]): Outcome<undefined> {
    const found = this.objects.need(ioas, 'ioas', 'no-such-ioas')
    if (isRefusal(found)) return found
    return found.table.allow(ranges.map(({ first, last }) => ({ start: first, last }))) ?? accept(undefined)
  }

  /** HWPT_ALLOC: a paging HWPT on an IOAS, or a nested one on a nest parent or a vIOMMU. */
  hwptAlloc(request: HwptRequest): Outcome<ObjectId> {
    return allocateHwpt(this, request)
  }

  /** HWPT_SET_DIRTY_TRACKING. */
  setDirtyTracking(hwpt: ObjectId, isOn: boolean): Outcome<undefined> {
    return setDirtyTracking(this, hwpt, isOn)
  }

  /** HWPT_GET_DIRTY_BITMAP: sets bits in memory from an address on. */
  readDirtyBitmap(request: DirtyRequest, bitmap: ByteSource, address = 0n): Outcome<undefined> {
    return readDirtyBitmap(this, request, bitmap, address)
  }

  /** VIOMMU_ALLOC for the IOMMU that a device is behind. */
  viommuAlloc(request: ViommuAllocation): Outcome<ObjectId> {
    return allocateViommu(this, request)
  }

  /** VDEVICE_ALLOC: the device's number in the guest. */
  vdeviceAlloc(viommu: ObjectId, device: ObjectId, virtualId: bigint): Outcome<ObjectId> {
    return allocateVdevice(this, viommu, device, virtualId)
  }

  /** HW_QUEUE_ALLOC. */
  hwQueueAlloc(request: HwQueueAllocation): Outcome<ObjectId> {
    return allocateHwQueue(this, request)
  }

  /** VFIO_DEVICE_ATTACH_IOMMUFD_PT of a device that is not attached: to an IOAS or a HWPT. Returns the HWPT. */
  attach(device: ObjectId, pageTable: ObjectId, pasid = 0): Outcome<ObjectId> {
    return attach(this, device, pageTable, pasid)
  }

  /** VFIO_DEVICE_ATTACH_IOMMUFD_PT of an attached device: moves it. Returns the HWPT. */
  replace(device: ObjectId, pageTable: ObjectId, pasid = 0): Outcome<ObjectId> {
    return replace(this, device, pageTable, pasid)
  }

  /** VFIO_DEVICE_DETACH_IOMMUFD_PT: blocks the device. A device that is not attached stays so. */
  detach(device: ObjectId, pasid = 0): Outcome<undefined> {
    return detach(this, device, pasid)
  }

  /** HWPT_INVALIDATE on a vIOMMU or a nested HWPT. The first bad request stops the others. */
  invalidate(id: ObjectId, requests: UserDataArray): Outcome<Invalidated> {
    return invalidate(this, id, requests)
  }

  /** FAULT_QUEUE_ALLOC. */
  faultQueueAlloc(): Outcome<ObjectId> {
    const full = this.objects.whyFull()
    return full ?? accept(this.objects.add({ kind: 'fault', users: 0, queue: FaultQueue.create() }))
  }

  /** Reads page requests: `pageFaultStruct`, whole groups, as many as fit. */
  readFaults(fault: ObjectId, count: bigint): Outcome<Uint8Array> {
    const found = this.objects.need(fault, 'fault', 'no-such-fault-queue')
    return isRefusal(found) ? found : found.queue.read(count)
  }

  /** Answers page requests: `pageResponseStruct`. Returns the bytes that were taken. */
  answerFaults(fault: ObjectId, answers: Uint8Array): Outcome<number> {
    const found = this.objects.need(fault, 'fault', 'no-such-fault-queue')
    if (isRefusal(found)) return found
    return this.kernel.backend.transaction<number>(() => {
      const done = found.queue.write(answers)
      if (!done.ok) return done
      for (const { group, code } of done.value.answered) {
        const refused = answer(this, group, code)
        if (refused !== undefined) return refused
      }
      return done.value.taken
    })
  }

  /** VEVENTQ_ALLOC: `depth` events of a type at most. */
  veventqAlloc(viommu: ObjectId, type: number, depth: number): Outcome<ObjectId> {
    if (type === 0) return refuse('veventq-default-type', 'type 0 stands for no event queue')
    if (depth === 0 || depth > mostEvents)
      return refuse('veventq-depth', `a queue of ${depth} events, not 1 to ${mostEvents}`)
    const found = this.objects.need(viommu, 'viommu', 'no-such-viommu')
    if (isRefusal(found)) return found
    if (this.eventQueue(viommu, type) !== undefined)
      return refuse('veventq-exists', `vIOMMU ${viommu} has a queue for events of type ${type} already`)
    const full = this.objects.whyFull()
    const queue = EventQueue.create(depth)
    return full ?? accept(this.objects.add({ kind: 'veventq', users: 0, viommu, type, queue }))
  }

  /** Reads events: each an `eventHeaderStruct` and its bytes, as many as fit. */
  readEvents(veventq: ObjectId, count: bigint): Outcome<Uint8Array> {
    const found = this.objects.need(veventq, 'veventq', 'no-such-veventq')
    return isRefusal(found) ? found : found.queue.read(count)
  }

  /** A device's page request, from its driver. */
  reportFault(device: ObjectId, fault: PageFault): Outcome<undefined> {
    return this.kernel.backend.transaction<undefined>(() => reportFault(this, device, fault))
  }

  /** An event for the guest of a vIOMMU, from its driver. EOPNOTSUPP without a queue of the type: it is dropped. */
  reportEvent(viommu: ObjectId, type: number, bytes: Uint8Array): Outcome<undefined> {
    const queue = this.eventQueue(viommu, type)
    if (queue === undefined) return refuse('no-event-queue', `vIOMMU ${viommu} has no queue of type ${type}`)
    queue.report(bytes)
    return accept(undefined)
  }

  /** IOMMU_DESTROY. EBUSY while anything refers to the object. */
  destroy(id: ObjectId): Outcome<undefined> {
    const destroyed = destroyObject(this, id)
    if (destroyed.ok && this.compatibleIoas === id) this.compatibleIoas = undefined
    return destroyed
  }

  /**
   * Closes `/dev/iommu`: unbinds its devices and destroys its objects. The context is of no use afterwards.
   */
  close(): Outcome<undefined> {
    const done = destroyAll(this)
    if (done.ok) this.kernel.contexts.delete(this.number)
    return done
  }

  /** The same context in a fork of its kernel. */
  fork(kernel: KernelState, memo: Map<object, object>): Context {
    const objects = this.objects.fork(memo)
    const regions = this.regions.fork((owner) =>
      kernel.backend.regionOf(objects.held(owner, 'viommu').number),
    )
    const fork = new Context(kernel, this.number, objects, regions, new Map(this.partialFaults))
    fork.accounting = this.accounting
    fork.compatibleIoas = this.compatibleIoas
    return fork
  }

  snapshot(numbers: Map<object, number>): unknown {
    const { objects, regions, accounting, compatibleIoas } = this
    return [
      ...[objects.snapshot(numbers), regions.snapshot(), [...this.partialFaults], accounting],
      compatibleIoas ?? null,
    ]
  }

  private eventQueue(viommu: ObjectId, type: number): EventQueue | undefined {
    for (const [, queue] of this.objects.all('veventq'))
      if (queue.viommu === viommu && queue.type === type) return queue.queue
    return undefined
  }
}
