/**
 * Where devices behind AMD IOMMUs stand: groups that user space takes over, what devices are put on, tables behind PASIDs.
 *
 * Linux drivers/iommu/iommu.c, `iommu_group_claim_dma_owner`, `iommu_attach_device_pasid`. Several devices move as one:
 * all of them, or nothing has changed.
 *
 * @packageDocumentation
 */
import type { DomainNumber, Driver, Refusal as DriverRefusal } from '@nestwalk/driver'
import { isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'

/**
 * Blocks a group. EINVAL if firmware wants one of its devices to reach memory at all times; EBUSY while the kernel has
 * processes behind PASIDs of one.
 */
export const claimGroup = (driver: Driver, group: number): Outcome<undefined> =>
  forEach(driver, membersOf(driver, group), (deviceId) => {
    if (driver.unityMaps(deviceId).length > 0)
      return refuse('amd-unity-mapped', `firmware wants device ${deviceId} to reach memory of its own always`)
    return driver.detach(deviceId)
  })

/** Puts a group on its default domain. */
export const releaseGroup = (driver: Driver, group: number): Outcome<undefined> =>
  forEach(driver, membersOf(driver, group), (deviceId) => driver.attachDefault(deviceId))

export const membersOf = (driver: Driver, group: number): readonly number[] =>
  driver.groupMembers(group).map(({ deviceId }) => deviceId)

export const attachDevices = (
  driver: Driver,
  deviceIds: readonly number[],
  domain: DomainNumber,
): Outcome<undefined> => forEach(driver, deviceIds, (deviceId) => driver.attach(deviceId, domain))

/** Blocks devices. What they have behind PASIDs goes too, for nothing of it may pass any more. */
export const detachDevices = (driver: Driver, deviceIds: readonly number[]): Outcome<undefined> =>
  forEach(driver, deviceIds, (deviceId) => {
    for (const pasid of driver.device(deviceId)?.processes.keys() ?? []) {
      const left = driver.detachPasid([deviceId], pasid)
      if (!left.ok) return left
    }
    return driver.detach(deviceId)
  })

/** Puts a table behind a PASID, in place of the one `from`; devices without PASIDs are passed over. */
export function attachPasid(
  driver: Driver,
  deviceIds: readonly number[],
  pasid: number,
  domain: DomainNumber,
  from: DomainNumber | undefined,
): Outcome<undefined> {
  const able = deviceIds.filter((deviceId) => (driver.device(deviceId)?.maxPasids ?? 0) > 0)
  return together(driver, () => {
    const left = from === undefined ? undefined : detachPasid(driver, able, pasid)
    if (left?.ok === false) return left
    return refusalOf(driver.attachPasid(able, pasid, domain))
  })
}

/** Takes what is behind a PASID away from those devices that have something there. */
export function detachPasid(driver: Driver, deviceIds: readonly number[], pasid: number): Outcome<undefined> {
  const owners = deviceIds.filter((deviceId) => driver.device(deviceId)?.processes.has(pasid))
  return driver.detachPasid(owners, pasid)
}

const forEach = (
  driver: Driver,
  deviceIds: readonly number[],
  operation: (deviceId: number) => Outcome<undefined>,
): Outcome<undefined> =>
  together(driver, () => {
    for (const deviceId of deviceIds) {
      const done = operation(deviceId)
      if (!done.ok) return done
    }
    return undefined
  })

/** A transaction. The driver passes a refusal on as it is, whatever its errno. */
export const together = <T>(driver: Driver, operations: () => T | Refusal): Outcome<T> =>
  driver.transaction(operations as () => T | DriverRefusal)

const refusalOf = (outcome: Outcome<unknown>): Refusal | undefined =>
  isRefusal(outcome) ? outcome : undefined
