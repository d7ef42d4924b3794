/**
 * Page requests on their way to user space and its answers: the FAULT object's queue.
 *
 * Linux drivers/iommu/iommufd/eventq.c. Requests arrive in groups; a group is queued when its last request has come.
 *
 * @packageDocumentation
 */
import { defineStruct, readStruct, u32, u64, writeStruct } from '@nestwalk/bits'
import type { PageFault } from '../backend.js'
import type { ObjectId } from '../object/object.js'
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { Fifo } from './fifo.js'

/** Most groups that wait at once; what comes beyond is answered INVALID. The kernel leaves this to its memory. */
const mostFaultGroups = 1 << 16

/** A page request as user space reads it: `struct iommu_hwpt_pgfault`. */
export const pageFaultStruct = defineStruct({
  name: 'iommu_hwpt_pgfault',
  byteLength: 40,
  fields: {
    flags: u32(0),
    devId: u32(4),
    pasid: u32(8),
    grpid: u32(12),
    perm: u32(16),
    reserved: u32(20),
    addr: u64(24),
    length: u32(32),
    cookie: u32(36),
  },
})

/** An answer as user space writes it: `struct iommu_hwpt_page_response`. */
export const pageResponseStruct = defineStruct({
  name: 'iommu_hwpt_page_response',
  byteLength: 8,
  fields: { cookie: u32(0), code: u32(4) },
})

const pasidValid = 1
const lastPage = 2

/** Where requests came from: a device on a HWPT, by one of its PASIDs. */
export interface FaultOrigin {
  /** The DEVICE. */
  readonly device: ObjectId
  /** 0: nobody could be asked. */
  readonly hwpt: ObjectId
  /** By which the device is attached there; requests of guests' PASIDs come by 0. */
  readonly pasid: number
}

/** Requests of a device that are answered together. */
export interface FaultGroup extends FaultOrigin {
  readonly faults: readonly PageFault[]
}

/** A group that user space has answered. */
export interface Answered {
  readonly group: FaultGroup
  readonly code: 'success' | 'invalid'
}

/** See the file's comment. */
export class FaultQueue {
  /** No free cookie is below this one. */
  private lowestFree = 1

  private constructor(
    private waiting: Fifo<FaultGroup>,
    /** Groups that were read, by cookie. */
    private readonly delivered: Map<number, FaultGroup>,
  ) {}

  static create(): FaultQueue {
    return new FaultQueue(Fifo.of(), new Map())
  }

  get isReadable(): boolean {
    return this.waiting.length > 0
  }

  /** Queues a whole group. False if there is no room. */
  report(group: FaultGroup): boolean {
    if (this.waiting.length + this.delivered.size >= mostFaultGroups) return false
    this.waiting.add(group)
    return true
  }

  /** As many whole groups as fit, oldest first. ESPIPE for a size that is no multiple of 40, EINVAL if not even one fits. */
  read(count: bigint): Outcome<Uint8Array> {
    if (count % BigInt(pageFaultStruct.byteLength) !== 0n)
      return refuse('fault-read-size', `${count} bytes are no multiple of ${pageFaultStruct.byteLength}`)
    const records: Uint8Array[] = []
    let room = count / BigInt(pageFaultStruct.byteLength)
    let taken = 0
    for (const group of this.waiting) {
      if (BigInt(group.faults.length) > room) break
      room -= BigInt(group.faults.length)
      records.push(...this.deliver(group))
      taken += 1
    }
    if (taken === 0 && this.waiting.length > 0)
      return refuse('fault-read-room', `the next group has ${this.waiting.first?.faults.length ?? 0} records`)
    this.waiting.drop(taken)
    return accept(concatenate(records))
  }

  /**
   * Takes answers. The first bad one stops it: with answers before it they count, without the write is refused.
   *
   * @returns the groups that were answered, and the bytes that were taken
   */
  write(bytes: Uint8Array): Outcome<{ readonly answered: readonly Answered[]; readonly taken: number }> {
    const size = pageResponseStruct.byteLength
    if (bytes.length % size !== 0)
      return refuse('fault-write-size', `${bytes.length} bytes are no multiple of ${size}`)
    const answered: Answered[] = []
    for (let at = 0; at < bytes.length; at += size) {
      const answer = this.answer(bytes.subarray(at, at + size))
      if (isRefusal(answer)) {
        if (at === 0) return answer
        return accept({ answered, taken: at })
      }
      answered.push(answer)
    }
    return accept({ answered, taken: bytes.length })
  }

  /** Takes the groups out that nobody will answer: those of a device that has left a HWPT, or all. */
  abandon(of?: FaultOrigin): readonly FaultGroup[] {
    const goes = ({ device, hwpt, pasid }: FaultGroup): boolean =>
      of === undefined || (device === of.device && hwpt === of.hwpt && pasid === of.pasid)
    const read = [...this.delivered].filter(([, group]) => goes(group))
    const unread = [...this.waiting]
    this.waiting = Fifo.of(unread.filter((group) => !goes(group)))
    for (const [cookie] of read) this.free(cookie)
    return [...unread.filter(goes), ...read.map(([, group]) => group)]
  }

  fork(): FaultQueue {
    const fork = new FaultQueue(this.waiting.fork(), new Map(this.delivered))
    fork.lowestFree = this.lowestFree
    return fork
  }

  snapshot(): unknown {
    return [[...this.waiting], [...this.delivered].sort(([a], [b]) => a - b)]
  }

  private deliver(group: FaultGroup): Uint8Array[] {
    let cookie = this.lowestFree
    while (this.delivered.has(cookie)) cookie += 1
    this.delivered.set(cookie, group)
    this.lowestFree = cookie + 1
    return group.faults.map((fault) =>
      writeStruct(pageFaultStruct, {
        flags: (fault.pasid === undefined ? 0 : pasidValid) | (fault.isLast ? lastPage : 0),
        devId: group.device,
        pasid: fault.pasid ?? 0,
        grpid: fault.group,
        perm: fault.permissions,
        addr: fault.address,
        cookie,
      }),
    )
  }

  private answer(record: Uint8Array): Answered | Refusal {
    const { cookie, code } = readStruct(pageResponseStruct, record)
    if (code > 1) return refuse('fault-response-code', `code ${code} is neither SUCCESS 0 nor INVALID 1`)
    const group = this.delivered.get(cookie)
    if (group === undefined) return refuse('fault-cookie', `no group waits with cookie ${cookie}`)
    this.free(cookie)
    return { group, code: code === 0 ? 'success' : 'invalid' }
  }

  private free(cookie: number): void {
    this.delivered.delete(cookie)
    this.lowestFree = Math.min(this.lowestFree, cookie)
  }
}

/** Bytes of all parts, in order. */
export function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}
