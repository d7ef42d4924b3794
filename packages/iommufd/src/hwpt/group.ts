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
  { id, device }: Pick<Place, 'id' | 'device'>,
): readonly (readonly [ObjectId, BoundDevice])[] {
  if (kernel.groupRule === 'per-member') return [[id, device]]
  const { devices = [] } = kernel.owners.get(device.group) ?? {}
  return devices.map((each) => [each, objects.held(each, 'device')])
}

/** Those of the group that are attached by the PASID. */
export const attachedMembers = (
  context: ContextState,
  place: Place,
): readonly (readonly [ObjectId, BoundDevice])[] =>
  groupOf(context, place).filter(([, member]) => member.attachments.has(place.pasid))

/** DeviceIDs that move with a device, bound or not. */
export const movedDevices = (
  { kernel }: ContextState,
  { deviceId, group }: BoundDevice,
): readonly number[] => (kernel.groupRule === 'per-member' ? [deviceId] : kernel.backend.groupMembers(group))
