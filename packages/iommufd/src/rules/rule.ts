/**
 * What a rule of the API is: which errno it gives, to which calls, and where Linux has it.
 *
 * @packageDocumentation
 */
import type { Errno } from '../outcome.js'

/** The calls that can be refused, by the names of the ioctls without IOMMU_, or of the file operation. */
export type CallName =
  | 'destroy'
  | 'ioas_alloc'
  | 'ioas_allow_iovas'
  | 'ioas_copy'
  | 'ioas_iova_ranges'
  | 'ioas_map'
  | 'ioas_unmap'
  | 'option'
  | 'vfio_ioas'
  | 'hwpt_alloc'
  | 'get_hw_info'
  | 'hwpt_set_dirty_tracking'
  | 'hwpt_get_dirty_bitmap'
  | 'hwpt_invalidate'
  | 'fault_queue_alloc'
  | 'ioas_map_file'
  | 'viommu_alloc'
  | 'vdevice_alloc'
  | 'ioas_change_process'
  | 'veventq_alloc'
  | 'hw_queue_alloc'
  | 'ioas_noiommu_get_pa'
  | 'test_cmd'
  | 'vfio_bind'
  | 'vfio_attach'
  | 'vfio_detach'
  | 'device_dma'
  | 'vfio_get_info'
  | 'vfio_set_iommu'
  | 'vfio_check_extension'
  | 'vfio_map_dma'
  | 'vfio_unmap_dma'
  | 'ioctl'
  | 'mmap'
  | 'fault_read'
  | 'fault_write'
  | 'veventq_read'
  | 'veventq_write'
  | 'read'
  | 'write'

export interface Rule {
  readonly errno: Errno
  readonly calls: readonly CallName[]
  /** What a caller did who broke it: one sentence. */
  readonly says: string
  /** File of Linux 7.3 below `drivers/`, and the function. For what is ours alone: `nestwalk`. */
  readonly source: string
}

export type RuleSet = Readonly<Record<string, Rule>>
