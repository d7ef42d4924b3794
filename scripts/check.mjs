/**
 * `npm test`: every check in one go. A check that passes is one line; one that fails says all it has to say. The last
 * line counts the tests, and every other check as one.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from './workspace.mjs'

const folder = mkdtempSync(join(tmpdir(), 'nestwalk-check-'))
const testReport = join(folder, 'tests.json')
const turbo = (task) => ['turbo', 'run', ...task, '--continue', '--output-logs=errors-only']

const checks = [
  { name: 'build', command: turbo(['build']) },
  { name: 'types', command: turbo(['typecheck']) },
  { name: 'lint', command: turbo(['lint', '//#lint:root']) },
  { name: 'format', command: ['prettier', '--check', '--log-level=warn', '.'] },
  {
    name: 'tests',
    command: ['vitest', 'run', '--silent=passed-only', '--reporter=default', '--reporter=json'].concat(
      `--outputFile.json=${testReport}`,
    ),
    count: countTests,
  },
  { name: 'boundaries', command: ['turbo', 'boundaries'] },
  { name: 'dead code', command: ['knip', '--no-progress'] },
  { name: 'packages', command: turbo(['pkg']) },
]

try {
  const results = checks.map(check)
  const total = (key) => results.reduce((sum, result) => sum + result[key], 0)
  console.log(`${total('passed')} passed, ${total('failed')} failed`)
  process.exitCode = total('failed') === 0 ? 0 : 1
} finally {
  rmSync(folder, { recursive: true })
}

function check({ name, command, count = () => ({ passed: 0, failed: 0 }) }) {
  const start = performance.now()
  const { ok, output } = run(command)
  const seconds = ((performance.now() - start) / 1000).toFixed(1).padStart(6)
  const counted = count()
  const { passed, failed } = ok && counted.passed === 0 ? { passed: 1, failed: 0 } : counted
  const result = { passed, failed: ok ? failed : Math.max(failed, 1) }
  if (!ok) console.log(`\n${output.trim()}\n`)
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${name.padEnd(12)} ${seconds} s${describe(counted)}`)
  return result
}

function describe({ passed, failed }) {
  return passed + failed === 0 ? '' : `   ${passed} passed, ${failed} failed`
}

/** A file that failed before its first test counts as one failed test. */
function countTests() {
  try {
    const { numPassedTests, numFailedTests, testResults } = JSON.parse(readFileSync(testReport, 'utf8'))
    const broken = testResults.filter(
      ({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0,
    )
    return { passed: numPassedTests, failed: numFailedTests + broken.length }
  } catch {
    return { passed: 0, failed: 0 }
  }
}
