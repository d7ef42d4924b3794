/**
 * `node scripts/fuzz.mjs [--seconds 60] [--seed n]`: hostile software against one chip after the other, each with other
 * features, switches and caches. Prints what came of it; the exit code is 1 if a chip threw, did more work than its
 * tables ask for, or grew.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { run } from './workspace.mjs'

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '60' }, seed: { type: 'string', default: '1' } },
})
const folder = mkdtempSync(join(tmpdir(), 'nestwalk-fuzz-'))
const reportFile = join(folder, 'report.json')

try {
  if (!isNumber(values.seconds) || !isNumber(values.seed)) {
    console.error('fuzz: --seconds and --seed take whole numbers')
    process.exitCode = 2
  } else process.exitCode = fuzz(values) ? 0 : 1
} finally {
  rmSync(folder, { recursive: true })
}

function fuzz({ seconds, seed }) {
  process.env.NESTWALK_FUZZ_SECONDS = seconds
  process.env.NESTWALK_FUZZ_SEED = seed
  process.env.NESTWALK_FUZZ_REPORT = reportFile
  const { ok, output } = run(['vitest', 'run', 'packages/hardware/test/hostile.test.ts'])
  if (ok) print(JSON.parse(readFileSync(reportFile, 'utf8')), seed)
  else console.log(output.trim())
  return ok
}

function print(report, seed) {
  const { chips, acts, outcomes, mostReadsOfWalk, mostReads, mostStores, heapGrowth, wordsGrowth } = report
  for (const [outcome, count] of Object.entries(outcomes).sort()) {
    console.log(`${String(count).padStart(9)}  ${outcome}`)
  }
  console.log(`\n${acts} acts on ${chips} chips, seeds ${seed} to ${Number(seed) + chips - 1}`)
  console.log(
    `largest walk: ${mostReadsOfWalk} table reads; largest call: ${mostReads}, ${mostStores} stores`,
  )
  console.log(
    `growth in the second half of a chip's acts: heap ${heapGrowth} bytes, machine ${wordsGrowth} words`,
  )
}

function isNumber(text) {
  return /^\d{1,9}$/.test(text)
}
