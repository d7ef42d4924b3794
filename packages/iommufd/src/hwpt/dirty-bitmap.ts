/**
 * HWPT_SET_DIRTY_TRACKING and HWPT_GET_DIRTY_BITMAP.
 *
 * Linux drivers/iommu/iommufd/{hw_pagetable,io_pagetable,iova_bitmap}.c. Bit n of the bitmap stands for the n-th unit of
 * the range. A page of the table has one mark, so a page that was written sets the bits of all its units. Linux sets bits
 * past the end of the range for a page that runs past it, and none for a page that begins before it; here both are cut
 * to the range.
 *
 * @packageDocumentation
 */
import type { AddressRange } from '../backend.js'
import type { ContextState } from '../context-state.js'
import type { ObjectId } from '../object/object.js'
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'
import type { ByteSource } from '../user-data.js'

const last64 = (1n << 64n) - 1n
/** Bytes of bitmap that are changed at a time. */
const chunkBytes = 1 << 16

/** Has hardware mark what is written, or not. Old marks are cleared first. */
export function setDirtyTracking(
  { objects, kernel }: ContextState,
  id: ObjectId,
  isOn: boolean,
): Outcome<undefined> {
  const hwpt = objects.need(id, 'paging-hwpt', 'no-such-paging-hwpt')
  if (isRefusal(hwpt)) return hwpt
  if (!hwpt.domain.canTrackDirty) return refuse('hwpt-without-dirty', `HWPT ${id} was not allocated for that`)
  return kernel.backend.setDirtyTracking(hwpt.domain.number, isOn)
}

/** HWPT_GET_DIRTY_BITMAP. */
export interface DirtyRequest {
  readonly hwpt: ObjectId
  readonly iova: bigint
  readonly length: bigint
  /** Bytes that a bit stands for: taken as the lowest power of two in it. */
  readonly pageSize: bigint
  /** Whether the marks are cleared; otherwise IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR. */
  readonly clears: boolean
}

/** Sets bits in the caller's bitmap. Memory of it that cannot be written is left out, as in Linux. */
export function readDirtyBitmap(
  context: ContextState,
  request: DirtyRequest,
  bitmap: ByteSource,
  address: bigint,
): Outcome<undefined> {
  const { objects, kernel } = context
  const hwpt = objects.need(request.hwpt, 'paging-hwpt', 'no-such-paging-hwpt')
  if (isRefusal(hwpt)) return hwpt
  const { alignment } = objects.held(hwpt.ioas, 'ioas').table
  const refused = whyNoRange(request, alignment)
  if (refused !== undefined) return refused
  if (!hwpt.domain.canTrackDirty)
    return refuse('hwpt-without-dirty', `HWPT ${request.hwpt} was not allocated for dirty tracking`)
  const range = { first: request.iova, last: request.iova + request.length - 1n }
  const dirty = kernel.backend.readDirty(hwpt.domain.number, range, request.clears)
  if (!dirty.ok) return dirty
  const unit = request.pageSize & -request.pageSize
  const bits = new BitmapWriter(bitmap, address)
  for (const page of dirty.value) bits.set(unitsOf(page, range, unit))
  bits.flush()
  return accept(undefined, dirty.effects)
}

function whyNoRange({ iova, length, pageSize }: DirtyRequest, alignment: bigint): Refusal | undefined {
  if (length === 0n) return refuse('dirty-range-empty', 'the range has no bytes')
  if (iova + length - 1n > last64) return refuse('dirty-range-wraps', 'the range wraps around')
  if (iova % alignment !== 0n || (iova + length) % alignment !== 0n)
    return refuse('dirty-range-alignment', `the range is not aligned to ${alignment}, as the IOAS is`)
  if (pageSize === 0n) return refuse('dirty-page-size', 'the page size is 0')
  const low = pageSize - 1n
  if ((iova & low) !== 0n || ((iova + length) & low) !== 0n)
    return refuse('dirty-page-alignment', `the range is not aligned to the page size ${pageSize}`)
  return undefined
}

/** First and last bit of a page, cut to the range. */
function unitsOf(page: AddressRange, range: AddressRange, unit: bigint): readonly [bigint, bigint] {
  const first = page.first > range.first ? page.first : range.first
  const last = page.last < range.last ? page.last : range.last
  return [(first - range.first) / unit, (last - range.first) / unit]
}

/** Sets bits in a caller's memory, a chunk at a time, in ascending order. */
class BitmapWriter {
  /** Number of the chunk at hand. */
  private chunk = -1n
  private bytes = new Uint8Array()
  private first = 0
  private last = -1

  constructor(
    private readonly memory: ByteSource,
    private readonly address: bigint,
  ) {}

  /** Sets bits `first` to `last`. */
  set([first, last]: readonly [bigint, bigint]): void {
    const perChunk = BigInt(chunkBytes * 8)
    for (let chunk = first / perChunk; chunk <= last / perChunk; chunk++) {
      this.take(chunk)
      const start = chunk * perChunk
      const from = first > start ? Number(first - start) : 0
      const to = last - start < perChunk ? Number(last - start) : Number(perChunk) - 1
      this.fill(from, to)
    }
  }

  /** Ors what was collected into the caller's memory. */
  flush(): void {
    if (this.last < this.first) return
    const at = this.address + this.chunk * BigInt(chunkBytes) + BigInt(this.first)
    const news = this.bytes.subarray(this.first, this.last + 1)
    const old = new Uint8Array(news.length)
    if (!this.memory.read(at, old)) return
    this.memory.write(
      at,
      old.map((byte, i) => byte | (news[i] ?? 0)),
    )
  }

  private take(chunk: bigint): void {
    if (chunk === this.chunk) return
    this.flush()
    this.chunk = chunk
    this.bytes = new Uint8Array(chunkBytes)
    this.first = chunkBytes
    this.last = -1
  }

  /** Sets bits of the chunk at hand: a page may be of thousands of units. */
  private fill(from: number, to: number): void {
    const first = from >> 3
    const last = to >> 3
    const head = 0xff << (from & 7)
    const tail = 0xff >> (7 - (to & 7))
    if (first === last) this.bytes[first] = (this.bytes[first] ?? 0) | (head & tail)
    else {
      this.bytes[first] = (this.bytes[first] ?? 0) | head
      this.bytes.fill(0xff, first + 1, last)
      this.bytes[last] = (this.bytes[last] ?? 0) | tail
    }
    if (first < this.first) this.first = first
    if (last > this.last) this.last = last
  }
}
