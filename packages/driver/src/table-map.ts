/**
 * Mapping: writing pages into a table, and the tables that lead to them.
 *
 * Linux drivers/iommu/generic_pt/iommu_pt.h, `map_pages`.
 *
 * @packageDocumentation
 */
import type { Spa } from '@nestwalk/bits'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import { copiesOf, entryAt, indexOf } from './page-table.js'
import type { TableEdit } from './page-table.js'
import { levelOfSize } from './table-format.js'
import type { Rights, TableFormat } from './table-format.js'

/** What is to be mapped where. All three multiples of 4096. */
export interface Mapping {
  readonly from: bigint
  readonly length: bigint
  readonly to: bigint
  readonly rights: Rights
  /** No page larger than that, log2 of bytes, 12 at least. Default: as large as possible. */
  readonly largestLog2?: number
}

/** Maps a range, with the largest pages that its addresses and its length allow. */
export function mapRange(edit: TableEdit, mapping: Mapping): Refusal | undefined {
  for (let done = 0n; done < mapping.length;) {
    const mapped = mapRun(edit, {
      ...mapping,
      from: mapping.from + done,
      to: mapping.to + done,
      length: mapping.length - done,
    })
    if (typeof mapped !== 'bigint') return mapped
    done += mapped
  }
  return undefined
}

/** Maps pages of one size, as many as may follow each other in one table, and returns their bytes. */
function mapRun(edit: TableEdit, mapping: Mapping): bigint | Refusal {
  const { format } = edit
  const largest = largestPage(format, mapping)
  for (const sizeLog2 of format.sizesLog2) {
    const level = levelOfSize(sizeLog2)
    if (sizeLog2 > largest || level > edit.levels) continue
    const table = tableFor(edit, mapping.from, level)
    if (typeof table !== 'bigint') return table
    const count = sizeLog2 === largest ? pagesInRow(format, mapping, sizeLog2) : 1
    const written = writePages(edit, { table, level, sizeLog2, count }, mapping)
    // Where a table hangs already, the page is mapped below it in smaller pieces.
    if (written !== undefined) return typeof written === 'bigint' ? written : mappedAlready(mapping.from)
  }
  return mappedAlready(mapping.from)
}

/** How many pages of one size in a row are the best that the mapping allows, up to the end of their table. */
function pagesInRow(format: TableFormat, mapping: Mapping, sizeLog2: number): number {
  const { from, to, length, largestLog2 } = mapping
  const index = indexOf(levelOfSize(sizeLog2), from)
  const most = (512 - index) / copiesOf(sizeLog2, levelOfSize(sizeLog2))
  const bytes = 1n << BigInt(sizeLog2)
  // Addresses that differ by an odd number of pages never meet at a larger one.
  if (alignmentOf(to - from) === sizeLog2 || largestLog2 === sizeLog2) {
    const whole = length >> BigInt(sizeLog2)
    return whole < BigInt(most) ? Number(whole) : most
  }
  let count = 1
  for (let done = bytes; count < most && done < length; done += bytes) {
    const rest = { from: from + done, to: to + done, length: length - done }
    const size = largestPage(format, { ...mapping, ...rest })
    if (size !== sizeLog2) break
    count += 1
  }
  return count
}

interface Pages {
  readonly table: Spa
  readonly level: number
  readonly sizeLog2: number
  readonly count: number
}

/**
 * Writes as many of the pages as have free places, and returns their bytes.
 *
 * @returns `undefined` if a table is in the first one's place, 'taken' if a page is
 */
function writePages(
  { format, plan }: TableEdit,
  { table, level, sizeLog2, count }: Pages,
  { from, to, rights }: Mapping,
): bigint | 'taken' | undefined {
  const copies = copiesOf(sizeLog2, level)
  const first = indexOf(level, from)
  let free = 0
  for (; free < count * copies; free++) {
    const word = plan.load(entryAt(table, first + free))
    if (word === 0n) continue
    const { kind } = format.parse(word, level)
    if (kind !== 'empty' && free < copies) return kind === 'leaf' ? 'taken' : undefined
    if (kind !== 'empty') break
  }
  const pages = Math.floor(free / copies)
  const leaf = format.leaf(to, sizeLog2, rights)
  const what = `${format.name} pages from 0x${from.toString(16)}`
  const bytes = 1n << BigInt(sizeLog2)
  if (copies === 1) {
    plan.storeAscending(entryAt(table, first), { count: pages, word: leaf, step: bytes }, what)
    return BigInt(pages) * bytes
  }
  for (let i = 0; i < pages; i++) {
    const word = leaf + BigInt(i) * bytes
    plan.storeRun(entryAt(table, first + i * copies), copies, word, what)
  }
  return BigInt(pages) * bytes
}

const mappedAlready = (from: bigint): Refusal =>
  refuse('EADDRINUSE', 'mapped-already', `0x${from.toString(16)} is mapped already`)

/** The largest page that addresses and length allow, whether the table has its level or not. */
function largestPage(format: TableFormat, { from, to, length, largestLog2 = 64 }: Mapping): number {
  const aligned = Math.min(alignmentOf(from | to), largestLog2)
  for (const sizeLog2 of format.sizesLog2) {
    if (sizeLog2 <= aligned && 1n << BigInt(sizeLog2) <= length) return sizeLog2
  }
  return 12
}

/** How many of the lowest bits are zero, 64 at most. */
function alignmentOf(address: bigint): number {
  for (let bits = 0; bits < 64; bits += 32) {
    const word = Number(BigInt.asUintN(32, address >> BigInt(bits)))
    if (word !== 0) return bits + 31 - Math.clz32(word & -word)
  }
  return 64
}

/** The table of `level` that covers an address; made on the way where it is missing. */
function tableFor(edit: TableEdit, address: bigint, level: number): Spa | Refusal {
  const { plan, format } = edit
  let table = edit.root
  for (let current = edit.levels; current > level; current--) {
    const at = entryAt(table, indexOf(current, address))
    const entry = format.parse(plan.load(at), current)
    if (entry.kind === 'leaf') return mappedAlready(address)
    if (entry.kind === 'table') {
      table = entry.table
      continue
    }
    const page = edit.pages.take()
    if (page === undefined) return refuse('ENOMEM', 'no-table-page', 'no page is left for a page table')
    plan.clearPage(page, `fresh ${format.name} table`)
    plan.store(at, format.pointer(page, current - 1), `${format.name} directory entry, level ${current}`)
    table = page
  }
  return table
}
