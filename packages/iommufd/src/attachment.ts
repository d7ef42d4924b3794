/**
 * Attaching devices and groups to HWPTs.
 *
 * Linux drivers/iommu/iommufd/device.c. By the kernel's group rule the first attach moves every member of the group, and
 * the others must name the same HWPT; per member each device stands alone.
 *
 * @packageDocumentation
 */
import { accept, refuse } from '@nestwalk/driver'
import type { DomainNumber, Outcome, Refusal } from '@nestwalk/driver'
import { copyAreas } from './ioas.js'
import type { Shared } from './iommufd.js'
import { usersOf } from './object.js'
import type { BoundDevice, NestedHwpt, ObjectId, ObjectTable, PagingHwpt } from './object.js'
import { reservedIn } from './reserved-region.js'

/** Attaches a device that is not attached. */
export function attach(shared: Shared, objects: ObjectTable, id: ObjectId, to: ObjectId): Outcome<ObjectId> {
  const device = objects.find(id, 'device')
  if (device === undefined) return refuse('ENOENT', 'no-such-object', `${id} names no DEVICE`)
  return move(shared, objects, id, device, to, 'attach')
}

/** Moves an attached device. */
export function replace(shared: Shared, objects: ObjectTable, id: ObjectId, to: ObjectId): Outcome<ObjectId> {
  const device = objects.find(id, 'device')
  if (device === undefined) return refuse('ENOENT', 'no-such-object', `${id} names no DEVICE`)
  return move(shared, objects, id, device, to, 'replace')
}

/** Detaches a device; with the last of its group the group is blocked. */
export function detach(shared: Shared, objects: ObjectTable, id: ObjectId): Outcome<undefined> {
  const device = objects.find(id, 'device')
  if (device === undefined) return refuse('ENOENT', 'no-such-object', `${id} names no DEVICE`)
  const old = device.attachedTo
  if (old === undefined) return accept(undefined)
  const others = attachedMembers(objects, device).filter(([other]) => other !== id)
  const leaving = shared.groupRule === 'per-member' ? [device.deviceId] : groupDevices(shared, device)
  const stays = shared.groupRule === 'whole-group' && others.length > 0
  const { driver } = shared
  const done = driver.transaction<undefined>(() => {
    for (const deviceId of stays ? [] : leaving) {
      const blocked = driver.detach(deviceId)
      if (!blocked.ok) return blocked
    }
    return freeIfDone(shared, objects, old, [id])
  })
  if (!done.ok) return done
  objects.replace(id, { ...device, attachedTo: undefined })
  forgetAutomatic(objects, old)
  return done
}

type Hwpt = PagingHwpt | NestedHwpt

function move(
  shared: Shared,
  objects: ObjectTable,
  id: ObjectId,
  device: BoundDevice,
  to: ObjectId,
  how: 'attach' | 'replace',
): Outcome<ObjectId> {
  const table = objects.get(to)
  if (table === undefined) return refuse('ENOENT', 'no-such-object', `there is no object ${to}`)
  if (table.kind !== 'ioas' && table.kind !== 'paging-hwpt' && table.kind !== 'nested-hwpt') {
    return refuse('EINVAL', 'not-a-page-table', `object ${to} is a ${table.kind}`)
  }
  const members = attachedMembers(objects, device)
  const automatic = table.kind === 'ioas' ? automaticOn(objects, to) : undefined
  const target = table.kind === 'ioas' ? automatic?.[0] : to
  const old = device.attachedTo
  if (how === 'attach') {
    const standing = shared.groupRule === 'whole-group' ? members[0]?.[1].attachedTo : old
    if (standing !== undefined && standing !== target) {
      return refuse('EINVAL', 'group-attached-elsewhere', `group ${device.group} is attached to another HWPT`)
    }
    if (old !== undefined) {
      return refuse('EBUSY', 'attached-already', `device ${device.deviceId} is attached already`)
    }
  } else if (old === undefined) {
    return refuse('EINVAL', 'not-attached', `device ${device.deviceId} is not attached`)
  } else if (old === target) {
    return accept(old)
  }
  const reserved = reservedRule(objects, to)
  if (reserved !== undefined) return reserved
  const movedIds = shared.groupRule === 'per-member' ? [device.deviceId] : groupDevices(shared, device)
  const movedObjects =
    how === 'replace' && shared.groupRule === 'whole-group' ? members.map(([m]) => m) : [id]
  const joins = how === 'attach' && shared.groupRule === 'whole-group' && members.length > 0
  const { driver } = shared
  const done = driver.transaction<DomainNumber>(() => {
    const domain =
      table.kind === 'ioas' ? (automatic?.[1].domain ?? allocAutomatic(shared, objects, to)) : table.domain
    if (typeof domain !== 'number') return domain
    for (const deviceId of joins ? [] : movedIds) {
      const attached = driver.attach(deviceId, domain)
      if (!attached.ok) return attached
    }
    const freed = old === undefined ? undefined : freeIfDone(shared, objects, old, movedObjects)
    return freed ?? domain
  })
  if (!done.ok) return done
  const hwpt =
    target ??
    objects.add({ kind: 'paging-hwpt', ioas: to, domain: done.value, nestParent: false, automatic: true })
  for (const moved of movedObjects) {
    const member = objects.find(moved, 'device')
    if (member !== undefined) objects.replace(moved, { ...member, attachedTo: hwpt })
  }
  if (old !== undefined) forgetAutomatic(objects, old)
  return accept(hwpt, done.effects)
}

