/**
 * Which entries a completed invalidation has dropped: one rule for each kind of cache.
 *
 * AMD 48882 rev 3.10, INVALIDATE_IOMMU_PAGES and what it reaches. The file of the property says it in words.
 */
import type { Invalidation } from './cached-answers-world.js'
import { meets, shiftOf } from './cached-answers-tables.js'
import type { Block, Page, Table } from './cached-answers-tables.js'

/** The caches that a chip has, and how it reads what is left open. */
export interface CacheRules {
  readonly splits: boolean
  readonly combines: boolean
  readonly remembersGpas: boolean
  readonly pageWalkCache: boolean
  readonly gcr3Cache: boolean
  readonly cachesAbsent: boolean
  readonly hitsFault: boolean
  readonly flushesByGpa: boolean
  readonly flushesOtherPasids: boolean
  /** Or else at a COMPLETION_WAIT. */
  readonly completesAtOnce: boolean
  /** Control: A and D of guest tables. */
  readonly marksGuest: boolean
}

/** A cache has entries of a kind under a tag. */
export type Kind =
  'host' | 'combined' | 'guest-to-gpa' | 'absent' | 'host-tables' | 'guest-tables' | 'guest-roots'

export interface Tag {
  readonly kind: Kind
  readonly domainId: number
  /** Undefined: of the host table. */
  readonly pasid: number | undefined
  /** First address of what all entries under the tag serve. */
  readonly start: bigint
}

export interface Held extends Page {
  /** Of tables: 1 to 4. */
  readonly level: number
  /** The last moment at which a walk may have put it there. */
  readonly filled: number
}

/** An invalidation that has completed: everything that was filled up to the moment of its fetch is gone. */
export interface Completed {
  readonly what: Invalidation
  readonly fetched: number
}

/** What an entry under a tag serves, for ranges to meet. */
function servedBy({ kind, start }: Tag, { level, sizeLog2 }: Held): Block {
  if (kind === 'host-tables' || kind === 'guest-tables') return { start, sizeLog2: shiftOf(level + 1) }
  return { start, sizeLog2 }
}

/** Whether a completed invalidation has dropped an entry. */
export function isReached(what: Invalidation, tag: Tag, held: Held, rules: CacheRules): boolean {
  // The entry of a device is no translation: INVALIDATE_DEVTAB_ENTRY leaves these alone.
  if (what.of !== 'pages') return what.of === 'all'
  if (what.domainId !== tag.domainId) return false
  const isTable = tag.kind === 'host-tables' || tag.kind === 'guest-tables' || tag.kind === 'guest-roots'
  if (isTable && !what.directories) return false
  if (what.pasid !== undefined) {
    // GN=1: nothing of the host's; translations of the PASID that meet the range; all its tables.
    if (tag.pasid === undefined) return false
    if (isTable && rules.flushesOtherPasids) return true
    if (what.pasid !== tag.pasid) return false
    return isTable || meets(what, servedBy(tag, held))
  }
  // GN=0: the range in the host table, and what depends on it.
  if (tag.pasid === undefined) return meets(what, servedBy(tag, held))
  if (isTable || what.sizeLog2 === 64 || !rules.flushesByGpa) return true
  if (tag.kind === 'guest-to-gpa') return false
  return !rules.remembersGpas || held.blocks.some((block) => meets(what, block))
}

export const isOfTables = (kind: Kind): boolean => kind === 'host-tables' || kind === 'guest-tables'
export const keyOf = ({ start, sizeLog2, rights, level, blocks }: Omit<Held, 'filled'>): string =>
  `${start} ${sizeLog2} ${rights} ${level} ${blocks.map((block) => block.start).join()}`
export const keyOfTable = (table: Table): string => keyOf({ ...table, start: table.at, sizeLog2: 12 })
export const tableOf = ({ start, level, rights, blocks }: Held): Table => ({
  level,
  at: start,
  rights,
  blocks,
})
