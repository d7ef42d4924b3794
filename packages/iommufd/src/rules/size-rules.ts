/**
 * Rules of every call: command words, sizes, memory of the caller, what a file can do.
 *
 * @packageDocumentation
 */
import type { CallName, RuleSet } from './rule.js'

/** The calls of `/dev/iommu` that have a structure. */
const structured: readonly CallName[] = [
  'destroy',
  'ioas_alloc',
  'ioas_allow_iovas',
  'ioas_copy',
  'ioas_iova_ranges',
  'ioas_map',
  'ioas_unmap',
  'option',
  'vfio_ioas',
  'hwpt_alloc',
  'get_hw_info',
  'hwpt_set_dirty_tracking',
  'hwpt_get_dirty_bitmap',
  'hwpt_invalidate',
  'fault_queue_alloc',
  'ioas_map_file',
  'viommu_alloc',
  'vdevice_alloc',
  'ioas_change_process',
  'veventq_alloc',
  'hw_queue_alloc',
  'ioas_noiommu_get_pa',
  'test_cmd',
]

export const sizeRules = {
  'unknown-command': {
    errno: 'ENOTTY',
    calls: ['ioctl'],
    says: 'The command word is none of the file, be it by number, type byte, direction or size bits.',
    source: 'iommu/iommufd/main.c iommufd_fops_ioctl',
  },
  'argument-unreadable': {
    errno: 'EFAULT',
    calls: [
      ...structured,
      'vfio_bind',
      'vfio_attach',
      'vfio_detach',
      'vfio_get_info',
      'vfio_map_dma',
      'vfio_unmap_dma',
    ],
    says: 'The structure cannot be read where the argument points.',
    source: 'iommu/iommufd/main.c iommufd_fops_ioctl',
  },
  'size-too-small': {
    errno: 'EINVAL',
    calls: structured,
    says: 'The size is less than the first version of the structure had.',
    source: 'iommu/iommufd/main.c iommufd_fops_ioctl',
  },
  'size-too-large': {
    errno: 'E2BIG',
    calls: structured,
    says: 'The size is more than a megabyte: Linux would look through all of it for a byte that is not zero.',
    source: 'nestwalk',
  },
  'size-unknown-tail': {
    errno: 'E2BIG',
    calls: [...structured, 'vfio_bind'],
    says: 'The structure is longer than this kernel knows it, and the rest of it is not zero.',
    source: 'linux/uaccess.h copy_struct_from_user',
  },
  'answer-unwritable': {
    errno: 'EFAULT',
    calls: [...structured, 'vfio_bind', 'vfio_attach', 'vfio_get_info', 'vfio_unmap_dma'],
    says: 'The answer cannot be written back; what was made is gone again.',
    source: 'iommu/iommufd/iommufd_private.h iommufd_ucmd_respond',
  },
  flags: {
    errno: 'EOPNOTSUPP',
    calls: [
      'ioas_alloc',
      'get_hw_info',
      'hwpt_set_dirty_tracking',
      'hwpt_get_dirty_bitmap',
      'fault_queue_alloc',
      'viommu_alloc',
      'veventq_alloc',
      'hw_queue_alloc',
    ],
    says: 'A flag is not known.',
    source: 'iommu/iommufd/main.c',
  },
  'reserved-field': {
    errno: 'EOPNOTSUPP',
    calls: [
      'ioas_allow_iovas',
      'ioas_iova_ranges',
      'option',
      'vfio_ioas',
      'hwpt_alloc',
      'get_hw_info',
      'hwpt_get_dirty_bitmap',
      'hwpt_invalidate',
      'ioas_change_process',
      'veventq_alloc',
    ],
    says: 'A reserved field is not zero.',
    source: 'iommu/iommufd/main.c',
  },
  'array-unreadable': {
    errno: 'EFAULT',
    calls: ['ioas_allow_iovas'],
    says: 'The array of ranges cannot be read.',
    source: 'iommu/iommufd/ioas.c iommufd_ioas_load_iovas',
  },
  'array-unwritable': {
    errno: 'EFAULT',
    calls: ['ioas_iova_ranges'],
    says: 'The array of ranges cannot be written.',
    source: 'iommu/iommufd/ioas.c iommufd_ioas_iova_ranges',
  },
  'bad-descriptor': {
    errno: 'EBADF',
    calls: ['ioas_map_file', 'vfio_bind', 'test_cmd'],
    says: 'The descriptor is not open.',
    source: 'linux/fs.h fget',
  },
  'no-read': {
    errno: 'EINVAL',
    calls: ['read'],
    says: 'The file has nothing to read.',
    source: 'fs/read_write.c vfs_read',
  },
  'no-write': {
    errno: 'EINVAL',
    calls: ['write', 'veventq_write'],
    says: 'The file cannot be written.',
    source: 'fs/read_write.c vfs_write',
  },
  'no-mmap': {
    errno: 'ENODEV',
    calls: ['mmap'],
    says: 'The file cannot be mapped.',
    source: 'mm/mmap.c mmap_region',
  },
  'mmap-length': {
    errno: 'EINVAL',
    calls: ['mmap'],
    says: 'The length is no whole number of pages.',
    source: 'iommu/iommufd/main.c iommufd_fops_mmap',
  },
  'mmap-private': {
    errno: 'EINVAL',
    calls: ['mmap'],
    says: 'A region can only be mapped shared.',
    source: 'iommu/iommufd/main.c iommufd_fops_mmap',
  },
  'mmap-execute': {
    errno: 'EPERM',
    calls: ['mmap'],
    says: 'A region cannot be mapped to be executed.',
    source: 'iommu/iommufd/main.c iommufd_fops_mmap',
  },
  'mmap-no-region': {
    errno: 'ENXIO',
    calls: ['mmap'],
    says: 'No region lies at the offset with exactly that length.',
    source: 'iommu/iommufd/main.c iommufd_fops_mmap',
  },
} as const satisfies RuleSet
