/**
 * Packs the package in the current folder as it would be published and checks the archive: publint, and for a
 * library are-the-types-wrong.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const folder = mkdtempSync(join(tmpdir(), 'nestwalk-pack-'))
try {
  const isLibrary = '.' in JSON.parse(readFileSync('package.json', 'utf8')).exports
  process.exitCode = check(isLibrary) ? 0 : 1
} finally {
  rmSync(folder, { recursive: true })
}

function check(isLibrary) {
  if (!run('pnpm', 'pack', '--pack-destination', folder)) return false
  const archive = join(folder, readdirSync(folder)[0])
  const shape = run('publint', '--strict', archive)
  const types = !isLibrary || run('attw', '--profile', 'esm-only', archive)
  return shape && types
}

function run(program, ...args) {
  const { status, error } = spawnSync(program, args, { stdio: ['ignore', 'inherit', 'inherit'] })
  if (error) throw error
  return status === 0
}
