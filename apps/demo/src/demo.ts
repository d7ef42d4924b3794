/**
 * `nestwalk demo`: the founding story, run.
 *
 * @packageDocumentation
 */
import { findPolicy, perGroup, policies } from '@nestwalk/driver'
import type { DomainIdPolicy } from '@nestwalk/driver'
import { findScenario, scenarios } from '@nestwalk/scenario'
import { coloured, plain } from './paint.js'
import type { Output } from './output.js'
import { exitCode } from './output.js'
import { tellDevices, tellStory } from './story.js'
import { judge } from './verdict.js'
import { judgeAll, shownPolicies, tellTable, verdictRows } from './verdict-table.js'

/** What the command line said. */
export interface DemoArgs {
  /** Letter or name of the policy of the story. */
  readonly policy: string | undefined
  /** Number of the scenario of the story. */
  readonly scenario: string | undefined
  readonly json: boolean
}

const question = [
  'nestwalk: who owns the cache tag?',
  '',
  'The IOMMU files a translation under (DomainID, PASID, page), not under the',
  'device that asked for it. A kernel that gives the devices of a group one',
  'DomainID meets a guest that gives each of them page tables of its own. Is one',
  'device then served memory of the other, and what does it cost to prevent it?',
]

const legend = [
  'Each cell: the verdict, DomainIDs used / commands of the host during the run.',
  'ok     every answer is one that a bare-metal IOMMU could have given',
  "stale  a device was served its own page after the guest's invalidation of it",
  "cross  a device was served another device's page",
  "leak   a device was served another VM's memory",
]

/** Runs the command. Exit code 0, or 2 for a policy or scenario that does not exist. */
export function demoCommand(args: DemoArgs, out: Output): number {
  const policy = args.policy === undefined ? perGroup : findPolicy(args.policy)
  if (policy === undefined) {
    const known = policies.map(({ letter, name }) => `${letter} (${name})`).join(', ')
    out.stderr(`nestwalk demo: there is no policy ${args.policy ?? ''}: choose one of ${known}\n`)
    return exitCode.wrongUsage
  }
  const scenario = findScenario(args.scenario ?? 'S01')
  if (scenario === undefined) {
    const known = scenarios.map(({ id }) => id).join(', ')
    out.stderr(`nestwalk demo: there is no scenario ${args.scenario ?? ''}: choose one of ${known}\n`)
    return exitCode.wrongUsage
  }
  const all = judgeAll(scenarios)
  if (args.json) {
    out.stdout(`${JSON.stringify({ verdicts: verdictRows(all) }, undefined, 2)}\n`)
    return exitCode.yes
  }
  const paint = out.isStdoutTerminal === true ? coloured : plain
  const story = judge(scenario, policy)
  const lines = [
    ...question,
    '',
    `${scenario.id}, ${scenario.title}`,
    ...tellPolicy(policy),
    '',
    ...tellDevices(story),
    '',
    ...tellStory(story, paint),
    '',
    'Every scenario under every policy:',
    '',
    ...tellTable(all, paint),
    '',
    ...legend,
    '',
    ...shownPolicies.map(({ letter, summary }) => `${letter.padEnd(4)}${summary}`),
    '',
    ...scenarios.map(({ id, title }) => `${id.padEnd(4)} ${title}`),
  ]
  out.stdout(`${lines.join('\n')}\n`)
  return exitCode.yes
}

/** In two lines where one would be too long for a terminal. */
function tellPolicy({ letter, summary }: DomainIdPolicy): string[] {
  const line = `Policy ${letter}: ${summary}`
  return line.length <= 80 ? [line] : [`Policy ${letter}:`, `  ${summary}`]
}
