/**
 * Software, guests and devices that do anything: no exception, and no more work or room than the tables can ask for.
 *
 * `node scripts/fuzz.mjs --seconds 60` runs the same for longer, on other chips each time.
 */
import { writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { runCampaign } from './fuzz/campaign.js'
import { longestWalk } from './fuzz/work-meter.js'

const { NESTWALK_FUZZ_SECONDS, NESTWALK_FUZZ_SEED, NESTWALK_FUZZ_REPORT } = process.env

describe.skipIf(NESTWALK_FUZZ_SECONDS !== undefined)('a chip under hostile software', () => {
  it('goes on, does one walk at a time, and stays as large as it is', { timeout: 300_000 }, () => {
    const report = runCampaign({ firstSeed: 1, goesOn: (chips) => chips < 10, actsOfChip: 12_000 })
    // The traffic is worth something only if all kinds of things come of it, the deepest walk among them.
    expect(report.mostReadsOfWalk).toBe(longestWalk)
    expect(Object.keys(report.outcomes)).toEqual(
      expect.arrayContaining([
        'request: translated',
        'request: forwarded',
        ...[1, 2, 4, 8].map((code) => `request: fault by event ${code}`),
        'ats: completed',
        'ats: completer-abort by event 2',
        'interrupt remapped',
        'interrupt posted',
        'interrupt aborted',
        'page request logged',
        'page request refused',
        'message invalidate',
        'message page-response',
        'completion true',
        'guest command true',
        'command true',
        'both ways',
      ]),
    )
  })
})

describe.runIf(NESTWALK_FUZZ_SECONDS !== undefined)('a long campaign', () => {
  it('ends well', { timeout: 86_400_000 }, () => {
    const end = performance.now() + Number(NESTWALK_FUZZ_SECONDS) * 1000
    const goesOn = (): boolean => performance.now() < end
    const report = runCampaign({ firstSeed: Number(NESTWALK_FUZZ_SEED ?? 1), goesOn, actsOfChip: 20_000 })
    if (NESTWALK_FUZZ_REPORT !== undefined) writeFileSync(NESTWALK_FUZZ_REPORT, JSON.stringify(report))
  })
})
