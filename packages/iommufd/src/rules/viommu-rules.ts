/**
 * Rules of vIOMMUs, vDEVICEs, hardware queues, and of the queues of faults and events.
 *
 * @packageDocumentation
 */
import type { RuleSet } from './rule.js'

export const viommuRules = {
  'viommu-default-type': {
    errno: 'EOPNOTSUPP',
    calls: ['viommu_alloc'],
    says: 'Type 0 stands for no vIOMMU.',
    source: 'iommu/iommufd/viommu.c iommufd_viommu_alloc_ioctl',
  },
  'viommu-type': {
    errno: 'EOPNOTSUPP',
    calls: ['viommu_alloc'],
    says: 'The driver has no vIOMMU of the type.',
    source: 'iommu/iommufd/viommu.c iommufd_viommu_alloc_ioctl',
  },
  'device-has-vdevice': {
    errno: 'EEXIST',
    calls: ['vdevice_alloc'],
    says: 'The device has a vDEVICE already, in this or another vIOMMU.',
    source: 'iommu/iommufd/viommu.c iommufd_vdevice_alloc_ioctl',
  },
  'virtual-id-taken': {
    errno: 'EEXIST',
    calls: ['vdevice_alloc'],
    says: 'The virtual ID is taken in the vIOMMU.',
    source: 'iommu/iommufd/viommu.c iommufd_vdevice_alloc_ioctl',
  },
  'hw-queue-default-type': {
    errno: 'EOPNOTSUPP',
    calls: ['hw_queue_alloc'],
    says: 'Type 0 stands for no queue.',
    source: 'iommu/iommufd/viommu.c iommufd_hw_queue_alloc_ioctl',
  },
  'hw-queue-empty': {
    errno: 'EINVAL',
    calls: ['hw_queue_alloc'],
    says: 'The queue has no bytes.',
    source: 'iommu/iommufd/viommu.c iommufd_hw_queue_alloc_ioctl',
  },
  'hw-queue-wraps': {
    errno: 'EOVERFLOW',
    calls: ['hw_queue_alloc'],
    says: 'The queue runs past the last address.',
    source: 'iommu/iommufd/viommu.c iommufd_hw_queue_alloc_ioctl',
  },
  'hw-queue-type': {
    errno: 'EOPNOTSUPP',
    calls: ['hw_queue_alloc'],
    says: 'The vIOMMU has no queues of the type.',
    source: 'iommu/iommufd/viommu.c iommufd_hw_queue_alloc_ioctl',
  },
  'hw-queue-range': {
    errno: 'ERANGE',
    calls: ['hw_queue_alloc'],
    says: 'The whole pages of the queue have more bytes than 64 bits can count.',
    source: 'iommu/iommufd/viommu.c iommufd_hw_queue_alloc_phys',
  },
  'hw-queue-pages': {
    errno: 'ENOMEM',
    calls: ['hw_queue_alloc'],
    says: 'The queue has more pages than can be listed.',
    source: 'iommu/iommufd/viommu.c iommufd_hw_queue_alloc_phys',
  },
  'hw-queue-scattered': {
    errno: 'EFAULT',
    calls: ['hw_queue_alloc'],
    says: 'The pages of the queue are not physically contiguous.',
    source: 'iommu/iommufd/viommu.c iommufd_hw_queue_alloc_phys',
  },
  'veventq-default-type': {
    errno: 'EOPNOTSUPP',
    calls: ['veventq_alloc'],
    says: 'Type 0 stands for no event queue.',
    source: 'iommu/iommufd/eventq.c iommufd_veventq_alloc',
  },
  'veventq-depth': {
    errno: 'EINVAL',
    calls: ['veventq_alloc'],
    says: 'The depth is 0, or more than 2^19.',
    source: 'iommu/iommufd/eventq.c iommufd_veventq_alloc',
  },
  'veventq-exists': {
    errno: 'EEXIST',
    calls: ['veventq_alloc'],
    says: 'The vIOMMU has a queue of the type already.',
    source: 'iommu/iommufd/eventq.c iommufd_veventq_alloc',
  },
  'no-event-queue': {
    errno: 'EOPNOTSUPP',
    calls: ['test_cmd'],
    says: 'The vIOMMU has no queue for events of the type: the event is dropped.',
    source: 'iommu/iommufd/eventq.c iommufd_viommu_report_event',
  },
  'event-read-size': {
    errno: 'EINVAL',
    calls: ['veventq_read'],
    says: 'There is no room for a header.',
    source: 'iommu/iommufd/eventq.c iommufd_veventq_fops_read',
  },
  'event-read-room': {
    errno: 'EINVAL',
    calls: ['veventq_read'],
    says: 'There is no room for the next event.',
    source: 'iommu/iommufd/eventq.c iommufd_veventq_fops_read',
  },
  'event-read-offset': {
    errno: 'ESPIPE',
    calls: ['veventq_read'],
    says: 'The file has no position but its start.',
    source: 'iommu/iommufd/eventq.c iommufd_veventq_fops_read',
  },
  'fault-read-size': {
    errno: 'ESPIPE',
    calls: ['fault_read'],
    says: "The count is no multiple of a record's 40 bytes, or the position is not 0.",
    source: 'iommu/iommufd/eventq.c iommufd_fault_fops_read',
  },
  'fault-read-room': {
    errno: 'EINVAL',
    calls: ['fault_read'],
    says: 'There is no room for the next group.',
    source: 'iommu/iommufd/eventq.c iommufd_fault_fops_read',
  },
  'fault-write-size': {
    errno: 'ESPIPE',
    calls: ['fault_write'],
    says: "The count is no multiple of an answer's 8 bytes, or the position is not 0.",
    source: 'iommu/iommufd/eventq.c iommufd_fault_fops_write',
  },
  'answers-unreadable': {
    errno: 'EFAULT',
    calls: ['fault_write'],
    says: 'The answers cannot be read.',
    source: 'iommu/iommufd/eventq.c iommufd_fault_fops_write',
  },
  'fault-response-code': {
    errno: 'EINVAL',
    calls: ['fault_write'],
    says: 'The code is neither SUCCESS nor INVALID.',
    source: 'iommu/iommufd/eventq.c iommufd_fault_fops_write',
  },
  'fault-cookie': {
    errno: 'EINVAL',
    calls: ['fault_write'],
    says: 'No group waits with the cookie.',
    source: 'iommu/iommufd/eventq.c iommufd_fault_fops_write',
  },
} as const satisfies RuleSet
