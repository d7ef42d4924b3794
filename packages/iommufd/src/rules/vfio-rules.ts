/**
 * Rules of binding devices: `/dev/vfio/devices/vfioN`.
 *
 * @packageDocumentation
 */
import type { RuleSet } from './rule.js'

export const vfioRules = {
  'no-such-device': {
    errno: 'ENODEV',
    calls: ['vfio_bind'],
    says: 'The driver does not know the device.',
    source: 'iommu/iommufd/device.c iommufd_device_bind',
  },
  'device-bound': {
    errno: 'EINVAL',
    calls: ['vfio_bind'],
    says: 'The device is bound already.',
    source: 'vfio/device_cdev.c vfio_df_ioctl_bind_iommufd',
  },
  'group-owned': {
    errno: 'EPERM',
    calls: ['vfio_bind'],
    says: 'Another context owns the group of the device.',
    source: 'iommu/iommufd/device.c iommufd_device_bind',
  },
  'vfio-not-bound': {
    errno: 'EINVAL',
    calls: ['vfio_attach', 'vfio_detach', 'ioctl', 'mmap'],
    says: 'The device is not bound to an iommufd: every other call waits for that.',
    source: 'vfio/vfio_main.c vfio_device_fops_unl_ioctl',
  },
  'vfio-bound': {
    errno: 'EINVAL',
    calls: ['vfio_bind'],
    says: 'The file is bound already.',
    source: 'vfio/device_cdev.c vfio_df_ioctl_bind_iommufd',
  },
  'vfio-token': {
    errno: 'EINVAL',
    calls: ['vfio_bind'],
    says: 'A token is given, and the device takes none.',
    source: 'vfio/device_cdev.c vfio_df_check_token',
  },
  'not-an-iommufd': {
    errno: 'EBADFD',
    calls: ['vfio_bind'],
    says: 'The descriptor is open, but no /dev/iommu.',
    source: 'iommu/iommufd/main.c iommufd_ctx_from_fd',
  },
  'vfio-no-pasid': {
    errno: 'EOPNOTSUPP',
    calls: ['vfio_attach', 'vfio_detach'],
    says: 'The device has no PASIDs.',
    source: 'vfio/device_cdev.c vfio_df_ioctl_attach_pt',
  },
  'dma-arguments': {
    errno: 'EINVAL',
    calls: ['device_dma'],
    says: 'argsz is too small, a flag is not known, a PASID has more than 20 bits, or the bytes do not lie in one page.',
    source: 'nestwalk',
  },
  'dma-refused': {
    errno: 'EIO',
    calls: ['device_dma'],
    says: 'The IOMMU refuses the request; the event that it logged is in the structure.',
    source: 'nestwalk',
  },
  'dma-no-memory': {
    errno: 'EFAULT',
    calls: ['device_dma'],
    says: 'The address that the request leads to is no memory.',
    source: 'nestwalk',
  },
  'dma-buffer': {
    errno: 'EFAULT',
    calls: ['device_dma'],
    says: 'The buffer cannot be read or written.',
    source: 'nestwalk',
  },
} as const satisfies RuleSet
