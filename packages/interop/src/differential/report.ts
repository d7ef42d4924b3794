/**
 * What came of a campaign, in words for a terminal of 80 columns.
 *
 * @packageDocumentation
 */
import { hex } from '@nestwalk/bits'
import { formatDeviceId, deviceId as toDeviceId } from '@nestwalk/hardware'
import { arenaDevices } from './arena.js'
import type { CampaignResult } from './campaign.js'
import type { Discrepancy } from './compare.js'
import { agreedDifferences, notGenerated } from './departures.js'
import type { Departure } from './departures.js'
import type { DifferentialCase, Step } from './differential-case.js'
import type { Verdict } from './verdict.js'

const columns = 80

/** The agreed differences that showed, those that showed most first. */
export function agreedLines(counts: ReadonlyMap<Departure, number>): string[] {
  const byCount = [...counts].sort(([, one], [, other]) => other - one)
  return byCount.flatMap(([name, count]) => [
    `${String(count).padStart(7)}  ${name}`,
    ...wrapped(`hardware: ${agreedDifferences[name].hardware}`, 9),
    ...wrapped(`QEMU: ${agreedDifferences[name].qemu}`, 9),
  ])
}

export const notGeneratedLines = (): string[] => notGenerated.flatMap((line) => wrapped(line, 2))

export function summaryLines({ cases, same, agreed, failed, requests, seconds }: CampaignResult): string[] {
  const perMinute = Math.round((cases / Math.max(seconds, 0.001)) * 60)
  return [
    `${cases} cases, ${requests} DMA requests, ${seconds.toFixed(1)} s: ${perMinute} cases a minute`,
    `${same} alike, ${agreed} with agreed differences, ${failed} not explained`,
  ]
}

/** How many discrepancies of one case are shown. */
const shownMax = 6

/** One difference: the case, and what is not alike. */
export function differenceLines(
  testCase: DifferentialCase,
  { between, discrepancies }: Extract<Verdict, { kind: 'difference' }>,
): string[] {
  const [one = '', other = ''] = between.split(' and ', 2)
  const lines = discrepancies
    .slice(0, shownMax)
    .flatMap((each) => discrepancyLines(testCase, each, [one, other]))
  const more = discrepancies.length - shownMax
  return [
    ...wrapped(`${testCase.origin}: ${between} differ`, 0),
    ...lines,
    ...(more > 0 ? [`  and ${more} more`] : []),
  ]
}

function discrepancyLines(
  testCase: DifferentialCase,
  { step, what, one, other }: Discrepancy,
  [first, second]: readonly [string, string],
): string[] {
  const named = step === undefined ? undefined : testCase.steps[step]
  const where = named === undefined ? 'at the end' : `step ${step ?? 0}, ${stepShown(named)}`
  return [
    ...wrapped(`${where}: ${what}`, 2),
    ...wrapped(`${first}: ${one}`, 4),
    ...wrapped(`${second}: ${other}`, 4),
  ]
}

function stepShown(step: Step): string {
  switch (step.kind) {
    case 'commands':
      return `${step.commands.length} commands`
    case 'restart':
      return 'restart of the command buffer'
    case 'store':
      return `store of ${hex(step.value)} at ${hex(step.address)}`
    case 'register':
      return `write of ${hex(step.value)} to register ${hex(step.offset)}`
    case 'dma': {
      const id = formatDeviceId(toDeviceId(arenaDevices[step.device]?.deviceId ?? 0))
      return `${step.write ? 'write' : 'read'} of ${step.bytes} bytes by ${id} at ${hex(step.iova)}`
    }
  }
}

/** Text in lines of the terminal's width, each indented, and the second and later ones two more. */
function wrapped(text: string, indent: number): string[] {
  const lines: string[] = []
  let line = ' '.repeat(indent)
  let isEmpty = true
  for (const word of text.split(' ')) {
    if (!isEmpty && line.length + 1 + word.length > columns) {
      lines.push(line)
      line = ' '.repeat(indent + 2)
      isEmpty = true
    }
    line += isEmpty ? word : ` ${word}`
    isEmpty = false
  }
  return [...lines, line]
}
