/**
 * M: each vIOMMU maps the guest's DomainIDs to host ones; the kernel knows the guest's choice and follows it
 * (requirement R4). A host ID is flushed before anybody else can get it.
 *
 * @packageDocumentation
 */
import { allGaps } from '../gap.js'
import type { DomainIdPolicy, TaggedDomain } from '../policy.js'

const keyOf = ({ table, guest }: TaggedDomain): string =>
  guest === undefined ? `table ${table}` : `vIOMMU ${guest.viommu}, guest DomainID ${guest.domainId}`

export const viommuMap: DomainIdPolicy = {
  letter: 'M',
  name: 'viommu-map',
  summary: 'each vIOMMU maps guest DomainIDs to host ones; freed IDs are flushed',
  keyOfDomain: keyOf,
  keyOfAttachment: (_device, domain) => keyOf(domain),
  guestInvalidation: 'first',
  gaps: new Set(['U17']),
}

/** M7: the map as Linux 7.3 has it, with all its gaps. */
export const viommuMapLinux73: DomainIdPolicy = {
  ...viommuMap,
  letter: 'M7',
  name: 'viommu-map-linux-7.3',
  summary: 'the map as Linux 7.3 has it, with its gaps U2 to U20',
  gaps: allGaps,
}
