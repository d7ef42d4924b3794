/**
 * Rules of HWPTs: allocation, attaching, dirty bitmaps, invalidation.
 *
 * @packageDocumentation
 */
import type { RuleSet } from './rule.js'

export const hwptRules = {
  'hwpt-data-length': {
    errno: 'EINVAL',
    calls: ['hwpt_alloc'],
    says: 'There is driver data of no type, or a type without data.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_alloc',
  },
  'no-such-page-table': {
    errno: 'EINVAL',
    calls: ['hwpt_alloc'],
    says: 'There is no object with the number pt_id: EINVAL here, not ENOENT.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_alloc',
  },
  'not-a-page-table': {
    errno: 'EINVAL',
    calls: ['hwpt_alloc'],
    says: 'pt_id is neither an IOAS nor a nest parent nor a vIOMMU.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_alloc',
  },
  'hwpt-flags': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'A flag is not known.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_paging_alloc',
  },
  'dirty-tracking-device': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'The device cannot track what it writes.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_paging_alloc',
  },
  'fault-on-nest-parent': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'A nest parent cannot have a fault queue.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_paging_alloc',
  },
  'nesting-through-viommu': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'With this driver a nested HWPT is made on a vIOMMU, not on its parent.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_nested_alloc',
  },
  'not-a-nest-parent': {
    errno: 'EINVAL',
    calls: ['hwpt_alloc', 'viommu_alloc'],
    says: 'The HWPT was not allocated as a nest parent, or is an automatic one.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_nested_alloc',
  },
  'nested-flags': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'A nested HWPT takes no flags but FAULT_ID_VALID and PASID.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_nested_alloc',
  },
  'nested-without-data': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: "A nested HWPT needs driver data: the guest's table.",
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_nested_alloc',
  },
  'other-iommu': {
    errno: 'EINVAL',
    calls: ['hwpt_alloc', 'vdevice_alloc'],
    says: 'The device is behind another IOMMU than the vIOMMU stands for.',
    source: 'iommu/iommufd/viommu.c iommufd_vdevice_alloc_ioctl',
  },
  'data-type': {
    errno: 'EINVAL',
    calls: ['hwpt_alloc', 'viommu_alloc'],
    says: 'The driver data is of another type than the driver takes.',
    source: 'linux/iommu.h iommu_copy_struct_from_user',
  },
  'data-length': {
    errno: 'EINVAL',
    calls: ['hwpt_alloc', 'viommu_alloc'],
    says: 'The driver data is shorter than its first version, or longer than the kernel knows it.',
    source: 'linux/iommu.h iommu_copy_struct_from_user',
  },
  'data-unreadable': {
    errno: 'EFAULT',
    calls: ['hwpt_alloc', 'viommu_alloc', 'hwpt_invalidate'],
    says: 'The driver data, or a request, cannot be read or written.',
    source: 'linux/iommu.h iommu_copy_struct_from_user',
  },
  'no-such-attach-target': {
    errno: 'ENOENT',
    calls: ['vfio_attach', 'test_cmd'],
    says: 'There is no object with the number pt_id.',
    source: 'iommu/iommufd/device.c iommufd_device_change_pt',
  },
  'not-attachable': {
    errno: 'EINVAL',
    calls: ['vfio_attach', 'test_cmd'],
    says: 'pt_id is neither an IOAS nor a HWPT.',
    source: 'iommu/iommufd/device.c iommufd_device_change_pt',
  },
  'group-attached-elsewhere': {
    errno: 'EINVAL',
    calls: ['vfio_attach', 'test_cmd'],
    says: 'Another device of the group is attached to another HWPT.',
    source: 'iommu/iommufd/device.c iommufd_hw_pagetable_attach',
  },
  'attached-already': {
    errno: 'EBUSY',
    calls: ['test_cmd'],
    says: 'The device is attached already: it can be moved, not attached.',
    source: 'iommu/iommufd/device.c iommufd_hw_pagetable_attach',
  },
  'not-attached': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'The device is not attached: it can be attached, not moved.',
    source: 'iommu/iommufd/device.c iommufd_device_do_replace',
  },
  'hwpt-without-pasid': {
    errno: 'EINVAL',
    calls: ['vfio_attach', 'test_cmd'],
    says: 'A PASID can only be attached to a HWPT that was allocated with ALLOC_PASID.',
    source: 'iommu/iommufd/device.c iommufd_hwpt_pasid_compat',
  },
  'hwpt-beside-pasid': {
    errno: 'EINVAL',
    calls: ['vfio_attach', 'test_cmd'],
    says: 'A PASID is attached, and the HWPT was not allocated with ALLOC_PASID.',
    source: 'iommu/iommufd/device.c iommufd_hwpt_pasid_compat',
  },
  'pasid-beside-hwpt': {
    errno: 'EINVAL',
    calls: ['vfio_attach', 'test_cmd'],
    says: 'The device is on a HWPT that was not allocated with ALLOC_PASID.',
    source: 'iommu/iommufd/device.c iommufd_hwpt_pasid_compat',
  },
  'pasid-range': {
    errno: 'EINVAL',
    calls: ['vfio_attach', 'test_cmd'],
    says: 'The device does not have as many PASIDs.',
    source: 'iommu/iommu.c iommu_attach_device_pasid',
  },
  'fault-queue-for-vf': {
    errno: 'EINVAL',
    calls: ['vfio_attach'],
    says: 'A virtual function shares its page requests with others: no HWPT with a fault queue.',
    source: 'iommu/iommufd/eventq.c iommufd_fault_iopf_enable',
  },
  'hwpt-without-dirty': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_set_dirty_tracking', 'hwpt_get_dirty_bitmap'],
    says: 'The HWPT was not allocated with DIRTY_TRACKING.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_set_dirty_tracking',
  },
  'dirty-range-empty': {
    errno: 'EINVAL',
    calls: ['hwpt_get_dirty_bitmap'],
    says: 'The range has no bytes.',
    source: 'iommu/iommufd/io_pagetable.c iommufd_check_iova_range',
  },
  'dirty-range-wraps': {
    errno: 'EOVERFLOW',
    calls: ['hwpt_get_dirty_bitmap'],
    says: 'The range runs past the last address.',
    source: 'iommu/iommufd/io_pagetable.c iommufd_check_iova_range',
  },
  'dirty-range-alignment': {
    errno: 'EINVAL',
    calls: ['hwpt_get_dirty_bitmap'],
    says: 'The range is not aligned as the IOAS is.',
    source: 'iommu/iommufd/io_pagetable.c iommufd_check_iova_range',
  },
  'dirty-page-size': {
    errno: 'EINVAL',
    calls: ['hwpt_get_dirty_bitmap'],
    says: 'The page size is 0.',
    source: 'iommu/iommufd/io_pagetable.c iommufd_check_iova_range',
  },
  'dirty-page-alignment': {
    errno: 'EINVAL',
    calls: ['hwpt_get_dirty_bitmap'],
    says: 'The range is not aligned to the page size.',
    source: 'iommu/iommufd/io_pagetable.c iommufd_check_iova_range',
  },
  'array-null': {
    errno: 'EINVAL',
    calls: ['hwpt_invalidate'],
    says: 'There are requests, and their address is 0.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_invalidate',
  },
  'array-entry-size': {
    errno: 'EINVAL',
    calls: ['hwpt_invalidate'],
    says: 'A request has no bytes, or more than a page.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_invalidate',
  },
  'array-count': {
    errno: 'EINVAL',
    calls: ['hwpt_invalidate'],
    says: 'There are more than 2^19 requests.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_invalidate',
  },
  'no-such-invalidation-target': {
    errno: 'ENOENT',
    calls: ['hwpt_invalidate'],
    says: 'There is no object with the number.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_invalidate',
  },
  'not-invalidatable': {
    errno: 'EINVAL',
    calls: ['hwpt_invalidate'],
    says: 'The object is neither a nested HWPT nor a vIOMMU.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_invalidate',
  },
  'array-type': {
    errno: 'EINVAL',
    calls: ['hwpt_invalidate'],
    says: 'The requests are of another type than the driver takes.',
    source: 'linux/iommu.h iommu_copy_struct_from_user_array',
  },
  'array-entry-length': {
    errno: 'EINVAL',
    calls: ['hwpt_invalidate'],
    says: 'A request is shorter than its first version, or longer than the kernel knows it.',
    source: 'linux/iommu.h iommu_copy_struct_from_user_array',
  },
  'array-empty': {
    errno: 'EINVAL',
    calls: ['hwpt_invalidate'],
    says: 'There are no requests, and the driver takes them as a whole.',
    source: 'linux/iommu.h iommu_copy_struct_from_full_user_array',
  },
  'array-tail': {
    errno: 'E2BIG',
    calls: ['hwpt_invalidate'],
    says: 'A request is longer than the kernel knows it, and the rest is not zero.',
    source: 'linux/iommu.h iommu_copy_struct_from_full_user_array',
  },
  'info-unwritable': {
    errno: 'EFAULT',
    calls: ['get_hw_info'],
    says: 'The buffer cannot be written.',
    source: 'iommu/iommufd/device.c iommufd_get_hw_info',
  },
} as const satisfies RuleSet
