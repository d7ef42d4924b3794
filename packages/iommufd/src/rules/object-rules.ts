/**
 * Rules of the API: see the file's name.
 *
 * @packageDocumentation
 */
import type { RuleSet } from './rule.js'

export const objectRules = {} as const satisfies RuleSet
