/**
 * The objects of a context: what each kind is made of, and what it refers to.
 *
 * Linux drivers/iommu/iommufd/iommufd_private.h.
 *
 * @packageDocumentation
 */
import type { DomainNumber, PagingDomain } from '../backend.js'
import type { Access } from '../io-pagetable/access.js'
import type { IoPagetable } from '../io-pagetable/io-pagetable.js'
import type { EventQueue } from '../queue/event-queue.js'
import type { FaultQueue } from '../queue/fault-queue.js'

/** Number of an object in its context: the lowest free one from 1; 0 names nothing. */
export type ObjectId = number

interface Base {
  /** How often the object is referred to: by other objects, open files, mapped regions, the driver that bound it. */
  users: number
}

/** Guest-physical or process addresses, and the memory behind them. */
export interface Ioas extends Base {
  readonly kind: 'ioas'
  readonly table: IoPagetable
}

/** A domain with a copy of an IOAS in its table. */
export interface PagingHwpt extends Base {
  readonly kind: 'paging-hwpt'
  readonly ioas: ObjectId
  readonly domain: PagingDomain
  readonly isNestParent: boolean
  /** Made by attaching a device to an IOAS; goes with its last device. */
  readonly isAutomatic: boolean
  /** Allocated for devices with PASIDs: IOMMU_HWPT_ALLOC_PASID. */
  readonly allowsPasid: boolean
  readonly faultQueue: ObjectId | undefined
}

/** A guest's own table, on a nest parent, or on a vIOMMU that has one. */
export interface NestedHwpt extends Base {
  readonly kind: 'nested-hwpt'
  readonly on: { readonly viommu: ObjectId } | { readonly parent: ObjectId }
  readonly domain: DomainNumber
  readonly allowsPasid: boolean
  readonly faultQueue: ObjectId | undefined
}

export type Hwpt = PagingHwpt | NestedHwpt

/** A device that a driver has bound to the context. */
export interface BoundDevice extends Base {
  readonly kind: 'device'
  readonly deviceId: number
  readonly group: number
  /** HWPT that it is attached to, by PASID; 0: requests without PASID. */
  readonly attachments: Map<number, ObjectId>
  /** What stands for it in a vIOMMU. It holds no reference: it goes with the device. */
  vdevice: ObjectId | undefined
}

/** Somebody in the kernel who reads, writes or pins an IOAS. */
export interface AccessObject extends Base {
  readonly kind: 'access'
  readonly access: Access
  ioas: ObjectId | undefined
}

export interface FaultObject extends Base {
  readonly kind: 'fault'
  readonly queue: FaultQueue
}

export interface Viommu extends Base {
  readonly kind: 'viommu'
  /** The nest parent. */
  readonly parent: ObjectId
  readonly number: number
  /** Index of the IOMMU that it stands for. */
  readonly iommu: number
  /** Where the memory that it offers can be mapped. */
  readonly regionOffset: bigint | undefined
}

export interface Vdevice extends Base {
  readonly kind: 'vdevice'
  readonly viommu: ObjectId
  readonly device: ObjectId
  /** The device's number in the guest: its virtual DeviceID. */
  readonly virtualId: bigint
}

export interface Veventq extends Base {
  readonly kind: 'veventq'
  readonly viommu: ObjectId
  readonly type: number
  readonly queue: EventQueue
}

/** A queue in guest memory that hardware reads by itself. */
export interface HwQueue extends Base {
  readonly kind: 'hw-queue'
  readonly viommu: ObjectId
  readonly index: number
  /** The pages that it lies in, by their addresses in the nest parent. */
  readonly pages: { readonly iova: bigint; readonly length: bigint }
  /** Holds the queue's pages. */
  readonly access: ObjectId
  /** The queue that must outlive this one. */
  readonly dependsOn: ObjectId | undefined
}

/** A mock device of the kernel's selftests with the driver that bound it. */
export interface Selftest extends Base {
  readonly kind: 'selftest'
  readonly device: ObjectId
  readonly deviceId: number
}

export type IommufdObject =
  | Ioas
  | PagingHwpt
  | NestedHwpt
  | BoundDevice
  | AccessObject
  | FaultObject
  | Viommu
  | Vdevice
  | Veventq
  | HwQueue
  | Selftest

export type ObjectKind = IommufdObject['kind']

/** The object of a kind. */
export type ObjectOf<K extends ObjectKind> = Extract<IommufdObject, { kind: K }>

/** What each object is called in the kernel, and in our answers. */
export const kindNames: Readonly<Record<ObjectKind, string>> = {
  ioas: 'IOAS',
  'paging-hwpt': 'paging HWPT',
  'nested-hwpt': 'nested HWPT',
  device: 'DEVICE',
  access: 'ACCESS',
  fault: 'FAULT',
  viommu: 'vIOMMU',
  vdevice: 'vDEVICE',
  veventq: 'vEVENTQ',
  'hw-queue': 'HW queue',
  selftest: 'SELFTEST device',
}

/** The objects that an object refers to, once for each reference. */
export function referencesOf(object: IommufdObject): readonly ObjectId[] {
  switch (object.kind) {
    case 'ioas':
    case 'fault':
    case 'selftest':
      return []
    case 'paging-hwpt':
      return [object.ioas, ...faultQueueOf(object)]
    case 'nested-hwpt':
      return ['viommu' in object.on ? object.on.viommu : object.on.parent, ...faultQueueOf(object)]
    case 'device':
      return [...object.attachments.values()]
    case 'access':
      return object.ioas === undefined ? [] : [object.ioas]
    case 'viommu':
      return [object.parent]
    case 'vdevice':
    case 'veventq':
      return [object.viommu]
    case 'hw-queue':
      return object.dependsOn === undefined ? [object.viommu] : [object.viommu, object.dependsOn]
  }
}

const faultQueueOf = ({ faultQueue }: Hwpt): readonly ObjectId[] =>
  faultQueue === undefined ? [] : [faultQueue]

/** The same object in a fork of its kernel; `memo` keeps what objects share shared. */
export function forkObject(object: IommufdObject, memo: Map<object, object>): IommufdObject {
  switch (object.kind) {
    case 'ioas':
      return { ...object, table: object.table.fork(memo) }
    case 'device':
      return { ...object, attachments: new Map(object.attachments) }
    case 'access':
      return { ...object, access: object.access.fork(memo) }
    case 'fault':
      return { ...object, queue: object.queue.fork() }
    case 'veventq':
      return { ...object, queue: object.queue.fork() }
    default:
      return { ...object }
  }
}

/** What the future depends on, as plain data in a fixed order; `numbers` names the memory that IOAS share. */
export function snapshotObject(object: IommufdObject, numbers: Map<object, number>): unknown {
  switch (object.kind) {
    case 'ioas':
      return { ...object, table: object.table.snapshot(numbers) }
    case 'device':
      return { ...object, attachments: [...object.attachments].sort(([a], [b]) => a - b) }
    case 'access':
      return [object.kind, object.users, object.ioas]
    case 'fault':
    case 'veventq':
      return { ...object, queue: object.queue.snapshot() }
    default:
      return object
  }
}
