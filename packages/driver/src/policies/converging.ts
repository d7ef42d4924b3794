/**
 * C: the members of a group are told apart for as long as they differ and meet on one tag once they agree. On M that is
 * what equal guest DomainIDs do by themselves, on X what the merge does; here devices that share a DeviceID, which cannot
 * differ, are blocked while they are asked to.
 *
 * @packageDocumentation
 */
import type { DomainIdPolicy } from '../policy.js'
import { sharedGcr3 } from './shared-gcr3.js'
import { viommuMap } from './viommu-map.js'

export const convergingMap: DomainIdPolicy = {
  ...viommuMap,
  letter: 'CM',
  name: 'converging-map',
  summary: 'M; devices that share a DeviceID pass nothing while their domains differ',
  aliasConflict: 'block',
}

export const convergingGcr3: DomainIdPolicy = {
  ...sharedGcr3,
  letter: 'CX',
  name: 'converging-gcr3',
  summary: 'X; devices that share a DeviceID pass nothing while their domains differ',
  aliasConflict: 'block',
}
