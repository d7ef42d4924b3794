/**
 * The scenarios that come with nestwalk, by number.
 *
 * @packageDocumentation
 */
import type { Scenario } from '../spec.js'
import { s01 } from './s01-founding-example.js'
import { s02 } from './s02-shared-domain.js'
import { s03 } from './s03-guest-mistake.js'
import { s04 } from './s04-two-vms.js'
import { s07 } from './s07-id-reuse.js'

export const scenarios: readonly Scenario[] = [s01, s02, s03, s04, s07]

/** The scenario with a number, upper or lower case; `undefined` if there is none. */
export const findScenario = (id: string): Scenario | undefined =>
  scenarios.find((scenario) => scenario.id === id.toUpperCase())
