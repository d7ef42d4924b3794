/**
 * HWPT_ALLOC on an IOAS: which table an AMD IOMMU gets, and what that table can do.
 *
 * Linux drivers/iommu/amd/iommu.c, `amd_iommu_domain_alloc_paging_flags`.
 *
 * @packageDocumentation
 */
import { guestFormat, hostFormat, InternalError } from '@nestwalk/driver'
import type { DomainNumber, Driver } from '@nestwalk/driver'
import type { AddressRange, BackendDevice, PagingDomain, UserData } from '../backend.js'
import { hwptFlags } from '../hwpt/hwpt-flags.js'
import { refuse } from '../outcome.js'
import type { Outcome } from '../outcome.js'

/** The table of a HWPT without flags: the kernel's `amd_iommu=pgtbl_v1` or `pgtbl_v2`. */
export type DefaultTable = 'host' | 'guest'

/** What is asked for. */
export interface TableRequest {
  readonly flags: number
  readonly data: UserData
  readonly defaultTable: DefaultTable
}

/** Makes a table by the flags. EOPNOTSUPP for other combinations, for driver data, and without the features for it. */
export function allocateTable(
  driver: Driver,
  { iommu }: BackendDevice,
  { flags, data, defaultTable }: TableRequest,
): Outcome<DomainNumber> {
  if (data.type !== 0)
    return refuse('amd-paging-data', `driver data of type ${data.type} for a table on an IOAS`)
  const { nestParent, dirtyTracking, pasid } = hwptFlags
  switch (flags) {
    case 0:
      return allocateDefault(driver, iommu, defaultTable)
    case pasid:
      if (driver.abilities.maxPasids === 0)
        return refuse('amd-no-pasids', 'the IOMMUs do not all have PASIDs and page requests')
      return driver.allocateGuestTable()
    case nestParent:
    case dirtyTracking:
    case nestParent | dirtyTracking:
      return driver.allocateHostTable({
        nestParent: (flags & nestParent) !== 0,
        dirtyTracking: (flags & dirtyTracking) !== 0,
        iommu,
      })
    default:
      return refuse('amd-paging-flags', `no table of AMD's serves flags 0x${flags.toString(16)} together`)
  }
}

/** The kind that the kernel prefers, or the other one where there is none of it. */
function allocateDefault(driver: Driver, iommu: number, preferred: DefaultTable): Outcome<DomainNumber> {
  const allocate = (kind: DefaultTable): Outcome<DomainNumber> =>
    kind === 'host' ? driver.allocateHostTable({ iommu }) : driver.allocateGuestTable()
  const made = allocate(preferred)
  if (made.ok || made.errno !== 'EOPNOTSUPP') return made
  return allocate(preferred === 'host' ? 'guest' : 'host')
}

const bitmapOf = (sizesLog2: readonly number[]): bigint =>
  sizesLog2.reduce((bits, size) => bits | (1n << BigInt(size)), 0n)

const hostPageSizes = bitmapOf(hostFormat.sizesLog2)
const guestPageSizes = bitmapOf(guestFormat.sizesLog2)

const apertureOf = (addressBits: number): AddressRange => ({
  first: 0n,
  last: (1n << BigInt(Math.min(addressBits, 64))) - 1n,
})

/** What the table of a domain can do. */
export function describeTable(driver: Driver, number: DomainNumber): PagingDomain {
  const domain = driver.domain(number)
  if (domain?.kind === 'host-table') {
    const aperture = apertureOf(12 + 9 * driver.abilities.hostLevels)
    const { canTrackDirty } = domain
    return { number, aperture, pageSizes: hostPageSizes, canTrackDirty, enforcesCoherency: true }
  }
  if (domain?.kind === 'guest-table') {
    // Linux leaves the highest bit unused: 47 or 56 bits, whichever sign rule requests follow.
    const aperture = apertureOf(12 + 9 * domain.levels - 1)
    return { number, aperture, pageSizes: guestPageSizes, canTrackDirty: false, enforcesCoherency: true }
  }
  throw new InternalError(`domain ${number} has no table that an IOAS could be mapped into`)
}
