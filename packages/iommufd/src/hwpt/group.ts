/**
 * Who moves with a device: its group, by the rule of the kernel.
 *
 * @packageDocumentation
 */
import type { ContextState } from '../context-state.js'
import type { BoundDevice, ObjectId } from '../object/object.js'

/** A bound device with its number, and the PASID that it is attached by. */
export interface Place {
  readonly id: ObjectId
  readonly device: BoundDevice
  readonly pasid: number
}

/** The bound devices of a group; a device alone where each member stands for itself. */
export function groupOf(
  { objects, kernel }: ContextState,
  device: BoundDevice,
): (readonly [ObjectId, BoundDevice])[] {
  const all = [...objects.all('device')]
  const isMember =
    kernel.groupRule === 'per-member'
      ? (other: BoundDevice) => other === device
      : (other: BoundDevice) => other.group === device.group
  return all.filter(([, other]) => isMember(other))
}

/** Those of the group that are attached by the PASID. */
export const attachedMembers = (
  context: ContextState,
  { device, pasid }: Place,
): (readonly [ObjectId, BoundDevice])[] =>
  groupOf(context, device).filter(([, member]) => member.attachments.has(pasid))

/** DeviceIDs that move with a device, bound or not. */
export const movedDevices = (
  { kernel }: ContextState,
  { deviceId, group }: BoundDevice,
): readonly number[] => (kernel.groupRule === 'per-member' ? [deviceId] : kernel.backend.groupMembers(group))
