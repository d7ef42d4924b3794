/**
 * The flush of a whole IOMMU: nothing that was cached before may be used after it.
 *
 * Linux drivers/iommu/amd/iommu.c, `amd_iommu_flush_all_caches`: one command where the chip has INVALIDATE_IOMMU_ALL,
 * else device table, interrupt tables and translations in turn, each with a wait.
 *
 * @packageDocumentation
 */
import { deviceId as asDeviceId, domainId as asDomainId } from '@nestwalk/hardware'
import { everything, rangeFields } from './invalidation-range.js'
import type { Plan } from './plan.js'

/** What may be cached in the IOMMU. */
export interface FlushScope {
  /** EFR.IASup. */
  readonly invalidateAll: boolean
  readonly lastDeviceId: number
  /** Highest DomainID that a device table entry may have. */
  readonly lastDomainId: number
  /** Gap U18 is open. */
  readonly walksDeviceIds: boolean
}

/** Plans the flush, and waits for it. */
export function flushWhole(plan: Plan, iommu: number, scope: FlushScope): void {
  if (scope.invalidateAll) {
    plan.command(iommu, { kind: 'InvalidateIommuAll' }, 'nothing cached before may stay')
    plan.wait(iommu)
    return
  }
  for (let id = 0; id <= scope.lastDeviceId; id++) {
    plan.command(iommu, { kind: 'InvalidateDevtabEntry', deviceId: asDeviceId(id) }, 'no entry may stay')
  }
  plan.wait(iommu)
  for (let id = 0; id <= scope.lastDeviceId; id++) {
    const command = { kind: 'InvalidateInterruptTable', deviceId: asDeviceId(id) } as const
    plan.command(iommu, command, 'no interrupt entry may stay')
  }
  plan.wait(iommu)
  // Gap U18: Linux counts to the last DeviceID here, and what is cached under higher DomainIDs stays.
  const last = scope.walksDeviceIds ? scope.lastDeviceId : scope.lastDomainId
  for (let id = 0; id <= last; id++) {
    const all = { directories: true, guestNested: false, ...rangeFields(everything) }
    plan.command(
      iommu,
      { kind: 'InvalidateIommuPages', domainId: asDomainId(id), ...all },
      'no translation may stay',
    )
  }
  plan.wait(iommu)
}
