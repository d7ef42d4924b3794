/**
 * The table of scenarios and policies, for people and for programs.
 *
 * @packageDocumentation
 */
import {
  perDevice,
  perDeviceFanOut,
  perGroup,
  perHostTable,
  viommuMap,
  viommuMapLinux73,
} from '@nestwalk/driver'
import type { DomainIdPolicy } from '@nestwalk/driver'
import type { Scenario } from '@nestwalk/scenario'
import type { Paint } from './paint.js'
import { judge } from './verdict.js'
import type { Judgement, Verdict } from './verdict.js'

/** One cell for programs. */
export interface VerdictRow {
  readonly scenario: string
  readonly policy: string
  readonly verdict: Verdict
  readonly domainIds: number
  readonly commands: number
}

/** The policies that the scenarios tell apart, as many as fit a line; the others differ in tables of the host's own. */
export const shownPolicies: readonly DomainIdPolicy[] = [
  perGroup,
  perDevice,
  perDeviceFanOut,
  perHostTable,
  viommuMap,
  viommuMapLinux73,
]

/** Judges every scenario under every policy of the table. */
export const judgeAll = (
  scenarios: readonly Scenario[],
  chosen: readonly DomainIdPolicy[] = shownPolicies,
): Judgement[] => scenarios.flatMap((scenario) => chosen.map((policy) => judge(scenario, policy)))

/** The cells for programs. */
export const verdictRows = (judgements: readonly Judgement[]): VerdictRow[] =>
  judgements.map(({ scenario, policy, verdict, domainIds, commands }) => ({
    scenario: scenario.id,
    policy: policy.letter,
    verdict,
    domainIds,
    commands,
  }))

const firstColumn = 5

/** The table for people: each cell has the verdict, the DomainIDs in use and the commands of the run. */
export function tellTable(judgements: readonly Judgement[], paint: Paint): string[] {
  const columns = [...new Set(judgements.map(({ policy }) => policy))]
  const rows = [...new Set(judgements.map(({ scenario }) => scenario))]
  const cells = judgements.map(({ verdict, domainIds, commands }) => `${verdict} ${domainIds}/${commands}`)
  const width =
    Math.max(...cells.map((cell) => cell.length), ...columns.map(({ letter }) => letter.length)) + 2
  const head = ' '.repeat(firstColumn) + columns.map(({ letter }) => letter.padEnd(width)).join('')
  const body = rows.map((scenario) => {
    const row = columns.map((policy) => {
      const index = judgements.findIndex((each) => each.scenario === scenario && each.policy === policy)
      const { verdict } = judgements[index] ?? { verdict: 'ok' as const }
      const cell = cells[index] ?? ''
      return paint(cell, verdict) + ' '.repeat(width - cell.length)
    })
    return (scenario.id.padEnd(firstColumn) + row.join('')).trimEnd()
  })
  return [head.trimEnd(), ...body]
}
