/**
 * `nestwalk cost`: what DomainID policies cost, counted by running them, beside what they must cost on paper.
 *
 * @packageDocumentation
 */
import { parseArgs } from 'node:util'
import type { ParseArgsConfig } from 'node:util'
import {
  perDevice,
  perGroup,
  perHostTable,
  perNestedDomain,
  sharedGcr3,
  viommuMap,
  viommuMapLinux73,
} from '@nestwalk/driver'
import type { DomainIdPolicy } from '@nestwalk/driver'
import {
  checkSetting,
  hostOwnedCost,
  hostOwnedFormula,
  nestedCost,
  nestedFormula,
  workedExample,
} from '@nestwalk/scenario'
import type { CostSetting, HostOwnedCost, NestedCost } from '@nestwalk/scenario'
import { exitCode, UsageError } from './output.js'
import type { Output } from './output.js'

const text = { type: 'string' } as const
const yes = { type: 'boolean' } as const
const options = {
  ...{ devices: text, groups: text, iommus: text, ats: text, sharing: text, pasids: text },
  ...{ 'worked-example': yes, json: yes },
} satisfies ParseArgsConfig['options']

/** The option that says each part of a setting. */
const optionOf: Readonly<
  Record<keyof CostSetting, 'devices' | 'groups' | 'iommus' | 'ats' | 'sharing' | 'pasids'>
> = {
  ...{ devices: 'devices', groups: 'groups', iommus: 'iommus' },
  ...{ atsDevices: 'ats', sharingGroups: 'sharing', processes: 'pasids' },
}

const nestedPolicies = [perGroup, perDevice, perHostTable, perNestedDomain, viommuMap, viommuMapLinux73]
/** M has a table for each device, as Linux; X shares equal ones. */
const hostOwnedPolicies = [viommuMap, sharedGcr3]

interface NestedRow {
  readonly policy: string
  readonly counted: NestedCost
  readonly formula: NestedCost | undefined
}

interface HostOwnedRow {
  readonly policy: string
  readonly counted: HostOwnedCost
  readonly formula: HostOwnedCost
}

/**
 * Runs the command.
 *
 * @returns the exit code: 0 every count is as its formula says, 1 one is not
 * @throws UsageError for a setting that cannot be
 */
export function costCommand(args: string[], out: Output): number {
  const { values } = parseArgs({ args, options, strict: true })
  const setting = settingOf(values)
  const nested = nestedPolicies.map((policy) => nestedRow(policy, setting))
  const hostOwned = hostOwnedPolicies.map((policy) => hostOwnedRow(policy, setting))
  if (values.json === true) out.stdout(`${JSON.stringify(forPrograms(nested, hostOwned, setting))}\n`)
  else out.stdout(`${forPeople(nested, hostOwned, setting).join('\n')}\n`)
  return [...nested, ...hostOwned].every(isAsOnPaper) ? exitCode.yes : exitCode.no
}

function settingOf(values: Readonly<Record<string, string | boolean | undefined>>): CostSetting {
  const named = Object.entries(optionOf) as [keyof CostSetting, string][]
  if (values['worked-example'] === true) {
    const other = named.find(([, option]) => values[option] !== undefined)
    if (other !== undefined)
      throw new UsageError(`--${other[1]} and --worked-example: it is one or the other`)
    return workedExample
  }
  const count = (option: string, otherwise: number): number => {
    const value = values[option]
    if (value === undefined) return otherwise
    if (typeof value === 'string' && /^\d{1,6}$/.test(value)) return Number(value)
    throw new UsageError(`--${option} ${String(value)}: it takes a whole number`)
  }
  const devices = count('devices', workedExample.devices)
  const groups = count('groups', Math.ceil(devices / 2))
  const iommus = count('iommus', Math.min(groups, 2))
  const setting = {
    ...{ devices, groups, iommus, atsDevices: count('ats', devices), processes: count('pasids', 1) },
    sharingGroups: count('sharing', groups / iommus >= 2 ? 2 : 1),
  }
  try {
    return checkSetting(setting)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new UsageError(error.message.replace(/^\w+/, (name) => `--${optionOf[name as keyof CostSetting]}`))
  }
}

const nestedRow = (policy: DomainIdPolicy, setting: CostSetting): NestedRow => ({
  policy: policy.letter,
  counted: nestedCost(policy, setting),
  formula: nestedFormula(policy.letter, setting),
})

const hostOwnedRow = (policy: DomainIdPolicy, setting: CostSetting): HostOwnedRow => ({
  policy: policy.letter,
  counted: hostOwnedCost(policy, setting),
  formula: hostOwnedFormula(policy === sharedGcr3, setting),
})

const isAsOnPaper = ({ counted, formula }: NestedRow | HostOwnedRow): boolean =>
  formula === undefined ||
  Object.entries(formula).every(([name, value]) => counted[name as keyof typeof counted] === value)

/** GCR3 tables of a VM are the guest's: the host needs no page for them. */
const forPrograms = (
  nested: readonly NestedRow[],
  hostOwned: readonly HostOwnedRow[],
  setting: CostSetting,
): object => ({
  setting,
  policies: nested.map(({ policy, counted }) => ({
    policy,
    domainIds: counted.domainIds,
    gcr3Pages: 0,
    stage2Unmap: counted.stage2Unmap,
    stage1Unmap: counted.stage1Unmap,
  })),
  hostOwned: hostOwned.map(({ policy, counted }) => ({ policy, ...counted })),
})

function forPeople(
  nested: readonly NestedRow[],
  hostOwned: readonly HostOwnedRow[],
  setting: CostSetting,
): string[] {
  const { devices, groups, iommus, atsDevices, sharingGroups, processes } = setting
  return [
    `${devices} devices in ${groups} groups behind ${iommus} IOMMUs, ${atsDevices} of them with a TLB`,
    '',
    `A VM has them; ${sharingGroups} groups are under the guest DomainID that is unmapped.`,
    'Counted in the rings, on paper:',
    '',
    row('', 'DomainIDs', 'stage-2 unmap', 'stage-1 unmap'),
    ...nested.map(({ policy, counted, formula }) =>
      row(
        policy,
        both(counted.domainIds, formula?.domainIds),
        both(counted.stage2Unmap, formula?.stage2Unmap),
        both(counted.stage1Unmap, formula?.stage1Unmap),
      ),
    ),
    '',
    `The host has them on one v2 domain, with ${processes} PASIDs:`,
    '',
    row('', 'DomainIDs', 'GCR3 pages', 'unmap', 'process unmap'),
    ...hostOwned.map(({ policy, counted, formula }) =>
      row(
        policy,
        both(counted.domainIds, formula.domainIds),
        both(counted.gcr3Pages, formula.gcr3Pages),
        both(counted.unmap, formula.unmap),
        both(counted.processUnmap, formula.processUnmap),
      ),
    ),
    '',
    ...[...new Set([...nestedPolicies, ...hostOwnedPolicies])].map(
      ({ letter, summary }) => `${letter.padEnd(4)}${summary}`,
    ),
    'A guest invalidation goes to every DomainID that stands for the guest’s.',
  ]
}

const both = (counted: number, formula: number | undefined): string =>
  `${counted}${formula === undefined ? '' : ` (${formula})`}`

const row = (name: string, ...cells: readonly string[]): string =>
  `${name.padEnd(4)}${cells.map((cell) => cell.padEnd(16)).join('')}`.trimEnd()
