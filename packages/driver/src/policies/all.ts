/**
 * The policies that come with nestwalk, in the order of its tables.
 *
 * @packageDocumentation
 */
import type { DomainIdPolicy } from '../policy.js'
import { convergingGcr3, convergingMap } from './converging.js'
import { perDevice, perDeviceFanOut } from './per-device.js'
import { perGroup } from './per-group.js'
import { perHostTable } from './per-host-table.js'
import { perNestedDomain } from './per-nested-domain.js'
import { sharedGcr3 } from './shared-gcr3.js'
import { viommuMap, viommuMapLinux73 } from './viommu-map.js'

export const policies: readonly DomainIdPolicy[] = [
  perGroup,
  perDevice,
  perDeviceFanOut,
  perHostTable,
  perNestedDomain,
  viommuMap,
  viommuMapLinux73,
  sharedGcr3,
  convergingMap,
  convergingGcr3,
]

/** The policy with a letter or a name, upper or lower case; `undefined` if there is none. */
export const findPolicy = (letterOrName: string): DomainIdPolicy | undefined =>
  policies.find(({ letter, name }) => [letter.toLowerCase(), name].includes(letterOrName.toLowerCase()))
