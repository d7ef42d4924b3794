/**
 * One open `/dev/iommu`: the calls of a VMM, as typed functions.
 *
 * Each returns the kernel's errno and the rule that was broken, or the result and the driver's effects, which must be
 * carried out before the next call. Linux drivers/iommu/iommufd, include/uapi/linux/iommufd.h.
 *
 * @packageDocumentation
 */
import type { Gpa, Spa } from '@nestwalk/bits'
import { accept, refuse } from '@nestwalk/driver'
import type { FeatureRegisters } from '@nestwalk/hardware'
import type { GuestInvalidation, Outcome, Refusal } from '@nestwalk/driver'
import { attach, detach, replace } from './attachment.js'
import { copyAreas, mapArea, unmapAreas } from './ioas.js'
import type { Shared } from './iommufd.js'
import { usersOf } from './object.js'
import type { BoundDevice, IommufdObject, ObjectId, ObjectTable } from './object.js'

/** IOAS_MAP with a fixed address. */
export interface MapRequest {
  readonly ioas: ObjectId
  readonly iova: Gpa
  readonly length: bigint
  /** Where the caller's pages lie, in one piece. */
  readonly memory: Spa
  readonly readable?: boolean
  readonly writeable?: boolean
}

/** HWPT_ALLOC. */
export interface HwptRequest {
  readonly device: ObjectId
  /** An IOAS for a paging HWPT, a vIOMMU for a nested one. */
  readonly pageTable: ObjectId
  readonly nestParent?: boolean
  /** A guest's device table entry, four quad-words, lowest first: `iommu_hwpt_amd_guest`. */
  readonly guestEntry?: readonly bigint[]
}

/** See the file's comment. */
export class Context {
  constructor(
    private readonly shared: Shared,
    /** Number of the context in its kernel. */
    readonly number: number,
    private readonly objects: ObjectTable,
  ) {}

  /** The object with a number. */
  object(id: ObjectId): IommufdObject | undefined {
    return this.objects.get(id)
  }

  /** How many objects there are. */
  get objectCount(): number {
    return this.objects.entries().length
  }

  /** VFIO_DEVICE_BIND_IOMMUFD: takes a device over. Its group then belongs to this context, and is blocked. */
  bind(deviceId: number): Outcome<ObjectId> {
    const { driver, owners, contexts } = this.shared
    const device = driver.device(deviceId)
    if (device === undefined) return refuse('ENODEV', 'no-such-device', `device ${deviceId} is not known`)
    if (contexts.some((context) => context.hasBound(deviceId))) {
      return refuse('EINVAL', 'device-bound', `device ${deviceId} is bound already`)
    }
    const owner = owners.get(device.group)
    if (owner !== undefined && owner !== this.number) {
      return refuse('EPERM', 'group-owned', `group ${device.group} belongs to another context`)
    }
    const blocked = driver.transaction<undefined>(() => {
      for (const member of owner === undefined ? driver.groupMembers(device.group) : []) {
        const done = driver.detach(member.deviceId)
        if (!done.ok) return done
      }
      return undefined
    })
    if (!blocked.ok) return blocked
    owners.set(device.group, this.number)
    const bound: BoundDevice = { kind: 'device', deviceId, group: device.group, attachedTo: undefined }
    return accept(this.objects.add(bound), blocked.effects)
  }

  /**
   * Closing the device: detaches it, removes its vDEVICE, whose number is then never used again, and gives its group back
   * with the last member.
   */
  unbind(id: ObjectId): Outcome<undefined> {
    const device = this.objects.find(id, 'device')
    if (device === undefined) return missing(id, 'DEVICE')
    const done = this.detach(id)
    if (!done.ok) return done
    for (const [vdevice, { device: held }] of this.objects.all('vdevice')) {
      if (held === id) this.objects.bury(vdevice)
    }
    this.objects.remove(id)
    if (!this.objects.all('device').some(([, other]) => other.group === device.group)) {
      this.shared.owners.delete(device.group)
    }
    return done
  }

  /** Whether a device is bound to this context. */
  hasBound(deviceId: number): boolean {
    return this.objects.all('device').some(([, bound]) => bound.deviceId === deviceId)
  }

  /** GET_HW_INFO, `iommu_hw_info_amd`: the raw feature registers of the IOMMU that a device is behind. */
  hwInfo(device: ObjectId): Outcome<FeatureRegisters> {
    const bound = this.objects.find(device, 'device')
    if (bound === undefined) return missing(device, 'DEVICE')
    return accept(this.shared.driver.featureRegisters(this.iommuOf(bound)))
  }

