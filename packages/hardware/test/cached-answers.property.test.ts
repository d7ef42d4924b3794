/**
 * Caches never answer what tables did not say: every answer of a chip with caches is one that memory, as it was at some
 * moment since the last invalidation that covers it, gives.
 *
 * AMD 48882 rev 3.10, caches and their invalidation. "Covers" is said for each cache apart:
 *
 * - A device's entry: INVALIDATE_DEVTAB_ENTRY of the device, and INVALIDATE_IOMMU_ALL. No other command; and these two
 *   alone do not make a translation anew that was made by the entry as it was before.
 * - Translations of the host table: INVALIDATE_IOMMU_PAGES with GN=0 of their DomainID whose range meets their page.
 * - Nested translations: GN=1 of their DomainID and PASID whose range meets their page; GN=0 of their DomainID, whatever
 *   its range, since a GPA does not tell which GVAs lead to it. Where entries remember GPAs and invalidations go by
 *   them, GN=0 covers those that came by a GPA in the range: the page's own, and those of all tables on the way.
 * - Parts of nested translations from GVA to GPA: as the whole. Where invalidations go by GPAs they hold nothing of the
 *   host's, and only a range of all addresses covers them.
 * - Tables that walks start from: PDE=1 alone. Those of the host: GN=0 whose range meets what the table serves. Those of
 *   guests, and their roots: GN=0 of the DomainID, or GN=1 of the DomainID and PASID, whatever the range.
 * - Absent pages, where they are kept: as a translation of their page of 4 KiB.
 *
 * Devices with one DomainID share translations: an answer may come from another device's entry with that DomainID. Mixes
 * are right: a stale entry of the device, a translation by tables of another moment, and, with parts and tables kept
 * apart, each of them from a moment of its own, so long as nothing has covered it since.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Translation } from '../src/index.js'
import type { Chip } from './chip.js'
import { runs } from './runs.js'
import { watching } from './watch.js'
import { machines, newChip, newOracle, shown } from './cached-answers-machines.js'
import type { PossibleCaches } from './cached-answers-oracle.js'
import { commandOf, entryArbitrary, entryAt, entryWords, stepArbitrary } from './cached-answers-world.js'
import type { Step } from './cached-answers-world.js'

/** Far more than it takes: these run beside other tests. */
const timeout = 300_000

interface Run {
  readonly chip: Chip
  readonly oracle: PossibleCaches
  /** The model remembers table pages, but not while it is watched, nor after another machine was used. */
  readonly isShy: boolean
}

/** Asks for something, and tells in which words A or D may have been set. */
function asking(
  { chip, oracle, isShy }: Run,
  ask: () => Translation,
): { readonly answer: string; readonly stores: readonly bigint[] } {
  if (isShy) return { answer: shown(ask()), stores: oracle.addresses() }
  const { value, stores } = watching(chip.iommu, ask)
  return { answer: shown(value), stores }
}

/** Carries out a step; where it has an answer, it must be a possible one. */
function take(run: Run, step: Step): void {
  const { chip, oracle } = run
  const stored: bigint[] = []
  switch (step.kind) {
    case 'request': {
      const possible = oracle.answers(step.asked)
      expect(possible).toContain(shown(chip.iommu.walkFresh(step.asked)))
      const { answer, stores } = asking(run, () => chip.iommu.request(step.asked))
      expect(possible).toContain(answer)
      stored.push(...stores)
      break
    }
    case 'prefetch':
      // The oracle knows of no word before it has read it.
      oracle.answers(step.asked)
      stored.push(...asking(run, () => chip.iommu.prefetch(step.asked)).stores)
      break
    case 'store':
      chip.put([step.at, step.value])
      stored.push(step.at)
      break
    case 'entry': {
      const at = entryAt(step.deviceId)
      chip.setDte(step.deviceId, entryWords(step.entry))
      stored.push(at, at + 8n)
      break
    }
    case 'invalidate':
      expect(chip.command(commandOf(step.what))).toBe(1)
      oracle.invalidate(step.what)
      break
    case 'wait':
      expect(chip.command([1n << 60n, 0n])).toBe(1)
      oracle.wait()
      break
    case 'evict':
      chip.iommu.evict(step.n)
  }
  oracle.changed(stored)
}

const programOf = (isUnique: boolean) =>
  fc.record({
    entries: fc.array(entryArbitrary(isUnique), { minLength: 3, maxLength: 3 }),
    steps: fc.noBias(fc.array(stepArbitrary(isUnique), { minLength: 20, maxLength: 60, size: 'max' })),
  })

describe('an answer of a chip with caches', () => {
  describe.each([
    ['DomainIDs that stand for one pair of tables', true],
    ['DomainIDs that stand for nothing', false],
  ])('%s', (_, isUnique) => {
    it.each(machines)(
      'is one that no covering invalidation has taken back: %s',
      { timeout },
      (_name, machine) => {
        fc.assert(
          fc.property(programOf(isUnique), ({ entries, steps }) => {
            const chip = newChip(machine, entries)
            const run = { chip, oracle: newOracle(chip, machine), isShy: machine.tablePageCache === true }
            for (const step of steps) take(run, step)
          }),
          { numRuns: runs(12) },
        )
      },
    )
  })
})
