/**
 * G: one DomainID for each IOMMU group. How Linux assigned IDs when the founding mail was written.
 *
 * @packageDocumentation
 */
import type { DomainIdPolicy } from '../policy.js'

export const perGroup: DomainIdPolicy = {
  letter: 'G',
  name: 'per-group',
  summary: 'one DomainID for each IOMMU group',
  keyOfDomain: () => undefined,
  keyOfAttachment: ({ group }) => `group ${group}`,
  guestInvalidation: 'first',
  gaps: new Set(['U17']),
}
