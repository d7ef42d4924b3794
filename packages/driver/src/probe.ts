/**
 * Probing a device: which IOMMU it is behind, what firmware says about it, and what it is on to begin with.
 *
 * Linux drivers/iommu/amd/iommu.c, `amd_iommu_probe_device`.
 *
 * @packageDocumentation
 */
import { moveDevice } from './attach.js'
import type { Books } from './books.js'
import { prepareDefault } from './default-domain.js'
import { foundDevice } from './device.js'
import type { Device, DeviceTraits } from './device.js'
import { blocked } from './domain.js'
import { settingsFor } from './firmware-settings.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { Plan } from './plan.js'

/** The device that was found. */
export interface ProbedDevice {
  readonly deviceId: number
  /** IOMMU group. */
  readonly group: number
  /** Index of the IOMMU. With an IVRS table that says it; without one the first IOMMU is the default. */
  readonly iommu: number | undefined
}

/**
 * Makes a device known, on the default domain of its group. The entry of another kernel stays in force until the device is
 * attached: it may still do DMA for that kernel.
 */
export function probeDevice(
  books: Books,
  plan: Plan,
  probed: ProbedDevice,
  traits: Partial<DeviceTraits>,
): Refusal | undefined {
  const device = settle(books, probed, traits)
  if ('ok' in device) return device
  books.devices.set(device.deviceId, device)
  const domain = prepareDefault(books, plan, device)
  if ('ok' in domain) return domain
  return books.inherited.has(device.deviceId) ? undefined : moveDevice(books, plan, device, domain)
}

/** The device with all that is known about it. */
function settle(books: Books, probed: ProbedDevice, traits: Partial<DeviceTraits>): Device | Refusal {
  const { deviceId, group } = probed
  if (books.devices.has(deviceId)) {
    return refuse('EEXIST', 'device-known', `device ${deviceId} is known already`)
  }
  const { hostLevels, guestTables, maxPasids } = books
  if (hostLevels === 0 && !guestTables) {
    return refuse('ENODEV', 'no-translation', 'the IOMMUs have no tables in common')
  }
  const place = placeOf(books, probed)
  if ('ok' in place) return place
  const { iommu, aliases, persistentBits, atsAllowed } = place
  const known = books.iommus[iommu]
  if (known === undefined) return refuse('ENODEV', 'no-such-iommu', `there is no IOMMU ${iommu}`)
  const all = [...new Set([...(traits.aliases ?? []), ...aliases])]
  const beyond = [deviceId, ...all].find((id) => id > books.lastDeviceId)
  if (beyond !== undefined) {
    return refuse('ENODEV', 'no-device-table-entry', `the device table has no entry for device ${beyond}`)
  }
  return foundDevice(
    { deviceId, group, iommu },
    {
      ...traits,
      aliases: all,
      persistentBits: persistentBits ?? traits.persistentBits ?? noBits,
      atsQueueDepth: atsAllowed && known.iotlbSup ? (traits.atsQueueDepth ?? 0) : 0,
      maxPasids: Math.min(traits.maxPasids ?? 0, maxPasids),
    },
    blocked,
  )
}

const noBits: DeviceTraits['persistentBits'] = [0n, 0n, 0n, 0n]

interface Place {
  readonly iommu: number
  readonly aliases: readonly number[]
  readonly persistentBits: DeviceTraits['persistentBits'] | undefined
  readonly atsAllowed: boolean
}

/** What firmware says, or without a word of it what the caller does. */
function placeOf({ firmware, iommus }: Books, { deviceId, iommu }: ProbedDevice): Place | Refusal {
  if (firmware.ranges === undefined) {
    return { iommu: iommu ?? 0, aliases: [], persistentBits: undefined, atsAllowed: true }
  }
  // Tables name the IOMMU among the devices that it translates; it does not translate itself.
  const isIommu = iommus.some((each) => each.deviceId === deviceId)
  const settings = isIommu ? undefined : settingsFor(firmware.ranges, deviceId)
  if (settings === undefined) {
    return refuse('ENODEV', 'no-iommu-for-device', `no IOMMU translates device ${deviceId}`)
  }
  if (iommu !== undefined && iommu !== settings.iommu) {
    const said = `device ${deviceId} is behind IOMMU ${settings.iommu} by the IVRS table`
    return refuse('EINVAL', 'iommu-of-the-table', `${said}, not behind ${iommu}`)
  }
  return settings
}
