/**
 * Dirty tracking: hardware marks the pages of a host table that devices write to, and software collects the marks.
 *
 * Linux drivers/iommu/amd/iommu.c, `amd_iommu_set_dirty_tracking`; drivers/iommu/generic_pt/iommu_pt.h,
 * `read_and_clear_dirty`.
 *
 * @packageDocumentation
 */
import { hasGap, listedOn, renewDomain, usersOf } from './books.js'
import type { Books } from './books.js'
import type { HostTableDomain } from './domain.js'
import { flushEntry } from './dte-update.js'
import { allOfTag, flushDevice, flushHostTable } from './invalidation-plan.js'
import { everything } from './invalidation-range.js'
import type { AddressRange } from './invalidation-range.js'
import { copiesOf, entryAt, visitEntries } from './page-table.js'
import type { Plan } from './plan.js'
import { placesOf } from './programmed-entry.js'
import { hostDirtyMark, hostFormat } from './table-format.js'

/** DTE.HAD, in quad-word 0: hardware marks accesses and writes. */
const marks = 3n << 7n
/** DTE.V and DTE.TV. */
const translates = 3n

/**
 * Turns tracking on or off. What was marked before is forgotten first.
 *
 * The entries are changed in place, one quad-word each: nothing but HAD differs. Devices that are attached later take it
 * from the domain.
 */
export function setDirtyTracking(books: Books, plan: Plan, domain: HostTableDomain, isOn: boolean): void {
  if (isOn) readDirty(books, plan, domain, { range: everything, clears: true })
  if (domain.dirtyTracking === isOn) return
  domain.dirtyTracking = isOn
  renewDomain(books, domain)
  // Gap U9: a nested device that is not on the list writes without a mark.
  const devices = hasGap(books, 'U9') ? listedOn(books, domain.number) : usersOf(books, domain.number)
  for (const device of devices) {
    const places = placesOf(books, device)
    // Gap U9: nor is an alias on the list; its entry is flushed, but not changed.
    for (const { address } of hasGap(books, 'U9') ? places.slice(0, 1) : places) {
      const word = plan.load(address)
      if ((word & translates) !== translates) continue
      plan.store(address, isOn ? word | marks : word & ~marks, isOn ? 'HAD on' : 'HAD off')
    }
    for (const place of places) flushEntry(plan, place, 'HAD changed')
    flushDevice(plan, device, { range: everything }, 'HAD changed')
  }
  if (devices.length === 0) return
  flushHostTable(plan, books, domain.number, allOfTag, 'the next write through each entry has to mark it')
}

/** What to read, and whether to reset it. */
export interface DirtyQuery {
  readonly range: AddressRange
  /** Whether the marks are cleared, so that the next write sets them again. */
  readonly clears: boolean
}

/**
 * The pages with a mark that lie in a range or reach into it, by address. A page has one mark however large it is, though
 * hardware sets it in any of the entries that the page stands in.
 */
export function readDirty(
  books: Books,
  plan: Plan,
  { root, mode, number }: HostTableDomain,
  { range, clears }: DirtyQuery,
): readonly AddressRange[] {
  const dirty: AddressRange[] = []
  visitEntries({ plan, format: hostFormat, root, levels: mode }, range, ({ at, level, entry, reach }) => {
    if (entry.kind !== 'leaf') return undefined
    let isDirty = false
    for (let i = 0; i < copiesOf(entry.sizeLog2, level); i++) {
      const copy = entryAt(at, i)
      const word = plan.load(copy)
      if ((word & hostDirtyMark) === 0n) continue
      isDirty = true
      if (clears) plan.store(copy, word & ~hostDirtyMark, 'dirty mark cleared')
    }
    if (isDirty) dirty.push(reach)
    return undefined
  })
  const [first] = dirty
  const last = dirty.at(-1)
  if (clears && first !== undefined && last !== undefined && !books.mutants.has('S21')) {
    const reach = { range: { first: first.first, last: last.last }, directories: false }
    flushHostTable(plan, books, number, reach, 'the next write has to mark the page again')
  }
  return dirty
}
