/**
 * D: one DomainID for each device, as proposed on 11 Dec 2023, and as Linux does for its own GCR3 tables since v6.9.
 *
 * @packageDocumentation
 */
import type { DomainIdPolicy } from '../policy.js'

export const perDevice: DomainIdPolicy = {
  letter: 'D',
  name: 'per-device',
  summary: 'one DomainID for each device; a guest invalidation reaches one of them',
  keyOfDomain: () => undefined,
  keyOfAttachment: ({ deviceId }) => `device ${deviceId}`,
  guestInvalidation: 'first',
  gaps: new Set(['U17']),
}

/** D with fan-out: each guest invalidation becomes one for every device of the guest's domain. */
export const perDeviceFanOut: DomainIdPolicy = {
  ...perDevice,
  letter: 'DF',
  name: 'per-device-fan-out',
  summary: 'one DomainID for each device; a guest invalidation is repeated for each',
  guestInvalidation: 'all',
}
