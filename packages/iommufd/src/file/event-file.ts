/**
 * The descriptor of a vEVENTQ: a guest's events to read. It never blocks.
 *
 * Linux drivers/iommu/iommufd/eventq.c, `iommufd_veventq_fops`.
 *
 * @packageDocumentation
 */
import type { FileResult, OpenFile } from '../open-file.js'
import { refuse } from '../outcome.js'
import type { CallingProcess } from '../process.js'
import { failed, haveRead, noWrite } from './file-result.js'
import { pollIn } from './poll.js'
import { QueueFile } from './queue-file.js'

/** See the file's comment. */
export class EventFile extends QueueFile implements OpenFile {
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
}
