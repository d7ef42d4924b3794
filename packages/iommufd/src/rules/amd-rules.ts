/**
 * Rules of AMD's: what its driver refuses by itself, and what the driver below it does.
 *
 * @packageDocumentation
 */
import { amdDriverRules } from './amd-driver-rules.js'
import type { RuleSet } from './rule.js'

const ownRules = {
  'amd-unity-mapped': {
    errno: 'EINVAL',
    calls: ['vfio_bind'],
    says: 'Firmware wants a device of the group to reach memory at its own address always, so it cannot be blocked.',
    source: 'iommu/iommu.c __iommu_device_set_domain',
  },
  'amd-hw-info-type': {
    errno: 'EOPNOTSUPP',
    calls: ['get_hw_info'],
    says: 'The type of hardware information asked for is not that of AMD.',
    source: 'iommu/amd/iommufd.c amd_iommufd_hw_info',
  },
  'amd-paging-data': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'A HWPT on an IOAS takes no driver data on AMD.',
    source: 'iommu/amd/iommu.c amd_iommu_domain_alloc_paging_flags',
  },
  'amd-paging-flags': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'No table format of AMD serves these flags together.',
    source: 'iommu/amd/iommu.c amd_iommu_domain_alloc_paging_flags',
  },
  'amd-no-pasids': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'A HWPT for PASIDs was asked for, but the IOMMUs do not all have PASIDs and page requests.',
    source: 'iommu/amd/iommu.c amd_iommu_domain_alloc_paging_flags',
  },
  'amd-map-rights': {
    errno: 'EINVAL',
    calls: [
      'ioas_map',
      'ioas_map_file',
      'ioas_copy',
      'hwpt_alloc',
      'vfio_attach',
      'vfio_map_dma',
      'test_cmd',
    ],
    says: 'A mapping that allows neither reads nor writes cannot be put into a table.',
    source: 'iommu/generic_pt/fmt/amdv1.h amdv1pt_iommu_set_prot',
  },
  'amd-pasid-attach': {
    errno: 'EOPNOTSUPP',
    calls: ['vfio_attach'],
    says: 'A HWPT was attached to a PASID: the AMD driver has only processes there.',
    source: 'iommu/iommu.c iommu_attach_device_pasid',
  },
  'amd-nested-unwired': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'The AMD driver has the code for nested HWPTs, but its vIOMMU does not offer it.',
    source: 'iommu/amd/iommufd.c amd_viommu_ops',
  },
  'amd-nested-data-type': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'The driver data of a nested HWPT are no guest device table entry.',
    source: 'iommu/amd/nested.c amd_iommu_alloc_domain_nested',
  },
  'amd-invalidate-nested': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_invalidate'],
    says: 'On AMD a nested HWPT takes no invalidations: a guest invalidates through its vIOMMU.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_invalidate',
  },
  'amd-invalidate-unwired': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_invalidate'],
    says: 'The vIOMMU of the AMD driver takes no invalidations.',
    source: 'iommu/iommufd/hw_pagetable.c iommufd_hwpt_invalidate',
  },
  'amd-invalidation-type': {
    errno: 'EINVAL',
    calls: ['hwpt_invalidate'],
    says: 'The requests are of a type that is not guest commands.',
    source: 'nestwalk',
  },
  'amd-queue-registers': {
    errno: 'EINVAL',
    calls: ['hw_queue_alloc'],
    says: 'The vIOMMU was made without data, so it has no page of registers for a queue.',
    source: 'nestwalk',
  },
  'amd-queue-index': {
    errno: 'EINVAL',
    calls: ['hw_queue_alloc'],
    says: 'A vIOMMU has one command queue, with index 0.',
    source: 'nestwalk',
  },
  'amd-queue-taken': {
    errno: 'EEXIST',
    calls: ['hw_queue_alloc'],
    says: 'The vIOMMU has a command queue already.',
    source: 'nestwalk',
  },
  'amd-queue-shape': {
    errno: 'EINVAL',
    calls: ['hw_queue_alloc'],
    says: 'A command queue has a power of two of bytes from 4 KiB to 512 KiB, and begins on a page.',
    source: 'nestwalk',
  },
} as const satisfies RuleSet

export const amdRules = { ...ownRules, ...amdDriverRules } as const satisfies RuleSet
