/**
 * `pnpm mutate [NAME...]`: mutation testing of the chip's hot code and of the driver, part by part, each with the tests
 * that are its own. A name is a part (`walk`), a package with all of its parts (`driver`), or one file of either
 * (`cache/entry`, `driver/attach`); without names all parts are run.
 *
 * A mutant is run against every test that reaches it, so each part names the tests that are quick and kill. The mutants
 * that survive are listed, each with the reason why no test can kill it, as `survivors.json` gives it, or with none.
 * The last lines say the score of each part and of all. Exit code 1 where a part has less than it must have: 85 % of the
 * chip's mutants, 80 % of the driver's.
 */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { readReasons, shownMutant } from './mutation-reasons.mjs'

const chip = 'packages/hardware'
const driver = 'packages/driver'
const least = { hardware: 0.85, driver: 0.8 }

const chipPart = (folder, tests, but = []) => ({
  package: 'hardware',
  mutate: [`${chip}/src/${folder}/**/*.ts`, ...but.map((name) => `!${chip}/src/${folder}/${name}.ts`)],
  pathOf: (file) => `${chip}/src/${folder}/${file}.ts`,
  tests,
})
/** The driver's files lie side by side: a part names its own. */
const driverPart = (files, tests) => {
  const pathOf = (file) => `${driver}/src/${file}.ts`
  return { package: 'driver', files, pathOf, mutate: files.map(pathOf), tests: tests.map(driverTest) }
}
const driverTest = (name) => `${driver}/test/${name}.test.ts`

const policyFile = (name) => `policies/${name}`

const parts = {
  walk: chipPart(
    'walk',
    [
      `${chip}/src/walk/*.test.ts`,
      `${chip}/test/{walk-examples,ats,special-ranges,exclusion,events,table-page-cache,walk}*.test.ts`,
      // What the modelled caches beside the IOTLB do to walks; what is counted, and what is not to be translated.
      `${chip}/test/{path-caches,iotlb-hits,command-rules,cached-answers,counters,prefetch,snp}.test.ts`,
    ],
    ['answer', 'fault', 'rights', 'trace'],
  ),
  cache: chipPart('cache', [
    `${chip}/src/cache/*.test.ts`,
    `${chip}/test/{cache-*,device-table-cache}.test.ts`,
  ]),
  queue: chipPart('queue', [
    `${chip}/test/{commands,command-*,deferred-*,prefetch,device-links}.test.ts`,
    `${chip}/test/{events,logs,log-rings,mmio,virtual-events,virtual-state}.test.ts`,
  ]),
  tables: driverPart(
    [
      ...['table-format', 'page-table', 'table-map', 'table-unmap', 'table-growth', 'table-operations'],
      ...['mapping', 'dirty-tracking', 'iotlb-gather', 'invalidation-range', 'plan', 'planned-memory'],
      ...['page-allocator', 'effect'],
    ],
    [
      ...['plan', 'growth', 'unmap-flush', 'dirty-tracking', 'invalidation-range', 'attach', 'surface'],
      'page-tables',
    ],
  ),
  tags: driverPart(
    [
      ...['domain-id', 'tag-table', 'tag-holding', 'domain-entry', 'domain', 'books', 'gap', 'mutant'],
      ...['gcr3-table', 'gcr3-sharing', 'group', 'leave', 'map-change', 'policy'],
      ...['all', 'converging', 'per-device', 'per-group', 'per-host-table'].map(policyFile),
      ...['per-nested-domain', 'shared-gcr3', 'viommu-map'].map(policyFile),
    ],
    [
      ...['tags', 'domain-ids', 'policies', 'sharing', 'surface', 'linux-sequences', 'fork', 'failures'],
      ...['attach', 'books'],
    ],
  ),
  devices: driverPart(
    [
      ...['attach', 'device', 'device-entry', 'device-operations', 'dte-update', 'programmed-entry'],
      ...['invalidation-plan', 'reset', 'process-binding', 'default-domain'],
    ],
    [
      ...['attach', 'dte-update', 'device-entries', 'linux-sequences', 'default-domains', 'reset', 'sharing'],
      ...['gaps', 'guest-table-pasids', 'nested-pasids', 'surface', 'flush-targets'],
    ],
  ),
  guests: driverPart(
    [
      ...['nesting', 'nesting-operations', 'guest-invalidation', 'page-request', 'event', 'log-reader'],
      ...['fault-operations', 'fault-recipient', 'guest-queue'],
    ],
    [
      ...['attach', 'virtual-devices', 'host-and-guest', 'guest-queue', 'page-requests', 'events'],
      ...['policies', 'gaps'],
    ],
  ),
  start: driverPart(
    [
      ...['boot', 'bring-up', 'enable', 'takeover', 'shutdown', 'full-flush', 'command-ring', 'run-effects'],
      ...['discovery', 'configuration-space', 'firmware-settings', 'unity-map', 'feature-negotiation'],
      ...['probe', 'driver', 'driver-state', 'outcome', 'index'],
    ],
    [
      ...['boot', 'bring-up', 'takeover', 'shutdown', 'full-flush', 'command-ring', 'discovery'],
      ...['feature-negotiation', 'failures', 'fork', 'default-domains', 'attach', 'plan', 'surface'],
      'unity-maps',
    ],
  ),
}

for (const file of readdirSync(`${driver}/src`, { recursive: true })) {
  const name = file.endsWith('.ts') ? file.slice(0, -3) : undefined
  if (name === undefined || Object.values(parts).some(({ files }) => files?.includes(name))) continue
  console.error(`${driver}/src/${file} belongs to no part`)
  process.exit(2)
}

const reasons = readReasons([chip, driver].map((each) => `${each}/test/mutation/survivors.json`))
const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => runsOf(name).length === 0)
if (unknown.length > 0) {
  const names = [...Object.keys(least), ...Object.keys(parts)].join(', ')
  console.error(`there is no ${unknown.join(', ')}: name some of ${names}, or none for all`)
  process.exit(2)
}
const runs = (wanted.length === 0 ? Object.keys(least) : wanted).flatMap(runsOf)
const scores = runs.map((each) => ({ ...each, ...run(each) }))

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
const suffices = ({ part, killed, mutants }) => killed >= least[parts[part].package] * mutants
process.exitCode = scores.every(suffices) ? 0 : 1

/** The runs of Stryker that a name stands for; none if it stands for nothing. */
function runsOf(name) {
  const [first, ...rest] = name.split('/')
  const file = rest.join('/')
  const [ofPart, ofPackage] = [(part) => part === first, (part) => parts[part].package === first]
  return Object.keys(parts)
    .filter((part) => ofPart(part) || (ofPackage(part) && (file === '' || parts[part].files?.includes(file))))
    .map((part) => ({
      part,
      name: file === '' ? part : `${part}/${file}`,
      mutate: file === '' ? parts[part].mutate : [parts[part].pathOf(file)],
    }))
}

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
function run({ part, name, mutate }) {
  const env = {
    ...process.env,
    NESTWALK_MUTATION_PART: part,
    NESTWALK_MUTATION_TESTS: JSON.stringify(parts[part].tests),
  }
  const mutated = [...mutate, `!${chip}/src/**/*.test.ts`].join(',')
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
