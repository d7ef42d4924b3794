/**
 * Every rule of the API, by name.
 *
 * @packageDocumentation
 */
import { sizeRules } from './size-rules.js'
import { objectRules } from './object-rules.js'
import { ioasRules } from './ioas-rules.js'
import { hwptRules } from './hwpt-rules.js'
import { viommuRules } from './viommu-rules.js'
import { vfioRules } from './vfio-rules.js'
import { ioPagetableRules } from './io-pagetable-rules.js'
import { mockRules } from './mock-rules.js'
import { amdRules } from './amd-rules.js'
import type { Rule } from './rule.js'

const all = {
  ...sizeRules,
  ...objectRules,
  ...ioasRules,
  ...hwptRules,
  ...viommuRules,
  ...vfioRules,
  ...ioPagetableRules,
  ...mockRules,
  ...amdRules,
} as const

export type RuleName = keyof typeof all

export const rules: Readonly<Record<RuleName, Rule>> = all
