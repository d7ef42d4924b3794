/**
 * The device table entry that a device must have now, and putting it there: into every entry that hardware may read for
 * the device.
 *
 * @packageDocumentation
 */
import { encodeDte } from '@nestwalk/hardware'
import { entryAddress } from './bring-up.js'
import { hasGap, parentOf } from './books.js'
import type { Books } from './books.js'
import { shareDeviceId } from './device.js'
import type { Device } from './device.js'
import { blockedEntry, gcr3Entry, hostTableEntry, identityEntry, nestedEntry } from './device-entry.js'
import { isSameDomain } from './domain.js'
import { flushEntry, storeEntry } from './dte-update.js'
import type { EntryPlace } from './dte-update.js'
import { flushDevice } from './invalidation-plan.js'
import { everything } from './invalidation-range.js'
import { InternalError } from './outcome.js'
import type { Plan } from './plan.js'

/** The entry, lowest quad-word first. */
function entryFor(books: Books, device: Device): BigUint64Array {
  const words = isInConflict(books, device) ? blockedEntry() : translatingEntry(books, device)
  return words.map((word, i) => word | (device.persistentBits[i] ?? 0n))
}

function translatingEntry(books: Books, device: Device): BigUint64Array {
  const { domain, tagKey, gcr3, features } = device
  const tag = tagKey === undefined ? undefined : books.tags.get(tagKey)
  if (domain.kind === 'blocked' || tag === undefined) return blockedEntry()
  const own = {
    iotlbEnabled: features.has('ats'),
    ...(features.has('pri') && domain.kind !== 'nested' ? { pageRequestsAllowed: true } : {}),
  }
  if (gcr3 !== undefined) {
    const table = books.gcr3Tables.get(gcr3)
    if (table === undefined) throw new InternalError(`GCR3 table ${gcr3} is gone`)
    return encodeDte(own, gcr3Entry(table, tag.domainId))
  }
  switch (domain.kind) {
    case 'identity':
      return encodeDte(own, identityEntry(tag.domainId))
    case 'host-table':
      return encodeDte(own, hostTableEntry(domain, tag.domainId))
    case 'nested':
      return encodeDte(own, nestedEntry(domain, parentOf(books, domain), tag.domainId))
    case 'guest-table':
      throw new InternalError(`device ${device.deviceId} is on a guest table without a GCR3 table`)
  }
}

/** The devices that hardware may take for this one, itself not among them. */
export function sharersOf(books: Books, device: Device): Device[] {
  const sharers: Device[] = []
  for (const other of books.devices.values())
    if (other.deviceId !== device.deviceId && shareDeviceId(other, device)) sharers.push(other)
  return sharers
}

/** Whether the device shares its DeviceID with one on another domain, and the policy has that nothing passes then. */
export const isInConflict = (books: Books, device: Device): boolean =>
  books.policy.aliasConflict === 'block' &&
  device.domain.kind !== 'blocked' &&
  sharersOf(books, device).some(
    ({ domain }) => domain.kind !== 'blocked' && !isSameDomain(domain, device.domain),
  )

/** Every entry that hardware may read for the device, its own first. */
export function placesOf(
  { deviceTable }: Books,
  { deviceId, iommu, aliases }: Device,
): readonly [own: EntryPlace, ...aliases: EntryPlace[]] {
  const placeOf = (id: number): EntryPlace => ({
    deviceId: id,
    iommu,
    address: entryAddress(deviceTable, id),
  })
  return [placeOf(deviceId), ...aliases.map(placeOf)]
}

/** A device that leaves takes an entry along that another still uses, as Linux has it; not where such devices are kept alike. */
function placesToWrite(books: Books, device: Device): readonly EntryPlace[] {
  const places = placesOf(books, device)
  if (books.policy.aliasConflict !== 'block' || device.domain.kind !== 'blocked') return places
  const used = sharersOf(books, device)
    .filter(({ domain }) => domain.kind !== 'blocked')
    .flatMap(({ deviceId, aliases }) => [deviceId, ...aliases])
  return places.filter(({ deviceId }) => !used.includes(deviceId))
}

/**
 * Brings the entries of a device up to what it must have: its own, then those of its aliases, then the flushes, one wait
 * for all. The device in the books is already as it is to be.
 */
export function programDevice(books: Books, plan: Plan, device: Device): void {
  const entry = entryFor(books, device)
  const levelChange = hasGap(books, 'U19') ? 'untranslated' : 'blocked'
  const places = placesToWrite(books, device)
  for (const place of places) storeEntry(plan, place, entry, levelChange)
  for (const place of places) flushEntry(plan, place, 'no cached copy may stay')
  flushDevice(plan, device, { range: everything }, 'the entry changed')
  plan.wait(device.iommu)
}
