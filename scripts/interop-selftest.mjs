/**
 * `pnpm interop:selftest [--only FIXTURE]... [--variant NAME]... [--test NAME]... [--explain] [--all-output]
 * [--skip-unavailable]`: the kernel's own tests of iommufd, unmodified, against our `/dev/iommu` with the mock IOMMU.
 *
 * Prints each failure with what the test said, and with `--explain` the rule by which each call was refused. With
 * `--skip-unavailable` a mirror that does not serve the tests is told of, and is no failure. The last line is
 * `N passed, N failed`, each case of the tests counting as one, and each structure of ours that is held against the
 * headers of that Linux.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { selftests } from './interop-packages.mjs'
import { build, notReady, root, run } from './workspace.mjs'

const many = { type: 'string', multiple: true, default: [] }
const yes = { type: 'boolean' }
const { values } = parseArgs({
  options: {
    ...{ only: many, variant: many, test: many },
    ...{ explain: yes, 'all-output': yes, 'skip-unavailable': yes },
  },
})
const chosen = [
  ...values.only.flatMap((name) => ['-f', name]),
  ...values.variant.flatMap((name) => ['-v', name]),
  ...values.test.flatMap((name) => ['-t', name]),
]

if (!build('nestwalk')) process.exitCode = notReady
else await runAll()

async function runAll() {
  const { value, why } = await selftests()
  if (value === undefined) {
    console.log(`interop:selftest: ${values['skip-unavailable'] ? 'SKIPPED' : 'FAILED'}: ${why}`)
    process.exitCode = values['skip-unavailable'] ? 0 : 1
    return
  }
  console.log(`iommufd's tests of Linux ${value.version}`)
  // A case that is chosen may be of one of the programs only.
  const counts = Object.entries(value.programs).map(([name, program]) => runOne(name, program))
  if (chosen.length === 0) counts.push(compareStructures())
  const sum = (what) => counts.reduce((all, count) => all + count[what], 0)
  const isNothing = sum('passed') + sum('failed') + sum('skipped') === 0
  if (isNothing) console.log(`interop:selftest: there is no case like ${chosen.join(' ')}`)
  console.log(`${sum('passed')} passed, ${sum('failed') + (isNothing ? 1 : 0)} failed`)
  process.exitCode = sum('failed') > 0 || isNothing ? 1 : 0
}

/** Runs one program, and counts its cases: those that it announced and did not come to have failed. */
function runOne(name, program) {
  const nestwalk = join(root, 'apps', 'demo', 'dist', 'nestwalk.js')
  // The tests want what root may lack in a container, huge pages, and a kernel built for fault injection.
  const words = ['exec', '--backend', 'mock', '--grant-caps', '1000000', '--plain-huge-pages', '--fail-nth']
  const args = [...words, ...(values.explain ? ['--explain'] : []), '--', program, ...chosen]
  const stdio = ['ignore', 'pipe', 'inherit']
  const { stdout } = spawnSync(process.execPath, [nestwalk, ...args], {
    ...{ stdio, encoding: 'utf8', maxBuffer: 1 << 28 },
  })
  const lines = stdout.split('\n')
  if (values['all-output']) console.log(stdout)
  else for (const line of failuresIn(lines)) console.log(line)
  const count = (pattern) => lines.filter((line) => pattern.test(line)).length
  const planned = Number(/^1\.\.(\d+)$/m.exec(stdout)?.[1] ?? 0)
  const skipped = count(/^ok .* # SKIP/)
  const passed = count(/^ok /) - skipped
  const failed = planned - passed - skipped
  console.log(`${name}: ${planned} cases: ${passed} passed, ${failed} failed, ${skipped} skip themselves`)
  return { passed, failed, skipped }
}

/** Our structures against the headers that came with the tests: each counts. */
function compareStructures() {
  const test = 'packages/iommufd/test/abi/structs.test.ts'
  const folder = mkdtempSync(join(tmpdir(), 'nestwalk-structures-'))
  const report = join(folder, 'report.json')
  const command = ['vitest', 'run', '--reporter=json', `--outputFile=${report}`, '-t', 'the C headers', test]
  const { ok, output } = run(command)
  if (!ok) console.log(output.trim())
  const { numPassedTests: passed, numFailedTests: failed } = existsSync(report)
    ? JSON.parse(readFileSync(report, 'utf8'))
    : { numPassedTests: 0, numFailedTests: 0 }
  rmSync(folder, { recursive: true })
  console.log(`structures: ${passed} agree with linux/iommufd.h and linux/vfio.h, ${failed} do not`)
  // Without headers there is nothing to compare with, and they should be there.
  return { passed, failed: passed === 0 ? Math.max(failed, 1) : failed, skipped: 0 }
}

/** What was said in each case that failed. */
function failuresIn(lines) {
  let said = []
  return lines.flatMap((line) => {
    said = line.startsWith('#  RUN') ? [line] : [...said, line]
    return line.startsWith('not ok') ? said : []
  })
}
