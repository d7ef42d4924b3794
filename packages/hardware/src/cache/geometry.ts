/**
 * How a cache of translations is laid out: its shape, its size, and which entry makes room for a new one.
 *
 * What silicon does here is not published, so all of it is a choice. The hashed shape holds everything that was filled,
 * as a proof wants it; the set-associative one forgets as hardware does.
 *
 * @packageDocumentation
 */

/** Which way of a full set takes a new entry: the one unused longest, the oldest, or one drawn by lot. */
export type Replacement = 'lru' | 'fifo' | 'random'

/** One table for all entries. It grows with what it holds. */
interface HashedGeometry {
  readonly kind: 'hashed'
  /** It grows to 2^`capacityLog2` slots, 6 to 24: when three quarters are live and one more comes, it is emptied. */
  readonly capacityLog2?: number
}

/** Sets chosen by the low bits of the page number, each with a few ways. */
export interface SetAssociativeGeometry {
  readonly kind: 'set-associative'
  /** 2^`setsLog2` sets, 0 to 16. */
  readonly setsLog2: number
  /** Entries of a set, 1 to 64; 2^20 in all sets at most. */
  readonly ways: number
  readonly replacement: Replacement
  /** Where random replacement starts, 0 to 2^32 - 1. Default 1. */
  readonly seed?: number
}

export type CacheGeometry = HashedGeometry | SetAssociativeGeometry

/** What a cache of any shape may have besides. */
export interface CacheOptions {
  /** Entries remember the GPAs that they came by, so that an invalidation can go by them. Default false. */
  readonly remembersGpas?: boolean
  /** Wide invalidations after which a hashed cache numbers them anew, 2 to 2^31 - 2. For tests. */
  readonly stampLimit?: number
}

/** Of a hashed geometry that names none. */
export const defaultCapacityLog2 = 20
export const defaultSeed = 1

/** Stamps are handed out below this one; then they start again. */
export const lastStamp = 0x7ffffffe

const minCapacityLog2 = 6
const maxCapacityLog2 = 24
const maxSetsLog2 = 16
const maxWays = 64
const maxEntriesLog2 = 20
const replacements: readonly string[] = ['lru', 'fifo', 'random'] satisfies Replacement[]

/** RangeError that names the field which is out of its limits. */
export function checkGeometry(geometry: CacheGeometry): void {
  if (geometry.kind === 'hashed') {
    checkField('capacityLog2', geometry.capacityLog2 ?? defaultCapacityLog2, minCapacityLog2, maxCapacityLog2)
    return
  }
  const { setsLog2, ways, replacement, seed = defaultSeed } = geometry
  checkField('setsLog2', setsLog2, 0, maxSetsLog2)
  checkField('ways', ways, 1, Math.min(maxWays, 2 ** (maxEntriesLog2 - setsLog2)))
  checkField('seed', seed, 0, 0xffffffff)
  if (!replacements.includes(replacement)) {
    throw new RangeError(`replacement ${replacement} is none of ${replacements.join(', ')}`)
  }
}

/** RangeError unless `value` is an integer within the limits. */
export function checkField(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return
  throw new RangeError(`${name} ${value} is not an integer from ${least} to ${most}`)
}