  /** IOAS_ALLOC. */
  ioasAlloc(): Outcome<ObjectId> {
    return accept(this.objects.add({ kind: 'ioas', areas: [] }))
  }

  /** IOAS_MAP with IOMMU_IOAS_MAP_FIXED_IOVA. */
  ioasMap(request: MapRequest): Outcome<undefined> {
    return mapArea(this.shared.driver, this.objects, request)
  }

  /**
   * IOAS_UNMAP: takes whole areas away and returns the bytes. A range that cuts an area is refused as a whole, where Linux
   * takes the areas before it away first.
   */
  ioasUnmap(ioas: ObjectId, first: Gpa, length: bigint): Outcome<bigint> {
    return unmapAreas(this.shared.driver, this.objects, ioas, first, length)
  }

  /** HWPT_ALLOC: a paging HWPT on an IOAS, or a nested one on a vIOMMU. */
  hwptAlloc(request: HwptRequest): Outcome<ObjectId> {
    const device = this.objects.find(request.device, 'device')
    if (device === undefined) return missing(request.device, 'DEVICE')
    const table = this.objects.get(request.pageTable)
    if (table === undefined) {
      return refuse('EINVAL', 'no-such-page-table', `there is no object ${request.pageTable} to allocate on`)
    }
    if (table.kind === 'ioas') return this.allocPaging(request)
    if (table.kind === 'viommu') return this.allocNested(request, device)
    if (table.kind === 'paging-hwpt') {
      return refuse('EOPNOTSUPP', 'nesting-through-viommu', 'on AMD a nested HWPT is allocated on a vIOMMU')
    }
    return refuse('EINVAL', 'not-a-page-table', `object ${request.pageTable} is a ${table.kind}`)
  }

  /** VIOMMU_ALLOC for the IOMMU that a device is behind. */
  viommuAlloc(device: ObjectId, parent: ObjectId): Outcome<ObjectId> {
    const bound = this.objects.find(device, 'device')
    if (bound === undefined) return missing(device, 'DEVICE')
    const hwpt = this.objects.find(parent, 'paging-hwpt')
    if (hwpt === undefined) return missing(parent, 'paging HWPT')
    const iommu = this.iommuOf(bound)
    const made = this.shared.driver.createViommu(hwpt.domain, iommu)
    if (!made.ok) return made
    return accept(this.objects.add({ kind: 'viommu', parent, number: made.value, iommu }), made.effects)
  }

  /** VDEVICE_ALLOC: the device's number in the guest. */
  vdeviceAlloc(viommu: ObjectId, device: ObjectId, virtualId: number): Outcome<ObjectId> {
    const owner = this.objects.find(viommu, 'viommu')
    if (owner === undefined) return missing(viommu, 'vIOMMU')
    const bound = this.objects.find(device, 'device')
    if (bound === undefined) return missing(device, 'DEVICE')
    if (this.iommuOf(bound) !== owner.iommu) return otherIommu(bound)
    const all = this.objects.all('vdevice')
    if (all.some(([, vdevice]) => vdevice.device === device)) {
      return refuse('EEXIST', 'device-has-vdevice', `device ${bound.deviceId} has a vDEVICE already`)
    }
    if (all.some(([, vdevice]) => vdevice.viommu === viommu && vdevice.virtualId === virtualId)) {
      return refuse('EEXIST', 'virtual-id-taken', `virtual ID ${virtualId} is taken in the vIOMMU`)
    }
    return accept(this.objects.add({ kind: 'vdevice', viommu, device, virtualId }))
  }

  /** VFIO_DEVICE_ATTACH_IOMMUFD_PT of a device that is not attached: to an IOAS or a HWPT. Returns the HWPT. */
  attach(device: ObjectId, pageTable: ObjectId): Outcome<ObjectId> {
    return attach(this.shared, this.objects, device, pageTable)
  }

  /** VFIO_DEVICE_ATTACH_IOMMUFD_PT of an attached device: moves it. Returns the HWPT. */
  replace(device: ObjectId, pageTable: ObjectId): Outcome<ObjectId> {
    return replace(this.shared, this.objects, device, pageTable)
  }

  /** VFIO_DEVICE_DETACH_IOMMUFD_PT: blocks the device. A device that is not attached stays so. */
  detach(device: ObjectId): Outcome<undefined> {
    return detach(this.shared, this.objects, device)
  }

