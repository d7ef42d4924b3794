/**
 * Rules of calls on IOAS, before the address space itself is looked at.
 *
 * @packageDocumentation
 */
import type { RuleSet } from './rule.js'

export const ioasRules = {
  'map-flags': {
    errno: 'EOPNOTSUPP',
    calls: ['ioas_map', 'ioas_map_file', 'ioas_copy'],
    says: 'A flag is not known, or a reserved field is not zero.',
    source: 'iommu/iommufd/ioas.c iommufd_ioas_map',
  },
  'map-range-last': {
    errno: 'EOVERFLOW',
    calls: ['ioas_map', 'ioas_map_file', 'ioas_copy'],
    says: 'An address or the length is 2^64 - 1; also checked where no address is asked for.',
    source: 'iommu/iommufd/ioas.c iommufd_ioas_map',
  },
  'map-without-rights': {
    errno: 'EINVAL',
    calls: ['ioas_map', 'ioas_map_file', 'ioas_copy'],
    says: 'A mapping must be readable or writeable.',
    source: 'iommu/iommufd/ioas.c iommufd_ioas_map',
  },
  'unmap-range-last': {
    errno: 'EOVERFLOW',
    calls: ['ioas_unmap'],
    says: 'The address or the length is 2^64 - 1, and it is not everything that is to be unmapped.',
    source: 'iommu/iommufd/ioas.c iommufd_ioas_unmap',
  },
  'ranges-do-not-fit': {
    errno: 'EMSGSIZE',
    calls: ['ioas_iova_ranges'],
    says: 'There are more ranges than the caller has room for; the number is told.',
    source: 'iommu/iommufd/ioas.c iommufd_ioas_iova_ranges',
  },
  'allow-too-many': {
    errno: 'ENOMEM',
    calls: ['ioas_allow_iovas'],
    says: 'There are more ranges than are kept.',
    source: 'nestwalk',
  },
  'no-noiommu': {
    errno: 'EOPNOTSUPP',
    calls: ['ioas_noiommu_get_pa'],
    says: 'There are no devices without an IOMMU here: the kernel is built without them.',
    source: 'iommu/iommufd/ioas.c iommufd_ioas_noiommu_get_pa',
  },
} as const satisfies RuleSet
