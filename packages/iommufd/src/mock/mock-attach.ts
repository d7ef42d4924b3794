/**
 * Putting mock devices on domains.
 *
 * @packageDocumentation
 */
import { refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import { mockFailingPasid } from './abi.js'
import type { Journal } from './journal.js'
import type { MockDevice } from './mock-device.js'
import type { MockDomain } from './mock-domain.js'
import { virtualIdOf } from './mock-viommu.js'
import type { MockViommu } from './mock-viommu.js'

/** A domain, and the vIOMMU that it was made on. */
export interface AttachTarget {
  readonly number: number
  readonly domain: MockDomain
  readonly viommu: MockViommu | undefined
}

/** What keeps a device off a domain for requests without PASID. EINVAL, ENOENT. PASIDs are never refused so. */
export function refuseAttach({ info }: MockDevice, { domain, viommu }: AttachTarget): Refusal | undefined {
  if (domain.kind === 'paging') {
    if (!domain.paging.canTrackDirty || info.canTrackDirty) return undefined
    return refuse(
      'mock-attach-dirty',
      `mock device ${info.deviceId} cannot track dirty pages, as the HWPT does`,
    )
  }
  if (viommu === undefined || virtualIdOf(viommu, info.deviceId) !== undefined) return undefined
  return refuse('mock-attach-vdevice', `mock device ${info.deviceId} has no vDEVICE in the HWPT's vIOMMU`)
}

/**
 * Whether this change on PASID 1024 fails, as every second one since the last detach does.
 *
 * That it failed is kept, also when the transaction around it is undone: else it would fail for ever.
 */
export function refusePasid(device: MockDevice, pasid: number): Refusal | undefined {
  if (pasid !== mockFailingPasid || device.info.pasids === 0 || !device.failsNext) return undefined
  device.failsNext = false
  return refuse(
    'mock-pasid-1024',
    `this change of PASID 1024 of mock device ${device.info.deviceId} fails on purpose`,
  )
}

/** Puts a device on a domain. */
export function putOn(device: MockDevice, pasid: number, target: AttachTarget, journal: Journal): void {
  keepForUndo(device, journal)
  journal.set(device.domains, pasid, target.number)
  if (pasid === 0) device.events = eventsAfter(device, target)
  if (pasid === mockFailingPasid && device.info.pasids > 0) device.failsNext = true
}

/** Blocks a device. */
export function takeOff(device: MockDevice, pasid: number, journal: Journal): void {
  keepForUndo(device, journal)
  journal.delete(device.domains, pasid)
  if (pasid === 0) device.events = undefined
  if (pasid === mockFailingPasid) device.failsNext = false
}

/** A device that stays with its vIOMMU keeps the virtual ID that it came with, even if that has changed since. */
function eventsAfter({ info, events }: MockDevice, { domain, viommu }: AttachTarget): MockDevice['events'] {
  if (viommu === undefined || domain.kind === 'paging' || domain.viommu === undefined) return undefined
  if (events?.viommu === domain.viommu) return events
  return { viommu: domain.viommu, virtualId: virtualIdOf(viommu, info.deviceId) ?? 0n }
}

function keepForUndo(device: MockDevice, journal: Journal): void {
  const { events, failsNext } = device
  journal.changed(() => {
    device.events = events
    device.failsNext = failsNext
  })
}
