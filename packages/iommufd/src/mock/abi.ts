/**
 * Numbers and driver structures of the mock IOMMU: what user space and the mock driver tell each other.
 *
 * Linux drivers/iommu/iommufd/iommufd_test.h.
 *
 * @packageDocumentation
 */
import { defineStruct, u32, u64 } from '@nestwalk/bits'

/** Bytes of the mock IOMMU's smallest page: half a page of the processor, so that the two sizes differ. */
export const mockPageBytes = 2048
/** Bytes of the large page of the HUGE page table. */
export const mockHugePageBytes = 0x10_0000

/** Addresses that a page table of the default format is said to map. */
export const mockAperture = { first: 0x0100_0000n, last: 0x7fff_ffffn } as const
/** Addresses that a page table reaches: three levels of 512 entries above 2 KiB. */
export const mockAddressBits = 38

/** PASIDs of a device that has them. */
export const mockPasids = 1 << 20
/** The PASID on which a device lets a change of its page table fail. */
export const mockFailingPasid = 1024

export const mockHwInfoType = 0xfeed_beef
export const mockRegisterValue = 0xdead_beef
export const mockHwptType = 0xdead
export const mockInvalidationType = 0xdead_beef
export const mockViommuType = 0xdead_beef
export const mockEventQueueType = 0xbeef_beef
export const mockHwQueueType = 0xdead_beef
/** Hardware queues that a vIOMMU has. */
export const mockHwQueues = 2

/** Entries of the TLB that stands in for a nested domain's. */
export const mockIotlbEntries = 4
/** Entries of the cache that stands in for a device's. */
export const mockDeviceCacheEntries = 4
/** What a new device's cache holds. */
export const mockDeviceCacheDefault = 0xba_ddad

export const mockPageTableFormat = { default: 0, huge: 1 } as const

/** `iommu_hwpt_selftest`: data of HWPT_ALLOC. Only `iotlb` must be given. */
export const mockHwptLayout = defineStruct({
  name: 'iommu_hwpt_selftest',
  byteLength: 8,
  fields: { iotlb: u32(0), pageTableFormat: u32(4) },
})
export const mockHwptMinBytes = 4

/** `iommu_test_hw_info`: what GET_HW_INFO gives. */
export const mockHwInfoLayout = defineStruct({
  name: 'iommu_test_hw_info',
  byteLength: 8,
  fields: { flags: u32(0), testRegister: u32(4) },
})

/** `iommu_hwpt_invalidate_selftest`: one request to a nested HWPT. */
export const mockInvalidationLayout = defineStruct({
  name: 'iommu_hwpt_invalidate_selftest',
  byteLength: 8,
  fields: { flags: u32(0), iotlbId: u32(4) },
})

/** `iommu_viommu_invalidate_selftest`: one request to a vIOMMU. */
export const mockViommuInvalidationLayout = defineStruct({
  name: 'iommu_viommu_invalidate_selftest',
  byteLength: 12,
  fields: { flags: u32(0), virtualId: u32(4), cacheId: u32(8) },
})

/** The flag of both kinds of requests that means every entry. */
export const mockInvalidateAll = 1

/** `iommu_viommu_selftest`: data of VIOMMU_ALLOC, read and written. The two words must be given. */
export const mockViommuLayout = defineStruct({
  name: 'iommu_viommu_selftest',
  byteLength: 24,
  fields: { inData: u32(0), outData: u32(4), outMmapOffset: u64(8), outMmapLength: u64(16) },
})
export const mockViommuMinBytes = 8
/** Bytes that a vIOMMU offers to be mapped: two pages. */
export const mockViommuRegionBytes = 8192

/** `iommu_viommu_event_selftest`: an event of a vIOMMU. */
export const mockEventLayout = defineStruct({
  name: 'iommu_viommu_event_selftest',
  byteLength: 4,
  fields: { virtualId: u32(0) },
})
