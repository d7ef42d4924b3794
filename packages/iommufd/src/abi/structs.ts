/**
 * The structures of `/dev/iommu`'s calls, byte for byte: include/uapi/linux/iommufd.h of Linux 7.3.
 *
 * Fields have the kernel's names in camel case. `__reserved` fields that the kernel checks are `reserved`; those that it
 * does not look at are `unchecked`.
 *
 * @packageDocumentation
 */
import { defineStruct, s32, u16, u32, u64, u8, u8Array } from '@nestwalk/bits'

export const iommuDestroy = defineStruct({
  name: 'iommu_destroy',
  byteLength: 8,
  fields: { size: u32(0), id: u32(4) },
})

export const iommuIoasAlloc = defineStruct({
  name: 'iommu_ioas_alloc',
  byteLength: 12,
  fields: { size: u32(0), flags: u32(4), outIoasId: u32(8) },
})

export const iommuIovaRange = defineStruct({
  name: 'iommu_iova_range',
  byteLength: 16,
  fields: { start: u64(0), last: u64(8) },
})

export const iommuIoasIovaRanges = defineStruct({
  name: 'iommu_ioas_iova_ranges',
  byteLength: 32,
  fields: {
    size: u32(0),
    ioasId: u32(4),
    numIovas: u32(8),
    reserved: u32(12),
    allowedIovas: u64(16),
    outIovaAlignment: u64(24),
  },
})

export const iommuIoasAllowIovas = defineStruct({
  name: 'iommu_ioas_allow_iovas',
  byteLength: 24,
  fields: { size: u32(0), ioasId: u32(4), numIovas: u32(8), reserved: u32(12), allowedIovas: u64(16) },
})

export const iommuIoasMap = defineStruct({
  name: 'iommu_ioas_map',
  byteLength: 40,
  fields: {
    size: u32(0),
    flags: u32(4),
    ioasId: u32(8),
    reserved: u32(12),
    userVa: u64(16),
    length: u64(24),
    iova: u64(32),
  },
})

export const iommuIoasMapFile = defineStruct({
  name: 'iommu_ioas_map_file',
  byteLength: 40,
  fields: {
    size: u32(0),
    flags: u32(4),
    ioasId: u32(8),
    fd: s32(12),
    start: u64(16),
    length: u64(24),
    iova: u64(32),
  },
})

export const iommuIoasCopy = defineStruct({
  name: 'iommu_ioas_copy',
  byteLength: 40,
  fields: {
    size: u32(0),
    flags: u32(4),
    dstIoasId: u32(8),
    srcIoasId: u32(12),
    length: u64(16),
    dstIova: u64(24),
    srcIova: u64(32),
  },
})

export const iommuIoasUnmap = defineStruct({
  name: 'iommu_ioas_unmap',
  byteLength: 24,
  fields: { size: u32(0), ioasId: u32(4), iova: u64(8), length: u64(16) },
})

export const iommuOption = defineStruct({
  name: 'iommu_option',
  byteLength: 24,
  fields: {
    size: u32(0),
    optionId: u32(4),
    op: u16(8),
    reserved: u16(10),
    objectId: u32(12),
    val64: u64(16),
  },
})

export const iommuVfioIoas = defineStruct({
  name: 'iommu_vfio_ioas',
  byteLength: 12,
  fields: { size: u32(0), ioasId: u32(4), op: u16(8), reserved: u16(10) },
})

export const iommuHwptAlloc = defineStruct({
  name: 'iommu_hwpt_alloc',
  byteLength: 48,
  fields: {
    size: u32(0),
    flags: u32(4),
    devId: u32(8),
    ptId: u32(12),
    outHwptId: u32(16),
    reserved: u32(20),
    dataType: u32(24),
    dataLen: u32(28),
    dataUptr: u64(32),
    faultId: u32(40),
    unchecked: u32(44),
  },
})

export const iommuHwInfo = defineStruct({
  name: 'iommu_hw_info',
  byteLength: 40,
  fields: {
    size: u32(0),
    flags: u32(4),
    devId: u32(8),
    dataLen: u32(12),
    dataUptr: u64(16),
    /** In: the type that is wanted, with the flag INPUT_TYPE. Out: the type that was given. */
    dataType: u32(24),
    outMaxPasidLog2: u8(28),
    reserved: u8Array(29, 3),
    outCapabilities: u64(32),
  },
})

export const iommuHwptSetDirtyTracking = defineStruct({
  name: 'iommu_hwpt_set_dirty_tracking',
  byteLength: 16,
  fields: { size: u32(0), flags: u32(4), hwptId: u32(8), unchecked: u32(12) },
})

export const iommuHwptGetDirtyBitmap = defineStruct({
  name: 'iommu_hwpt_get_dirty_bitmap',
  byteLength: 48,
  fields: {
    size: u32(0),
    hwptId: u32(4),
    flags: u32(8),
    reserved: u32(12),
    iova: u64(16),
    length: u64(24),
    pageSize: u64(32),
    data: u64(40),
  },
})

export const iommuHwptInvalidate = defineStruct({
  name: 'iommu_hwpt_invalidate',
  byteLength: 32,
  fields: {
    size: u32(0),
    hwptId: u32(4),
    dataUptr: u64(8),
    dataType: u32(16),
    entryLen: u32(20),
    entryNum: u32(24),
    reserved: u32(28),
  },
})

export const iommuFaultAlloc = defineStruct({
  name: 'iommu_fault_alloc',
  byteLength: 16,
  fields: { size: u32(0), flags: u32(4), outFaultId: u32(8), outFaultFd: u32(12) },
})

export const iommuViommuAlloc = defineStruct({
  name: 'iommu_viommu_alloc',
  byteLength: 40,
  fields: {
    size: u32(0),
    flags: u32(4),
    type: u32(8),
    devId: u32(12),
    hwptId: u32(16),
    outViommuId: u32(20),
    dataLen: u32(24),
    unchecked: u32(28),
    dataUptr: u64(32),
  },
})

export const iommuVdeviceAlloc = defineStruct({
  name: 'iommu_vdevice_alloc',
  byteLength: 24,
  fields: { size: u32(0), viommuId: u32(4), devId: u32(8), outVdeviceId: u32(12), virtId: u64(16) },
})

export const iommuIoasChangeProcess = defineStruct({
  name: 'iommu_ioas_change_process',
  byteLength: 8,
  fields: { size: u32(0), reserved: u32(4) },
})

export const iommuVeventqAlloc = defineStruct({
  name: 'iommu_veventq_alloc',
  byteLength: 32,
  fields: {
    size: u32(0),
    flags: u32(4),
    viommuId: u32(8),
    type: u32(12),
    veventqDepth: u32(16),
    outVeventqId: u32(20),
    outVeventqFd: u32(24),
    reserved: u32(28),
  },
})

export const iommuHwQueueAlloc = defineStruct({
  name: 'iommu_hw_queue_alloc',
  byteLength: 40,
  fields: {
    size: u32(0),
    flags: u32(4),
    viommuId: u32(8),
    type: u32(12),
    index: u32(16),
    outHwQueueId: u32(20),
    nestingParentIova: u64(24),
    length: u64(32),
  },
})

export const iommuIoasNoiommuGetPa = defineStruct({
  name: 'iommu_ioas_noiommu_get_pa',
  byteLength: 40,
  fields: {
    size: u32(0),
    flags: u32(4),
    ioasId: u32(8),
    reserved: u32(12),
    iova: u64(16),
    length: u64(24),
    outPhys: u64(32),
  },
})
