/**
 * A device that is reset, or goes: blocked first, whatever it was on.
 *
 * Linux drivers/iommu/iommu.c, `pci_dev_reset_iommu_prepare` and `pci_dev_reset_iommu_done`.
 *
 * @packageDocumentation
 */
import { moveDevice } from './attach.js'
import { hasGap } from './books.js'
import type { Books } from './books.js'
import type { Device } from './device.js'
import { blocked } from './domain.js'
import { InternalError, refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { Plan } from './plan.js'

/** Parks a device: blocked, out of what its group agrees on, until {@link endReset}. */
export function beginReset(books: Books, plan: Plan, device: Device): Refusal | undefined {
  if (device.parked !== undefined)
    return refuse('EBUSY', 'member-in-reset', 'the device is being reset already')
  const { domain, processes } = device
  const refused = block(books, plan, device)
  if (refused !== undefined) return refused
  change(books, device.deviceId, { parked: { domain, processes } })
  return undefined
}

/** Puts a device back on what it was on. */
export function endReset(books: Books, plan: Plan, device: Device): Refusal | undefined {
  const { parked } = device
  if (parked === undefined) return refuse('EINVAL', 'not-in-reset', 'the device is not being reset')
  const ready = change(books, device.deviceId, { parked: undefined, processes: parked.processes })
  if (parked.domain.kind === 'blocked') return undefined
  const refused = moveDevice(books, plan, ready, parked.domain)
  if (refused !== undefined || parked.domain.kind !== 'nested' || hasGap(books, 'U11')) return refused
  // Under gap U3 an attach does not do this, and the reset took it away.
  change(books, device.deviceId, { recorded: parked.domain.parent })
  return undefined
}

/** Forgets a device that has gone. It is blocked before anything that it used can be freed. */
export function unplug(books: Books, plan: Plan, device: Device): Refusal | undefined {
  const refused = block(books, plan, device)
  if (refused === undefined) books.devices.delete(device.deviceId)
  return refused
}

const block = (books: Books, plan: Plan, device: Device): Refusal | undefined =>
  moveDevice(books, plan, change(books, device.deviceId, { processes: new Map() }), blocked)

function change(books: Books, deviceId: number, what: Partial<Device>): Device {
  const device = books.devices.get(deviceId)
  if (device === undefined) throw new InternalError(`device ${deviceId} is gone`)
  const changed = { ...device, ...what }
  books.devices.set(deviceId, changed)
  return changed
}
