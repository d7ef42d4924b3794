/**
 * Rules of IOMMU_TEST_CMD, which only kernels for testing have.
 *
 * @packageDocumentation
 */
import type { RuleSet } from './rule.js'

const selftest = (where: string): string => `iommu/iommufd/selftest.c ${where}`

export const testCommandRules = {
  'test-op': {
    errno: 'EOPNOTSUPP',
    calls: ['test_cmd'],
    says: 'There is no test operation of this number.',
    source: selftest('iommufd_test'),
  },
  'test-no-such-object': {
    errno: 'ENOENT',
    calls: ['test_cmd'],
    says: 'The test operation names no object of the kind that it works on.',
    source: 'iommu/iommufd/main.c iommufd_get_object',
  },
  'test-alignment': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'What is to be compared must be whole pages: of the HWPT for mappings, of the processor for pins.',
    source: selftest('iommufd_test_md_check_pa, iommufd_test_md_check_refs'),
  },
  'test-user-page': {
    errno: 'EFAULT',
    calls: ['test_cmd'],
    says: 'The caller has no page at an address that is to be compared.',
    source: selftest('iommufd_test_md_check_pa, iommufd_test_md_check_refs, iommufd_test_check_pages'),
  },
  'test-user-memory': {
    errno: 'EFAULT',
    calls: ['test_cmd'],
    says: 'The memory that the test operation reads or writes is not there.',
    source: selftest('iommufd_test_access_rw, iommufd_test_dirty'),
  },
  'test-map-differs': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'A page of the HWPT does not lead to where the memory of the caller is.',
    source: selftest('iommufd_test_md_check_pa'),
  },
  'test-refs-differ': {
    errno: 'EIO',
    calls: ['test_cmd'],
    says: 'A page is pinned more or less often than expected.',
    source: selftest('iommufd_test_md_check_refs'),
  },
  'test-cache-entry': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'The cache that stands in for hardware has four entries.',
    source: selftest('iommufd_test_md_check_iotlb, iommufd_test_dev_check_cache'),
  },
  'test-cache-differs': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'The entry of a cache does not hold what is expected.',
    source: selftest('iommufd_test_md_check_iotlb, iommufd_test_dev_check_cache'),
  },
  'test-reserved-empty': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'A reserved range needs at least one byte.',
    source: selftest('iommufd_test_add_reserved'),
  },
  'test-reserved-wraps': {
    errno: 'EOVERFLOW',
    calls: ['test_cmd'],
    says: 'A reserved range ends beyond 64 bits.',
    source: selftest('iommufd_test_add_reserved'),
  },
  'test-device-flags': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'A mock device can be made without dirty tracking and with PASIDs; other flags are not known.',
    source: selftest('mock_dev_create'),
  },
  'test-hwpt-differs': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'The PASID is not attached to the expected HWPT.',
    source: selftest('iommufd_test_pasid_check_hwpt'),
  },
  'test-not-a-hwpt': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'The object that a PASID is expected on is no HWPT.',
    source: selftest('iommufd_test_pasid_check_hwpt'),
  },
  'test-access-flags': {
    errno: 'EOPNOTSUPP',
    calls: ['test_cmd'],
    says: 'A flag of the test operation on accesses is not known.',
    source: selftest('iommufd_test_create_access, iommufd_test_access_pages'),
  },
  'test-not-an-access': {
    errno: 'EBADFD',
    calls: ['test_cmd'],
    says: 'The descriptor is not one of an access.',
    source: selftest('iommufd_access_get'),
  },
  'test-access-too-long': {
    errno: 'ENOMEM',
    calls: ['test_cmd'],
    says: 'At most 16 MiB are pinned or copied at once.',
    source: selftest('iommufd_test_access_pages, iommufd_test_access_rw'),
  },
  'test-access-without-pins': {
    errno: 'EOPNOTSUPP',
    calls: ['test_cmd'],
    says: 'The access was created without the flag that lets it pin.',
    source: selftest('iommufd_test_access_pages'),
  },
  'test-pages-differ': {
    errno: 'EBADE',
    calls: ['test_cmd'],
    says: 'A pinned page is not the one that the caller has at the address.',
    source: selftest('iommufd_test_check_pages'),
  },
  'test-no-such-item': {
    errno: 'ENOENT',
    calls: ['test_cmd'],
    says: 'The access has pinned no item of this number, or let go of it when its area was unmapped.',
    source: selftest('iommufd_test_access_item_destroy'),
  },
  'test-memory-limit': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'Temporary memory cannot be limited to fewer than 12 bytes.',
    source: selftest('iommufd_test'),
  },
  'test-dirty-range': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'What is to be dirtied must be whole pages of the given size, with a bitmap that says which.',
    source: selftest('iommufd_test_dirty'),
  },
  'test-dirty-length': {
    errno: 'EOVERFLOW',
    calls: ['test_cmd'],
    says: 'At most 2^27 pages can be dirtied at once.',
    source: selftest('iommufd_test_dirty'),
  },
  'test-dirty-off': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'The HWPT does not track dirty pages, or not now.',
    source: selftest('iommufd_test_dirty'),
  },
  'test-no-event-source': {
    errno: 'ENOENT',
    calls: ['test_cmd'],
    says: 'The device is on no nested HWPT of a vIOMMU, or has virtual ID 0 there.',
    source: selftest('iommufd_test_trigger_vevent'),
  },
  'test-dmabuf-length': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'A dma-buf for tests has 1 byte to 2 MiB.',
    source: selftest('iommufd_test_dmabuf_get'),
  },
  'test-bad-descriptor': {
    errno: 'EBADF',
    calls: ['test_cmd'],
    says: 'The descriptor is not open.',
    source: 'dma-buf/dma-buf.c dma_buf_get',
  },
  'test-not-a-dmabuf': {
    errno: 'EINVAL',
    calls: ['test_cmd'],
    says: 'The descriptor is not one of a dma-buf.',
    source: 'dma-buf/dma-buf.c dma_buf_get',
  },
} as const satisfies RuleSet
