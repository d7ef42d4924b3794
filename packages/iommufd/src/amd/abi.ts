/**
 * Numbers and structures of AMD's in the API: Linux include/uapi/linux/iommufd.h, and our extensions of it.
 *
 * The extensions are ours alone; they are described in docs/iommufd-extensions.md.
 *
 * @packageDocumentation
 */
import { defineStruct, u64, u64Array } from '@nestwalk/bits'

/** IOMMU_HW_INFO_TYPE_AMD. */
export const amdHwInfoType = 4

/** `iommu_hw_info_amd`: the feature registers as they are read at MMIO 30h and 1A0h. */
export const amdHwInfoLayout = defineStruct({
  name: 'iommu_hw_info_amd',
  byteLength: 16,
  fields: { efr: u64(0), efr2: u64(8) },
})

/** IOMMU_HWPT_DATA_AMD_GUEST. */
export const amdGuestDataType = 3

/** `iommu_hwpt_amd_guest`: the guest's device table entry, lowest quad-word first. */
export const amdGuestLayout = defineStruct({
  name: 'iommu_hwpt_amd_guest',
  byteLength: 32,
  fields: { dte: u64Array(0, 4) },
})

/** Extension: type of a vIOMMU whose guest's commands and events pass through the API. */
export const amdViommuType = 3

/** Extension: type of the requests of HWPT_INVALIDATE that are guest commands. */
export const amdInvalidationType = 3

/** Extension: one such request, as it stands in the guest's command buffer. */
export const amdCommandLayout = defineStruct({
  name: 'amd_guest_command',
  byteLength: 16,
  fields: { words: u64Array(0, 2) },
})

/** Extension: type of the event queue with what the guest's event log is to say. */
export const amdEventQueueType = 3

/** Extension: one such event, as the guest's own IOMMU would have written it. */
export const amdEventLayout = defineStruct({
  name: 'amd_guest_event',
  byteLength: 16,
  fields: { words: u64Array(0, 2) },
})

/** Extension: what VIOMMU_ALLOC tells whoever gives data: where the page of registers can be mapped. */
export const amdViommuLayout = defineStruct({
  name: 'amd_viommu',
  byteLength: 16,
  fields: { outRegionOffset: u64(0), outRegionLength: u64(8) },
})

/** Extension: type of a hardware queue that is the guest's command buffer. */
export const amdCommandQueueType = 3

/** Extension: bytes of the page of registers. */
export const amdRegisterBytes = 4096

/** Extension: the registers in the page, which lie as in the third page of an IOMMU's registers, from MMIO 2000h on. */
export const amdRegistersLayout = defineStruct({
  name: 'amd_queue_registers',
  byteLength: 40,
  fields: { commandHead: u64(0), commandTail: u64(8), status: u64(32) },
})
