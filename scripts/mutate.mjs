/**
 * `pnpm mutate [PART...]`: mutation testing of the chip's hot code, part by part, each with the tests that are its own.
 *
 * A mutant is run against every test that reaches it, so each part names the tests that are quick and kill. The last
 * lines say the score of each part and of all; the mutants that survive are listed above them. Exit code 1 below 85 %.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

const chip = 'packages/hardware'
const parts = {
  walk: {
    mutate: [`${chip}/src/walk/**/*.ts`, `!${chip}/src/walk/{answer,fault,rights,trace}.ts`],
    tests: [
      `${chip}/src/walk/*.test.ts`,
      `${chip}/test/{walk-examples,ats,special-ranges,exclusion,events,table-page-cache,walk}*.test.ts`,
      // What the modelled caches beside the IOTLB do to walks.
      `${chip}/test/{path-caches,iotlb-hits,command-rules,cached-answers,cached-answers-*}.test.ts`,
      `${chip}/test/cached-answers*.property.test.ts`,
    ],
  },
  cache: {
    mutate: [`${chip}/src/cache/**/*.ts`],
    tests: [`${chip}/src/cache/*.test.ts`, `${chip}/test/cache-*.test.ts`, `${chip}/test/commands.test.ts`],
  },
  queue: {
    mutate: [`${chip}/src/queue/**/*.ts`],
    tests: [`${chip}/test/{commands,command-rules,deferred-commands,device-links,events,logs}.test.ts`],
  },
}

const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !(name in parts))
if (unknown.length > 0) {
  console.error(
    `there is no part ${unknown.join(', ')}: name some of ${Object.keys(parts).join(', ')}, or none for all`,
  )
  process.exit(2)
}
const scores = Object.entries(parts)
  .filter(([name]) => wanted.length === 0 || wanted.includes(name))
  .map(([name, part]) => ({ name, ...run(name, part) }))

for (const { survivors } of scores) survivors.forEach((line) => console.log(line))
console.log('')
const all = { name: 'all', killed: 0, mutants: 0 }
for (const score of scores) {
  all.killed += score.killed
  all.mutants += score.mutants
  tell(score)
}
tell(all)
process.exitCode = all.killed >= 0.85 * all.mutants ? 0 : 1

function tell({ name, killed, mutants }) {
  const percent = ((100 * killed) / Math.max(mutants, 1)).toFixed(1)
  console.log(`${name.padEnd(8)} ${percent.padStart(6)} %   ${killed} of ${mutants} mutants killed`)
}

/** One run of Stryker; a timeout counts as killed, as Stryker counts it. */
function run(name, { mutate, tests }) {
  const env = { ...process.env, NESTWALK_MUTATION_TESTS: JSON.stringify(tests) }
  const globs = [...mutate, `!${chip}/src/**/*.test.ts`].join(',')
  const { status, error } = spawnSync('stryker', ['run', '--mutate', globs], { env, stdio: 'inherit' })
  if (error !== undefined || status !== 0) {
    console.error(`part ${name}: Stryker ended with ${error?.message ?? status}`)
    process.exit(1)
  }
  const { files } = JSON.parse(readFileSync('reports/mutation.json', 'utf8'))
  const found = Object.entries(files).flatMap(([file, { mutants, source }]) =>
    mutants.map((mutant) => ({ file, source, ...mutant })),
  )
  const counted = found.filter(({ status: is }) =>
    ['Killed', 'Timeout', 'Survived', 'NoCoverage'].includes(is),
  )
  const alive = counted.filter(({ status: is }) => is === 'Survived' || is === 'NoCoverage')
  return {
    killed: counted.length - alive.length,
    mutants: counted.length,
    survivors: alive.map(({ file, location, mutatorName, replacement }) => {
      const { line, column } = location.start
      return `survived  ${file}:${line}:${column}  ${mutatorName}: ${replacement?.split('\n')[0] ?? ''}`
    }),
  }
}
