/**
 * X: the map of M, and for the host's own GCR3 tables what the founding mail asks for (requirement R3): equal tables are
 * one table, with one DomainID. The group is not asked; its members meet on one ID because their tables are equal.
 *
 * @packageDocumentation
 */
import type { DomainIdPolicy } from '../policy.js'
import { viommuMap } from './viommu-map.js'

export const sharedGcr3: DomainIdPolicy = {
  ...viommuMap,
  letter: 'X',
  name: 'shared-gcr3',
  summary: 'the map of M; equal GCR3 tables of the host are one, under one DomainID',
  gaps: new Set(),
}
