/**
 * Rules of the API: see the file's name.
 *
 * @packageDocumentation
 */
import type { RuleSet } from './rule.js'

export const ioPagetableRules = {} as const satisfies RuleSet
