/**
 * Attaching devices to HWPTs, and to IOAS, which finds or makes a HWPT.
 *
 * Linux drivers/iommu/iommufd/device.c. By the kernel's group rule the first attach moves every member of the group, and
 * the others must name the same HWPT; per member each device stands alone. Each PASID is attached by itself; 0 stands for
 * requests without one.
 *
 * @packageDocumentation
 */
import type { DomainNumber, PagingDomain } from '../backend.js'
import type { ContextState } from '../context-state.js'
import type { IoPagetable } from '../io-pagetable/io-pagetable.js'
import { kindNames } from '../object/object.js'
import type { Hwpt, ObjectId } from '../object/object.js'
import { isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { refuseFaults } from '../queue/report-fault.js'
import { noData } from '../user-data.js'
import { allocatePagingDomain, pagingHwpt } from './allocate.js'
import { backendDevice } from './backend-device.js'
import { attachedMembers, groupOf, movedDevices } from './group.js'
import type { Place } from './group.js'

type Move = (context: ContextState, place: Place, hwpt: ObjectId) => Refusal | undefined

/** Attaches a device that is not attached. Returns the HWPT. */
export const attach = (context: ContextState, id: ObjectId, to: ObjectId, pasid: number): Outcome<ObjectId> =>
  move(context, id, to, pasid, join)

/** Moves an attached device, with its group. Returns the HWPT. */
export const replace = (
  context: ContextState,
  id: ObjectId,
  to: ObjectId,
  pasid: number,
): Outcome<ObjectId> => move(context, id, to, pasid, swap)

/** Detaches a device; with the last of its group the group is blocked. One that is not attached stays so. */
export function detach(context: ContextState, id: ObjectId, pasid: number): Outcome<undefined> {
  const device = context.objects.need(id, 'device', 'no-such-device-object')
  if (isRefusal(device)) return device
  return context.kernel.backend.transaction<undefined>(() => leave(context, { id, device, pasid }))
}

/** Takes a device off what it is attached to. To be called in a transaction. */
export function leave(context: ContextState, place: Place): Refusal | undefined {
  const { kernel } = context
  const { id, device, pasid } = place
  const old = device.attachments.get(pasid)
  if (old === undefined) return undefined
  const stays = attachedMembers(context, place).some(([member]) => member !== id)
  if (!stays) {
    const blocked = kernel.backend.detach(movedDevices(context, device), pasid)
    if (!blocked.ok) return blocked
  }
  forget(context, place, old)
  return refuseFaults(context, old, pasid, [id]) ?? dropAutomatic(context, old)
}

function move(
  context: ContextState,
  id: ObjectId,
  to: ObjectId,
  pasid: number,
  how: Move,
): Outcome<ObjectId> {
  const { objects, kernel } = context
  const device = objects.need(id, 'device', 'no-such-device-object')
  if (isRefusal(device)) return device
  const table = objects.get(to)
  if (table === undefined) return refuse('no-such-attach-target', `there is no object ${to}`)
  const place = { id, device, pasid }
  switch (table.kind) {
    case 'paging-hwpt':
    case 'nested-hwpt':
      return kernel.backend.transaction<ObjectId>(() => how(context, place, to) ?? to)
    case 'ioas':
      return moveToIoas(context, place, to, how)
    default:
      return refuse('not-attachable', `object ${to} is a ${kindNames[table.kind]}`)
  }
}

/** The first automatic HWPT of the IOAS that the device can be attached to; or a new one. */
function moveToIoas(context: ContextState, place: Place, ioas: ObjectId, how: Move): Outcome<ObjectId> {
  const { objects, kernel } = context
  for (const [id, hwpt] of [...objects.all('paging-hwpt')]) {
    if (!hwpt.isAutomatic || hwpt.ioas !== ioas) continue
    const moved = kernel.backend.transaction<ObjectId>(() => how(context, place, id) ?? id)
    if (moved.ok || moved.errno !== 'EINVAL') return moved
  }
  const full = objects.whyFull()
  if (full !== undefined) return full
  return kernel.backend.transaction<ObjectId>(() => moveToNew(context, place, ioas, how))
}

/** A new automatic HWPT, and the device on it. */
function moveToNew(context: ContextState, place: Place, ioas: ObjectId, how: Move): ObjectId | Refusal {
  const { objects } = context
  const purpose = { ioas, flags: 0, data: noData }
  const domain = allocatePagingDomain(context, place.device, purpose)
  if (!domain.ok) return domain
  const id = objects.add(pagingHwpt(purpose, domain.value, { isAutomatic: true, faultQueue: undefined }))
  const arrive = how === join ? joinNew : swapToNew
  const refused = arrive(context, place, id, domain.value)
  if (refused === undefined) return id
  objects.remove(id)
  return refused
}

/** The device is attached before the memory is mapped: Linux has drivers that need that. */
function joinNew(
  context: ContextState,
  place: Place,
  id: ObjectId,
  domain: PagingDomain,
): Refusal | undefined {
  const refused = join(context, place, id)
  if (refused !== undefined) return refused
  const mapped = ioasOf(context, id).addDomain(context.kernel, domain, id)
  if (mapped.ok) return undefined
  forget(context, place, id)
  return mapped
}

/** A device that can reach memory already finds all of it mapped. */
function swapToNew(
  context: ContextState,
  place: Place,
  id: ObjectId,
  domain: PagingDomain,
): Refusal | undefined {
  const { kernel } = context
  const table = ioasOf(context, id)
  const mapped = table.addDomain(kernel, domain, id)
  if (!mapped.ok) return mapped
  const refused = swap(context, place, id)
  if (refused !== undefined) table.removeDomain(kernel, domain.number, id)
  return refused
}

/** The books no longer say that a device is attached to a HWPT. */
function forget(context: ContextState, { id, device, pasid }: Place, hwptId: ObjectId): void {
  device.attachments.delete(pasid)
  if (pasid === 0) ioasOf(context, hwptId).releaseReserved(id)
  context.objects.letGo(hwptId)
}

/** A device that is not attached joins the others of its group, or is their first. */
function join(context: ContextState, place: Place, hwptId: ObjectId): Refusal | undefined {
  const { objects, kernel } = context
  const { id, device, pasid } = place
  if (device.attachments.has(pasid))
    return refuse('attached-already', `device ${device.deviceId} is attached already`)
  const [first] = attachedMembers(context, place)
  const standing = first?.[1].attachments.get(pasid)
  if (standing !== undefined && standing !== hwptId)
    return refuse('group-attached-elsewhere', `group ${device.group} is attached to HWPT ${standing}`)
  const reserved = pasid === 0 ? reserve(context, ioasOf(context, hwptId), [place]) : undefined
  if (reserved !== undefined) return reserved
  if (first === undefined) {
    const refused =
      whyIncompatible(context, place, hwptId) ??
      refusalOf(
        kernel.backend.attach(
          movedDevices(context, device),
          pasid,
          domainOf(hwpt(context, hwptId)),
          undefined,
        ),
      )
    if (refused !== undefined) {
      if (pasid === 0) ioasOf(context, hwptId).releaseReserved(id)
      return refused
    }
  }
  device.attachments.set(pasid, hwptId)
  objects.hold(hwptId)
  return undefined
}

/** An attached device moves with its group; whatever fails leaves it where it was. */
function swap(context: ContextState, place: Place, hwptId: ObjectId): Refusal | undefined {
  const { objects, kernel } = context
  const { device, pasid } = place
  const old = device.attachments.get(pasid)
  if (old === undefined) return refuse('not-attached', `device ${device.deviceId} is not attached`)
  if (old === hwptId) return undefined
  const members = attachedMembers(context, place)
  const from = ioasOf(context, old)
  const to = ioasOf(context, hwptId)
  const changesIoas = pasid === 0 && from !== to
  const moving = members.map(([id, member]) => ({ id, device: member, pasid }))
  const reserved = changesIoas ? reserve(context, to, moving) : undefined
  if (reserved !== undefined) return reserved
  const refused =
    whyIncompatible(context, place, hwptId) ??
    refusalOf(
      kernel.backend.attach(
        movedDevices(context, device),
        pasid,
        domainOf(hwpt(context, hwptId)),
        domainOf(hwpt(context, old)),
      ),
    )
  if (refused !== undefined) {
    if (changesIoas) for (const { id } of moving) to.releaseReserved(id)
    return refused
  }
  for (const [id, member] of members) {
    member.attachments.set(pasid, hwptId)
    objects.hold(hwptId)
    objects.letGo(old)
    if (changesIoas) from.releaseReserved(id)
  }
  return (
    refuseFaults(
      context,
      old,
      pasid,
      members.map(([id]) => id),
    ) ?? dropAutomatic(context, old)
  )
}

/** All HWPTs of a device with PASIDs must be made for that; and none with a fault queue for what cannot be answered. */
function whyIncompatible(context: ContextState, place: Place, hwptId: ObjectId): Refusal | undefined {
  const { device, pasid } = place
  const to = hwpt(context, hwptId)
  if (pasid !== 0 && !to.allowsPasid)
    return refuse('hwpt-without-pasid', `HWPT ${hwptId} was not allocated for PASIDs`)
  for (const [, member] of groupOf(context, place)) {
    for (const [other, on] of member.attachments) {
      if (pasid === 0 && other !== 0 && !to.allowsPasid)
        return refuse('hwpt-beside-pasid', `PASID ${other} is attached, and HWPT ${hwptId} is not for PASIDs`)
      if (pasid !== 0 && other === 0 && !hwpt(context, on).allowsPasid)
        return refuse('pasid-beside-hwpt', `HWPT ${on}, which the device is on, is not for PASIDs`)
    }
  }
  const on = backendDevice(context.kernel, device)
  if (to.faultQueue !== undefined && on.isVirtualFunctionWithPri)
    return refuse('fault-queue-for-vf', `device ${on.deviceId} is a virtual function with page requests`)
  if (pasid !== 0 && on.pasids > 0 && pasid >= on.pasids)
    return refuse('pasid-range', `device ${on.deviceId} has ${on.pasids} PASIDs, not ${pasid}`)
  return undefined
}

/** The devices bring their reserved regions into an IOAS, all or none. */
function reserve(context: ContextState, table: IoPagetable, places: readonly Place[]): Refusal | undefined {
  for (const { id, device } of places) {
    for (const range of backendDevice(context.kernel, device).reserved) {
      const refused = table.reserve(id, range)
      if (refused === undefined) continue
      for (const each of places) table.releaseReserved(each.id)
      return refused
    }
  }
  return undefined
}

/** An automatic HWPT that nothing holds any more goes. */
function dropAutomatic({ objects, kernel }: ContextState, id: ObjectId): Refusal | undefined {
  const old = objects.get(id)
  if (old?.kind !== 'paging-hwpt' || !old.isAutomatic || old.users > 0) return undefined
  const { table } = objects.held(old.ioas, 'ioas')
  const removed = table.removeDomain(kernel, old.domain.number, id)
  if (!removed.ok) return removed
  const freed = kernel.backend.freeDomain(old.domain.number)
  if (!freed.ok) return freed
  objects.remove(id)
  return undefined
}

const hwpt = ({ objects }: ContextState, id: ObjectId): Hwpt =>
  objects.find(id, 'nested-hwpt') ?? objects.held(id, 'paging-hwpt')

const domainOf = (to: Hwpt): DomainNumber => (to.kind === 'paging-hwpt' ? to.domain.number : to.domain)

/** The addresses that a HWPT translates to memory: its own, or those of its nest parent. */
function ioasOf(context: ContextState, id: ObjectId): IoPagetable {
  const { objects } = context
  const on = hwpt(context, id)
  if (on.kind === 'paging-hwpt') return objects.held(on.ioas, 'ioas').table
  const parent = 'parent' in on.on ? on.on.parent : objects.held(on.on.viommu, 'viommu').parent
  return objects.held(objects.held(parent, 'paging-hwpt').ioas, 'ioas').table
}

const refusalOf = (outcome: Outcome<unknown>): Refusal | undefined => (outcome.ok ? undefined : outcome)
