/**
 * Every rule of the API, by name.
 *
 * @packageDocumentation
 */
import { ioPagetableRules } from './io-pagetable-rules.js'
import { mockRules } from './mock-rules.js'
import { objectRules } from './object-rules.js'
import { amdRules } from './amd-rules.js'
import type { Rule } from './rule.js'

const all = { ...objectRules, ...ioPagetableRules, ...mockRules, ...amdRules } as const

export type RuleName = keyof typeof all

export const rules: Readonly<Record<RuleName, Rule>> = all
