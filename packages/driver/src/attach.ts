/**
 * Attaching devices to domains: tag or GCR3 table first, then the device's features, its entry, and what has to be
 * flushed behind it.
 *
 * @packageDocumentation
 */
import { hasGap, parentOf } from './books.js'
import type { Books } from './books.js'
import type { Device, DeviceFeature } from './device.js'
import { blocked, isSameDomain } from './domain.js'
import type { BlockedDomain, Domain, GuestTableDomain, IdentityDomain } from './domain.js'
import { levelsLessOneFor } from './gcr3-table.js'
import type { Gcr3Content } from './gcr3-table.js'
import { joinTable } from './gcr3-sharing.js'
import { usesUnknownPasids } from './invalidation-plan.js'
import { leaveDomain } from './leave.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import { abandonRequests } from './page-request.js'
import type { Plan } from './plan.js'
import { isInConflict, programDevice, sharersOf } from './programmed-entry.js'
import { dropTag, holdTag, keyFor } from './tag-holding.js'
import { leaveInherited } from './takeover.js'

/**
 * Moves a device to a domain with one update of its entry. Where the domain has a GCR3 table, the processes that the
 * device has behind PASIDs are in it.
 *
 * The new tag is in the books before the entry is written, so that an unmap meanwhile reaches it; the old one is given
 * back afterwards.
 */
export function moveDevice(books: Books, plan: Plan, device: Device, domain: Domain): Refusal | undefined {
  const refused = whyNot(books, device, domain)
  if (refused !== undefined) return refused
  if (domain.kind === 'blocked') {
    blockDevice(books, plan, device)
    return undefined
  }
  const tagged = withTag(books, plan, device, domain)
  if ('ok' in tagged) return tagged
  putOn(books, plan, device, { ...tagged, domain })
  return undefined
}

/** Moves a device to where nothing may pass, which cannot fail. Returns the device as it is afterwards. */
export const blockDevice = (books: Books, plan: Plan, device: Device): Device =>
  putOn(books, plan, device, { ...device, domain: blocked, tagKey: undefined, gcr3: undefined })

/** The rest of a move, from the device as it was to one with domain, tag and GCR3 table as they are to be. */
function putOn(books: Books, plan: Plan, device: Device, tagged: Device): Device {
  const { domain } = tagged
  const features = featuresOn(books, device, domain)
  const after = { ...tagged, features, recorded: recordedOn(books, device, domain) }
  // Whoever was asked for pages is not to answer any more, unless it is the same guest.
  if (!hasSameGuest(device.domain, domain)) abandonRequests(books, plan, device)
  switchFeatures(plan, device, features)
  // What its TLB has of a guest's PASIDs no command reaches.
  const forgets = !hasSameGuest(device.domain, domain) && features.has('ats') && usesUnknownPasids(device)
  if (forgets) plan.feature(device.deviceId, 'ats', false)
  const conflictsBefore = sharersOf(books, device).filter((other) => isInConflict(books, other))
  books.devices.set(device.deviceId, after)
  programDevice(books, plan, after)
  programSharers(books, plan, after, conflictsBefore)
  leaveDomain(books, plan, device, after)
  leaveInherited(books, plan, after)
  if (forgets) plan.feature(device.deviceId, 'ats', true)
  return after
}

const hasSameGuest = (a: Domain, b: Domain): boolean =>
  a.kind === 'nested' && b.kind === 'nested' && a.viommu === b.viommu

/** Why a device cannot be on a domain. */
function whyNot(books: Books, device: Device, domain: Domain): Refusal | undefined {
  if (!marksWrites(books, device.iommu, domain)) {
    return refuse('EINVAL', 'cannot-mark-writes', `IOMMU ${device.iommu} cannot mark what is written`)
  }
  if (domain.kind !== 'nested') return undefined
  const viommu = books.viommus.get(domain.viommu)
  if (viommu !== undefined && viommu.iommu !== device.iommu && !hasGap(books, 'U20')) {
    return refuse(
      'EINVAL',
      'viommu-of-another-iommu',
      `the device is behind IOMMU ${device.iommu}, the vIOMMU belongs to IOMMU ${viommu.iommu}`,
    )
  }
  if (device.features.has('pasid') && hasGap(books, 'U15')) {
    return refuse(
      'EINVAL',
      'pasid-enabled',
      'PASIDs are enabled in the device, as it was on a domain with them',
    )
  }
  return undefined
}

/** Whether the IOMMU can mark what is written, if the domain is for that. */
function marksWrites(books: Books, iommu: number, domain: Domain): boolean {
  if (domain.kind === 'host-table') return !domain.canTrackDirty || books.dirtyIommus.has(iommu)
  // Gap U9: nobody looks at the parent.
  return domain.kind !== 'nested' || hasGap(books, 'U9') || marksWrites(books, iommu, parentOf(books, domain))
}

/** The device with the tag, and the GCR3 table if there is to be one, of a domain. */
function withTag(
  books: Books,
  plan: Plan,
  device: Device,
  domain: Exclude<Domain, BlockedDomain>,
): Device | Refusal {
  if (hasGcr3(device, domain)) {
    const table = joinTable(books, plan, device, contentFor(books, device, domain))
    return 'ok' in table ? table : { ...device, tagKey: table.tagKey, gcr3: table.number }
  }
  const key = keyFor(books, device, domain)
  const held = holdTag(books, plan, key, domain)
  if ('ok' in held) return held
  books.tags.noteIommu(key, device.iommu)
  return { ...device, tagKey: key, gcr3: undefined }
}

