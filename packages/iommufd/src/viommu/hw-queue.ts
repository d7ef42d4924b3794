/**
 * HW_QUEUE_ALLOC: a queue in guest memory that hardware reads by itself.
 *
 * Linux drivers/iommu/iommufd/viommu.c. Its pages are held by an access of the kernel's own.
 *
 * @packageDocumentation
 */
import type { ContextState } from '../context-state.js'
import { Access } from '../io-pagetable/access.js'
import type { HwQueue, ObjectId, Viommu } from '../object/object.js'
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import { pageBytes } from '../process.js'
import type { PhysicalRun } from '../process.js'

/** HW_QUEUE_ALLOC. */
export interface HwQueueAllocation {
  readonly viommu: ObjectId
  readonly type: number
  readonly index: number
  /** Where the queue lies, in the nest parent. */
  readonly iova: bigint
  readonly length: bigint
}

const last64 = (1n << 64n) - 1n
const page = BigInt(pageBytes)
/** Linux allocates a pointer for each page, in less than 2 GiB. */
const mostPages = 0x7fff_ffffn / 8n

export function allocateHwQueue(context: ContextState, request: HwQueueAllocation): Outcome<ObjectId> {
  const { objects, kernel } = context
  const { type, index, iova, length } = request
  if (type === 0) return refuse('hw-queue-default-type', 'type 0 stands for no queue')
  if (length === 0n) return refuse('hw-queue-empty', 'a queue of no bytes')
  if (iova + length - 1n > last64) return refuse('hw-queue-wraps', 'the queue wraps around')
  const viommu = objects.need(request.viommu, 'viommu', 'no-such-viommu')
  if (isRefusal(viommu)) return viommu
  if (!kernel.backend.hasHwQueue(viommu.number, type))
    return refuse('hw-queue-type', `the vIOMMU has no queues of type 0x${type.toString(16)}`)
  const full = objects.whyFull(2)
  if (full !== undefined) return full
  const whole = wholePages(iova, length)
  if (isRefusal(whole)) return whole
  const ioas = objects.held(viommu.parent, 'paging-hwpt').ioas
  const { table } = objects.held(ioas, 'ioas')
  const access = Access.create({ needsPages: true, isInternal: true })
  const attached = access.attach(kernel, table)
  if (!attached.ok) return attached
  const pinned = access.pin(kernel, whole.iova, whole.length, false)
  if (!pinned.ok) {
    access.detach(kernel)
    return pinned
  }
  const physical = whereItIs(pinned.value, iova)
  const made = isRefusal(physical)
    ? physical
    : kernel.backend.createHwQueue({ viommu: viommu.number, type, index, iova, length, physical })
  if (!made.ok) {
    access.unpin(kernel, whole.iova, whole.length)
    access.detach(kernel)
    return made
  }
  const dependsOn = queueWithIndex(context, request.viommu, made.value.dependsOn)
  // The queue's number is taken before that of the access, which is known then.
  const queue = {
    ...{ kind: 'hw-queue' as const, users: 0, viommu: request.viommu, index },
    ...{ pages: whole, access: 0, dependsOn },
  }
  const id = objects.add(queue)
  queue.access = objects.add({ kind: 'access', users: 1, access, ioas })
  return accept(id, made.effects)
}

/** Takes a queue from hardware, and lets its pages go. The object itself goes afterwards. */
export function releaseHwQueue(context: ContextState, queue: HwQueue): Outcome<undefined> {
  const { objects, kernel } = context
  const viommu: Viommu = objects.held(queue.viommu, 'viommu')
  const destroyed = kernel.backend.destroyHwQueue(viommu.number, queue.index)
  if (!destroyed.ok) return destroyed
  const { access } = objects.held(queue.access, 'access')
  access.unpin(kernel, queue.pages.iova, queue.pages.length)
  access.detach(kernel)
  objects.remove(queue.access)
  return destroyed
}

/** The pages that a queue lies in. ERANGE where their bytes take more than 64 bits, ENOMEM for more than can be listed. */
function wholePages(iova: bigint, length: bigint): HwQueue['pages'] | Refusal {
  const inPage = iova % page
  const rounded = inPage + length + (page - 1n)
  if (rounded > last64) return refuse('hw-queue-range', `${length} bytes have no whole pages in 64 bits`)
  const pages = rounded / page
  if (pages > mostPages) return refuse('hw-queue-pages', `${pages} pages, where ${mostPages} can be listed`)
  return { iova: iova - inPage, length: pages * page }
}

/** Physical address of a queue, which must be in one piece. */
function whereItIs(runs: readonly PhysicalRun[], iova: bigint): bigint | Refusal {
  const [first, ...more] = runs
  if (first === undefined || more.length > 0)
    return refuse('hw-queue-scattered', 'the pages of the queue are not physically contiguous')
  return first.first + (iova % page)
}

function queueWithIndex(
  { objects }: ContextState,
  viommu: ObjectId,
  index: number | undefined,
): ObjectId | undefined {
  for (const [id, queue] of objects.all('hw-queue'))
    if (queue.viommu === viommu && queue.index === index) return id
  return undefined
}
