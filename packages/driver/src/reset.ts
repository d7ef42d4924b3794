/**
 * A device that is reset, or goes: blocked first, whatever it was on.
 *
 * Linux drivers/iommu/iommu.c, `pci_dev_reset_iommu_prepare` and `pci_dev_reset_iommu_done`.
 *
 * @packageDocumentation
 */
import { blockDevice, moveDevice, switchFeatures } from './attach.js'
import { hasGap } from './books.js'
import type { Books } from './books.js'
import { noProcesses } from './device.js'
import type { Device } from './device.js'
import { InternalError, refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { Plan } from './plan.js'
import { attachPasid, detachPasid } from './process-binding.js'

/** Parks a device: blocked, out of what its group agrees on, until {@link endReset}. */
export function beginReset(books: Books, plan: Plan, device: Device): Refusal | undefined {
  if (device.parked !== undefined)
    return refuse('EBUSY', 'member-in-reset', 'the device is being reset already')
  const { domain, processes, features } = device
  const left = block(books, plan, device)
  if ('ok' in left) return left
  books.devices.set(device.deviceId, { ...left, parked: { domain, processes, features } })
  return undefined
}

/** Puts a device back on what it was on. */
export function endReset(books: Books, plan: Plan, device: Device): Refusal | undefined {
  const { parked } = device
  if (parked === undefined) return refuse('EINVAL', 'not-in-reset', 'the device is not being reset')
  // Linux attaches the processes one by one, to a table of the device's own; a shared one may have them already.
  const [atOnce, oneByOne] = hasGap(books, 'U17')
    ? [noProcesses, parked.processes]
    : [parked.processes, noProcesses]
  // Under gap U5 an attach does not turn these on.
  const features = hasGap(books, 'U11') ? device.features : parked.features
  if (parked.domain.kind === 'nested') switchFeatures(plan, device, features)
  const ready = change(books, device.deviceId, {
    ...{ parked: undefined, processes: atOnce },
    ...(parked.domain.kind === 'nested' ? { features } : {}),
  })
  if (parked.domain.kind === 'blocked') return undefined
  const refused =
    moveDevice(books, plan, ready, parked.domain) ?? attachEach(books, plan, device.deviceId, oneByOne)
  if (refused !== undefined || parked.domain.kind !== 'nested' || hasGap(books, 'U11')) return refused
  // Under gap U3 an attach does not do this, and the reset took it away.
  change(books, device.deviceId, { recorded: parked.domain.parent })
  return undefined
}

/** Forgets a device that has gone. It is blocked before anything that it used can be freed. */
export function unplug(books: Books, plan: Plan, device: Device): Refusal | undefined {
  const left = block(books, plan, device)
  if ('ok' in left) return left
  books.devices.delete(device.deviceId)
  return undefined
}

function attachEach(
  books: Books,
  plan: Plan,
  deviceId: number,
  processes: Device['processes'],
): Refusal | undefined {
  for (const [pasid, process] of processes) {
    const refused = attachPasid(books, plan, [deviceId], pasid, process)
    if (refused !== undefined) return refused
  }
  return undefined
}

/** Blocks a device and takes its processes away; returns it as it is afterwards. */
function block(books: Books, plan: Plan, device: Device): Device | Refusal {
  // A table of the device's own goes without a flush of its DomainID: each process has to be flushed by itself.
  for (const pasid of hasGap(books, 'U17') ? device.processes.keys() : []) {
    const refused = detachPasid(books, plan, [device.deviceId], pasid)
    if (refused !== undefined) return refused
  }
  return blockDevice(books, plan, change(books, device.deviceId, { processes: noProcesses }))
}

function change(books: Books, deviceId: number, what: Partial<Device>): Device {
  const device = books.devices.get(deviceId)
  if (device === undefined) throw new InternalError(`device ${deviceId} is gone`)
  const changed = { ...device, ...what }
  books.devices.set(deviceId, changed)
  return changed
}
