/**
 * Rules of IO address spaces: placement, pinning, mapping, and the kernel's own accesses.
 *
 * @packageDocumentation
 */
import type { CallName, RuleSet } from './rule.js'

const mapping: readonly CallName[] = ['ioas_map', 'ioas_map_file', 'ioas_copy', 'vfio_map_dma']

/** Calls that put a domain or a device on an IOAS. */
const joining: readonly CallName[] = ['hwpt_alloc', 'vfio_attach', 'test_cmd']

/** Calls that pin pages. */
const pinning: readonly CallName[] = [...mapping, ...joining, 'hw_queue_alloc']

const accessing: readonly CallName[] = ['test_cmd', 'hw_queue_alloc']

const placement = 'iommu/iommufd/io_pagetable.c'
const pages = 'iommu/iommufd/pages.c'
const access = 'iommu/iommufd/device.c'

export const ioPagetableRules = {
  'memory-wraps': {
    errno: 'EOVERFLOW',
    calls: ['ioas_map', 'ioas_map_file', 'vfio_map_dma'],
    says: 'The memory to map runs past the last address.',
    source: `${placement} iopt_map_user_pages`,
  },
  'map-length': {
    errno: 'EINVAL',
    calls: ['ioas_map', 'ioas_map_file', 'vfio_map_dma'],
    says: 'The length is 0, or all but less than a page of what there is.',
    source: `${pages} iopt_alloc_pages`,
  },
  'map-length-alignment': {
    errno: 'EINVAL',
    calls: mapping,
    says: 'The length is not a multiple of the alignment of the IOAS.',
    source: `${placement} iopt_alloc_area_pages`,
  },
  'iova-alignment': {
    errno: 'EINVAL',
    calls: mapping,
    says: 'The IOVA is not a multiple of the alignment of the IOAS.',
    source: `${placement} iopt_check_iova`,
  },
  'iova-wraps': {
    errno: 'EOVERFLOW',
    calls: [...mapping, 'ioas_unmap', 'vfio_unmap_dma', ...accessing],
    says: 'The range of IOVAs runs past the last one.',
    source: `${placement} iopt_check_iova`,
  },
  'iova-reserved': {
    errno: 'EINVAL',
    calls: mapping,
    says: 'The range meets IOVAs that are reserved.',
    source: `${placement} iopt_check_iova`,
  },
  'iova-mapped': {
    errno: 'EEXIST',
    calls: mapping,
    says: 'Something is mapped in the range already.',
    source: `${placement} iopt_check_iova`,
  },
  'iova-choice-length': {
    errno: 'EOVERFLOW',
    calls: mapping,
    says: 'The length is too large for an IOVA to be chosen.',
    source: `${placement} iopt_alloc_iova`,
  },
  'iova-choice-alignment': {
    errno: 'EINVAL',
    calls: mapping,
    says: 'Memory at that address cannot be aligned as the IOAS needs it.',
    source: `${placement} iopt_alloc_iova`,
  },
  'iova-none-free': {
    errno: 'ENOSPC',
    calls: mapping,
    says: 'No hole among the IOVAs is large enough.',
    source: `${placement} iopt_alloc_iova`,
  },
  'memory-alignment': {
    errno: 'EINVAL',
    calls: mapping,
    says: 'The offset of the memory in its page is not a multiple of the alignment of the IOAS.',
    source: `${placement} iopt_insert_area`,
  },
  'area-limit': {
    errno: 'ENOMEM',
    calls: mapping,
    says: 'The IOAS has as many areas as are kept.',
    source: 'nestwalk',
  },
  'reserve-limit': {
    errno: 'ENOMEM',
    calls: ['test_cmd'],
    says: 'The IOAS has as many reserved ranges of an owner as are kept.',
    source: 'nestwalk',
  },
  'area-without-rights': {
    errno: 'EINVAL',
    calls: [...mapping, ...joining],
    says: 'An area that may be neither read nor written cannot be put into a page table.',
    source: 'iommu/iommu.c iommu_map',
  },
  'copy-length': {
    errno: 'EINVAL',
    calls: ['ioas_copy'],
    says: 'The length is 0.',
    source: `${placement} iopt_get_pages`,
  },
  'copy-source-wraps': {
    errno: 'EOVERFLOW',
    calls: ['ioas_copy'],
    says: 'The range to copy runs past the last IOVA.',
    source: `${placement} iopt_get_pages`,
  },
  'copy-source-unmapped': {
    errno: 'ENOENT',
    calls: ['ioas_copy'],
    says: 'The range to copy is not covered by adjoining areas.',
    source: `${placement} iopt_get_pages`,
  },
  'copy-not-writeable': {
    errno: 'EPERM',
    calls: ['ioas_copy'],
    says: 'Memory that was mapped to be read only cannot be copied to be written.',
    source: `${placement} iopt_insert_area`,
  },
  'unmap-length': {
    errno: 'EINVAL',
    calls: ['ioas_unmap', 'vfio_unmap_dma'],
    says: 'The length is 0.',
    source: `${placement} iopt_unmap_iova`,
  },
  'unmap-nothing': {
    errno: 'ENOENT',
    calls: ['ioas_unmap'],
    says: 'There is no area in the range.',
    source: `${placement} iopt_unmap_iova`,
  },
  'unmap-cuts-area': {
    errno: 'ENOENT',
    calls: ['ioas_unmap', 'vfio_unmap_dma'],
    says: 'The range cuts an area: areas are unmapped whole. Those before it are gone.',
    source: `${placement} iopt_unmap_iova_range`,
  },
  'unmap-locked': {
    errno: 'EBUSY',
    calls: ['ioas_unmap', 'vfio_unmap_dma'],
    says: 'A hardware queue lies in the area. Areas before it are gone.',
    source: `${placement} iopt_unmap_iova_range`,
  },
  'unmap-unheard': {
    errno: 'EDEADLK',
    calls: ['ioas_unmap', 'vfio_unmap_dma'],
    says: 'An access does not let go of the area. Areas before it are gone.',
    source: `${placement} iopt_unmap_iova_range`,
  },
  'allow-range': {
    errno: 'EINVAL',
    calls: ['ioas_allow_iovas'],
    says: 'An allowed range must have a first address below its last one.',
    source: 'iommu/iommufd/ioas.c iommufd_ioas_load_iovas',
  },
  'allow-overlap': {
    errno: 'EINVAL',
    calls: ['ioas_allow_iovas'],
    says: 'Two ranges of the list overlap.',
    source: 'iommu/iommufd/ioas.c iommufd_ioas_load_iovas',
  },
  'allow-reserved': {
    errno: 'EADDRINUSE',
    calls: ['ioas_allow_iovas'],
    says: 'A range of the list meets IOVAs that are reserved.',
    source: `${placement} iopt_set_allow_iova`,
  },
  'reserve-in-use': {
    errno: 'EADDRINUSE',
    calls: joining,
    says: 'IOVAs that must be reserved are mapped, or allowed to be chosen.',
    source: `${placement} iopt_reserve_iova`,
  },
  'alignment-in-use': {
    errno: 'EADDRINUSE',
    calls: [...joining, 'hw_queue_alloc', 'option', 'vfio_set_iommu'],
    says: 'An area does not have the alignment that is needed from now on.',
    source: `${placement} iopt_check_iova_alignment`,
  },
  'domain-page-size': {
    errno: 'EINVAL',
    calls: joining,
    says: 'The smallest page of the domain is larger than a page of the processor.',
    source: `${placement} iopt_table_add_domain`,
  },
  'huge-pages-in-use': {
    errno: 'EINVAL',
    calls: ['option', 'vfio_set_iommu'],
    says: 'Huge pages cannot be turned off with areas in a page table.',
    source: `${placement} iopt_disable_large_pages`,
  },
  'pin-fault': {
    errno: 'EFAULT',
    calls: pinning,
    says: 'A page is not there, or may not be read or written as asked, or its process is gone.',
    source: `${pages} pfn_reader_user_pin`,
  },
  'pin-file': {
    errno: 'EINVAL',
    calls: pinning,
    says: 'The file is of a kind that cannot be pinned, or ends before the range.',
    source: `${pages} pfn_reader_pin_folios`,
  },
  'pin-memory': {
    errno: 'ENOMEM',
    calls: pinning,
    says: 'There is not enough memory to pin the pages.',
    source: `${pages} pfn_reader_user_pin`,
  },
  'pin-limit': {
    errno: 'ENOMEM',
    calls: [...pinning, 'ioas_change_process'],
    says: 'More pages would be locked than RLIMIT_MEMLOCK allows.',
    source: `${pages} do_update_pinned`,
  },
  'pin-charge': {
    errno: 'ENOMEM',
    calls: [...pinning, 'ioas_change_process'],
    says: 'Pinned pages could not be charged: a failure was injected.',
    source: `${pages} do_update_pinned`,
  },
  'change-process-memory': {
    errno: 'EINVAL',
    calls: ['ioas_change_process'],
    says: 'A mapping is not of a file: its memory belongs to the process that made it.',
    source: 'iommu/iommufd/ioas.c iommufd_ioas_change_process',
  },
  'cut-dmabuf': {
    errno: 'EOPNOTSUPP',
    calls: ['vfio_unmap_dma'],
    says: 'An area of a dma-buf cannot be cut.',
    source: `${placement} iopt_area_split`,
  },
  'cut-busy': {
    errno: 'EBUSY',
    calls: ['vfio_unmap_dma'],
    says: 'An area that is being unmapped cannot be cut.',
    source: `${placement} iopt_area_split`,
  },
  'cut-alignment': {
    errno: 'EINVAL',
    calls: ['vfio_unmap_dma'],
    says: 'The area cannot be cut there: the parts would not have the alignment of the IOAS.',
    source: `${placement} iopt_area_split`,
  },
  'cut-accessed': {
    errno: 'EINVAL',
    calls: ['vfio_unmap_dma'],
    says: 'An area that is pinned by an access cannot be cut.',
    source: `${placement} iopt_area_split`,
  },
  'cut-huge': {
    errno: 'EINVAL',
    calls: ['vfio_unmap_dma'],
    says: 'An area that may be mapped by huge pages cannot be cut.',
    source: `${placement} iopt_area_split`,
  },
  'dmabuf-range': {
    errno: 'EINVAL',
    calls: ['ioas_map_file'],
    says: 'The range runs past the end of the dma-buf.',
    source: `${pages} iopt_alloc_dmabuf_pages`,
  },
  'dmabuf-revoked': {
    errno: 'ENODEV',
    calls: ['ioas_map_file'],
    says: 'The exporter has taken the memory of the dma-buf back.',
    source: `${pages} iopt_map_dmabuf`,
  },
  'access-length': {
    errno: 'EINVAL',
    calls: accessing,
    says: 'The length is 0.',
    source: `${access} iommufd_access_pin_pages`,
  },
  'access-unattached': {
    errno: 'ENOENT',
    calls: accessing,
    says: 'The access is on no IOAS.',
    source: `${access} iommufd_access_pin_pages`,
  },
  'access-attached': {
    errno: 'EINVAL',
    calls: accessing,
    says: 'The access is on an IOAS already.',
    source: `${access} iommufd_access_attach`,
  },
  'access-unmapped': {
    errno: 'ENOENT',
    calls: accessing,
    says: 'The range is not covered by adjoining areas.',
    source: `${access} iommufd_access_pin_pages`,
  },
  'access-closed': {
    errno: 'EINVAL',
    calls: accessing,
    says: 'The area is being unmapped.',
    source: `${access} iommufd_access_pin_pages`,
  },
  'access-alignment': {
    errno: 'EINVAL',
    calls: accessing,
    says: 'The range does not begin at the start of a page, or two areas of it meet within one.',
    source: `${access} iopt_area_contig_is_aligned`,
  },
  'access-dmabuf': {
    errno: 'EINVAL',
    calls: accessing,
    says: 'The memory of a dma-buf cannot be used by the kernel.',
    source: `${access} iommufd_access_pin_pages`,
  },
  'access-fault': {
    errno: 'EFAULT',
    calls: ['test_cmd'],
    says: 'The memory is not there any more, or its process is gone and nothing pins it.',
    source: `${pages} iopt_pages_rw_access`,
  },
  'access-rights': {
    errno: 'EPERM',
    calls: accessing,
    says: 'The area may not be read or written as asked.',
    source: `${access} check_area_prot`,
  },
  'access-needs-no-pages': {
    errno: 'EINVAL',
    calls: accessing,
    says: 'The access was made without the right to pin.',
    source: `${access} iommufd_access_pin_pages`,
  },
} as const satisfies RuleSet
