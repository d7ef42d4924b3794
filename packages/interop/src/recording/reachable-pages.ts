/**
 * The pages that an IOMMU may read: found from its registers, by following every entry that points on.
 *
 * AMD 48882 rev 3.10: device table, rings, host tables, GCR3 tables and guest tables. Where a device has both kinds of
 * table, addresses in the guest's are the guest's own: such a device's tables are not followed.
 *
 * @packageDocumentation
 */
import { decode } from '@nestwalk/bits'
import { dteLayout } from '@nestwalk/hardware'
import type { Iommu } from '@nestwalk/hardware'

/** What a page is for; the names of the corpus. */
export type PageKind = string

/** Reads a page of memory; undefined where there is none. */
export type PageReader = (address: number) => Uint8Array | undefined

const pageBytes = 4096
const frameMask = 0xffffffffff000n
const register = { deviceTable: 0x00, commands: 0x08, events: 0x10 } as const

/**
 * Pages by address, with their kinds.
 *
 * @param deviceIds - devices whose tables are followed
 */
export function reachablePages(
  iommu: Iommu,
  read: PageReader,
  deviceIds: readonly number[],
): Map<number, PageKind> {
  const found = new Map<number, PageKind>()
  const deviceTable = Number(iommu.readMmio(register.deviceTable, 8) & frameMask)
  addRing(found, iommu.readMmio(register.commands, 8), 'cmdbuf')
  addRing(found, iommu.readMmio(register.events, 8), 'evtlog')
  for (const deviceId of deviceIds) {
    const at = deviceTable + deviceId * 32
    const page = read(at - (at % pageBytes))
    if (page === undefined) continue
    found.set(at - (at % pageBytes), 'devtab')
    const words = [0, 8, 16, 24].map((offset) => entryAt(page, (at % pageBytes) + offset))
    const dte = decode(dteLayout, BigUint64Array.from(words))
    if (!dte.valid || !dte.translationValid) continue
    if (dte.guestValid && dte.mode === 0) {
      const levels = dte.guestPagingMode === 1 ? 5 : 4
      addGcr3(found, read, Number(dte.gcr3Root), dte.gcr3Levels, levels)
    } else if (dte.mode > 0) {
      addHostTable(found, read, Number(dte.hostRoot), dte.mode)
    }
  }
  return found
}

function addRing(found: Map<number, PageKind>, base: bigint, kind: PageKind): void {
  const bytes = 16 << Number((base >> 56n) & 15n)
  const start = Number(base & frameMask)
  for (let at = start; at < start + bytes; at += pageBytes) found.set(at, kind)
}

/** Follows a table once, whatever points to it, so that tables in a circle end. */
function addTable(
  found: Map<number, PageKind>,
  read: PageReader,
  at: number,
  kind: PageKind,
  follow: (entry: bigint) => void,
): void {
  if (found.has(at)) return
  const page = read(at)
  if (page === undefined) return
  found.set(at, kind)
  for (let offset = 0; offset < pageBytes; offset += 8) {
    const entry = entryAt(page, offset)
    if ((entry & 1n) !== 0n) follow(entry)
  }
}

function addHostTable(found: Map<number, PageKind>, read: PageReader, at: number, level: number): void {
  addTable(found, read, at, `pt${level}`, (entry) => {
    const next = Number((entry >> 9n) & 7n)
    if (next > 0 && next < level) addHostTable(found, read, Number(entry & frameMask), next)
  })
}

function addGcr3(
  found: Map<number, PageKind>,
  read: PageReader,
  at: number,
  level: number,
  guest: number,
): void {
  addTable(found, read, at, `gcr3-${level}`, (entry) => {
    const next = Number(entry & frameMask)
    if (level > 0) addGcr3(found, read, next, level - 1, guest)
    else addGuestTable(found, read, next, guest)
  })
}

function addGuestTable(found: Map<number, PageKind>, read: PageReader, at: number, level: number): void {
  addTable(found, read, at, `gpt${level}`, (entry) => {
    const isLeaf = level === 1 || (entry & 0x80n) !== 0n
    if (!isLeaf) addGuestTable(found, read, Number(entry & frameMask), level - 1)
  })
}

const entryAt = (page: Uint8Array, offset: number): bigint =>
  new DataView(page.buffer, page.byteOffset).getBigUint64(offset, true)
