/**
 * The descriptor of an object with a queue: the object lives as long as it is open, and nothing of it can be mapped.
 *
 * Linux drivers/iommu/iommufd/eventq.c, `iommufd_eventq_init`.
 *
 * @packageDocumentation
 */
import type { ObjectId } from '../object/object.js'
import type { FileResult, IoctlCall } from '../open-file.js'
import { noIoctl, noMmap } from './file-result.js'
import type { SharedContext } from './shared-context.js'

/** See the file's comment. */
export abstract class QueueFile {
  /** Opens the file of an object. */
  constructor(
    protected readonly shared: SharedContext,
    protected readonly id: ObjectId,
  ) {
    shared.context.objects.hold(id)
    shared.opened()
  }

  ioctl({ cmd }: IoctlCall): FileResult {
    return noIoctl(cmd)
  }

  mmap = noMmap

  munmap(): void {
    // Nothing of it can be mapped.
  }

  close(): void {
    this.shared.context.objects.letGo(this.id)
    this.shared.closed()
  }
}
