/**
 * What requests to invalidate do to the mock's caches: they set entries to 0.
 *
 * @packageDocumentation
 */
import { readStruct } from '@nestwalk/bits'
import type { Invalidated, UserDataArray } from '../backend.js'
import { isRefusal, refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import {
  mockDeviceCacheEntries,
  mockInvalidateAll,
  mockInvalidationLayout,
  mockInvalidationType,
  mockIotlbEntries,
  mockViommuInvalidationLayout,
} from './abi.js'

/** Requests to a nested domain, copied and carried out one by one. EINVAL for another type, even without requests. */
export function invalidateIotlb(iotlb: Uint32Array, array: UserDataArray): Invalidated {
  if (array.type !== mockInvalidationType) {
    const why = `the mock driver takes requests of type 0xdeadbeef, not 0x${array.type.toString(16)}`
    return { handled: 0, refused: refuse('mock-invalidation-type', why) }
  }
  const { byteLength } = mockInvalidationLayout
  for (let handled = 0; handled < array.count; handled++) {
    const bytes = array.copyEntry(mockInvalidationType, handled, byteLength, byteLength)
    if (isRefusal(bytes)) return { handled, refused: bytes }
    const { flags, iotlbId } = readStruct(mockInvalidationLayout, bytes)
    const refused = refuseRequest(flags, iotlbId, mockIotlbEntries)
    if (refused) return { handled, refused }
    clear(iotlb, flags, iotlbId)
  }
  return { handled: array.count }
}

/** Requests to a vIOMMU, all copied before the first is carried out. No requests of the right type are fine. */
export function invalidateDeviceCaches(
  cacheOf: (virtualId: bigint) => Uint32Array | undefined,
  array: UserDataArray,
): Invalidated {
  if (array.count === 0 && array.type === mockInvalidationType) return { handled: 0 }
  const requests = array.copyAll(mockInvalidationType, mockViommuInvalidationLayout.byteLength)
  if (isRefusal(requests)) return { handled: 0, refused: requests }
  for (const [handled, bytes] of requests.entries()) {
    const { flags, virtualId, cacheId } = readStruct(mockViommuInvalidationLayout, bytes)
    const refused = refuseRequest(flags, cacheId, mockDeviceCacheEntries)
    if (refused) return { handled, refused }
    const cache = cacheOf(BigInt(virtualId))
    if (cache === undefined) {
      return {
        handled,
        refused: refuse('mock-invalidation-device', `no vDEVICE has virtual ID ${virtualId}`),
      }
    }
    clear(cache, flags, cacheId)
  }
  return { handled: requests.length }
}

/** The number of the entry is checked where all are meant, too. */
function refuseRequest(flags: number, id: number, entries: number): Refusal | undefined {
  if ((flags & ~mockInvalidateAll) !== 0) {
    return refuse(
      'mock-invalidation-flags',
      `a request has flags 0x${flags.toString(16)}, where only 1 is known`,
    )
  }
  if (id >= entries)
    return refuse('mock-invalidation-entry', `there are entries 0 to ${entries - 1}, not ${id}`)
  return undefined
}

function clear(cache: Uint32Array, flags: number, id: number): void {
  if ((flags & mockInvalidateAll) !== 0) cache.fill(0)
  else cache[id] = 0
}
