/**
 * The driver's operations on devices: found, attached, reset, gone; each by itself or a group at a time.
 *
 * @packageDocumentation
 */
import { attachByRecord, attachDevice, isOn, moveDevice } from './attach.js'
import { hasGap } from './books.js'
import type { Books } from './books.js'
import { defaultDomainOf } from './default-domain.js'
import type { Device, DeviceTraits } from './device.js'
import { blocked } from './domain.js'
import type { Domain, DomainNumber } from './domain.js'
import { noDomain } from './driver-state.js'
import { attachGroup, membersOf, membersState } from './group.js'
import type { GroupMember } from './group.js'
import { refuse } from './outcome.js'
import type { Outcome, Refusal } from './outcome.js'
import type { Plan } from './plan.js'
import { probeDevice } from './probe.js'
import { attachPasid, detachPasid } from './process-binding.js'
import { beginReset, endReset, unplug } from './reset.js'
import { TableOperations } from './table-operations.js'
import { mapsForDevice } from './unity-map.js'
import type { UnityMap } from './unity-map.js'

/** See the file's comment. */
export abstract class DeviceOperations extends TableOperations {
  /**
   * Makes a device known, on the default domain of its group; without default domains it is blocked until it is attached.
   *
   * @param iommu - the IOMMU that it is behind. Default: the one that the IVRS table says, the first without a table
   */
  probe(
    deviceId: number,
    group: number,
    iommu?: number,
    traits: Partial<DeviceTraits> = {},
  ): Outcome<undefined> {
    return this.attempt((books, plan) => probeDevice(books, plan, { deviceId, group, iommu }, traits))
  }

  /** Forgets a device that has gone; it is blocked first, with whatever it was on. */
  unplug(deviceId: number): Outcome<undefined> {
    return this.withDevice(deviceId, unplug)
  }

  /** Blocks a device for the time of its reset. EBUSY for whoever wants to move it meanwhile. */
  beginReset(deviceId: number): Outcome<undefined> {
    return this.withDevice(deviceId, beginReset)
  }

  /** Puts a device back on what it was on before its reset. */
  endReset(deviceId: number): Outcome<undefined> {
    return this.withDevice(deviceId, endReset)
  }

  device(deviceId: number): Device | undefined {
    return this.books.devices.get(deviceId)
  }

  /** The known devices of an IOMMU group, by DeviceID. */
  groupMembers(group: number): Device[] {
    return membersOf(this.books, group)
  }

  /** Memory that firmware wants a device to reach at its own address. */
  unityMaps(deviceId: number): readonly UnityMap[] {
    return mapsForDevice(this.books.firmware.unityMaps, deviceId)
  }

  /** Where the members of a group stand: each on its own, or all on one tag. */
  groupState(group: number): GroupMember[] {
    return membersState(this.books, group)
  }

  /** Attaches a device by the kernel's rule: between paging domains it is blocked for a while. */
  attach(deviceId: number, domain: DomainNumber): Outcome<undefined> {
    return this.move(deviceId, this.attachable(domain), attachDevice)
  }

  /** Attaches a device with a single change of its entry: there is no moment in which it is blocked. */
  replace(deviceId: number, domain: DomainNumber): Outcome<undefined> {
    return this.move(deviceId, this.attachable(domain), moveDevice)
  }

  /** Blocks a device. */
  detach(deviceId: number): Outcome<undefined> {
    return this.move(deviceId, blocked, attachDevice)
  }

  /** Attaches a device to the default domain of its group; blocks it, if there is none. */
  attachDefault(deviceId: number): Outcome<undefined> {
    const device = this.books.devices.get(deviceId)
    const domain = device === undefined ? blocked : defaultDomainOf(this.books, device)
    return this.move(deviceId, domain, attachDevice)
  }

  /** Attaches all members of a group, one after the other. */
  attachGroup(group: number, domain: DomainNumber): Outcome<undefined> {
    const found = this.attachable(domain)
    if ('ok' in found) return found
    return this.attempt((books, plan) => attachGroup(books, plan, group, found))
  }

  /** Puts a process, or a domain with a guest table, behind a PASID of some devices. */
  attachPasid(deviceIds: readonly number[], pasid: number, process: DomainNumber): Outcome<undefined> {
    return this.attempt((books, plan) => attachPasid(books, plan, deviceIds, pasid, process))
  }

  /** Takes the process behind a PASID away from some devices. */
  detachPasid(deviceIds: readonly number[], pasid: number): Outcome<undefined> {
    return this.attempt((books, plan) => detachPasid(books, plan, deviceIds, pasid))
  }

  private move(deviceId: number, domain: Domain | Refusal, how: typeof moveDevice): Outcome<undefined> {
    if ('ok' in domain) return domain
    return this.withDevice(deviceId, (books, plan, device) => {
      // A device that is being reset is blocked, but not by choice: it goes back to where it was.
      if (device.parked === undefined && isOn(books, device, domain))
        return attachByRecord(books, plan, device, domain)
      return whyNoMove(books, device) ?? how(books, plan, device, domain)
    })
  }

  private withDevice(
    deviceId: number,
    operation: (books: Books, plan: Plan, device: Device) => Refusal | undefined,
  ): Outcome<undefined> {
    const device = this.books.devices.get(deviceId)
    if (device === undefined) return refuse('ENODEV', 'no-such-device', `device ${deviceId} is not known`)
    return this.attempt((books, plan) => operation(books, plan, device))
  }

  private attachable(number: DomainNumber): Domain | Refusal {
    const domain = this.books.domains.get(number)
    if (domain === undefined) return noDomain(number)
    if (domain.kind !== 'process') return domain
    return refuse('EINVAL', 'pasid-required', `domain ${number} is a process: it is attached to a PASID`)
  }
}

/** Why a device stays where it is. */
function whyNoMove(books: Books, device: Device): Refusal | undefined {
  const isParked = ({ parked }: Device): boolean => parked !== undefined
  const asked = hasGap(books, 'U16') ? membersOf(books, device.group) : [device]
  if (asked.some(isParked)) {
    return refuse('EBUSY', 'member-in-reset', `device ${device.deviceId} or its group is being reset`)
  }
  if (device.processes.size === 0) return undefined
  return refuse('EBUSY', 'pasids-attached', 'a process is attached to a PASID of the device: detach it first')
}
