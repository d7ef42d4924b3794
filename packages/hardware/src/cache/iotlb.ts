/**
 * The IOTLB, and the caches beside it, by the shape that is wanted.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'
import { checkField, checkGeometry, defaultCapacityLog2, lastStamp } from './geometry.js'
import type { CacheGeometry, CacheOptions } from './geometry.js'
import { HashedCache } from './hashed-cache.js'
import { SetAssociativeCache } from './set-associative-cache.js'
import type { TaggedCache } from './tagged-cache.js'

export { withoutPasid } from './entry.js'
export type { CacheGeometry, CacheOptions, Replacement } from './geometry.js'

/** Translations filed under (DomainID, PASID, page); see {@link TaggedCache}. */
export type Iotlb = TaggedCache

/**
 * An empty cache in a machine's words, for translations, table pages or GCR3 entries.
 *
 * RangeError for a geometry or an option that is out of its limits.
 */
export function createIotlb(
  words: Words,
  geometry: CacheGeometry = { kind: 'hashed' },
  options: CacheOptions = {},
): Iotlb {
  checkGeometry(geometry)
  const { remembersGpas = false, stampLimit = lastStamp } = options
  checkField('stampLimit', stampLimit, 2, lastStamp)
  if (geometry.kind === 'set-associative') return SetAssociativeCache.create(words, geometry, remembersGpas)
  return HashedCache.create(words, geometry.capacityLog2 ?? defaultCapacityLog2, remembersGpas, stampLimit)
}

/** The cache of the hashed shape. */
export const Iotlb = {
  /**
   * @param capacityLog2 - see `CacheGeometry`
   * @param stampLimit - wide invalidations after which it numbers them anew
   */
  create: (words: Words, capacityLog2 = defaultCapacityLog2, stampLimit = lastStamp): Iotlb =>
    createIotlb(words, { kind: 'hashed', capacityLog2 }, { stampLimit }),
}
