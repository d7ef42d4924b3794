/**
 * Page tables of either format as they stand in memory: finding entries, looking addresses up.
 *
 * A page larger than its level's own size stands in as many equal entries as it covers. Linux
 * drivers/iommu/generic_pt/iommu_pt.h.
 *
 * @packageDocumentation
 */
import { spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import type { AddressRange } from './invalidation-range.js'
import type { PageAllocator } from './page-allocator.js'
import type { Plan } from './plan.js'
import { levelShift } from './table-format.js'
import type { TableEntry, TableFormat } from './table-format.js'

/** A table to read. */
export interface TableView {
  readonly plan: Plan
  readonly format: TableFormat
  readonly root: Spa
  /** Level of the top table. */
  readonly levels: number
}

/** A table and what is needed to change it. */
export interface TableEdit extends TableView {
  readonly pages: PageAllocator
}

/** Entries of a table. */
const tableEntries = 512

/** Index of the entry for an address in a table of a level. */
export const indexOf = (level: number, address: bigint): number =>
  Number((address >> BigInt(levelShift(level))) & 0x1ffn)

/** Address of an entry. */
export const entryAt = (table: Spa, index: number): Spa => spa(table + BigInt(index << 3))

/** Where an address is mapped to; `undefined` if it is not. */
export function lookUp({ plan, format, root, levels }: TableView, address: bigint): bigint | undefined {
  let table = root
  let level = levels
  if (address >> BigInt(levelShift(level + 1)) !== 0n) return undefined
  for (;;) {
    const entry = format.parse(plan.load(entryAt(table, indexOf(level, address))), level)
    if (entry.kind === 'empty') return undefined
    if (entry.kind === 'leaf') return entry.address | BigInt.asUintN(entry.sizeLog2, address)
    table = entry.table
    level = entry.level
  }
}

/** All tables of a table, the top one last. */
export function tablesOf({ plan, format, root, levels }: TableView): Spa[] {
  const found: Spa[] = []
  const visit = (table: Spa, level: number): void => {
    for (let index = 0; level > 1 && index < tableEntries; index++) {
      const entry = format.parse(plan.load(entryAt(table, index)), level)
      if (entry.kind === 'table') visit(entry.table, entry.level)
    }
    found.push(table)
  }
  visit(root, levels)
  return found
}

/** An entry that is not empty, and what it is for. */
export interface FoundEntry {
  readonly at: Spa
  /** Of the table that it stands in. */
  readonly level: number
  readonly entry: Exclude<TableEntry, { kind: 'empty' }>
  /** The addresses that it leads to: of a leaf the whole page, of which there may be more entries. */
  readonly reach: AddressRange
}

/**
 * Visits the entries of a range that are not empty, by address, those of a table before the entry that leads to it. A
 * page is visited once, at its first entry.
 *
 * @param visit - what it returns ends the walk, unless `undefined`
 */
export function visitEntries<T>(
  view: TableView,
  range: AddressRange,
  visit: (found: FoundEntry) => T | undefined,
): T | undefined {
  return visitTable({ view, range, visit }, view.root, view.levels, 0n)
}

interface Walk<T> {
  readonly view: TableView
  readonly range: AddressRange
  readonly visit: (found: FoundEntry) => T | undefined
}

function visitTable<T>(walk: Walk<T>, table: Spa, level: number, base: bigint): T | undefined {
  const { view, range, visit } = walk
  const shift = BigInt(levelShift(level))
  const from = range.first > base ? (range.first - base) >> shift : 0n
  const to = (range.last - base) >> shift
  const last = to < 511n ? Number(to) : tableEntries - 1
  for (let index = from > 511n ? tableEntries : Number(from); index <= last; index++) {
    const at = entryAt(table, index)
    const word = view.plan.load(at)
    if (word === 0n) continue
    const entry = view.format.parse(word, level)
    if (entry.kind === 'empty') continue
    const start = base + (BigInt(index) << shift)
    if (entry.kind === 'table') {
      const ended = visitTable(walk, entry.table, entry.level, start)
      if (ended !== undefined) return ended
    }
    const found =
      entry.kind === 'leaf' ? wholePage(table, level, start, entry) : tableIn(at, level, start, entry)
    const ended = visit(found)
    if (ended !== undefined) return ended
    if (entry.kind === 'leaf') index = indexOf(level, found.reach.last)
  }
  return undefined
}

function wholePage(
  table: Spa,
  level: number,
  start: bigint,
  entry: Extract<TableEntry, { kind: 'leaf' }>,
): FoundEntry {
  const bytes = 1n << BigInt(entry.sizeLog2)
  const first = start & -bytes
  return {
    at: entryAt(table, indexOf(level, first)),
    level,
    entry,
    reach: { first, last: first + bytes - 1n },
  }
}

const tableIn = (
  at: Spa,
  level: number,
  start: bigint,
  entry: Extract<TableEntry, { kind: 'table' }>,
): FoundEntry => ({
  at,
  level,
  entry,
  reach: { first: start, last: start + (1n << BigInt(levelShift(level))) - 1n },
})

/** Entries that a page of a size takes in a table of a level. */
export const copiesOf = (sizeLog2: number, level: number): number => 1 << (sizeLog2 - levelShift(level))
