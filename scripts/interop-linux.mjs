/**
 * `pnpm interop:linux [--only NAME]... [--skip-unavailable]`: unmodified Linux kernels boot on the chip, one after the
 * other; each run is judged, and its recording replayed.
 *
 * With `--skip-unavailable` a mirror that does not serve QEMU or a kernel is told of, and is no failure. The last line is
 * `N passed, N failed`, each kernel counting as one.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { unavailable } from './interop-packages.mjs'
import { build, notReady, root } from './workspace.mjs'

const runs = {
  '7-v1': ['--kernel', '7', '--tables', 'v1'],
  '7-v2-4': ['--kernel', '7', '--tables', 'v2', '--levels', '4'],
  '7-v2-5': ['--kernel', '7', '--tables', 'v2', '--levels', '5'],
  '6.12-v1': ['--kernel', '6.12', '--tables', 'v1'],
}
const least = { good: 300, faulted: 30 }

const { values } = parseArgs({
  options: { only: { type: 'string', multiple: true }, 'skip-unavailable': { type: 'boolean' } },
})
const wanted = values.only ?? Object.keys(runs)
const unknown = wanted.filter((name) => !(name in runs))
if (unknown.length > 0) {
  console.error(`interop:linux: there is no run ${unknown.join(', ')}: it is ${Object.keys(runs).join(', ')}`)
  process.exitCode = 2
} else if (!build('nestwalk')) process.exitCode = notReady
else await runAll()

async function runAll() {
  const kernels = [...new Set(wanted.map((name) => name.split('-')[0]))]
  const why = await unavailable({ kernels })
  if (why !== undefined) {
    console.log(`interop:linux: ${values['skip-unavailable'] ? 'SKIPPED' : 'FAILED'}: ${why}`)
    process.exitCode = values['skip-unavailable'] ? 0 : 1
    return
  }
  const complaints = wanted.map((name) => ({ name, wrong: runOne(name) }))
  for (const { name, wrong } of complaints) for (const each of wrong) console.log(`${name}: ${each}`)
  const failed = complaints.filter(({ wrong }) => wrong.length > 0).length
  console.log(`${complaints.length - failed} passed, ${failed} failed`)
  process.exitCode = failed === 0 ? 0 : 1
}

/** Boots once; what was wrong with it, in words. */
function runOne(name) {
  const folder = mkdtempSync(join(tmpdir(), 'nestwalk-linux-'))
  try {
    console.log(`== ${name}`)
    const linux = nestwalk(['linux', ...runs[name], '--record', folder, '--json'])
    if (linux.result === undefined) return [`nestwalk linux ended with ${linux.status}`]
    const {
      kernel,
      copies,
      translations,
      faults,
      interrupts,
      interruptsCounted,
      eventLines,
      commandsByKind,
    } = linux.result
    const replay = nestwalk(['replay', folder, '--json'])
    const replayed = replay.result ?? { compared: 0, mismatches: 'no' }
    console.log(
      `   ${copies.good} copies right, ${copies.faulted} refused as expected, ${copies.bad} wrong: ${kernel}`,
    )
    console.log(`   ${translations} translations, ${faults} faults`)
    console.log(`   ${eventLines.printed} event lines, ${eventLines.matched} of them as the chip logged them`)
    console.log(`   ${interrupts} interrupts sent, ${interruptsCounted} counted by the guest`)
    for (const [kind, count] of Object.entries(commandsByKind)) console.log(`   ${count} ${kind}`)
    console.log(`   recording: ${replayed.compared} answers compared, ${replayed.mismatches} mismatches`)
    return [
      linux.status === 0 || `nestwalk linux says no (${linux.status})`,
      copies.good >= least.good || `${copies.good} copies, not ${least.good}`,
      copies.faulted >= least.faulted || `${copies.faulted} expected faults, not ${least.faulted}`,
      copies.bad === 0 || `${copies.bad} copies were wrong`,
      (eventLines.printed > 0 && eventLines.printed === eventLines.matched) || 'event lines do not match',
      interruptsCounted > 0 || 'the guest counted no interrupt',
      (replayed.compared > 0 && replayed.mismatches === 0) || 'the recording does not replay',
    ].filter((each) => each !== true)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function nestwalk(args) {
  const command = join(root, 'apps', 'demo', 'dist', 'nestwalk.js')
  const stdio = ['ignore', 'pipe', 'inherit']
  const { status, stdout } = spawnSync(process.execPath, [command, ...args], { stdio, encoding: 'utf8' })
  try {
    return { status, result: JSON.parse(stdout) }
  } catch {
    return { status, result: undefined }
  }
}
