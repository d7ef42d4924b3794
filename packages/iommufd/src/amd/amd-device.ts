/**
 * What iommufd is told of a device behind an AMD IOMMU.
 *
 * Linux drivers/iommu/amd/iommu.c, `amd_iommu_capable`, `amd_iommu_get_resv_regions`.
 *
 * @packageDocumentation
 */
import type { Device, Driver } from '@nestwalk/driver'
import { decodeEfr2 } from '@nestwalk/hardware'
import type { AddressRange, BackendDevice } from '../backend.js'

/** Writes there are interrupts, not memory. */
const interrupts: AddressRange = { first: 0xfee0_0000n, last: 0xfeef_ffffn }

/** Addresses with a meaning of their own on HyperTransport. */
const hyperTransport: AddressRange = { first: 0xfd_0000_0000n, last: 0xff_ffff_ffffn }

/** A device of the driver's. PASIDs are reported whether or not what the device is on has them enabled. */
export function describeDevice(driver: Driver, device: Device): BackendDevice {
  const { deviceId, group, iommu, maxPasids, atsQueueDepth } = device
  return {
    deviceId,
    group,
    iommu,
    pasids: maxPasids,
    canTrackDirty: driver.abilities.dirtyIommus.has(iommu),
    enforcesCoherency: true,
    hasAts: atsQueueDepth > 0,
    // Linux enables PASIDs without these two.
    canExecutePasid: false,
    hasPrivilegedPasid: false,
    isVirtualFunctionWithPri: false,
    reserved: reservedFor(driver, deviceId),
  }
}

/** What firmware wants the device to reach at its own address, then what is no memory. */
function reservedFor(driver: Driver, deviceId: number): readonly AddressRange[] {
  const direct = driver.unityMaps(deviceId).map(({ start, byteLength }) => ({
    first: BigInt(start),
    last: start + byteLength - 1n,
  }))
  const holes = ignoresHyperTransport(driver) ? [interrupts] : [interrupts, hyperTransport]
  return [...direct, ...holes]
}

/** EFR2.HtRangeIgnore of every IOMMU. */
const ignoresHyperTransport = ({ iommus }: Driver): boolean =>
  iommus.every(({ features }) => decodeEfr2(features.efr2).htRangeIgnore)
