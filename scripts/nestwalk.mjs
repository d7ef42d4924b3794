/**
 * `npm run -s nestwalk -- ARGUMENTS`: the `nestwalk` command from a clone. Installs and builds first if it must;
 * standard input, output and the exit code are the command's own.
 */
import { spawnSync } from 'node:child_process'
import { constants } from 'node:os'
import { join } from 'node:path'
import { build, notReady, root } from './workspace.mjs'

process.exitCode = build('nestwalk') ? nestwalk(process.argv.slice(2)) : notReady

function nestwalk(args) {
  const command = join(root, 'apps', 'demo', 'dist', 'nestwalk.js')
  // npm moves to the root folder first; paths are meant from where the caller stands.
  const cwd = (process.env.npm_lifecycle_event === 'nestwalk' && process.env.INIT_CWD) || process.cwd()
  const { status, signal, error } = spawnSync(process.execPath, [command, ...args], { cwd, stdio: 'inherit' })
  if (error) throw error
  return status ?? 128 + constants.signals[signal]
}
