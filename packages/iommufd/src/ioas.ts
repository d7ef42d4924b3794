/**
 * IOAS: guest-physical addresses and the memory behind them, kept in step with every HWPT on it.
 *
 * Linux drivers/iommu/iommufd/io_pagetable.c.
 *
 * @packageDocumentation
 */
import { iova as asIova } from '@nestwalk/bits'
import type { Gpa } from '@nestwalk/bits'
import { accept, refuse } from '@nestwalk/driver'
import type { DomainNumber, Driver, Outcome, Refusal } from '@nestwalk/driver'
import type { MapRequest } from './context.js'
import type { Ioas, IoasArea, ObjectId, ObjectTable } from './object.js'
import { reservedIn } from './reserved-region.js'

const pageBytes = 4096n
const pageMask = pageBytes - 1n
const last64 = (1n << 64n) - 1n

/** The driver's domains of the HWPTs on an IOAS. */
const domainsOn = (objects: ObjectTable, ioas: ObjectId): DomainNumber[] =>
  objects
    .all('paging-hwpt')
    .filter(([, hwpt]) => hwpt.ioas === ioas)
    .map(([, hwpt]) => hwpt.domain)

/** Whether a device is attached to the IOAS, directly or through a nested HWPT: then its reserved regions count. */
function hasDevices(objects: ObjectTable, ioas: ObjectId): boolean {
  return objects.all('device').some(([, device]) => {
    const hwpt = device.attachedTo === undefined ? undefined : objects.get(device.attachedTo)
    if (hwpt?.kind === 'paging-hwpt') return hwpt.ioas === ioas
    if (hwpt?.kind !== 'nested-hwpt') return false
    const parent = objects.find(hwpt.viommu, 'viommu')?.parent
    return parent !== undefined && objects.find(parent, 'paging-hwpt')?.ioas === ioas
  })
}

/** Maps one area into the IOAS and all its HWPTs. */
export function mapArea(driver: Driver, objects: ObjectTable, request: MapRequest): Outcome<undefined> {
  const { ioas: id, iova, length, memory, readable = false, writeable = false } = request
  if (iova === last64 || length === last64)
    return refuse('EOVERFLOW', 'range-wraps', 'address or length is 2^64 - 1')
  if (!readable && !writeable) return refuse('EINVAL', 'no-rights', 'a mapping must be readable or writeable')
  const ioas = objects.find(id, 'ioas')
  if (ioas === undefined) return refuse('ENOENT', 'no-such-object', `${id} names no IOAS`)
  if (memory + length > last64) return refuse('EOVERFLOW', 'range-wraps', 'the memory wraps')
  if (length <= 0n || length > last64 - pageBytes) {
    return refuse('EINVAL', 'empty-range', 'the length must not be 0, nor all there is')
  }
  if (((iova | length) & pageMask) !== 0n) {
    return refuse('EINVAL', 'page-aligned', 'address and length must be multiples of 4096')
  }
  if (iova + length - 1n > last64) return refuse('EOVERFLOW', 'range-wraps', 'the range wraps')
  if (hasDevices(objects, id) && reservedIn(iova, length) !== undefined) {
    return refuse('EINVAL', 'reserved-range', 'the range meets a reserved region of a device')
  }
  if (ioas.areas.some((area) => iova < area.iova + area.length && area.iova < iova + length)) {
    return refuse('EEXIST', 'area-exists', 'something is mapped in the range already')
  }
  if ((memory & pageMask) !== 0n) return refuse('EINVAL', 'page-aligned', 'memory must be in whole pages')
  const area: IoasArea = { iova, length, memory, readable, writeable }
  const done = driver.transaction<undefined>(() => {
    for (const domain of domainsOn(objects, id)) {
      const refused = mapInto(driver, domain, area)
      if (refused !== undefined) return refused
    }
    return undefined
  })
  if (done.ok) objects.replace(id, withAreas(ioas, [...ioas.areas, area]))
  return done
}

/** Unmaps whole areas from the IOAS and all its HWPTs. */
export function unmapAreas(
  driver: Driver,
  objects: ObjectTable,
  id: ObjectId,
  first: Gpa,
  length: bigint,
): Outcome<bigint> {
  const ioas = objects.find(id, 'ioas')
  if (ioas === undefined) return refuse('ENOENT', 'no-such-object', `${id} names no IOAS`)
  const isAll = first === 0n && length === last64
  if (!isAll && (first === last64 || length === last64)) {
    return refuse('EOVERFLOW', 'range-wraps', 'address or length is 2^64 - 1')
  }
  if (length <= 0n) return refuse('EINVAL', 'empty-range', 'the length must not be 0')
  const end = isAll ? last64 + 1n : first + length
  if (end - 1n > last64) return refuse('EOVERFLOW', 'range-wraps', 'the range wraps')
  const met = ioas.areas.filter((area) => first < area.iova + area.length && area.iova < end)
  if (met.length === 0 && !isAll) return refuse('ENOENT', 'nothing-mapped', 'there is no area in the range')
  if (met.some((area) => area.iova < first || area.iova + area.length > end)) {
    return refuse('ENOENT', 'area-cut', 'the range cuts an area: areas are unmapped whole')
  }
  const done = driver.transaction<undefined>(() => {
    for (const domain of domainsOn(objects, id)) {
      for (const area of met) {
        const unmapped = driver.unmap(domain, asIova(area.iova), area.length)
        if (!unmapped.ok) return unmapped
      }
    }
    return undefined
  })
  if (!done.ok) return done
  objects.replace(
    id,
    withAreas(
      ioas,
      ioas.areas.filter((area) => !met.includes(area)),
    ),
  )
  return accept(
    met.reduce((sum, area) => sum + area.length, 0n),
    done.effects,
  )
}

/** Maps every area of an IOAS into a fresh domain. */
export function copyAreas(
  driver: Driver,
  objects: ObjectTable,
  ioas: ObjectId,
  domain: DomainNumber,
): Refusal | undefined {
  for (const area of objects.find(ioas, 'ioas')?.areas ?? []) {
    const refused = mapInto(driver, domain, area)
    if (refused !== undefined) return refused
  }
  return undefined
}

function mapInto(driver: Driver, domain: DomainNumber, area: IoasArea): Refusal | undefined {
  const rights = { read: area.readable, write: area.writeable }
  const mapped = driver.map(domain, asIova(area.iova), area.memory, area.length, rights)
  return mapped.ok ? undefined : mapped
}

const withAreas = (ioas: Ioas, areas: readonly IoasArea[]): Ioas => ({
  ...ioas,
  areas: [...areas].sort((a, b) => (a.iova < b.iova ? -1 : 1)),
})
