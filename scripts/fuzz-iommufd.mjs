/**
 * `node scripts/fuzz-iommufd.mjs [--seconds 60] [--seed n]`: hostile programs against one kernel after the other, with the
 * mock IOMMU and with AMD's. Prints how often each call ended how; the exit code is 1 if a call threw, was refused by a
 * rule that is not in the catalogue, or left something behind.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { run } from './workspace.mjs'

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '60' }, seed: { type: 'string', default: '1' } },
})
const folder = mkdtempSync(join(tmpdir(), 'nestwalk-fuzz-iommufd-'))
const reportFile = join(folder, 'report.json')

try {
  if (!/^\d{1,9}$/.test(values.seconds) || !/^\d{1,9}$/.test(values.seed)) {
    console.error('fuzz-iommufd: --seconds and --seed take whole numbers')
    process.exitCode = 2
  } else process.exitCode = fuzz(values) ? 0 : 1
} finally {
  rmSync(folder, { recursive: true })
}

function fuzz({ seconds, seed }) {
  process.env.NESTWALK_FUZZ_SECONDS = seconds
  process.env.NESTWALK_FUZZ_SEED = seed
  process.env.NESTWALK_FUZZ_REPORT = reportFile
  const { ok, output } = run(['vitest', 'run', 'packages/iommufd/test/hostile.test.ts'])
  if (ok) print(JSON.parse(readFileSync(reportFile, 'utf8')), Number(seed))
  else console.log(output.trim())
  return ok
}

function print({ kernels, acts, outcomes, longest, longestMs }, seed) {
  const columns = 2
  const shown = Object.entries(outcomes)
    .sort()
    .map(([outcome, count]) => `${String(count).padStart(7)} ${outcome}`.padEnd(38))
  for (let at = 0; at < shown.length; at += columns)
    console.log(
      shown
        .slice(at, at + columns)
        .join('')
        .trimEnd(),
    )
  console.log(
    `\n${acts} calls to ${kernels} kernels, seeds ${seed} to ${seed + kernels - 1}; nothing left behind`,
  )
  console.log(`the longest took ${longestMs.toFixed(0)} ms: ${longest}`)
}
