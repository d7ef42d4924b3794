/**
 * Checks of device entries that say different things about the same devices.
 *
 * AMD 48882 rev 3.10, I/O virtualization ACPI table, IVHD device entries. Usual, and not reported: an entry for all
 * devices or a wide range, with a single device or a range of aliases inside it that has the same data byte.
 *
 * @packageDocumentation
 */
import type { AliasEntry, ExtendedEntry, PlainEntry } from './device-entry.js'
import { isRangeStart } from './devices-of.js'
import { bdf, hex } from './finding.js'
import type { IvrsPlace, PlacedBlock, Report } from './finding.js'
import type { Ivhd } from './ivrs.js'

interface Named extends IvrsPlace {
  readonly first: number
  readonly last: number
  readonly entry: PlainEntry | AliasEntry | ExtendedEntry
}

const isAlias = ({ entry }: Named): boolean => 'alias' in entry

/** What an entry says of its devices; equal texts for equal settings. */
function saidBy({ entry }: Named): string {
  const alias = 'alias' in entry ? `, alias ${bdf(entry.alias)}` : ''
  const ats = 'atsDisabled' in entry && entry.atsDisabled ? ', ATS disabled' : ''
  return `data ${hex(entry.settings)}${ats}${alias}`
}

/** As {@link saidBy} without the alias. */
const ownSettings = (named: Named): string => saidBy(named).replace(/, alias .*/, '')

export function lintRangeOverlap(ivhd: PlacedBlock<Ivhd>, report: Report): void {
  const { ranges, singles } = namedBy(ivhd)
  const tell = (a: Named, b: Named): void => {
    const [before, after] = a.offset < b.offset ? [a, b] : [b, a]
    const which = `${bdf(before.first)} to ${bdf(before.last)} (${saidBy(before)})`
    const told = `the devices ${bdf(after.first)} to ${bdf(after.last)} (${saidBy(after)}) overlap ${which}`
    report('range-overlap', after, `${told}: Linux joins the data bytes and takes the last alias`)
  }
  const known = new Map<string, Named>()
  for (const single of singles) {
    const key = `${single.first} ${isAlias(single)}`
    const before = known.get(key)
    if (before !== undefined && saidBy(before) !== saidBy(single)) tell(before, single)
    known.set(key, single)
  }
  // Of the ranges so far, without and with an alias, the one that reaches farthest.
  const farthest: [Named | undefined, Named | undefined] = [undefined, undefined]
  for (const range of ranges.sort((a, b) => a.first - b.first || a.offset - b.offset)) {
    const at = isAlias(range) ? 1 : 0
    const same = farthest[at]
    const other = farthest[1 - at]
    if (same !== undefined && range.first <= same.last) tell(same, range)
    else if (other !== undefined && range.first <= other.last && ownSettings(other) !== ownSettings(range)) {
      tell(other, range)
    }
    if (same === undefined || range.last > same.last) farthest[at] = range
  }
}

function namedBy(ivhd: PlacedBlock<Ivhd>): { ranges: Named[]; singles: Named[] } {
  const ranges: Named[] = []
  const singles: Named[] = []
  let open: Pick<Named, 'offset' | 'path' | 'entry'> | undefined
  for (const { entry, offset, path } of ivhd.entries) {
    if (isRangeStart(entry)) {
      open = { entry, offset, path }
    } else if (entry.kind === 'rangeEnd') {
      const first = open?.entry.deviceId
      if (open !== undefined && first !== undefined && first <= entry.deviceId) {
        ranges.push({ ...open, first, last: entry.deviceId })
      }
      open = undefined
    } else if (entry.kind === 'select' || entry.kind === 'aliasSelect' || entry.kind === 'extendedSelect') {
      singles.push({ entry, offset, path, first: entry.deviceId, last: entry.deviceId })
    }
  }
  return { ranges, singles }
}
