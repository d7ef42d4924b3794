/**
 * N: one DomainID for each nested domain. The first three versions of the AMD series of 2025, and VT-d's choice, where an
 * invalidation names the nested domain; on AMD it names the guest's DomainID, which may have several.
 *
 * @packageDocumentation
 */
import type { DomainIdPolicy, TaggedDomain } from '../policy.js'

const keyOf = ({ table, guest }: TaggedDomain): string =>
  guest === undefined ? `table ${table}` : `nested domain ${guest.nested}`

export const perNestedDomain: DomainIdPolicy = {
  letter: 'N',
  name: 'per-nested-domain',
  summary: 'one DomainID for each nested domain; a guest invalidation reaches one',
  keyOfDomain: keyOf,
  keyOfAttachment: (_device, domain) => keyOf(domain),
  guestInvalidation: 'first',
  gaps: new Set(['U17']),
}
