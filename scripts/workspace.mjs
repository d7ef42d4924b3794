/**
 * What the root scripts share: running a tool and keeping its words back unless it fails, and building what is
 * stale. Plain Node without dependencies: these run before anything is installed.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { inputsOf, isFresh, markFresh } from './freshness.mjs'

/** The repository's root folder. */
export const root = fileURLToPath(new URL('..', import.meta.url))

/** Exit code of a script that could not prepare what it was asked to run. */
export const notReady = 70

const pnpm = ['npx', '--yes', 'pnpm@12.21.0']

/**
 * Runs a command in the root folder and returns what it printed.
 *
 * @param {string[]} command - a program and its arguments; the workspace's tools go by their bare name
 */
export function run([program, ...args]) {
  const { status, error, stdout, stderr } = spawnSync(program, args, {
    cwd: root,
    encoding: 'utf8',
    env: environment(),
    maxBuffer: 1 << 30,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return { ok: status === 0, output: error ? `${program}: ${error.message}\n` : `${stdout}${stderr}` }
}

/** Installs what is missing and builds what is stale of a package and all it needs; tells whether that worked. */
export function build(packageName) {
  const inputs = inputsOf(root)
  if (isFresh(root, packageName, inputs)) return true
  if (!existsSync(join(root, 'node_modules', '.pnpm'))) {
    process.stderr.write('nestwalk: installing and building, once\n')
    if (!quietly([...pnpm, 'install', '--frozen-lockfile'])) return false
  }
  const task = ['turbo', 'run', 'build', `--filter=${packageName}`, '--output-logs=errors-only']
  const built = quietly([...pnpm, 'exec', ...task])
  if (built) markFresh(root, packageName, inputs)
  return built
}

function environment() {
  const { FORCE_COLOR: _, ...inherited } = process.env
  const colour = process.stdout.isTTY && !process.env.NO_COLOR ? { FORCE_COLOR: '1' } : { NO_COLOR: '1' }
  const path = [join(root, 'node_modules', '.bin'), process.env.PATH].join(delimiter)
  return { ...inherited, ...colour, PATH: path, TURBO_TELEMETRY_DISABLED: '1' }
}

function quietly(command) {
  const { ok, output } = run(command)
  if (!ok) process.stderr.write(`${output}\nnestwalk: \`${command.join(' ')}\` failed\n`)
  return ok
}
