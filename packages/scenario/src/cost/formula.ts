/**
 * What each policy must cost by counting on paper; the runs are held against it.
 *
 * Commands for one range: one INVALIDATE_IOMMU_PAGES for each (DomainID, IOMMU) that may hold it, one
 * INVALIDATE_IOTLB_PAGES for each device TLB, one COMPLETION_WAIT for each IOMMU.
 *
 * @packageDocumentation
 */
import { groupOf } from './setting.js'
import type { CostSetting } from './setting.js'

/** DomainIDs that can stand in an entry of the VM, and the commands of one unmap of a page. */
export interface NestedCost {
  readonly domainIds: number
  /** Unmap of guest physical memory (stage 2). */
  readonly stage2Unmap: number
  /** A guest's unmap under the DomainID that several groups share (stage 1), with its invalidations of device TLBs. */
  readonly stage1Unmap: number
}

/** DomainIDs that are taken, pages of GCR3 tables, and the commands of one unmap of a page. */
export interface HostOwnedCost {
  readonly domainIds: number
  readonly gcr3Pages: number
  /** In the domain that all devices are on. */
  readonly unmap: number
  /** In a process that all devices have behind a PASID. */
  readonly processUnmap: number
}

/** How policies differ in what DomainIDs are given for. */
type NestedKind = 'group' | 'device' | 'table' | 'guest-domain' | 'nested-domain'

const kinds: Readonly<Record<string, NestedKind>> = {
  ...{ G: 'group', D: 'device', DF: 'device', S: 'table', N: 'nested-domain' },
  ...{ M: 'guest-domain', X: 'guest-domain', CM: 'guest-domain', CX: 'guest-domain' },
}

/** @param letter - of a policy of ours; undefined for others, and for M7, whose waits depend on its gaps */
export function nestedFormula(letter: string, setting: CostSetting): NestedCost | undefined {
  const kind = kinds[letter]
  if (kind === undefined) return undefined
  const { devices, groups, iommus, sharingGroups, atsDevices } = setting
  const sharing = Array.from({ length: devices }, (_, device) => device).filter(
    (device) => groupOf(setting, device) < sharingGroups,
  )
  const guestDomains = groups - sharingGroups + 1
  const ids = {
    group: groups,
    device: devices,
    table: 1,
    'guest-domain': 1 + guestDomains,
    'nested-domain': 1 + groups,
  }
  // The host table's own ID may be cached on each IOMMU, a guest's or a device's on one.
  const places = {
    ...{ group: groups, device: devices, table: iommus },
    ...{ 'guest-domain': iommus + guestDomains, 'nested-domain': iommus + groups },
  }
  const fanOut = {
    ...{ group: sharingGroups, device: sharing.length, table: 1 },
    ...{ 'guest-domain': 1, 'nested-domain': sharingGroups },
  }
  const sharingAts = sharing.filter((device) => device < atsDevices).length
  return {
    domainIds: ids[kind],
    stage2Unmap: places[kind] + atsDevices + iommus,
    stage1Unmap: fanOut[kind] + sharingAts + 1,
  }
}

/** @param isShared - whether equal tables are one */
export function hostOwnedFormula(isShared: boolean, setting: CostSetting): HostOwnedCost {
  const { devices, iommus, atsDevices, processes } = setting
  const tables = isShared ? 1 : devices
  const unmap = (isShared ? iommus : devices) + atsDevices + iommus
  return {
    domainIds: 1 + tables,
    gcr3Pages: tables * pagesFor(processes),
    unmap,
    // Without sharing each device is flushed and waited for by itself.
    processUnmap: isShared ? unmap : 2 * devices + atsDevices,
  }
}

/** Pages of a GCR3 table of two levels for PASIDs 0 to `processes`: the top one, and one for each 512. */
const pagesFor = (processes: number): number => 1 + Math.floor(processes / 512) + 1
