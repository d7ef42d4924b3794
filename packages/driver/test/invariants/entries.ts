/** What may stand in a device table entry: I14, I15, I19, I22. */
import { decodeDte } from '@nestwalk/hardware'
import type { Dte } from '@nestwalk/hardware'
import type { Effect } from '@nestwalk/driver'
import { nestingOf, translating } from './moment.js'
import type { Moment, Violation } from './moment.js'

/** I14: the entry of a nested device is what its guest wrote, on its parent, and nothing else of the guest's. */
export function* isDerived(moment: Moment): Generator<Violation> {
  if (!moment.isOver) return
  const { devices, domains } = moment.after
  for (const [deviceId, { domain, features, aliases }] of devices) {
    if (domain.kind !== 'nested') continue
    const entry = moment.entries.get(deviceId)!
    // Whoever cannot be told from another device may be blocked.
    if (aliases.length > 0 && !entry.translationValid) continue
    const parent = domains.get(domain.parent)
    if (parent?.kind !== 'host-table') continue
    const guest = decodeDte(BigUint64Array.from(domain.guestEntry))
    const expected: Partial<Dte> = {
      ...{ valid: true, translationValid: true, readAllowed: true, writeAllowed: true, guestValid: true },
      ...{ mode: parent.mode, hostRoot: parent.root, hostAccessDirty: parent.dirtyTracking ? 3 : 0 },
      ...{ gcr3Levels: guest.gcr3Levels, gcr3Root: guest.gcr3Root, guestIoValid: guest.guestIoValid },
      ...{ guestPagingMode: guest.guestPagingMode, pageRequestsAllowed: guest.pageRequestsAllowed },
      ...{ iotlbEnabled: features.has('ats'), suppressAllFaults: false, exclusionAllowed: false },
      ...{ interruptValid: false, interruptControl: 0 },
    }
    for (const [field, value] of Object.entries(expected)) {
      if (entry[field as keyof Dte] === value) continue
      yield { id: 'I14', how: `${deviceId}: ${field} is ${entry[field as keyof Dte]}, not ${value}` }
    }
  }
}

/** I15: the half with roots and DomainID is stored in one piece; the guest level beside it is of the same entry. */
export function* isWhole(moment: Moment, effect: Effect): Generator<Violation> {
  for (const [device, entry] of translating(moment.entries)) {
    const was = moment.entriesBefore.get(device)
    const isSame =
      was !== undefined &&
      was.translationValid &&
      was.hostRoot === entry.hostRoot &&
      was.gcr3Root === entry.gcr3Root &&
      was.domainId === entry.domainId
    if (!isSame && (effect.kind !== 'store' || effect.words.length !== 2)) {
      yield { id: 'I15', how: `${device} changed by a ${effect.kind}` }
    }
    if (!entry.guestValid) continue
    const nesting = nestingOf(moment, entry)
    // A page of a table that goes may be one of the next table.
    const levels =
      entry.mode === 0
        ? [...moment.before.tables, ...moment.after.tables].flatMap(({ root, shape }) =>
            root === entry.gcr3Root ? [shape.guestLevels] : [],
          )
        : [nesting?.levels ?? 4]
    if (levels.length > 0 && !levels.includes(entry.guestPagingMode + 4)) {
      yield {
        id: 'I15',
        how: `${device} walks tables of ${levels.join()} levels as ${entry.guestPagingMode + 4}`,
      }
    }
  }
}

/** What matters of an entry, as text. */
const textOf = (entry: Dte): string =>
  JSON.stringify(entry, (_, each: unknown) => (typeof each === 'bigint' ? String(each) : each))

/** I19: devices that hardware cannot tell apart have one entry. */
export function* isOneUnit({ after, isOver, entries }: Moment): Generator<Violation> {
  if (!isOver) return
  for (const [deviceId, { aliases }] of after.devices) {
    for (const alias of aliases) {
      if (textOf(entries.get(deviceId)!) === textOf(entries.get(alias)!)) continue
      yield { id: 'I19', how: `${deviceId} and its alias ${alias} differ` }
    }
  }
}

/** I22: no entry ever has V=0, which passes requests as they are. */
export function* isValid({ entries }: Moment): Generator<Violation> {
  for (const [device, { valid }] of entries) {
    if (!valid) yield { id: 'I22', how: `the entry of ${device} has V=0` }
  }
}
