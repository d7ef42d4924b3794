/**
 * How fast `/dev/iommu` is for an unmodified program: `pnpm bench iommufd`.
 *
 * A C program makes pairs of IOAS_MAP and IOAS_UNMAP under `nestwalk exec`; program and server share one processor where
 * `taskset` can be had. Exit code 1: the program failed, or, with `--strict`, fewer calls a second than the limit.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const isStrict = process.argv.includes('--strict')
const limit = 10_000
const pairs = '10000'
const source = fileURLToPath(new URL('map-unmap.c', import.meta.url))
const command = fileURLToPath(new URL('../../../scripts/nestwalk.mjs', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'nestwalk-bench-'))
const program = join(folder, 'map-unmap')

function run(name, args) {
  const { status, stdout, stderr, error } = spawnSync(name, args, { encoding: 'utf8' })
  if (error !== undefined || status !== 0) throw new Error(`${name}: ${error?.message ?? stderr}`)
  return stdout.trim()
}

try {
  run('cc', ['-O2', '-o', program, source])
  const alone = spawnSync('taskset', ['-c', '0', 'true']).status === 0 ? ['taskset', '-c', '0'] : []
  const [name, ...args] = [...alone, process.execPath, command, 'exec', '--', program, pairs]
  const figure = Number(run(name, args))
  console.log('IOAS_MAP and IOAS_UNMAP of a page, by an unmodified program through the socket')
  const where = alone.length > 0 ? 'program and server on one processor' : 'program and server'
  console.log(`  ${where.padEnd(52)}${figure.toFixed(0).padStart(9)} calls a second  (${limit})`)
  process.exitCode = isStrict && figure < limit ? 1 : 0
} finally {
  rmSync(folder, { recursive: true })
}
