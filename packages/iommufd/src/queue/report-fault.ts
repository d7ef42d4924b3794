/**
 * Where a page request goes: to the fault queue of the HWPT that the device is attached to.
 *
 * Linux drivers/iommu/io-pgfault.c, drivers/iommu/iommufd/eventq.c.
 *
 * @packageDocumentation
 */
import type { PageFault } from '../backend.js'
import type { ContextState } from '../context-state.js'
import { backendDevice } from '../hwpt/backend-device.js'
import type { BoundDevice, Hwpt, ObjectId } from '../object/object.js'
import type { Refusal } from '../outcome.js'
import type { FaultGroup } from './fault-queue.js'

/** Most requests of a group that wait for its last one; a device may have no more outstanding. */
const mostPartial = 512

/** Takes a page request of a device. What nobody is asked about is answered INVALID. To be called in a transaction. */
export function reportFault(context: ContextState, id: ObjectId, fault: PageFault): Refusal | undefined {
  const { objects, partialFaults } = context
  const device = objects.held(id, 'device')
  const earlier = partialFaults.get(id) ?? []
  if (!fault.isLast) {
    if (earlier.length < mostPartial) partialFaults.set(id, [...earlier, fault])
    return undefined
  }
  const isSame = (other: PageFault): boolean => other.group === fault.group && other.pasid === fault.pasid
  const rest = earlier.filter((other) => !isSame(other))
  if (rest.length > 0) partialFaults.set(id, rest)
  else partialFaults.delete(id)
  const faults = [...earlier.filter(isSame), fault]
  const asked = recipientOf(context, device, fault.pasid ?? 0)
  const queueId = asked?.hwpt.faultQueue
  const group: FaultGroup = { device: id, hwpt: asked?.id ?? 0, pasid: asked?.pasid ?? 0, faults }
  const isQueued = queueId !== undefined && objects.held(queueId, 'fault').queue.report(group)
  return isQueued ? undefined : answer(context, group, 'invalid')
}

/** Tells a device what became of its requests. To be called in a transaction. */
export function answer(
  { objects, kernel }: ContextState,
  { device, faults }: FaultGroup,
  code: 'success' | 'invalid',
): Refusal | undefined {
  const bound = objects.find(device, 'device')
  const [first] = faults
  if (bound === undefined || first === undefined) return undefined
  const response = { pasid: first.pasid, group: first.group, code }
  const done = kernel.backend.respond(backendDevice(kernel, bound), response)
  return done.ok ? undefined : done
}

/** Answers INVALID to what devices asked of a HWPT that they have left, by a PASID. */
export function refuseFaults(
  context: ContextState,
  hwptId: ObjectId,
  pasid: number,
  devices: readonly ObjectId[],
): Refusal | undefined {
  const { objects } = context
  const left = objects.get(hwptId)
  if (left === undefined || !('faultQueue' in left) || left.faultQueue === undefined) return undefined
  const { queue } = objects.held(left.faultQueue, 'fault')
  for (const device of devices) {
    for (const group of queue.abandon({ device, hwpt: hwptId, pasid })) {
      const refused = answer(context, group, 'invalid')
      if (refused !== undefined) return refused
    }
  }
  return undefined
}

interface Recipient {
  readonly id: ObjectId
  readonly hwpt: Hwpt
  /** By which the device is attached there. */
  readonly pasid: number
}

/**
 * What is attached on the PASID; or, where guests own the tables of PASIDs, the nested HWPT that the device is on.
 */
function recipientOf(
  { objects, kernel }: ContextState,
  { attachments }: BoundDevice,
  asked: number,
): Recipient | undefined {
  const pasid = attachments.has(asked) || !kernel.backend.hasGuestPasidTables ? asked : 0
  const id = attachments.get(pasid)
  if (id === undefined) return undefined
  const nested = objects.find(id, 'nested-hwpt')
  if (nested !== undefined) return { id, hwpt: nested, pasid }
  return pasid === asked ? { id, hwpt: objects.held(id, 'paging-hwpt'), pasid } : undefined
}
