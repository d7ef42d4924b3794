/**
 * Test operations on address spaces and page tables: reserving, dirtying, and the memory limit.
 *
 * @packageDocumentation
 */
import { hex } from '@nestwalk/bits'
import { accept, isRefusal, refuse } from '../outcome.js'
import { defineOperation } from './test-operation.js'
import { addReserved, dirty, memoryLimit } from './test-structs.js'

const last64 = (1n << 64n) - 1n
/** Most bits of a dirty bitmap. */
const mostDirtyBits = 1n << 27n
/** Bytes below which the kernel could not work in batches at all. */
const smallestLimit = 12

/** Reserves addresses for nobody. */
const reserve = defineOperation(1, addReserved, ({ context, id }, { start, length }) => {
  if (length === 0n) return refuse('test-reserved-empty', 'a reserved range needs at least one byte')
  const last = start + length - 1n
  if (last > last64) return refuse('test-reserved-wraps', `${hex(start)} + ${hex(length)} wraps around`)
  const ioas = context.objects.need(id, 'ioas', 'test-no-such-object')
  if (isRefusal(ioas)) return ioas
  return ioas.table.reserve(undefined, { first: start, last }) ?? accept({})
})

/** The kernel pins in smaller batches then. Nothing of that can be seen from outside. */
const limitMemory = defineOperation(9, memoryLimit, (_call, { limit }) =>
  limit < smallestLimit
    ? refuse('test-memory-limit', `${limit} bytes of temporary memory are fewer than ${smallestLimit}`)
    : accept({}),
)

/** Marks the table's entries at some pages as written; says how many pages that were, mapped or not. */
const markDirty = defineOperation(13, dirty, ({ context, process, backend, id }, request) => {
  const { iova, length, pageSize, uptr } = request
  const isWhole = pageSize !== 0n && iova % pageSize === 0n && length % pageSize === 0n
  if (!isWhole || length === 0n || uptr === 0n) {
    return refuse(
      'test-dirty-range',
      `${hex(iova)} + ${hex(length)} are not pages of ${pageSize} bytes with a bitmap`,
    )
  }
  const bits = length / pageSize
  if (bits > mostDirtyBits) return refuse('test-dirty-length', `${bits} pages are more than ${mostDirtyBits}`)
  const hwpt = context.objects.need(id, 'paging-hwpt', 'test-no-such-object')
  if (isRefusal(hwpt)) return hwpt
  const { number } = hwpt.domain
  if (!backend.isTrackingDirty(number))
    return refuse('test-dirty-off', `HWPT ${id} does not track dirty pages`)
  const bitmap = new Uint8Array(Math.ceil(Number(bits) / 8))
  if (!process.memory.read(uptr, bitmap)) {
    return refuse('test-user-memory', `the bitmap at ${hex(uptr)} cannot be read`)
  }
  let marked = 0n
  for (const bit of setBits(bitmap, Number(bits))) {
    backend.markDirty(number, iova + BigInt(bit) * pageSize)
    marked += 1n
  }
  return accept({ out: { outNrDirty: marked } })
})

/** Numbers of the bits that are set, of the first `bits`. */
function* setBits(bitmap: Uint8Array, bits: number): Generator<number> {
  for (const [at, byte] of bitmap.entries()) {
    for (let bit = 0; bit < 8 && byte >> bit !== 0; bit++) {
      if (((byte >> bit) & 1) !== 0 && 8 * at + bit < bits) yield 8 * at + bit
    }
  }
}

export const memoryOperations = [reserve, limitMemory, markDirty]
