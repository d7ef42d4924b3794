/**
 * VIOMMU_ALLOC and VDEVICE_ALLOC: an IOMMU of a guest, and what its guest calls each device.
 *
 * Linux drivers/iommu/iommufd/viommu.c.
 *
 * @packageDocumentation
 */
import type { BackendViommu, UserData } from '../backend.js'
import type { ContextState } from '../context-state.js'
import { behindOther } from '../hwpt/allocate.js'
import { backendDevice } from '../hwpt/backend-device.js'
import type { ObjectId, Viommu } from '../object/object.js'
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { noData } from '../user-data.js'

/** VIOMMU_ALLOC. */
export interface ViommuAllocation {
  /** Any device behind the IOMMU that the vIOMMU stands for. */
  readonly device: ObjectId
  readonly parent: ObjectId
  readonly type: number
  readonly data?: UserData
}

export function allocateViommu(context: ContextState, request: ViommuAllocation): Outcome<ObjectId> {
  const { objects, kernel, regions } = context
  const { type, data = noData } = request
  if (type === 0) return refuse('viommu-default-type', 'type 0 stands for no vIOMMU')
  const device = objects.need(request.device, 'device', 'no-such-device-object')
  if (isRefusal(device)) return device
  const on = backendDevice(kernel, device)
  if (!kernel.backend.hasViommu(on, type))
    return refuse(
      'viommu-type',
      `the ${kernel.backend.name} driver has no vIOMMU of type 0x${type.toString(16)}`,
    )
  const parent = objects.need(request.parent, 'paging-hwpt', 'no-such-parent')
  if (isRefusal(parent)) return parent
  if (!parent.isNestParent)
    return refuse('not-a-nest-parent', `HWPT ${request.parent} was not allocated as a nest parent`)
  const full = objects.whyFull()
  if (full !== undefined) return full
  let offset: bigint | undefined
  const made = kernel.backend.transaction<BackendViommu>(() => {
    const viommu = kernel.backend.createViommu({
      device: on,
      parent: parent.domain.number,
      type,
      data,
      offerRegion: (region) => (offset = regions.offer(region)),
    })
    return viommu.ok ? viommu.value : viommu
  })
  if (!made.ok) {
    if (offset !== undefined) regions.withdraw(offset)
    return made
  }
  const { number } = made.value
  const { iommu } = on
  const id = objects.add({
    ...{ kind: 'viommu', users: 0, parent: request.parent, number, iommu, regionOffset: offset },
  })
  if (offset !== undefined) regions.assign(offset, id)
  return accept(id, made.effects)
}

/** The device's number in the guest of a vIOMMU; a device has one vDEVICE at most. */
export function allocateVdevice(
  context: ContextState,
  viommuId: ObjectId,
  deviceId: ObjectId,
  virtualId: bigint,
): Outcome<ObjectId> {
  const { objects, kernel } = context
  const viommu = objects.need(viommuId, 'viommu', 'no-such-viommu')
  if (isRefusal(viommu)) return viommu
  const device = objects.need(deviceId, 'device', 'no-such-device-object')
  if (isRefusal(device)) return device
  const on = backendDevice(kernel, device)
  if (on.iommu !== viommu.iommu) return behindOther(on, viommu)
  if (device.vdevice !== undefined)
    return refuse('device-has-vdevice', `device object ${deviceId} has vDEVICE ${device.vdevice} already`)
  const taken = whyTaken(context, viommuId, virtualId)
  if (taken !== undefined) return taken
  const made = kernel.backend.addVdevice(viommu.number, on, virtualId)
  if (!made.ok) return made
  const id = objects.add({ kind: 'vdevice', users: 0, viommu: viommuId, device: deviceId, virtualId })
  device.vdevice = id
  return accept(id, made.effects)
}

function whyTaken({ objects }: ContextState, viommu: ObjectId, virtualId: bigint): Refusal | undefined {
  for (const [id, vdevice] of objects.all('vdevice')) {
    if (vdevice.viommu === viommu && vdevice.virtualId === virtualId)
      return refuse('virtual-id-taken', `virtual ID ${virtualId} is vDEVICE ${id} in the vIOMMU`)
  }
  return objects.whyFull()
}

/** The vIOMMU with a number of the backend's. */
export function viommuWithNumber(
  { objects }: ContextState,
  number: number,
): readonly [ObjectId, Viommu] | undefined {
  for (const [id, viommu] of objects.all('viommu')) if (viommu.number === number) return [id, viommu]
  return undefined
}