  /**
   * HWPT_INVALIDATE on a vIOMMU with a guest's commands, two quad-words each.
   *
   * Linux 7.3 answers EOPNOTSUPP on AMD (gap U1); the entries here are the guest's own 16-byte commands, which the driver
   * carries out under its own DomainIDs. They are handled in order; the first bad one stops the array.
   */
  invalidate(id: ObjectId, commands: readonly (readonly [bigint, bigint])[]): Outcome<GuestInvalidation> {
    const object = this.objects.get(id)
    if (object === undefined) return missing(id, 'vIOMMU or nested HWPT')
    if (object.kind === 'nested-hwpt') {
      return refuse(
        'EOPNOTSUPP',
        'invalidate-through-viommu',
        'on AMD a guest invalidates through its vIOMMU',
      )
    }
    if (object.kind !== 'viommu')
      return refuse('EINVAL', 'not-invalidatable', `object ${id} is a ${object.kind}`)
    return this.shared.driver.invalidateForGuest(object.number, commands)
  }

  /** IOMMU_DESTROY. EBUSY while anything refers to the object. */
  destroy(id: ObjectId): Outcome<undefined> {
    const object = this.objects.get(id)
    if (object === undefined) return missing(id, 'object')
    if (object.kind === 'device') return refuse('EBUSY', 'device-bound', 'a device goes when it is unbound')
    const [user] = usersOf(this.objects, id)
    if (user !== undefined) {
      return refuse('EBUSY', 'object-in-use', `${object.kind} ${id} is used by object ${user}`)
    }
    const done = this.release(object)
    if (done.ok) this.objects.remove(id)
    return done
  }

  /** The same context in a fork of its kernel. */
  fork(shared: Shared): Context {
    return new Context(shared, this.number, this.objects.fork())
  }

  snapshot(): unknown {
    return this.objects.snapshot()
  }

  private allocPaging({ pageTable, nestParent = false, guestEntry }: HwptRequest): Outcome<ObjectId> {
    if (guestEntry !== undefined) {
      return refuse('EOPNOTSUPP', 'data-on-ioas', 'a paging HWPT takes no driver data')
    }
    const { driver } = this.shared
    const made = driver.transaction(() => {
      const domain = driver.allocateHostTable({ nestParent })
      if (!domain.ok) return domain
      const copied = copyAreas(driver, this.objects, pageTable, domain.value)
      return copied ?? domain.value
    })
    if (!made.ok) return made
    const hwpt = {
      kind: 'paging-hwpt',
      ioas: pageTable,
      domain: made.value,
      nestParent,
      automatic: false,
    } as const
    return accept(this.objects.add(hwpt), made.effects)
  }

  private allocNested(request: HwptRequest, device: BoundDevice): Outcome<ObjectId> {
    const viommu = this.objects.find(request.pageTable, 'viommu')
    if (viommu === undefined) return missing(request.pageTable, 'vIOMMU')
    if (this.iommuOf(device) !== viommu.iommu) return otherIommu(device)
    if (request.nestParent === true) {
      return refuse('EOPNOTSUPP', 'nesting-is-one-level', 'a nested HWPT cannot be a nest parent')
    }
    if (request.guestEntry === undefined) {
      return refuse('EOPNOTSUPP', 'guest-entry-required', 'a nested HWPT needs the guest device table entry')
    }
    if (request.guestEntry.length !== 4) {
      return refuse('EINVAL', 'guest-entry-size', 'a guest device table entry has four quad-words')
    }
    const made = this.shared.driver.allocateNested(viommu.number, request.guestEntry)
    if (!made.ok) return made
    const hwpt = { kind: 'nested-hwpt', viommu: request.pageTable, domain: made.value } as const
    return accept(this.objects.add(hwpt), made.effects)
  }

  /** Gives back what an object holds in the driver. */
  private release(object: IommufdObject): Outcome<undefined> {
    const { driver } = this.shared
    if (object.kind === 'paging-hwpt' || object.kind === 'nested-hwpt')
      return driver.freeDomain(object.domain)
    if (object.kind === 'viommu') return driver.destroyViommu(object.number)
    return accept(undefined)
  }

  private iommuOf({ deviceId }: BoundDevice): number {
    return this.shared.driver.device(deviceId)?.iommu ?? 0
  }
}

const missing = (id: ObjectId, what: string): Refusal =>
  refuse('ENOENT', 'no-such-object', `${id} names no ${what}`)

const otherIommu = ({ deviceId }: BoundDevice): Refusal =>
  refuse('EINVAL', 'other-iommu', `device ${deviceId} is behind another IOMMU than the vIOMMU's`)
