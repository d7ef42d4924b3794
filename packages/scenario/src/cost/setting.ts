/**
 * A setting in which policies are priced: one VM, its devices in groups behind IOMMUs, its guest's domains.
 *
 * @packageDocumentation
 */

/** Whole numbers from 1 up, but `atsDevices` from 0. */
export interface CostSetting {
  readonly devices: number
  /** IOMMU groups, of devices next to each other. */
  readonly groups: number
  /** IOMMUs, each with groups next to each other, and each with a vIOMMU of the VM. */
  readonly iommus: number
  /** Devices with a TLB of their own: the first ones. */
  readonly atsDevices: number
  /** Groups of the first IOMMU whose devices the guest has under one DomainID; every other group has its own. */
  readonly sharingGroups: number
  /** Processes that every device has behind a PASID, where the tables are the host's. */
  readonly processes: number
}

/** Eight devices in four groups of two behind two IOMMUs; three guest DomainIDs, one of them over two nested domains. */
export const workedExample: CostSetting = {
  ...{ devices: 8, groups: 4, iommus: 2, atsDevices: 8, sharingGroups: 2, processes: 1 },
}

const most = { devices: 64, processes: 4096 } as const

/** @throws RangeError naming the field and its limits */
export function checkSetting(setting: CostSetting): CostSetting {
  const limits: Readonly<Record<keyof CostSetting, readonly [number, number]>> = {
    devices: [1, most.devices],
    groups: [1, setting.devices],
    iommus: [1, setting.groups],
    atsDevices: [0, setting.devices],
    sharingGroups: [1, groupsOn(setting, 0).length],
    processes: [1, most.processes],
  }
  for (const [name, [low, high]] of Object.entries(limits) as [keyof CostSetting, [number, number]][]) {
    const value = setting[name]
    if (!Number.isInteger(value) || value < low || value > high) {
      throw new RangeError(`${name} ${value} is not a whole number from ${low} to ${high}`)
    }
  }
  return setting
}

export const groupOf = ({ devices, groups }: CostSetting, device: number): number =>
  Math.floor((device * groups) / devices)

export const iommuOf = (setting: CostSetting, group: number): number =>
  Math.floor((group * setting.iommus) / setting.groups)

const groupsOn = (setting: CostSetting, iommu: number): number[] =>
  Array.from({ length: setting.groups }, (_, group) => group).filter(
    (group) => iommuOf(setting, group) === iommu,
  )

/** The guest's DomainID for a group. The one that several groups share is {@link sharedDomainId}. */
export const guestDomainOf = ({ sharingGroups }: CostSetting, group: number): number =>
  group < sharingGroups ? sharedDomainId : sharedDomainId + 1 + group - sharingGroups

export const sharedDomainId = 5
