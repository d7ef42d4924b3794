/**
 * Addresses that no mapping may use while a device is attached.
 *
 * Linux drivers/iommu/amd/iommu.c, `amd_iommu_get_resv_regions`: the MSI window and the HyperTransport hole.
 *
 * @packageDocumentation
 */

/** An inclusive range. */
export interface ReservedRegion {
  readonly first: bigint
  readonly last: bigint
}

export const reservedRegions: readonly ReservedRegion[] = [
  { first: 0xfee0_0000n, last: 0xfeef_ffffn },
  { first: 0xfd_0000_0000n, last: 0xff_ffff_ffffn },
]

/** The first reserved region that a range of `length` bytes meets. */
export const reservedIn = (first: bigint, length: bigint): ReservedRegion | undefined =>
  reservedRegions.find((region) => first <= region.last && region.first < first + length)
