/**
 * Processes behind PASIDs: shared virtual addressing.
 *
 * Linux drivers/iommu/amd/pasid.c and drivers/iommu/iommu.c, `iommu_attach_device_pasid`.
 *
 * @packageDocumentation
 */
import { hasGap } from './books.js'
import type { Books } from './books.js'
import type { Device } from './device.js'
import type { DomainNumber, GuestTableDomain, ProcessDomain } from './domain.js'
import { setPasid, tableNumbered } from './gcr3-sharing.js'
import { membersOf } from './group.js'
import { MapChange } from './map-change.js'
import { refuse } from './outcome.js'
import type { Refusal } from './outcome.js'
import { abandonRequests } from './page-request.js'
import type { Plan } from './plan.js'

/**
 * Puts a process, or a domain with a table in guest format, behind a PASID of some devices; all of them have it then, or
 * nothing has changed. Linux 7.3 has only processes there.
 */
export function attachPasid(
  books: Books,
  plan: Plan,
  deviceIds: readonly number[],
  pasid: number,
  process: DomainNumber,
): Refusal | undefined {
  const domain = books.domains.get(process)
  if (domain === undefined) return refuse('ENOENT', 'no-such-domain', `there is no domain ${process}`)
  if (domain.kind !== 'process' && domain.kind !== 'guest-table') {
    return refuse(
      'EOPNOTSUPP',
      'process-required',
      `domain ${process} is ${domain.kind}: a PASID takes a table in guest format`,
    )
  }
  const devices = known(books, deviceIds)
  if ('ok' in devices) return devices
  for (const device of devices) {
    const refused = whyInReset(books, device) ?? whyNoPasid(books, device, pasid, domain)
    if (refused !== undefined) return refused
  }
  const change = new MapChange(pasid, process)
  for (const device of devices) {
    const processes = change.of(device.processes)
    books.devices.set(device.deviceId, { ...device, processes })
  }
  return setPasid(books, plan, deviceIds, pasid, process)
}

/** Takes the process behind a PASID away from some devices. */
export function detachPasid(
  books: Books,
  plan: Plan,
  deviceIds: readonly number[],
  pasid: number,
): Refusal | undefined {
  const devices = known(books, deviceIds)
  if ('ok' in devices) return devices
  const without = devices.find(({ processes }) => !processes.has(pasid))
  if (without !== undefined) {
    return refuse('ENOENT', 'no-such-pasid', `PASID ${pasid} of device ${without.deviceId} has no process`)
  }
  const change = new MapChange<number, DomainNumber>(pasid, undefined)
  for (const device of devices) {
    const processes = change.of(device.processes)
    books.devices.set(device.deviceId, { ...device, processes })
  }
  const refused = setPasid(books, plan, deviceIds, pasid, undefined)
  if (refused !== undefined) return refused
  for (const device of devices) abandonRequests(books, plan, device, pasid)
  return undefined
}

function known(books: Books, deviceIds: readonly number[]): Device[] | Refusal {
  const devices: Device[] = []
  for (const deviceId of deviceIds) {
    const device = books.devices.get(deviceId)
    if (device === undefined) return refuse('ENODEV', 'no-such-device', `device ${deviceId} is not known`)
    devices.push(device)
  }
  return devices
}

/** Gap U16: what is asked of one device is asked of its whole group. */
function whyInReset(books: Books, device: Device): Refusal | undefined {
  const asked = hasGap(books, 'U16') ? membersOf(books, device.group) : [device]
  const parked = asked.find((each) => each.parked !== undefined)
  return parked && refuse('EBUSY', 'member-in-reset', `device ${parked.deviceId} is being reset`)
}

function whyNoPasid(
  books: Books,
  device: Device,
  pasid: number,
  { kind, number, levels }: ProcessDomain | GuestTableDomain,
): Refusal | undefined {
  const name = `device ${device.deviceId}`
  if (!Number.isInteger(pasid) || pasid < 1 || pasid >= device.maxPasids) {
    return refuse('EINVAL', 'pasid-range', `${name} has PASIDs 1 to ${device.maxPasids - 1}, not ${pasid}`)
  }
  if (device.gcr3 === undefined) {
    return refuse('EINVAL', 'pasid-not-enabled', `${name} is ${device.domain.kind}: it has no PASIDs there`)
  }
  if (device.processes.has(pasid)) {
    return refuse('EOPNOTSUPP', 'pasid-taken', `PASID ${pasid} of ${name} has a process: detach that first`)
  }
  // A device's entry has one guest paging level, for all of its PASIDs.
  const { guestLevels } = tableNumbered(books, device.gcr3).shape
  if (guestLevels === levels) return undefined
  const why = `${kind === 'process' ? 'process' : 'domain'} ${number} has tables of ${levels} levels, ${name} of ${guestLevels}`
  return refuse('EINVAL', 'guest-levels', why)
}