/** A guest table always is behind a GCR3 table; beside identity there is one for the device's PASIDs. */
const hasGcr3 = (
  device: Device,
  domain: Exclude<Domain, BlockedDomain>,
): domain is GuestTableDomain | IdentityDomain =>
  domain.kind === 'guest-table' || (domain.kind === 'identity' && device.maxPasids > 0)

function contentFor(books: Books, device: Device, domain: GuestTableDomain | IdentityDomain): Gcr3Content {
  const shape = {
    levelsLessOne: levelsLessOneFor(device.maxPasids),
    guestLevels: domain.kind === 'guest-table' ? domain.levels : books.guestLevels,
    usesPasidZero: domain.kind === 'guest-table',
  }
  const entries = new Map(device.processes)
  if (domain.kind === 'guest-table') entries.set(0, domain.number)
  return { shape, entries }
}

/** What is on in a device on a domain. */
function featuresOn(books: Books, device: Device, domain: Domain): ReadonlySet<DeviceFeature> {
  if (domain.kind === 'blocked') return new Set()
  // Gap U5: what is off stays off.
  if (domain.kind === 'nested' && hasGap(books, 'U5')) return device.features
  const ats: DeviceFeature[] = device.atsQueueDepth > 0 ? ['ats'] : []
  if (domain.kind === 'host-table') return new Set(ats)
  const pasid: DeviceFeature[] = device.maxPasids > 0 ? ['pasid'] : []
  return new Set([...ats, ...pasid, ...(device.pageRequests ? (['pri'] as const) : [])])
}

const onOrder: readonly DeviceFeature[] = ['pasid', 'ats', 'pri']
const offOrder: readonly DeviceFeature[] = ['ats', 'pasid', 'pri']

/** Turns features off that are not to be on, then on those that are. */
export function switchFeatures(
  plan: Plan,
  { deviceId, features }: Device,
  wanted: ReadonlySet<DeviceFeature>,
): void {
  for (const feature of offOrder) {
    if (features.has(feature) && !wanted.has(feature)) plan.feature(deviceId, feature, false)
  }
  for (const feature of onOrder) {
    if (wanted.has(feature) && !features.has(feature)) plan.feature(deviceId, feature, true)
  }
}

/** Whose list the device is on afterwards. */
function recordedOn(books: Books, { recorded }: Device, domain: Domain): Device['recorded'] {
  if (domain.kind === 'blocked') return undefined
  if (domain.kind !== 'nested') return domain.number
  if (!hasGap(books, 'U3')) return domain.parent
  // Gap U12: whatever list it was on. Else it leaves that list, but for its parent's.
  return hasGap(books, 'U12') || recorded === domain.parent ? recorded : undefined
}

/** Where devices share a DeviceID, one's move may begin or end what keeps the others blocked. */
function programSharers(books: Books, plan: Plan, device: Device, conflictsBefore: readonly Device[]): void {
  for (const other of sharersOf(books, device)) {
    const was = conflictsBefore.some(({ deviceId }) => deviceId === other.deviceId)
    if (was !== isInConflict(books, other)) programDevice(books, plan, other)
  }
}

/** Whether an attach has nothing to do. Gap U6: by what is recorded, though a nested entry may be in force. */
export const isOn = (books: Books, device: Device, domain: Domain): boolean =>
  // An entry of another kernel is none that this one has made, whatever the device is on.
  !books.inherited.has(device.deviceId) &&
  (hasGap(books, 'U6') && domain.kind !== 'nested' && domain.kind !== 'blocked'
    ? device.recorded === domain.number
    : isSameDomain(device.domain, domain))

/**
 * Gap U6: the device counts as attached, and what it was on as left, but its entry stays as it is: a nested domain can be
 * freed, and its DomainID, while the entry still carries it.
 */
export function attachByRecord(
  books: Books,
  plan: Plan,
  device: Device,
  domain: Domain,
): Refusal | undefined {
  const { domain: left, tagKey } = device
  if (isSameDomain(left, domain) || domain.kind !== 'host-table') return undefined
  const tagged = withTag(books, plan, device, domain)
  if ('ok' in tagged) return tagged
  books.devices.set(device.deviceId, { ...tagged, domain })
  if (left.kind !== 'blocked' && tagKey !== undefined) dropTag(books, plan, tagKey, left)
  return undefined
}

/**
 * Attaches a device, by the kernel's rule: from one paging domain to another through blocked, so that its requests are
 * refused in between; to and from a nested domain directly.
 */
export function attachDevice(books: Books, plan: Plan, device: Device, domain: Domain): Refusal | undefined {
  const { kind } = device.domain
  const leavesPaging = hasGap(books, 'U3')
    ? device.recorded !== undefined
    : kind !== 'blocked' && kind !== 'nested'
  const through = leavesPaging && domain.kind !== 'nested' && domain.kind !== 'blocked'
  return moveDevice(books, plan, through ? blockDevice(books, plan, device) : device, domain)
}
