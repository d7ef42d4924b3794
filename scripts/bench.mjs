/**
 * `pnpm bench [PART]... [--quick] [--strict]`: how fast the model is. Parts: hardware, driver, iommufd; without one, all.
 *
 * Each part prints its figures and the limits that it has; with `--strict` one beyond its limit fails. `--quick` and
 * `--json` are for hardware. Exit code 1: a part failed.
 */
import { spawnSync } from 'node:child_process'
import { build, notReady, root } from './workspace.mjs'

const parts = {
  hardware: {
    builds: '@nestwalk/hardware',
    runs: [['--expose-gc', 'packages/hardware/bench/translate.bench.mjs']],
  },
  driver: { builds: '@nestwalk/driver', runs: [['packages/driver/bench/driver.bench.mjs']] },
  iommufd: {
    builds: 'nestwalk',
    runs: [['packages/iommufd/bench/iommufd.bench.mjs'], ['packages/interop/bench/iommufd-socket.bench.mjs']],
  },
}

const args = process.argv.slice(2)
const flags = args.filter((arg) => arg.startsWith('--'))
const named = args.filter((arg) => !arg.startsWith('--'))
const unknown = named.filter((name) => !Object.hasOwn(parts, name))
if (unknown.length > 0) {
  console.error(
    `bench: there is no part ${unknown.join(', ')}: name some of ${Object.keys(parts).join(', ')}`,
  )
  process.exitCode = 2
} else {
  const failed = (named.length === 0 ? Object.keys(parts) : named).filter((name) => !bench(name))
  if (failed.length > 0) console.error(`bench: failed in ${failed.join(', ')}`)
  process.exitCode ??= failed.length > 0 ? 1 : 0
}

function bench(name) {
  const { builds, runs } = parts[name]
  if (!build(builds)) {
    process.exitCode = notReady
    return false
  }
  // Only the part that has it is told of an option.
  const told = name === 'hardware' ? flags : flags.filter((flag) => flag === '--strict')
  return runs.every(
    (run) => spawnSync(process.execPath, [...run, ...told], { cwd: root, stdio: 'inherit' }).status === 0,
  )
}
