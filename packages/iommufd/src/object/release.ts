/**
 * What an object gives back when it is destroyed.
 *
 * @packageDocumentation
 */
import type { ContextState } from '../context-state.js'
import { answer } from '../queue/report-fault.js'
import { backendDevice } from '../hwpt/backend-device.js'
import { releaseHwQueue } from '../viommu/hw-queue.js'
import type { IommufdObject, ObjectId, PagingHwpt, Vdevice } from './object.js'
import { accept } from '../outcome.js'
import type { Outcome } from '../outcome.js'
import type { FaultQueue } from '../queue/fault-queue.js'

/** Gives back what an object holds in the driver and in memory; the object itself goes afterwards. */
export function releaseObject(
  context: ContextState,
  id: ObjectId,
  object: IommufdObject,
): Outcome<undefined> {
  const { backend } = context.kernel
  switch (object.kind) {
    case 'ioas':
      return withoutValue(object.table.unmapAll(context.kernel))
    case 'paging-hwpt':
      return releasePaging(context, id, object)
    case 'nested-hwpt':
      return backend.freeDomain(object.domain)
    case 'viommu': {
      const destroyed = backend.destroyViommu(object.number)
      if (destroyed.ok && object.regionOffset !== undefined) context.regions.withdraw(object.regionOffset)
      return destroyed
    }
    case 'vdevice': {
      const released = releaseVdevice(context, object)
      if (released.ok) context.objects.held(object.device, 'device').vdevice = undefined
      return released
    }
    case 'hw-queue':
      return releaseHwQueue(context, object)
    case 'fault':
      return refuseAll(context, object.queue)
    case 'veventq':
    case 'device':
    case 'access':
    case 'selftest':
      return accept(undefined)
  }
}

function releasePaging(
  { objects, kernel }: ContextState,
  id: ObjectId,
  hwpt: PagingHwpt,
): Outcome<undefined> {
  const { number } = hwpt.domain
  const { table } = objects.held(hwpt.ioas, 'ioas')
  return kernel.backend.transaction<undefined>(() => {
    const removed = table.removeDomain(kernel, number, id)
    if (!removed.ok) return removed
    const freed = kernel.backend.freeDomain(number)
    return freed.ok ? undefined : freed
  })
}

/** The driver forgets what the guest calls a device. */
export function releaseVdevice(
  { objects, kernel }: Pick<ContextState, 'objects' | 'kernel'>,
  vdevice: Vdevice,
): Outcome<undefined> {
  const viommu = objects.held(vdevice.viommu, 'viommu')
  const device = backendDevice(kernel, objects.held(vdevice.device, 'device'))
  return kernel.backend.removeVdevice(viommu.number, device, vdevice.virtualId)
}

/** Nobody will answer what waits in the queue. */
function refuseAll(context: ContextState, queue: FaultQueue): Outcome<undefined> {
  return context.kernel.backend.transaction<undefined>(() => {
    for (const group of queue.abandon()) {
      const refused = answer(context, group, 'invalid')
      if (refused !== undefined) return refused
    }
    return undefined
  })
}

const withoutValue = (outcome: Outcome<unknown>): Outcome<undefined> =>
  outcome.ok ? accept(undefined, outcome.effects) : outcome
