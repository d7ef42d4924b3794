/**
 * Binding devices to a context, and giving them back.
 *
 * Linux drivers/iommu/iommufd/device.c, `iommufd_device_bind`. A group belongs to one context at a time, from its first
 * device to its last.
 *
 * @packageDocumentation
 */
import type { Context } from '../context.js'
import type { ContextState } from '../context-state.js'
import type { KernelState } from '../kernel-state.js'
import type { BoundDevice, ObjectId } from '../object/object.js'
import { releaseVdevice } from '../object/release.js'
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { leave } from './attach.js'

/** Where a device is bound. */
export function boundDevice(
  { backend, owners, contexts }: KernelState,
  deviceId: number,
): { readonly context: Context; readonly id: ObjectId } | undefined {
  const device = backend.device(deviceId)
  const owner = device && owners.get(device.group)
  const context = owner && contexts.get(owner.context)
  const id = owner?.devices.find((each) => context?.objects.held(each, 'device').deviceId === deviceId)
  return context === undefined || id === undefined ? undefined : { context, id }
}

/** Takes a device over. Its group then belongs to the context, and is blocked. */
export function bind({ kernel, objects, number }: ContextState, deviceId: number): Outcome<ObjectId> {
  const { backend, owners } = kernel
  const device = backend.device(deviceId)
  if (device === undefined) return refuse('no-such-device', `device ${deviceId} is not known`)
  if (boundDevice(kernel, deviceId) !== undefined)
    return refuse('device-bound', `device ${deviceId} is bound already`)
  const { group } = device
  const owner = owners.get(group)
  if (owner !== undefined && owner.context !== number)
    return refuse('group-owned', `group ${group} belongs to another context`)
  const full = objects.whyFull()
  if (full !== undefined) return full
  const claimed = owner === undefined ? backend.claimGroup(group) : accept(undefined)
  if (!claimed.ok) return claimed
  // Its driver holds it: only unbinding takes it away.
  const id = objects.add({
    ...{ kind: 'device', users: 1, deviceId, group, attachments: new Map(), vdevice: undefined },
  })
  owners.set(group, { context: number, devices: [...(owner?.devices ?? []), id] })
  return accept(id, claimed.effects)
}

/**
 * Detaches a device, PASIDs first; removes its vDEVICE, whose number is then never used again; and gives its group back
 * with the last member.
 */
export function unbind(context: ContextState, id: ObjectId): Outcome<undefined> {
  const { objects, kernel, partialFaults } = context
  const device = objects.need(id, 'device', 'no-such-device-object')
  if (isRefusal(device)) return device
  return kernel.backend.transaction<undefined>(() => {
    const pasids = [...device.attachments.keys()].sort((a, b) => b - a)
    for (const pasid of pasids) {
      const refused = leave(context, { id, device, pasid })
      if (refused !== undefined) return refused
    }
    const refused = giveBack(context, id, device)
    if (refused !== undefined) return refused
    // Nothing is refused from here on.
    if (device.vdevice !== undefined) objects.bury(device.vdevice)
    partialFaults.delete(id)
    objects.letGo(id)
    objects.remove(id)
    return undefined
  })
}

/** The driver forgets the device's name, and with the last of its group that the context owns it. */
function giveBack(
  { objects, kernel, number }: ContextState,
  id: ObjectId,
  { group, vdevice }: BoundDevice,
): Refusal | undefined {
  const { backend, owners } = kernel
  if (vdevice !== undefined) {
    const released = releaseVdevice({ objects, kernel }, objects.held(vdevice, 'vdevice'))
    if (!released.ok) return released
  }
  const others = (owners.get(group)?.devices ?? []).filter((other) => other !== id)
  if (others.length === 0) {
    const given = backend.releaseGroup(group)
    if (!given.ok) return given
    owners.delete(group)
  } else owners.set(group, { context: number, devices: others })
  return undefined
}
