/**
 * GCR3 tables that the host owns: which domain stands behind each PASID, and the pages that say so to hardware.
 *
 * AMD 48882 rev 3.10, section 2.2.6: one to three levels of 512 entries. Linux drivers/iommu/amd/iommu.c,
 * `setup_gcr3_table` and `update_gcr3`: lower pages are made when they are first needed and stay until the table goes.
 *
 * @packageDocumentation
 */
import { spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import type { DomainNumber } from './domain.js'
import { InternalError, refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { PageAllocator } from './page-allocator.js'
import type { Plan } from './plan.js'

/** What else of the device table entry says how the table is to be read. */
export interface Gcr3Shape {
  /** DTE.GLX: levels less one, 0 to 2. */
  readonly levelsLessOne: number
  /** Levels of the guest tables that the entries point to, 4 or 5. */
  readonly guestLevels: number
  /** DTE.GIoV: requests without PASID use PASID 0; else they pass untranslated. */
  readonly usesPasidZero: boolean
}

/** What a table says: equal contents translate alike. */
export interface Gcr3Content {
  readonly shape: Gcr3Shape
  /** Domains with tables in guest format, by PASID. */
  readonly entries: ReadonlyMap<number, DomainNumber>
}

export interface Gcr3Table extends Gcr3Content {
  readonly number: number
  readonly root: Spa
  /** Every page of it, the top one first. */
  readonly pages: readonly Spa[]
  readonly tagKey: string
  /** Devices whose entry names the table, ascending. */
  readonly devices: readonly number[]
}

const indexBits = 9
const present = 1n
const frameMask = 0xffffffffff000n

/** DTE.GLX for so many PASIDs: the fewest levels that hold them. */
export function levelsLessOneFor(maxPasids: number): number {
  const order = maxPasids <= 1 ? 0 : 32 - Math.clz32(maxPasids - 1)
  return order === 0 ? 0 : Math.ceil(order / indexBits) - 1
}

/** Whether two tables may be one: the same shape, and the same domain behind each PASID. */
export function sameContent(a: Gcr3Content, b: Gcr3Content): boolean {
  if (a.entries === b.entries && a.shape === b.shape) return true
  if (a.entries.size !== b.entries.size) return false
  if (a.shape.levelsLessOne !== b.shape.levelsLessOne || a.shape.guestLevels !== b.shape.guestLevels)
    return false
  if (a.shape.usesPasidZero !== b.shape.usesPasidZero) return false
  for (const [pasid, domain] of a.entries) if (b.entries.get(pasid) !== domain) return false
  return true
}

/** Pages for a table, and the stores that fill it; the table is in no device table entry yet. */
export function writeTable(
  plan: Plan,
  pages: PageAllocator,
  { shape, entries }: Gcr3Content,
  rootOf: (domain: DomainNumber) => Spa,
): readonly Spa[] | Refusal {
  const root = freshPage(plan, pages)
  if (typeof root !== 'bigint') return root
  let all: readonly Spa[] = [root]
  for (const [pasid, domain] of [...entries].sort(([a], [b]) => a - b)) {
    const written = writeEntry(plan, pages, { shape, pages: all }, pasid, rootOf(domain))
    if ('ok' in written) return written
    all = written
  }
  return all
}

/** Sets or clears the entry of a PASID; returns all pages of the table, with those that were made for it. */
export function writeEntry(
  plan: Plan,
  pages: PageAllocator,
  table: Pick<Gcr3Table, 'shape' | 'pages'>,
  pasid: number,
  root: Spa | undefined,
): readonly Spa[] | Refusal {
  const all = [...table.pages]
  let [page] = all
  if (page === undefined) throw new InternalError('a GCR3 table has no page')
  for (let level = table.shape.levelsLessOne; level > 0; level--) {
    const at = entryAddress(page, pasid, level)
    const entry = plan.load(at)
    if ((entry & present) !== 0n) {
      page = spa(entry & frameMask)
      continue
    }
    const lower = freshPage(plan, pages)
    if (typeof lower !== 'bigint') return lower
    plan.store(at, lower | present, `GCR3 directory entry, level ${level + 1}`)
    all.push(lower)
    page = lower
  }
  const entry = root === undefined ? 0n : root | present
  plan.store(entryAddress(page, pasid, 0), entry, `GCR3 entry of PASID ${pasid}`)
  return all
}

const entryAddress = (page: Spa, pasid: number, level: number): Spa =>
  spa(page + BigInt(((pasid >>> (indexBits * level)) & 0x1ff) * 8))

function freshPage(plan: Plan, pages: PageAllocator): Spa | Refusal {
  const page = pages.take()
  if (page === undefined) return refuse('ENOMEM', 'no-table-page', 'no page is left for a GCR3 table')
  plan.clearPage(page, 'GCR3 table')
  return page
}
