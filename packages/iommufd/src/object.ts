/**
 * The objects of a context, and their numbers.
 *
 * @packageDocumentation
 */
import type { Gpa, Spa } from '@nestwalk/bits'
import type { DomainNumber } from '@nestwalk/driver'

/** Number of an object in its context: the lowest free one from 1; 0 names nothing. */
export type ObjectId = number

/** Memory behind a range of an IOAS. */
export interface IoasArea {
  readonly iova: Gpa
  readonly length: bigint
  /** Where the pinned pages lie, in one piece. */
  readonly memory: Spa
  readonly writeable: boolean
  readonly readable: boolean
}

export interface Ioas {
  readonly kind: 'ioas'
  /** By address, ascending. */
  readonly areas: readonly IoasArea[]
}

export interface PagingHwpt {
  readonly kind: 'paging-hwpt'
  readonly ioas: ObjectId
  readonly domain: DomainNumber
  readonly nestParent: boolean
  /** Made by attaching a device to an IOAS; goes with its last device. */
  readonly automatic: boolean
}

export interface NestedHwpt {
  readonly kind: 'nested-hwpt'
  readonly viommu: ObjectId
  readonly domain: DomainNumber
}

export interface BoundDevice {
  readonly kind: 'device'
  readonly deviceId: number
  readonly group: number
  /** HWPT that the device is attached to. */
  readonly attachedTo: ObjectId | undefined
}

export interface Viommu {
  readonly kind: 'viommu'
  readonly parent: ObjectId
  /** Number of the driver's vIOMMU. */
  readonly number: number
  /** Index of the IOMMU that it stands for. */
  readonly iommu: number
}

export interface Vdevice {
  readonly kind: 'vdevice'
  readonly viommu: ObjectId
  readonly device: ObjectId
  /** The device's number in the guest: its virtual DeviceID. */
  readonly virtualId: number
}

export type IommufdObject = Ioas | PagingHwpt | NestedHwpt | BoundDevice | Viommu | Vdevice

/** The objects of one context by number. */
export class ObjectTable {
  private constructor(
    private readonly objects: Map<ObjectId, IommufdObject>,
    /** Numbers that are not handed out again: of vDEVICEs that went with their device. */
    private readonly tombstones: Set<ObjectId>,
  ) {}

  static create(): ObjectTable {
    return new ObjectTable(new Map(), new Set())
  }

  /** Puts an object in under the lowest free number. */
  add(object: IommufdObject): ObjectId {
    let id = 1
    while (this.objects.has(id) || this.tombstones.has(id)) id += 1
    this.objects.set(id, object)
    return id
  }

  get(id: ObjectId): IommufdObject | undefined {
    return this.objects.get(id)
  }

  /** The object if it is of a kind; an object of another kind counts as missing. */
  find<K extends IommufdObject['kind']>(
    id: ObjectId,
    kind: K,
  ): Extract<IommufdObject, { kind: K }> | undefined {
    const object = this.objects.get(id)
    return object?.kind === kind ? (object as Extract<IommufdObject, { kind: K }>) : undefined
  }

  /** All objects of a kind with their numbers, ascending. */
  all<K extends IommufdObject['kind']>(
    kind: K,
  ): (readonly [ObjectId, Extract<IommufdObject, { kind: K }>])[] {
    return this.entries().filter(
      (entry): entry is [ObjectId, Extract<IommufdObject, { kind: K }>] => entry[1].kind === kind,
    )
  }

  entries(): [ObjectId, IommufdObject][] {
    return [...this.objects].sort(([a], [b]) => a - b)
  }

  replace(id: ObjectId, object: IommufdObject): void {
    this.objects.set(id, object)
  }

  remove(id: ObjectId): void {
    this.objects.delete(id)
  }

  /** Takes an object out against its owner's will: its number stays taken until the context is closed. */
  bury(id: ObjectId): void {
    this.objects.delete(id)
    this.tombstones.add(id)
  }

  fork(): ObjectTable {
    return new ObjectTable(new Map(this.objects), new Set(this.tombstones))
  }

  snapshot(): unknown {
    return [this.entries(), [...this.tombstones].sort((a, b) => a - b)]
  }
}

/**
 * What holds an object in place: the objects that refer to it. A DEVICE is held by the driver that bound it.
 *
 * Linux drivers/iommu/iommufd: an object can be destroyed only while nothing does.
 */
export function usersOf(objects: ObjectTable, id: ObjectId): ObjectId[] {
  const refersTo = (object: IommufdObject): readonly (ObjectId | undefined)[] => {
    switch (object.kind) {
      case 'ioas':
        return []
      case 'paging-hwpt':
        return [object.ioas]
      case 'nested-hwpt':
        return [object.viommu]
      case 'device':
        return [object.attachedTo]
      case 'viommu':
        return [object.parent]
      case 'vdevice':
        return [object.viommu]
    }
  }
  return objects
    .entries()
    .filter(([, object]) => refersTo(object).includes(id))
    .map(([user]) => user)
}
