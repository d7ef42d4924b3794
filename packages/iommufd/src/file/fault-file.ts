/**
 * The descriptor of a FAULT object: page requests to read, answers to write.
 *
 * Linux drivers/iommu/iommufd/eventq.c, `iommufd_fault_fops`. It never blocks.
 *
 * @packageDocumentation
 */
import type { FileResult, OpenFile } from '../open-file.js'
import { refuse } from '../outcome.js'
import type { CallingProcess } from '../process.js'
import { pageResponseStruct } from '../queue/fault-queue.js'
import { failed, haveRead } from './file-result.js'
import { pollIn, pollOut } from './poll.js'
import { QueueFile } from './queue-file.js'

/** See the file's comment. */
export class FaultFile extends QueueFile implements OpenFile {
  read(_process: CallingProcess<OpenFile>, count: bigint, offset: bigint): FileResult {
    const { kernel, context } = this.shared
    if (offset > 0n) return failed(refuse('fault-read-size', `the file has no byte ${offset}`))
    kernel.deliverReports()
    const done = context.readFaults(this.id, count)
    return done.ok ? haveRead(done.value) : failed(done)
  }

  write(_process: CallingProcess<OpenFile>, bytes: Uint8Array, count: bigint, offset: bigint): FileResult {
    const size = BigInt(pageResponseStruct.byteLength)
    if (offset > 0n || count % size !== 0n)
      return failed(
        refuse('fault-write-size', `${count} bytes at ${offset}: answers have ${size} bytes each`),
      )
    const { kernel, context } = this.shared
    const whole = bytes.subarray(0, bytes.length - (bytes.length % Number(size)))
    if (whole.length === 0 && count > 0n)
      return failed(refuse('answers-unreadable', 'the answers cannot be read'))
    const done = kernel.settle(context.answerFaults(this.id, whole))
    return done.ok ? { ret: done.value } : failed(done)
  }

  poll(events: number): number {
    const { kernel, context } = this.shared
    kernel.deliverReports()
    const { queue } = context.objects.held(this.id, 'fault')
    return events & (pollOut | (queue.isReadable ? pollIn : 0))
  }
}
