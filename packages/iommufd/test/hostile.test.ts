/**
 * Hostile programs: whatever they call, they get an answer by a rule that is known, and leave nothing behind.
 *
 * `pnpm fuzz:iommufd` runs this for a minute and prints what came of it.
 */
import { writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { attack, emptyReport, flavours } from './hostile/attack.js'

const seconds = Number(process.env['NESTWALK_FUZZ_SECONDS'] ?? 0)
const seed = Number(process.env['NESTWALK_FUZZ_SEED'] ?? 1)
const reportFile = process.env['NESTWALK_FUZZ_REPORT']
const acts = 20_000

describe('hostile programs', () => {
  it(
    'are answered by the rules of the catalogue, and leave nothing behind',
    () => {
      const report = emptyReport()
      const end = performance.now() + seconds * 1000
      for (let round = 0; round < flavours.length || performance.now() < end; round++) {
        attack(flavours[round % flavours.length]!, seed + round, acts, report)
      }
      const { tally, wrong } = report
      if (reportFile !== undefined) {
        const outcomes = Object.fromEntries(tally.outcomes)
        const { longestMs, longest } = tally
        writeFileSync(reportFile, JSON.stringify({ ...report, outcomes, longestMs, longest }))
      }
      expect(wrong).toEqual([])
      expect([...tally.unexplained].sort()).toEqual([])
    },
    seconds * 1000 + 120_000,
  )
})
