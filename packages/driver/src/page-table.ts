/**
 * Writing page tables of either format: map, unmap, look up.
 *
 * A page larger than its level's own size stands in as many equal entries as it covers. Linux
 * drivers/iommu/generic_pt/iommu_pt.h.
 *
 * @packageDocumentation
 */
import { spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import type { AddressRange } from './invalidation-range.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { PageAllocator } from './page-allocator.js'
import type { Plan } from './plan.js'
import { levelOfSize, levelShift } from './table-format.js'
import type { Rights, TableFormat } from './table-format.js'

/** A table and what is needed to change it. */
export interface TableEdit {
  readonly plan: Plan
  readonly pages: PageAllocator
  readonly format: TableFormat
  readonly root: Spa
  /** Level of the top table. */
  readonly levels: number
}

/** What is to be mapped where. All three multiples of 4096. */
export interface Mapping {
  readonly from: bigint
  readonly length: bigint
  readonly to: bigint
  readonly rights: Rights
}

/** What an unmap took away. */
export interface Unmapped {
  /** Bytes that were mapped. */
  readonly bytes: bigint
  /** The addresses of the pages and tables that went away, gaps swallowed; `undefined` if there were none. */
  readonly range: AddressRange | undefined
  /** Tables that are no longer used; to be freed once hardware cannot walk them any more. */
  readonly tables: readonly Spa[]
}

/** An unmap while it goes on. */
interface Unmapping {
  bytes: bigint
  range: AddressRange | undefined
  readonly tables: Spa[]
}

const entryAddress = (table: Spa, level: number, address: bigint): Spa =>
  spa(table + (((address >> BigInt(levelShift(level))) & 0x1ffn) << 3n))

/** Maps a range, with the largest pages that its addresses and its length allow. */
export function mapRange(edit: TableEdit, mapping: Mapping): Refusal | undefined {
  let { from, to, length } = mapping
  while (length > 0n) {
    const mapped = mapPage(edit, from, to, length, mapping.rights)
    if (typeof mapped !== 'number') return mapped
    const bytes = 1n << BigInt(mapped)
    from += bytes
    to += bytes
    length -= bytes
  }
  return undefined
}

/** Maps one page and returns its size. */
function mapPage(
  edit: TableEdit,
  from: bigint,
  to: bigint,
  length: bigint,
  rights: Rights,
): number | Refusal {
  const { format, plan } = edit
  for (const sizeLog2 of format.sizesLog2) {
    const bytes = 1n << BigInt(sizeLog2)
    const level = levelOfSize(sizeLog2)
    if (bytes > length || ((from | to) & (bytes - 1n)) !== 0n || level > edit.levels) continue
    const table = tableFor(edit, from, level)
    if (typeof table !== 'bigint') return table
    const at = entryAddress(table, level, from)
    const copies = 1 << (sizeLog2 - levelShift(level))
    const taken = firstTaken(edit, at, copies, level)
    // Where a table hangs already, the page is mapped below it in smaller pieces.
    if (taken === 'table') continue
    if (taken === 'leaf') return mappedAlready(from)
    plan.storeRun(
      at,
      copies,
      format.leaf(to, sizeLog2, rights),
      `${format.name} page for 0x${from.toString(16)}`,
    )
    return sizeLog2
  }
  return mappedAlready(from)
}

const mappedAlready = (from: bigint): Refusal =>
  refuse('EADDRINUSE', 'mapped-already', `0x${from.toString(16)} is mapped already`)

function firstTaken(edit: TableEdit, at: Spa, copies: number, level: number): 'table' | 'leaf' | undefined {
  for (let i = 0; i < copies; i++) {
    const entry = edit.format.parse(edit.plan.load(spa(at + BigInt(i) * 8n)), level)
    if (entry.kind !== 'empty') return entry.kind
  }
  return undefined
}

/** The table of `level` that covers an address; made on the way where it is missing. */
function tableFor(edit: TableEdit, address: bigint, level: number): Spa | Refusal {
  const { plan, format } = edit
  let table = edit.root
  let current = edit.levels
  while (current > level) {
    const at = entryAddress(table, current, address)
    const entry = format.parse(plan.load(at), current)
    if (entry.kind === 'leaf') return mappedAlready(address)
    if (entry.kind === 'table') {
      table = entry.table
    } else {
      const page = edit.pages.take()
      if (page === undefined) return refuse('ENOMEM', 'no-table-page', 'no page is left for a page table')
      plan.clearPage(page, `fresh ${format.name} table`)
      plan.store(at, format.pointer(page, current - 1), `${format.name} directory entry, level ${current}`)
      table = page
    }
    current -= 1
  }
  return table
}

/** Takes every page that lies in a range away. A page that the range cuts is refused. */
export function unmapRange(edit: TableEdit, range: AddressRange): Unmapped | Refusal {
  const state: Unmapping = { bytes: 0n, range: undefined, tables: [] }
  return unmapIn(edit, edit.root, edit.levels, 0n, range, state) ?? state
}

/** The smallest range that has both. */
const joined = (a: AddressRange | undefined, b: AddressRange): AddressRange =>
  a === undefined
    ? b
    : { first: a.first < b.first ? a.first : b.first, last: a.last > b.last ? a.last : b.last }

function unmapIn(
  edit: TableEdit,
  table: Spa,
  level: number,
  base: bigint,
  range: AddressRange,
  state: Unmapping,
): Refusal | undefined {
  const step = 1n << BigInt(levelShift(level))
  const from = range.first > base ? (range.first - base) / step : 0n
  for (let index = from; index < 512n && base + index * step <= range.last; index++) {
    const at = spa(table + index * 8n)
    const entry = edit.format.parse(edit.plan.load(at), level)
    const start = base + index * step
    if (entry.kind === 'leaf') {
      const first = (start >> BigInt(entry.sizeLog2)) << BigInt(entry.sizeLog2)
      const last = first + (1n << BigInt(entry.sizeLog2)) - 1n
      if (first < range.first || last > range.last) {
        return refuse(
          'EINVAL',
          'unmap-cuts-a-page',
          `the page at 0x${first.toString(16)} lies only partly in the range`,
        )
      }
      const copies = Number(1n << BigInt(entry.sizeLog2 - levelShift(level)))
      edit.plan.storeRun(at, copies, 0n, `unmap 0x${first.toString(16)}`)
      state.bytes += last - first + 1n
      state.range = joined(state.range, { first, last })
      index += BigInt(copies - 1)
    } else if (entry.kind === 'table') {
      const refused = unmapIn(edit, entry.table, entry.level, start, range, state)
      if (refused !== undefined) return refused
      const last = start + step - 1n
      if (start < range.first || last > range.last) continue
      edit.plan.store(at, 0n, `unhook the table for 0x${start.toString(16)}`)
      state.range = joined(state.range, { first: start, last })
      state.tables.push(entry.table)
    }
  }
  return undefined
}

/** Where an address is mapped to; `undefined` if it is not. */
export function lookUp(edit: Omit<TableEdit, 'pages'>, address: bigint): bigint | undefined {
  let table = edit.root
  let level = edit.levels
  if (address >> BigInt(levelShift(level + 1)) !== 0n) return undefined
  for (;;) {
    const entry = edit.format.parse(edit.plan.load(entryAddress(table, level, address)), level)
    if (entry.kind === 'empty') return undefined
    if (entry.kind === 'leaf') return entry.address | BigInt.asUintN(entry.sizeLog2, address)
    table = entry.table
    level = entry.level
  }
}

/** All tables of a table, the top one last. */
export function tablesOf(edit: Omit<TableEdit, 'pages'>): Spa[] {
  const found: Spa[] = []
  const visit = (table: Spa, level: number): void => {
    if (level > 1) {
      for (let index = 0n; index < 512n; index++) {
        const entry = edit.format.parse(edit.plan.load(spa(table + index * 8n)), level)
        if (entry.kind === 'table') visit(entry.table, entry.level)
      }
    }
    found.push(table)
  }
  visit(edit.root, edit.levels)
  return found
}
