/**
 * Rules of objects: their numbers, their users, options of the context.
 *
 * @packageDocumentation
 */
import type { CallName, RuleSet } from './rule.js'

/** The calls that make objects. */
const making: readonly CallName[] = [
  'ioas_alloc',
  'hwpt_alloc',
  'fault_queue_alloc',
  'viommu_alloc',
  'vdevice_alloc',
  'veventq_alloc',
  'hw_queue_alloc',
  'test_cmd',
  'vfio_bind',
  'vfio_attach',
]

export const objectRules = {
  'too-many-objects': {
    errno: 'ENOMEM',
    calls: making,
    says: 'The context has as many objects as are kept.',
    source: 'nestwalk',
  },
  'no-such-object': {
    errno: 'ENOENT',
    calls: ['destroy'],
    says: 'There is no object with the number.',
    source: 'iommu/iommufd/main.c iommufd_object_remove',
  },
  'object-in-use': {
    errno: 'EBUSY',
    calls: ['destroy'],
    says: 'Something refers to the object: another object, an open or mapped file, the driver that bound it.',
    source: 'iommu/iommufd/main.c iommufd_object_remove',
  },
  'no-such-ioas': {
    errno: 'ENOENT',
    calls: [
      'ioas_allow_iovas',
      'ioas_copy',
      'ioas_iova_ranges',
      'ioas_map',
      'ioas_map_file',
      'ioas_unmap',
      'option',
      'vfio_ioas',
      'test_cmd',
    ],
    says: 'The number is not that of an IOAS.',
    source: 'iommu/iommufd/iommufd_private.h iommufd_get_ioas',
  },
  'no-such-device-object': {
    errno: 'ENOENT',
    calls: [
      'hwpt_alloc',
      'get_hw_info',
      'viommu_alloc',
      'vdevice_alloc',
      'test_cmd',
      'vfio_attach',
      'vfio_detach',
    ],
    says: 'The number is not that of a bound device.',
    source: 'iommu/iommufd/iommufd_private.h iommufd_get_device',
  },
  'no-such-paging-hwpt': {
    errno: 'ENOENT',
    calls: ['hwpt_set_dirty_tracking', 'hwpt_get_dirty_bitmap', 'test_cmd'],
    says: 'The number is not that of a paging HWPT; a nested one does not do.',
    source: 'iommu/iommufd/iommufd_private.h iommufd_get_hwpt_paging',
  },
  'no-such-viommu': {
    errno: 'ENOENT',
    calls: ['vdevice_alloc', 'veventq_alloc', 'hw_queue_alloc'],
    says: 'The number is not that of a vIOMMU.',
    source: 'iommu/iommufd/iommufd_private.h iommufd_get_viommu',
  },
  'no-such-fault-queue': {
    errno: 'ENOENT',
    calls: ['hwpt_alloc', 'fault_read', 'fault_write'],
    says: 'The number is not that of a fault queue; the new HWPT is gone again.',
    source: 'iommu/iommufd/iommufd_private.h iommufd_get_fault',
  },
  'no-such-veventq': {
    errno: 'ENOENT',
    calls: ['veventq_read'],
    says: 'The number is not that of an event queue.',
    source: 'iommu/iommufd/eventq.c',
  },
  'no-such-parent': {
    errno: 'ENOENT',
    calls: ['viommu_alloc'],
    says: 'The number is not that of a paging HWPT.',
    source: 'iommu/iommufd/viommu.c iommufd_viommu_alloc_ioctl',
  },
  'option-unknown': {
    errno: 'EOPNOTSUPP',
    calls: ['option'],
    says: 'There is no such option.',
    source: 'iommu/iommufd/main.c iommufd_option',
  },
  'option-op': {
    errno: 'EOPNOTSUPP',
    calls: ['option'],
    says: 'The operation is neither SET nor GET.',
    source: 'iommu/iommufd/main.c iommufd_option',
  },
  'option-object': {
    errno: 'EOPNOTSUPP',
    calls: ['option'],
    says: 'RLIMIT_MODE belongs to the context, not to an object.',
    source: 'iommu/iommufd/ioas.c iommufd_option_rlimit_mode',
  },
  'option-capability': {
    errno: 'EPERM',
    calls: ['option'],
    says: 'Setting RLIMIT_MODE takes CAP_SYS_RESOURCE.',
    source: 'iommu/iommufd/ioas.c iommufd_option_rlimit_mode',
  },
  'option-late': {
    errno: 'EBUSY',
    calls: ['option'],
    says: 'RLIMIT_MODE can be set only while the context has no objects.',
    source: 'iommu/iommufd/ioas.c iommufd_option_rlimit_mode',
  },
  'option-value': {
    errno: 'EINVAL',
    calls: ['option'],
    says: 'The value is neither 0 nor 1.',
    source: 'iommu/iommufd/ioas.c iommufd_option_rlimit_mode',
  },
  'no-compatible-ioas': {
    errno: 'ENODEV',
    calls: [
      'vfio_ioas',
      'vfio_check_extension',
      'vfio_set_iommu',
      'vfio_get_info',
      'vfio_map_dma',
      'vfio_unmap_dma',
    ],
    says: 'No IOAS is set for VFIO compatibility.',
    source: 'iommu/iommufd/vfio_compat.c get_compat_ioas',
  },
  'vfio-ioas-op': {
    errno: 'EOPNOTSUPP',
    calls: ['vfio_ioas'],
    says: 'The operation is none of GET, SET and CLEAR.',
    source: 'iommu/iommufd/vfio_compat.c iommufd_vfio_ioas',
  },
  'vfio-arguments': {
    errno: 'EINVAL',
    calls: ['vfio_bind', 'vfio_attach', 'vfio_detach', 'vfio_get_info', 'vfio_map_dma', 'vfio_unmap_dma'],
    says: 'argsz is too small, a flag is not known, or the fields do not go together.',
    source: 'iommu/iommufd/vfio_compat.c and vfio/device_cdev.c',
  },
  'vfio-iommu-type': {
    errno: 'EINVAL',
    calls: ['vfio_set_iommu'],
    says: 'The type is neither TYPE1 nor TYPE1v2.',
    source: 'iommu/iommufd/vfio_compat.c iommufd_vfio_set_iommu',
  },
} as const satisfies RuleSet
