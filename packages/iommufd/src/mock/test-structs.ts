/**
 * Structures of IOMMU_TEST_CMD: the command, and what its union of 48 bytes holds for each operation.
 *
 * Linux drivers/iommu/iommufd/iommufd_test.h.
 *
 * @packageDocumentation
 */
import { defineStruct, s32, u32, u64, u8Array } from '@nestwalk/bits'
import type { StructLayout } from '@nestwalk/bits'

/** Where the union lies in the command, and its bytes. */
export const unionOffset = 16
const unionBytes = 48

export const iommuTestCmd = defineStruct({
  name: 'iommu_test_cmd',
  byteLength: 72,
  fields: {
    size: u32(0),
    op: u32(4),
    id: u32(8),
    reserved: u32(12),
    union: u8Array(unionOffset, unionBytes),
    last: u32(64),
  },
})

/** A member of the union. Its offsets count from the union's start. */
const member = <const F extends StructLayout['fields']>(
  name: string,
  fields: F,
): { name: string; byteLength: number; fields: F } =>
  defineStruct({ name: `iommu_test_cmd.${name}`, byteLength: unionBytes, fields })

export const addReserved = member('add_reserved', { start: u64(0), length: u64(8) })
export const mockDomain = member('mock_domain', {
  outStdevId: u32(0),
  outHwptId: u32(4),
  outIdevId: u32(8),
})
export const mockDomainFlags = member('mock_domain_flags', {
  outStdevId: u32(0),
  outHwptId: u32(4),
  outIdevId: u32(8),
  devFlags: u32(12),
})
export const mockDomainReplace = member('mock_domain_replace', { ptId: u32(0) })
export const checkMap = member('check_map', { iova: u64(0), length: u64(8), uptr: u64(16) })
export const checkRefs = member('check_refs', { length: u64(0), uptr: u64(8), refs: u32(16) })
export const checkWord = member('check_iotlb', { entry: u32(0), value: u32(4) })
export const createAccess = member('create_access', { outAccessFd: u32(0), flags: u32(4) })
export const accessReplaceIoas = member('access_replace_ioas', { ioasId: u32(0) })
export const accessPages = member('access_pages', {
  flags: u32(0),
  outAccessPagesId: u32(4),
  iova: u64(8),
  length: u64(16),
  uptr: u64(24),
})
export const destroyAccessPages = member('destroy_access_pages', { accessPagesId: u32(0) })
export const accessRw = member('access_rw', { iova: u64(0), length: u64(8), uptr: u64(16), flags: u32(24) })
export const memoryLimit = member('memory_limit', { limit: u32(0) })
export const dirty = member('dirty', {
  flags: u32(0),
  iova: u64(8),
  length: u64(16),
  pageSize: u64(24),
  uptr: u64(32),
  outNrDirty: u64(40),
})
export const triggerIopf = member('trigger_iopf', {
  devId: u32(0),
  pasid: u32(4),
  grpid: u32(8),
  perm: u32(12),
  addr: u64(16),
})
export const triggerVevent = member('trigger_vevent', { devId: u32(0) })
export const pasidAttach = member('pasid_attach', { pasid: u32(0), ptId: u32(4) })
export const pasidDetach = member('pasid_detach', { pasid: u32(0) })
export const pasidCheckHwpt = member('pasid_check', { pasid: u32(0), hwptId: u32(4) })
export const dmabufGet = member('dmabuf_get', { length: u32(0), openFlags: u32(4) })
export const dmabufRevoke = member('dmabuf_revoke', { dmabufFd: s32(0), revoked: u32(4) })
