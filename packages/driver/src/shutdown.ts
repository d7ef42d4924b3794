/**
 * Shutdown: giving the IOMMUs up without giving memory away.
 *
 * Linux turns commands and logs off and then the IOMMU itself, and touches no entry (drivers/iommu/amd/init.c,
 * `disable_iommus`). With Control.IommuEn clear everything is forwarded as it comes, whatever the device table says: a
 * device that still does DMA reaches physical memory at what was an address of its domain. Nothing but an IOMMU that is on
 * keeps it off. So here every device is blocked first and waited for, while commands are still carried out; and the IOMMU
 * stays on and refuses, unless it is asked for to forward.
 *
 * @packageDocumentation
 */
import { registers } from '@nestwalk/hardware'
import type { IommuPort } from '@nestwalk/hardware'
import { blockDevice } from './attach.js'
import type { Books } from './books.js'
import { noProcesses } from './device.js'
import { turnOff } from './enable.js'
import type { Plan } from './plan.js'

/** What becomes of requests after shutdown: the IOMMU refuses them, or is off and forwards them untranslated. */
export type AfterShutdown = 'refused' | 'forwarded'

/** Blocks every device with all its PASIDs, and then turns the IOMMUs off. */
export function shutDown(books: Books, plan: Plan, ports: readonly IommuPort[], after: AfterShutdown): void {
  for (const device of [...books.devices.values()].sort((a, b) => a.deviceId - b.deviceId)) {
    if (device.domain.kind === 'blocked' && !books.inherited.has(device.deviceId)) continue
    const withoutPasids = { ...device, processes: noProcesses }
    books.devices.set(device.deviceId, withoutPasids)
    blockDevice(books, plan, withoutPasids)
  }
  for (const [iommu, port] of ports.entries()) {
    turnOff(plan, iommu, port.readMmio(registers.control.offset, 8), after === 'refused')
  }
}
