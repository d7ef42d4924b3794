/**
 * The descriptor of a vEVENTQ: a guest's events to read. It never blocks.
 *
 * Linux drivers/iommu/iommufd/eventq.c, `iommufd_veventq_fops`.
 *
 * @packageDocumentation
 */
import type { ObjectId } from '../object/object.js'
import type { FileResult, IoctlCall, OpenFile } from '../open-file.js'
import { refuse } from '../outcome.js'
import type { CallingProcess } from '../process.js'
import { failed, haveRead, noIoctl, noMmap, noWrite } from './file-result.js'
import { pollIn } from './poll.js'
import type { SharedContext } from './shared-context.js'

/** See the file's comment. */
export class EventFile implements OpenFile {
  private constructor(
    private readonly shared: SharedContext,
    private readonly id: ObjectId,
  ) {}

  static open(shared: SharedContext, id: ObjectId): EventFile {
    shared.context.objects.hold(id)
    shared.opened()
    return new EventFile(shared, id)
  }

  ioctl({ cmd }: IoctlCall): FileResult {
    return noIoctl(cmd)
  }

  read(_process: CallingProcess<OpenFile>, count: bigint, offset: bigint): FileResult {
    const { kernel, context } = this.shared
    if (offset > 0n) return failed(refuse('event-read-offset', `the file has no byte ${offset}`))
    kernel.deliverReports()
    const done = context.readEvents(this.id, count)
    return done.ok ? haveRead(done.value) : failed(done)
  }

  write = noWrite

  poll(events: number): number {
    const { kernel, context } = this.shared
    kernel.deliverReports()
    const { queue } = context.objects.held(this.id, 'veventq')
    return queue.isReadable ? events & pollIn : 0
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
