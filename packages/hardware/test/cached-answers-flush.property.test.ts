/**
 * With nothing cached a chip answers as its tables say: in the answer, the event, and the reads that it takes.
 *
 * There is no chip without caches. One whose caches software empties before each request is as good, whichever commands
 * it uses: INVALIDATE_IOMMU_ALL, or INVALIDATE_IOMMU_PAGES of all addresses with PDE=1 of every domain and
 * INVALIDATE_DEVTAB_ENTRY of every device.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Translation } from '../src/index.js'
import type { Chip } from './chip.js'
import { machines, newChip } from './cached-answers-machines.js'
import type { Machine } from './cached-answers-machines.js'
import {
  commandOf,
  entryArbitrary,
  entryWords,
  stepArbitrary,
  worldDevices,
  worldDomains,
} from './cached-answers-world.js'
import type { Invalidation } from './cached-answers-world.js'
import { runs } from './runs.js'

/** Far more than it takes: these run beside other tests. */
const timeout = 300_000

const everyDomain = worldDomains.map((domainId): Invalidation => {
  return { of: 'pages', domainId, pasid: undefined, start: 0n, sizeLog2: 64, directories: true }
})
const everyDevice = worldDevices.map((deviceId): Invalidation => ({ of: 'device', deviceId }))
const completionWait = [1n << 60n, 0n] as const

function flush(chip: Chip, isAll: boolean): void {
  const what: readonly Invalidation[] = isAll ? [{ of: 'all' }] : [...everyDevice, ...everyDomain]
  expect(chip.command(...what.map(commandOf), completionWait)).toBe(what.length + 1)
}

/** Whether one walk may find in a cache what it has put there itself: then it takes less reads. */
const findsItsOwn = ({ microArchitecture: design }: Machine): boolean =>
  design.pageWalkCache !== undefined || (design.nestedEntries ?? 'combined') !== 'combined'

/** Whether an answer reached the log is no matter of the tables. */
const withoutLog = (answer: Translation): Translation =>
  answer.kind === 'fault' ? { ...answer, logged: false } : answer

function expectFresh(answer: Translation, fresh: Translation, machine: Machine): void {
  if ('reads' in answer && 'reads' in fresh && findsItsOwn(machine)) {
    expect(answer.reads).toBeLessThanOrEqual(fresh.reads)
    expect(withoutLog({ ...answer, reads: fresh.reads })).toEqual(fresh)
  } else expect(withoutLog(answer)).toEqual(fresh)
}

const program = fc.record({
  entries: fc.array(entryArbitrary(false), { minLength: 3, maxLength: 3 }),
  steps: fc.noBias(fc.array(stepArbitrary(false), { minLength: 20, maxLength: 60, size: 'max' })),
  isAll: fc.boolean(),
})

describe('a request that finds nothing cached', () => {
  it.each(machines)('is answered as a walk of the tables answers it: %s', { timeout }, (_, machine) => {
    fc.assert(
      fc.property(program, ({ entries, steps, isAll }) => {
        const chip = newChip(machine, entries)
        for (const step of steps) {
          if (step.kind === 'store') chip.put([step.at, step.value])
          else if (step.kind === 'entry') chip.setDte(step.deviceId, entryWords(step.entry))
          else if (step.kind === 'prefetch') chip.iommu.prefetch(step.asked)
          else if (step.kind === 'request') {
            // What is in the caches before must not matter.
            chip.iommu.request(step.asked)
            flush(chip, isAll)
            const fresh = chip.iommu.walkFresh(step.asked)
            expectFresh(chip.iommu.request(step.asked), fresh, machine)
          }
        }
      }),
      { numRuns: runs(3) },
    )
  })
})
