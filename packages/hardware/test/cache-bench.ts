/** A cache in words of its own, and the pages that tests file in it. */
import { createIotlb, withoutPasid } from '../src/cache/iotlb.js'
import type { CacheGeometry, CacheOptions, Iotlb, Replacement } from '../src/cache/iotlb.js'
import { entriesOf } from '../src/iotlb-entries.js'
import { Words } from '../src/memory/words.js'

export interface Bench {
  readonly words: Words
  readonly cache: Iotlb
}

export function newBench(geometry?: CacheGeometry, options?: CacheOptions): Bench {
  const words = Words.create()
  return { words, cache: createIotlb(words, geometry, options) }
}

export function forkOf({ words, cache }: Bench): Bench {
  const fork = words.fork()
  return { words: fork, cache: cache.forkOnto(fork) }
}

export const sets = (
  setsLog2: number,
  ways: number,
  replacement: Replacement,
  seed?: number,
): CacheGeometry => ({
  kind: 'set-associative',
  setsLog2,
  ways,
  replacement,
  ...(seed === undefined ? {} : { seed }),
})

/** Files page `page` of a domain's host table; its frame is the page above. */
export function fill({ words, cache }: Bench, page: number, domainId = 1, pasid = withoutPasid): void {
  words.activate()
  const record = cache.domainRecord(domainId)
  const hi = Math.floor(page / 2 ** 20)
  cache.fill(record, domainId, pasid, page << 12, hi, 12, (page + 1) << 12, 0, 0x60000000, 9)
}

export function has({ words, cache }: Bench, page: number, domainId = 1, pasid = withoutPasid): boolean {
  words.activate()
  const record = cache.domainRecord(domainId)
  return cache.lookup(record, domainId, pasid, page << 12, Math.floor(page / 2 ** 20))
}

/** Page numbers in the order of the listing. */
export function held({ words, cache }: Bench): number[] {
  words.activate()
  return entriesOf(cache).map(({ page }) => Number(page >> 12n))
}

export const fingerprint = ({ words }: Bench): string => words.fingerprint().join()