/** The bound members of a device's group that are attached, with their numbers. */
const attachedMembers = (objects: ObjectTable, device: BoundDevice): (readonly [ObjectId, BoundDevice])[] =>
  objects.all('device').filter(([, other]) => other.group === device.group && other.attachedTo !== undefined)

/** DeviceIDs of all members of a device's group. */
const groupDevices = ({ driver }: Shared, { group }: BoundDevice): number[] =>
  driver.groupMembers(group).map(({ deviceId }) => deviceId)

const automaticOn = (objects: ObjectTable, ioas: ObjectId): readonly [ObjectId, PagingHwpt] | undefined =>
  objects.all('paging-hwpt').find(([, hwpt]) => hwpt.automatic && hwpt.ioas === ioas)

function allocAutomatic({ driver }: Shared, objects: ObjectTable, ioas: ObjectId): DomainNumber | Refusal {
  const domain = driver.allocateHostTable()
  if (!domain.ok) return domain
  return copyAreas(driver, objects, ioas, domain.value) ?? domain.value
}

/** Frees the domain of an automatic HWPT that nothing but `leaving` holds. */
function freeIfDone(
  { driver }: Shared,
  objects: ObjectTable,
  id: ObjectId,
  leaving: readonly ObjectId[],
): Refusal | undefined {
  const hwpt = objects.find(id, 'paging-hwpt')
  if (hwpt?.automatic !== true || usersOf(objects, id).some((user) => !leaving.includes(user)))
    return undefined
  const freed = driver.freeDomain(hwpt.domain)
  return freed.ok ? undefined : freed
}

/** Takes an automatic HWPT that nothing holds any more out of the table. */
function forgetAutomatic(objects: ObjectTable, id: ObjectId): void {
  const hwpt = objects.find(id, 'paging-hwpt')
  if (hwpt?.automatic === true && usersOf(objects, id).length === 0) objects.remove(id)
}

/** A device brings its reserved regions into the IOAS: nothing may be mapped there. */
function reservedRule(objects: ObjectTable, to: ObjectId): Refusal | undefined {
  const table = objects.get(to)
  const hwpt: Hwpt | undefined =
    table?.kind === 'paging-hwpt' || table?.kind === 'nested-hwpt' ? table : undefined
  const parent = hwpt?.kind === 'nested-hwpt' ? objects.find(hwpt.viommu, 'viommu')?.parent : to
  const ioas =
    table?.kind === 'ioas' ? to : parent === undefined ? undefined : objects.find(parent, 'paging-hwpt')?.ioas
  const areas = ioas === undefined ? [] : (objects.find(ioas, 'ioas')?.areas ?? [])
  const met = areas.find((area) => reservedIn(area.iova, area.length) !== undefined)
  if (met === undefined) return undefined
  return refuse(
    'EADDRINUSE',
    'reserved-range',
    `the area at 0x${met.iova.toString(16)} meets a reserved region`,
  )
}
