/**
 * Rules of the mock IOMMU's driver, and of the test command that comes with it.
 *
 * @packageDocumentation
 */
import type { RuleSet } from './rule.js'
import { testCommandRules } from './test-command-rules.js'

const selftest = (where: string): string => `iommu/iommufd/selftest.c ${where}`

export const mockRules = {
  'mock-hwpt-flags': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'The mock driver knows a page table as a nest parent, with dirty tracking and for PASIDs, nothing else.',
    source: selftest('mock_domain_alloc_paging_flags'),
  },
  'mock-hwpt-dirty': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'The mock device was made without dirty tracking.',
    source: selftest('mock_domain_alloc_paging_flags'),
  },
  'mock-hwpt-type': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'The mock driver takes only data of its own type, 0xdead, for a HWPT.',
    source: selftest('mock_domain_alloc_paging_flags, mock_domain_alloc_nested'),
  },
  'mock-page-table-format': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'The mock driver has page tables of format 0 (default) and 1 (huge) only.',
    source: selftest('mock_domain_alloc_paging_flags'),
  },
  'mock-nested-flags': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_alloc'],
    says: 'A nested HWPT of the mock driver may be for PASIDs, and nothing else.',
    source: selftest('mock_domain_alloc_nested'),
  },
  'mock-map-alignment': {
    errno: 'EINVAL',
    calls: [
      'ioas_map',
      'ioas_map_file',
      'ioas_copy',
      'hwpt_alloc',
      'test_cmd',
      'vfio_attach',
      'vfio_map_dma',
    ],
    says: 'IOVA, physical address and length of a mapping must be multiples of the smallest page.',
    source: 'iommu/iommu.c iommu_map_nosync',
  },
  'mock-map-without-rights': {
    errno: 'EINVAL',
    calls: [
      'ioas_map',
      'ioas_map_file',
      'ioas_copy',
      'hwpt_alloc',
      'test_cmd',
      'vfio_attach',
      'vfio_map_dma',
    ],
    says: 'A page table entry must let a device read or write.',
    source: 'iommu/generic_pt/fmt/amdv1.h amdv1pt_iommu_set_prot',
  },
  'mock-map-outside-table': {
    errno: 'ERANGE',
    calls: [
      'ioas_map',
      'ioas_map_file',
      'ioas_copy',
      'hwpt_alloc',
      'test_cmd',
      'vfio_attach',
      'vfio_map_dma',
    ],
    says: 'The page table reaches 38 bits of address.',
    source: 'iommu/generic_pt/iommu_pt.h check_map_range',
  },
  'mock-map-taken': {
    errno: 'EADDRINUSE',
    calls: [
      'ioas_map',
      'ioas_map_file',
      'ioas_copy',
      'hwpt_alloc',
      'test_cmd',
      'vfio_attach',
      'vfio_map_dma',
    ],
    says: 'The page table maps some of these addresses already.',
    source: 'iommu/generic_pt/iommu_pt.h __map_range_leaf',
  },
  'mock-unmap-cuts-page': {
    errno: 'EINVAL',
    calls: ['ioas_unmap', 'vfio_unmap_dma'],
    says: 'An edge of the range lies inside a large page, which cannot be taken out in part.',
    source: 'nestwalk',
  },
  'mock-attach-dirty': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'A mock device without dirty tracking cannot be on a HWPT with it.',
    source: selftest('mock_domain_nop_attach'),
  },
  'mock-attach-vdevice': {
    errno: 'ENOENT',
    calls: ['test_cmd'],
    says: 'A nested HWPT made on a vIOMMU takes only devices that have a vDEVICE there.',
    source: selftest('mock_domain_nop_attach'),
  },
  'mock-pasid-1024': {
    errno: 'ENOMEM',
    calls: ['test_cmd'],
    says: 'Every second change of what PASID 1024 of a mock device is on fails, to see the old one kept.',
    source: selftest('mock_domain_set_dev_pasid_nop'),
  },
  'mock-hw-info-type': {
    errno: 'EOPNOTSUPP',
    calls: ['get_hw_info'],
    says: 'The mock driver describes its hardware as type 0xfeedbeef only.',
    source: selftest('mock_domain_hw_info'),
  },
  'mock-invalidation-type': {
    errno: 'EINVAL',
    calls: ['hwpt_invalidate'],
    says: 'The mock driver takes requests of type 0xdeadbeef only.',
    source: selftest('mock_domain_cache_invalidate_user'),
  },
  'mock-invalidation-flags': {
    errno: 'EOPNOTSUPP',
    calls: ['hwpt_invalidate'],
    says: 'A request to the mock driver has one flag: all entries.',
    source: selftest('mock_domain_cache_invalidate_user, mock_viommu_cache_invalidate'),
  },
  'mock-invalidation-entry': {
    errno: 'EINVAL',
    calls: ['hwpt_invalidate'],
    says: 'A request names an entry beyond the fourth.',
    source: selftest('mock_domain_cache_invalidate_user, mock_viommu_cache_invalidate'),
  },
  'mock-invalidation-device': {
    errno: 'EINVAL',
    calls: ['hwpt_invalidate'],
    says: 'No vDEVICE of the vIOMMU has the virtual ID of a request.',
    source: selftest('mock_viommu_cache_invalidate'),
  },
  'mock-queue-index': {
    errno: 'EINVAL',
    calls: ['hw_queue_alloc'],
    says: 'A mock vIOMMU has two hardware queues, 0 and 1.',
    source: selftest('mock_hw_queue_init_phys'),
  },
  'mock-queue-taken': {
    errno: 'EEXIST',
    calls: ['hw_queue_alloc'],
    says: 'The vIOMMU has a hardware queue of this index already.',
    source: selftest('mock_hw_queue_init_phys'),
  },
  'mock-queue-order': {
    errno: 'EIO',
    calls: ['hw_queue_alloc'],
    says: 'Hardware queue 1 of a mock vIOMMU needs queue 0.',
    source: selftest('mock_hw_queue_init_phys'),
  },
  'mock-queue-address': {
    errno: 'EFAULT',
    calls: ['hw_queue_alloc'],
    says: 'The memory of a hardware queue is not where the nest parent has its address.',
    source: selftest('mock_hw_queue_init_phys'),
  },
  ...testCommandRules,
} as const satisfies RuleSet
