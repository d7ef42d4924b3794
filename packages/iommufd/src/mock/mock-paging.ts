/**
 * Operations on a mock page table, checked as the kernel's page table code checks them.
 *
 * @packageDocumentation
 */
import { hex } from '@nestwalk/bits'
import type { AddressRange } from '../backend.js'
import { refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import { mockAddressBits } from './abi.js'
import type { Journal } from './journal.js'
import type { MockPaging } from './mock-domain.js'
import type { Entry } from './segment.js'

/** The table's addresses are below this. */
const tableEnd = 2 ** mockAddressBits

export interface Mapping {
  readonly iova: bigint
  readonly physical: bigint
  readonly length: bigint
  readonly rights: { readonly read: boolean; readonly write: boolean }
  /** No page is larger than so many bytes. */
  readonly largestPage: bigint | undefined
}

/** Maps one physically contiguous piece. EINVAL, ERANGE, EADDRINUSE. */
export function mapPiece(domain: MockPaging, journal: Journal, mapping: Mapping): Refusal | undefined {
  const refused = refuseMapping(domain, mapping)
  if (refused) return refused
  const first = Number(mapping.iova)
  const end = first + Number(mapping.length)
  const { table, format } = domain
  if (table.isMapped(first, end)) {
    return refuse('mock-map-taken', `of ${hex(mapping.iova)} + ${hex(mapping.length)} some is mapped already`)
  }
  const { largestPage, rights } = mapping
  table.map({
    first,
    end,
    physical: Number(mapping.physical),
    rights: (rights.read ? 1 : 0) | (rights.write ? 2 : 0),
    entryBytes: largestPage === undefined ? format.pageBytes : upTo(format.pageBytes, Number(largestPage)),
  })
  journal.changed(() => table.unmap(first, end))
  return undefined
}

function refuseMapping(domain: MockPaging, { iova, physical, length, rights }: Mapping): Refusal | undefined {
  if (!rights.read && !rights.write) {
    return refuse('mock-map-without-rights', `a mapping at ${hex(iova)} would let nobody read or write`)
  }
  const smallest = BigInt(domain.format.pageBytes[0] ?? 1)
  if (length === 0n || ((iova | physical | length) & (smallest - 1n)) !== 0n) {
    return refuse(
      'mock-map-alignment',
      `${hex(iova)} to ${hex(physical)}, ${hex(length)} bytes, are not whole pages of ${smallest} bytes`,
    )
  }
  if (iova + length > BigInt(tableEnd)) {
    return refuse(
      'mock-map-outside-table',
      `${hex(iova)} + ${hex(length)} ends beyond ${mockAddressBits} bits`,
    )
  }
  return undefined
}

/** Sizes up to a limit. Asked with few limits, again and again: the answer is kept. */
function upTo(pageBytes: readonly number[], limit: number): readonly number[] {
  const count = pageBytes.findLastIndex((bytes) => bytes <= limit) + 1
  const known = prefixes.get(pageBytes) ?? []
  prefixes.set(pageBytes, known)
  return (known[count] ??= pageBytes.slice(0, Math.max(1, count)))
}

const prefixes = new WeakMap<readonly number[], (readonly number[])[]>()

/** Takes out whatever is mapped in a range; returns how many bytes that was. EINVAL where an edge cuts a large page. */
export function unmapPiece(
  domain: MockPaging,
  journal: Journal,
  iova: bigint,
  length: bigint,
): number | Refusal {
  const { first, end } = clamp(iova, iova + length - 1n)
  const { table } = domain
  const cut = table.entryCutBy(first) ?? table.entryCutBy(end)
  if (cut !== undefined) {
    const why = `${hex(iova)} + ${hex(length)} cuts the page at ${hex(BigInt(cut.first))}`
    return refuse('mock-unmap-cuts-page', why)
  }
  const unmapped = table.unmap(first, end)
  if (unmapped.bytes > 0) journal.changed(() => table.restore(unmapped))
  return unmapped.bytes
}

/** Dirty entries in a range, or reaching into it, ascending; cleared on request. */
export function readDirtyEntries(
  domain: MockPaging,
  journal: Journal,
  range: AddressRange,
  clears: boolean,
): AddressRange[] {
  const { first, end } = clamp(range.first, range.last)
  const entries = domain.table.dirtyEntries(first, end)
  if (clears && entries.length > 0) {
    setDirty(domain, journal, entries, false)
  }
  return entries.map(rangeOf)
}

/** Marks the entry that holds an address, if there is one. */
export function markEntryDirty(domain: MockPaging, journal: Journal, iova: bigint): void {
  if (iova >= BigInt(tableEnd)) return
  const entry = domain.table.entryAt(Number(iova))
  if (entry !== undefined && !domain.table.isDirty(entry)) setDirty(domain, journal, [entry], true)
}

function setDirty(
  { table }: MockPaging,
  journal: Journal,
  entries: readonly Entry[],
  isDirty: boolean,
): void {
  const firsts = entries.map(({ first }) => first)
  table.setDirty(firsts, isDirty)
  journal.changed(() => table.setDirty(firsts, !isDirty))
}

/** The physical address of a byte. */
export function translateByte(domain: MockPaging, iova: bigint): bigint | undefined {
  if (iova >= BigInt(tableEnd)) return undefined
  const physical = domain.table.translate(Number(iova))
  return physical === undefined ? undefined : BigInt(physical)
}

/** The entry that holds a byte. */
export function pageOf(domain: MockPaging, iova: bigint): AddressRange | undefined {
  if (iova >= BigInt(tableEnd)) return undefined
  const entry = domain.table.entryAt(Number(iova))
  return entry && rangeOf(entry)
}

const rangeOf = ({ first, end }: Entry): AddressRange => ({ first: BigInt(first), last: BigInt(end - 1) })

/** A range as numbers, its end the byte after it; nothing is mapped beyond the table's reach. */
const clamp = (first: bigint, last: bigint): { first: number; end: number } => ({
  first: first < BigInt(tableEnd) ? Number(first) : tableEnd,
  end: last < BigInt(tableEnd) ? Number(last) + 1 : tableEnd,
})
