/**
 * `pnpm interop:qemu [--cases N] [--seed N] [--case FILE] [--out FOLDER] [--qemu PATH] [--skip-unavailable] [--json]`:
 * random device tables, host tables, commands and DMA are given to our chip and to QEMU's amd-iommu, and what they do is
 * compared. Agreed differences are listed; any other is made small, written to a file that `--case` reruns, and a failure.
 *
 * With `--skip-unavailable` a mirror that does not serve QEMU is told of, and is no failure. Ends with 0 if nothing
 * differs but as agreed, 1 if something does or QEMU fails, 2 for wrong usage. The last line is `N passed, N failed`.
 */
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { build, notReady, root } from './workspace.mjs'

const known = {
  cases: { type: 'string' },
  seed: { type: 'string' },
  case: { type: 'string' },
  out: { type: 'string' },
  qemu: { type: 'string' },
  'skip-unavailable': { type: 'boolean' },
  json: { type: 'boolean' },
}
const usage = { cases: 2000, seed: 1 }
/** How long QEMU may be silent: a busy machine is no failure. */
const timeoutSeconds = 60

class UsageError extends Error {}

const options = read()
if (options !== undefined) {
  if (!build('@nestwalk/interop')) process.exitCode = notReady
  else await run(options)
}

/** The command line; undefined, with the exit code set, if it is wrong. */
function read() {
  try {
    const { values } = parseArgs({ options: known })
    if (values.case !== undefined && (values.cases ?? values.seed) !== undefined) {
      throw new UsageError('--case reruns one file: leave --cases and --seed out')
    }
    const out = values.out ?? '.'
    if (!(statSync(out, { throwIfNoEntry: false })?.isDirectory() ?? false)) {
      throw new UsageError(`--out is ${out}: it has to be a folder that is there`)
    }
    return {
      ...values,
      out,
      cases: integer('cases', values.cases ?? String(usage.cases), 1, 10_000_000),
      seed: integer('seed', values.seed ?? String(usage.seed), 0, 2 ** 32 - 1),
    }
  } catch (error) {
    const isOfParser = String(error.code).startsWith('ERR_PARSE_ARGS')
    if (!(error instanceof UsageError) && !isOfParser) throw error
    const options = Object.keys(known).map((name) => `--${name}`)
    console.error(`interop:qemu: ${isOfParser ? `the options are ${options.join(', ')}` : error.message}`)
    process.exitCode = 2
    return undefined
  }
}

function integer(name, text, least, most) {
  const value = Number(text)
  if (text.trim() === '' || !Number.isInteger(value) || value < least || value > most) {
    throw new UsageError(`--${name} is ${text}: it has to be a whole number from ${least} to ${most}`)
  }
  return value
}

async function run(chosen) {
  const interop = await import(join(root, 'packages', 'interop', 'dist', 'index.js'))
  const say = chosen.json ? console.error : console.log
  try {
    const testCase = chosen.case === undefined ? undefined : caseIn(interop, chosen.case)
    const qemu = await qemuFor(interop, chosen, say)
    if (qemu === undefined) return
    say(`QEMU ${qemu.version}`)
    if (testCase === undefined) await runCases(interop, qemu, chosen, say)
    else await rerun(interop, qemu, testCase, chosen)
  } catch (error) {
    if (!(error instanceof interop.InteropError || error instanceof UsageError)) throw error
    console.error(`interop:qemu: ${error.message}`)
    process.exitCode = error instanceof UsageError ? 2 : 1
  }
}

function caseIn({ readCase, InteropError }, path) {
  try {
    return readCase(readFileSync(path, 'utf8'))
  } catch (error) {
    if (error instanceof InteropError) throw new UsageError(`${path}: ${error.message}`)
    throw new UsageError(`${path} cannot be read (${error.code}): give a case file to --case`)
  }
}

/** QEMU; undefined, with the exit code set, where the mirror does not serve it. */
async function qemuFor({ fetchQemu, ownQemu, InteropError }, chosen, say) {
  if (chosen.qemu !== undefined) return await ownQemu(chosen.qemu)
  const home = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache')
  const cacheFolder = process.env.NESTWALK_CACHE ?? join(home, 'nestwalk')
  try {
    return await fetchQemu({ cacheFolder, report: say })
  } catch (error) {
    if (!(error instanceof InteropError)) throw error
    say(`interop:qemu: ${chosen['skip-unavailable'] ? 'SKIPPED' : 'FAILED'}: ${error.message}`)
    process.exitCode = chosen['skip-unavailable'] ? 0 : 1
    return undefined
  }
}

async function runCases(interop, qemu, chosen, say) {
  const { cases, seed, json } = chosen
  const result = await interop.runQemuCases(
    { qemu, timeoutSeconds },
    { cases, seed, onCase: (done) => progress(done, cases) },
  )
  const files = result.found.map((found, n) => keep(interop, found.testCase, chosen, `seed-${seed}-${n + 1}`))
  process.exitCode = result.failed === 0 ? 0 : 1
  if (json) {
    const { found: _, counts, ...figures } = result
    console.log(
      JSON.stringify({
        qemu: qemu.version,
        seed,
        ...figures,
        agreedDifferences: Object.fromEntries(counts),
        files,
      }),
    )
    return
  }
  say('Agreed differences, by the number of cases in which they show:')
  for (const line of interop.agreedLines(result.counts)) say(line)
  say('Not generated:')
  for (const line of interop.notGeneratedLines()) say(line)
  result.found.forEach(({ testCase, verdict }, n) => {
    for (const line of interop.differenceLines(testCase, verdict)) say(line)
    say(`  rerun: pnpm interop:qemu --case ${files[n]}`)
  })
  for (const line of interop.summaryLines(result)) say(line)
  say(`${result.cases - result.failed} passed, ${result.failed} failed`)
}

/** Writes a case where the user finds it. */
function keep({ writeCase, InteropError }, testCase, { out }, name) {
  const path = join(out, `qemu-difference-${name}.json`)
  try {
    writeFileSync(path, writeCase(testCase))
    return path
  } catch (error) {
    throw new InteropError(`${path} cannot be written (${error.code}): give a folder to --out`)
  }
}

/** One line that is written over, for whoever sits before it. */
function progress(done, cases) {
  if (!process.stderr.isTTY || done % 50 !== 0) return
  process.stderr.write(done >= cases ? '\r\x1b[K' : `\r${done} of ${cases} cases`)
}

async function rerun(interop, qemu, testCase, { json }) {
  const verdict = await interop.runQemuCase({ qemu, timeoutSeconds }, testCase)
  const isDifference = verdict.kind === 'difference'
  process.exitCode = isDifference ? 1 : 0
  const departures = isDifference ? [] : [...verdict.departures]
  if (json) {
    console.log(JSON.stringify({ qemu: qemu.version, kind: verdict.kind, agreedDifferences: departures }))
    return
  }
  if (isDifference) for (const line of interop.differenceLines(testCase, verdict)) console.log(line)
  else {
    console.log(`${testCase.origin}: ${verdict.kind === 'same' ? 'alike' : 'different as agreed'}`)
    for (const line of interop.agreedLines(new Map(departures.map((name) => [name, 1])))) console.log(line)
  }
  console.log(isDifference ? '0 passed, 1 failed' : '1 passed, 0 failed')
}
