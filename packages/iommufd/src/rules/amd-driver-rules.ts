/**
 * Rules of the driver below iommufd on AMD, by the names that it has for them: its refusals pass through as they are.
 *
 * @packageDocumentation
 */
import type { CallName, RuleSet } from './rule.js'

type Calls = readonly CallName[]

const mapping: Calls = ['ioas_map', 'ioas_map_file', 'ioas_copy', 'hwpt_alloc', 'vfio_attach', 'vfio_map_dma']
const unmapping: Calls = ['ioas_unmap', 'vfio_unmap_dma']
const tracking: Calls = ['hwpt_set_dirty_tracking', 'hwpt_get_dirty_bitmap']
const allocating: Calls = ['hwpt_alloc', 'vfio_attach']
const nesting: Calls = ['hwpt_alloc']
const attaching: Calls = ['vfio_attach']
const naming: Calls = ['vdevice_alloc']
const invalidating: Calls = ['hwpt_invalidate']

export const amdDriverRules = {
  'host-tables-unsupported': {
    errno: 'EOPNOTSUPP',
    calls: allocating,
    says: 'The IOMMUs have no host (v1) tables in common.',
    source: 'iommu/amd/iommu.c amd_iommu_domain_alloc_paging_v1',
  },
  'nesting-unsupported': {
    errno: 'EOPNOTSUPP',
    calls: nesting,
    says: 'A nest parent needs GTSup, GIoSup and GCR3TRPModeSup of every IOMMU.',
    source: 'iommu/amd/iommu.c amd_iommu_domain_alloc_paging_flags',
  },
  'dirty-tracking-unsupported': {
    errno: 'EOPNOTSUPP',
    calls: nesting,
    says: 'The IOMMU of the device cannot mark what is written.',
    source: 'iommu/amd/iommu.c amd_iommu_domain_alloc_paging_flags',
  },
  'guest-tables-unsupported': {
    errno: 'EOPNOTSUPP',
    calls: allocating,
    says: 'The IOMMU has no guest (v2) tables.',
    source: 'iommu/amd/iommu.c amd_iommu_domain_alloc_paging_v2',
  },
  'five-level-guest-tables': {
    errno: 'EOPNOTSUPP',
    calls: nesting,
    says: 'Five-level guest tables were asked for, and the IOMMU walks four levels.',
    source: 'iommu/amd/nested.c validate_gdte_nested',
  },
  'no-table-page': {
    errno: 'ENOMEM',
    calls: mapping,
    says: 'The driver has no page left for a table.',
    source: 'iommu/generic_pt/iommu_pt.h map_pages',
  },
  'no-domain-id': {
    errno: 'ENOSPC',
    calls: attaching,
    says: 'No DomainID is left.',
    source: 'iommu/amd/iommu.c pdom_id_alloc',
  },
  'viommu-quota': {
    errno: 'ENOSPC',
    calls: attaching,
    says: 'A guest has used all the DomainIDs that it may have.',
    source: 'nestwalk',
  },
  'page-aligned': {
    errno: 'EINVAL',
    calls: mapping,
    says: 'Address, target or length of a mapping is no multiple of 4096.',
    source: 'iommu/iommu.c iommu_map_nosync',
  },
  target: {
    errno: 'EOVERFLOW',
    calls: mapping,
    says: 'A physical address has more than 52 bits.',
    source: 'iommu/generic_pt/iommu_pt.h map_pages',
  },
  aperture: {
    errno: 'EOVERFLOW',
    calls: mapping,
    says: 'An address lies above what the table can translate.',
    source: 'iommu/generic_pt/iommu_pt.h map_pages',
  },
  'mapped-already': {
    errno: 'EADDRINUSE',
    calls: mapping,
    says: 'Something is mapped at an address already.',
    source: 'iommu/generic_pt/iommu_pt.h map_pages',
  },
  'unmap-cuts-a-page': {
    errno: 'EINVAL',
    calls: unmapping,
    says: 'A range to be unmapped holds a page only partly.',
    source: 'nestwalk',
  },
  'no-dirty-tracking': {
    errno: 'EOPNOTSUPP',
    calls: tracking,
    says: 'The domain was not allocated for dirty tracking.',
    source: 'iommu/iommufd/io_pagetable.c iopt_set_dirty_tracking',
  },
  'cannot-mark-writes': {
    errno: 'EINVAL',
    calls: attaching,
    says: 'The domain is for dirty tracking, and the IOMMU of the device cannot mark what is written.',
    source: 'iommu/amd/iommu.c amd_iommu_attach_device',
  },
  'member-in-reset': {
    errno: 'EBUSY',
    calls: attaching,
    says: 'A device of the group is being reset.',
    source: 'iommu/iommu.c __iommu_attach_group',
  },
  'pasids-attached': {
    errno: 'EBUSY',
    calls: attaching,
    says: 'Something is attached to a PASID of the device, which has to go first.',
    source: 'iommu/iommu.c __iommu_group_set_domain_internal',
  },
  'pasid-enabled': {
    errno: 'EINVAL',
    calls: attaching,
    says: 'PASIDs are enabled in a device that is to be put on a nested domain.',
    source: 'iommu/amd/nested.c nested_attach_device',
  },
  'viommu-of-another-iommu': {
    errno: 'EINVAL',
    calls: attaching,
    says: 'The device is behind another IOMMU than the vIOMMU of the nested domain.',
    source: 'nestwalk',
  },
  'process-required': {
    errno: 'EOPNOTSUPP',
    calls: attaching,
    says: 'A PASID takes a table in guest format only.',
    source: 'iommu/iommu.c iommu_attach_device_pasid',
  },
  'pasid-taken': {
    errno: 'EOPNOTSUPP',
    calls: attaching,
    says: 'The PASID has something behind it already.',
    source: 'iommu/amd/pasid.c iommu_sva_set_dev_pasid',
  },
  'pasid-not-enabled': {
    errno: 'EINVAL',
    calls: attaching,
    says: 'What the device is on has no PASIDs.',
    source: 'iommu/amd/pasid.c iommu_sva_set_dev_pasid',
  },
  'guest-levels': {
    errno: 'EINVAL',
    calls: attaching,
    says: 'The table behind a PASID has other levels than those of the device.',
    source: 'nestwalk',
  },
  'guest-entry-without-host-table': {
    errno: 'EINVAL',
    calls: nesting,
    says: 'Mode and host root of the guest device table entry are not 0.',
    source: 'iommu/amd/nested.c validate_gdte_nested',
  },
  'gcr3-root-required': {
    errno: 'EINVAL',
    calls: nesting,
    says: 'The guest device table entry has V and GV, but no GCR3 root.',
    source: 'iommu/amd/nested.c validate_gdte_nested',
  },
  'guest-paging-mode': {
    errno: 'EINVAL',
    calls: nesting,
    says: 'GuestPagingMode of the guest device table entry is reserved.',
    source: 'iommu/amd/nested.c validate_gdte_nested',
  },
  'gcr3-levels': {
    errno: 'EINVAL',
    calls: nesting,
    says: 'GLX of the guest device table entry is 3, which is reserved.',
    source: 'iommu/amd/nested.c validate_gdte_nested',
  },
  'virtual-id-width': {
    errno: 'EINVAL',
    calls: naming,
    says: 'A DeviceID of a guest has 16 bits.',
    source: 'nestwalk',
  },
  'virtual-device-taken': {
    errno: 'EEXIST',
    calls: naming,
    says: 'The device has a DeviceID in a guest already.',
    source: 'iommu/iommufd/viommu.c iommufd_vdevice_alloc_ioctl',
  },
  'guest-command-kind': {
    errno: 'EOPNOTSUPP',
    calls: invalidating,
    says: 'Only INVALIDATE_IOMMU_PAGES and INVALIDATE_IOTLB_PAGES of a guest are carried out.',
    source: 'nestwalk',
  },
  'guest-command-reserved-bits': {
    errno: 'EINVAL',
    calls: invalidating,
    says: 'Reserved bits of a guest command are set.',
    source: 'nestwalk',
  },
  'guest-command-pasid': {
    errno: 'EINVAL',
    calls: invalidating,
    says: 'A guest command has a PASID, but not GN.',
    source: 'nestwalk',
  },
  'no-such-virtual-device': {
    errno: 'ENODEV',
    calls: invalidating,
    says: 'A guest command names a DeviceID that no vDEVICE of the vIOMMU has.',
    source: 'nestwalk',
  },
} as const satisfies RuleSet
