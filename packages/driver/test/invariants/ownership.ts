/** Who owns a DomainID, and where it may have entries: I5 to I9, I20. */
import type { IotlbEntry } from '@nestwalk/hardware'
import type { Device } from '@nestwalk/driver'
import type { Machine } from '../machine.js'
import { bothViews, translating } from './moment.js'
import type { Moment, View, Violation } from './moment.js'

/** A domain maps to its own 4 GiB of system physical memory, by its number. */
export const baseOf = (domain: number): bigint => BigInt(domain) << 32n
const domainAt = (spa: bigint): number => Number(spa >> 32n)

const cached = ({ machine }: Moment): (readonly [number, IotlbEntry])[] =>
  machine.iommus.flatMap((iommu, index) => iommu.iotlbEntries().map((entry) => [index, entry] as const))

const cachedWalks = ({ machine }: Moment): (readonly [number, IotlbEntry])[] =>
  machine.iommus.flatMap((iommu, index) =>
    Object.values(iommu.walkCacheEntries())
      .flat()
      .map((entry) => [index, entry] as const),
  )

/** I5: an ID in an entry is allocated, for what the device is on, with as many users at least. */
export function* isOwned(moment: Moment): Generator<Violation> {
  const entries = translating(moment.entries)
  for (const [device, { domainId }] of entries) {
    const isKnown = bothViews(moment).some(({ tags }) => tags.some((tag) => tag.domainId === domainId))
    if (!isKnown) yield { id: 'I5', how: `${device} has ${domainId}, which is free` }
  }
  if (!moment.isOver) return
  const { devices, tags } = moment.after
  for (const [deviceId, { domainId }] of entries) {
    const device = devices.get(deviceId)
    const tag = tags.find((each) => each.domainId === domainId)
    if (device === undefined || tag === undefined) continue
    if (tag.key !== device.tagKey) yield { id: 'I5', how: `${deviceId} has the ID of ${tag.key}` }
    const carriers = entries.filter(([other, entry]) => entry.domainId === domainId && devices.has(other))
    // A shared GCR3 table counts its devices itself.
    const tables = moment.after.tables.filter(({ tagKey }) => tagKey === tag.key)
    const users = tables.length === 0 ? tag.users : tables.flatMap((table) => table.devices).length
    if (users < carriers.length) {
      yield { id: 'I5', how: `${domainId} has ${users} users and stands in ${carriers.length} entries` }
    }
  }
}

/** I6: a free ID has no entries anywhere. */
export function* isCleanWhenFree(moment: Moment): Generator<Violation> {
  const owned = new Set(
    bothViews(moment).flatMap(({ tags }) => tags.map(({ domainId }) => domainId as number)),
  )
  for (const [iommu, { domainId, page, filler }] of [...cached(moment), ...cachedWalks(moment)]) {
    if (!owned.has(domainId)) {
      yield {
        id: 'I6',
        how: `IOMMU ${iommu} has ${page.toString(16)} of ${filler} under ${domainId}, which is free`,
      }
    }
  }
}

/** Whether a flush of a table reaches an ID on an IOMMU. */
function reaches({ tags, tables }: View, domain: number, domainId: number, iommu: number): boolean {
  const tag = tags.find((each) => each.domainId === domainId)
  if (tag?.iommus.includes(iommu) !== true) return false
  const isBehindPasid = tables.some(
    ({ tagKey, entries }) => tagKey === tag.key && [...entries.values()].includes(domain),
  )
  return tag.tables.includes(domain) || isBehindPasid
}

/** I7: where an IOMMU has entries through a table, the table's flush reaches them. */
export function* isReached(moment: Moment): Generator<Violation> {
  for (const [iommu, { domainId, frame, filler }] of cached(moment)) {
    const domain = domainAt(frame)
    if (bothViews(moment).some((view) => reaches(view, domain, domainId, iommu))) continue
    yield { id: 'I7', how: `IOMMU ${iommu}, ID ${domainId}, through ${domain}, filled by ${filler}` }
  }
}

const uses = (device: Device | undefined, domain: number): boolean =>
  device !== undefined &&
  device.features.has('ats') &&
  ((device.domain.kind === 'nested' && device.domain.parent === domain) ||
    (device.domain.kind !== 'blocked' && device.domain.number === domain) ||
    [...device.processes.values()].includes(domain))

/** I8: where a device TLB has entries through a table, the device is one that the table's flush reaches. */
export function* isDeviceReached(moment: Moment): Generator<Violation> {
  for (const endpoint of moment.machine.endpoints) {
    const { deviceId } = endpoint
    const then = bothViews(moment).map(({ devices }) => devices.get(deviceId))
    for (const { spa, sizeLog2 } of endpoint.entries()) {
      // All addresses at once: what an identity domain gives.
      const isHeld =
        sizeLog2 === 64
          ? then.some((device) => device?.domain.kind === 'identity')
          : then.some((device) => uses(device, domainAt(spa)))
      if (!isHeld) yield { id: 'I8', how: `${deviceId} keeps ${spa.toString(16)}` }
    }
  }
}

/** I9: after an unmap nobody has a translation to what was unmapped. */
export function* isGone(machine: Machine, first: bigint, bytes: bigint): Generator<Violation> {
  const isWithin = (spa: bigint): boolean => spa >= first && spa < first + bytes
  for (const [index, iommu] of machine.iommus.entries()) {
    const found = iommu.iotlbEntries().find(({ frame }) => isWithin(frame))
    if (found !== undefined) yield { id: 'I9', how: `IOMMU ${index}, ID ${found.domainId}` }
  }
  for (const endpoint of machine.endpoints) {
    const found = endpoint.entries().find(({ spa }) => isWithin(spa))
    if (found !== undefined) yield { id: 'I9', how: `device TLB of ${endpoint.deviceId}` }
  }
}

/** I20: a vIOMMU owns no more IDs than it may. */
export function* isWithinQuota({ machine, after, isOver, quota, nestings }: Moment): Generator<Violation> {
  if (!isOver) return
  for (const viommu of new Set(nestings.map((each) => each.viommu))) {
    const live = nestings.filter((each) => each.viommu === viommu && after.domains.has(each.domain))
    const owned = new Set<string | undefined>()
    for (const { domain, parent, guestDomainId } of live) {
      const guest = { viommu, domainId: guestDomainId, nested: domain }
      owned.add(machine.driver.policy.keyOfDomain({ table: parent, guest }))
      for (const device of after.devices.values()) {
        if (device.domain.kind === 'nested' && device.domain.number === domain) owned.add(device.tagKey)
      }
    }
    owned.delete(undefined)
    if (owned.size > quota) yield { id: 'I20', how: `vIOMMU ${viommu} owns ${owned.size} DomainIDs` }
  }
}
