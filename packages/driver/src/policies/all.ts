/**
 * The policies that come with nestwalk, in the order of its tables.
 *
 * @packageDocumentation
 */
import type { DomainIdPolicy } from '../policy.js'
import { perDevice, perDeviceFanOut } from './per-device.js'
import { perGroup } from './per-group.js'
import { perHostTable } from './per-host-table.js'
import { viommuMap, viommuMapLinux73 } from './viommu-map.js'

export const policies: readonly DomainIdPolicy[] = [
  perGroup,
  perDevice,
  perDeviceFanOut,
  perHostTable,
  viommuMap,
  viommuMapLinux73,
]

/** The policy with a letter or a name, upper or lower case; `undefined` if there is none. */
export const findPolicy = (letterOrName: string): DomainIdPolicy | undefined =>
  policies.find(({ letter, name }) => [letter.toLowerCase(), name].includes(letterOrName.toLowerCase()))
