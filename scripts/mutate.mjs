/**
 * `pnpm mutate [PART[/FILE]...]`: mutation testing of the chip's hot code, part by part, each with the tests that are
 * its own; `cache/entry` is one file of a part.
 *
 * A mutant is run against every test that reaches it, so each part names the tests that are quick and kill. The mutants
 * that survive are listed, each with the reason why no test can kill it, as `survivors.json` gives it, or with none.
 * The last lines say the score of each part and of all. Exit code 1 where a part has less than 85 %.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readReasons, shownMutant } from './mutation-reasons.mjs'

const chip = 'packages/hardware'
const parts = {
  walk: {
    mutate: [`${chip}/src/walk/**/*.ts`, `!${chip}/src/walk/{answer,fault,rights,trace}.ts`],
    tests: [
      `${chip}/src/walk/*.test.ts`,
      `${chip}/test/{walk-examples,ats,special-ranges,exclusion,events,table-page-cache,walk}*.test.ts`,
      // What the modelled caches beside the IOTLB do to walks; what is counted, and what is not to be translated.
      `${chip}/test/{path-caches,iotlb-hits,command-rules,cached-answers,counters,prefetch,snp}.test.ts`,
    ],
  },
  cache: {
    mutate: [`${chip}/src/cache/**/*.ts`],
    tests: [`${chip}/src/cache/*.test.ts`, `${chip}/test/{cache-*,device-table-cache}.test.ts`],
  },
  queue: {
    mutate: [`${chip}/src/queue/**/*.ts`],
    tests: [
      `${chip}/test/{commands,command-*,deferred-*,prefetch,device-links}.test.ts`,
      `${chip}/test/{events,logs,log-rings,mmio,virtual-events,virtual-state}.test.ts`,
    ],
  },
}

const reasons = readReasons(`${chip}/test/mutation/survivors.json`)
const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !(name.split('/')[0] in parts))
if (unknown.length > 0) {
  console.error(
    `there is no part ${unknown.join(', ')}: name some of ${Object.keys(parts).join(', ')}, or none for all`,
  )
  process.exit(2)
}
const scores = (wanted.length === 0 ? Object.keys(parts) : wanted).map((name) => ({ name, ...run(name) }))

for (const { survivors } of scores) survivors.forEach(tellSurvivor)
const files = new Set(scores.flatMap((score) => score.files))
for (const { file, line, becomes } of reasons.unused(files)) {
  console.log(`reason for a mutant that did not survive  ${file}\n  - ${line}\n  + ${becomes}`)
}
console.log('')
const all = { name: 'all', killed: 0, mutants: 0, survivors: [] }
for (const score of scores) {
  all.killed += score.killed
  all.mutants += score.mutants
  all.survivors.push(...score.survivors)
  tellScore(score)
}
tellScore(all)
process.exitCode = scores.every(({ killed, mutants }) => killed >= 0.85 * mutants) ? 0 : 1

function tellSurvivor({ place, line, becomes, reason }) {
  console.log(`survived  ${place}\n  - ${line}\n  + ${becomes}\n  ${reason ?? 'no reason is given'}`)
}

function tellScore({ name, killed, mutants, survivors }) {
  const percent = ((100 * killed) / Math.max(mutants, 1)).toFixed(1)
  const unexplained = survivors.filter(({ reason }) => reason === undefined).length
  console.log(
    `${name.padEnd(20)} ${percent.padStart(6)} %   ${killed} of ${mutants} mutants killed, ${unexplained} survive without a reason`,
  )
}

/** One run of Stryker; a timeout counts as killed, as Stryker counts it. */
function run(name) {
  const [part, file] = name.split('/')
  const { mutate, tests } = parts[part]
  const env = {
    ...process.env,
    NESTWALK_MUTATION_PART: part,
    NESTWALK_MUTATION_TESTS: JSON.stringify(tests),
  }
  const globs = file === undefined ? mutate : [`${chip}/src/${part}/${file}.ts`]
  const mutated = [...globs, `!${chip}/src/**/*.test.ts`].join(',')
  const { status, error } = spawnSync('stryker', ['run', '--mutate', mutated], { env, stdio: 'inherit' })
  if (error !== undefined || status !== 0) {
    console.error(`part ${name}: Stryker ended with ${error?.message ?? status}`)
    process.exit(1)
  }
  const report = JSON.parse(readFileSync(`reports/mutation-${part}.json`, 'utf8'))
  const counted = Object.entries(report.files).flatMap(([path, { mutants, source }]) =>
    mutants
      .filter(({ status: is }) => ['Killed', 'Timeout', 'Survived', 'NoCoverage'].includes(is))
      .map((mutant) => ({ path, source, ...mutant })),
  )
  const alive = counted.filter(({ status: is }) => is === 'Survived' || is === 'NoCoverage')
  return {
    files: Object.keys(report.files),
    killed: counted.length - alive.length,
    mutants: counted.length,
    survivors: alive.map(({ path, source, location, replacement }) => {
      const shown = shownMutant(source, location, replacement)
      const { line, column } = location.start
      return {
        ...shown,
        place: `${path}:${line}:${column}`,
        reason: reasons.reasonOf({ file: path, ...shown }),
      }
    }),
  }
}
