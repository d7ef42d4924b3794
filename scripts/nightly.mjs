/**
 * `pnpm nightly`: what takes too long for every change: a million random walks against the slow twin, a minute each of
 * hostile software and hostile programs, the kernel's tests of iommufd, four Linux kernels, twenty thousand machines put
 * to QEMU, and every mutant. Exit code 1 if one of them fails.
 */
import { spawnSync } from 'node:child_process'

const runs = [
  [
    'a million walks',
    { NESTWALK_WALKS: '1000000' },
    'vitest run packages/hardware/test/walk.property.test.ts',
  ],
  ['hostile software', {}, 'node scripts/fuzz.mjs --seconds 60'],
  ['hostile programs', {}, 'node scripts/fuzz-iommufd.mjs --seconds 60'],
  ["the kernel's tests of iommufd", {}, 'node scripts/interop-selftest.mjs'],
  ['Linux on the chip', {}, 'node scripts/interop-linux.mjs'],
  ['QEMU', {}, 'node scripts/interop-qemu.mjs --cases 20000 --seed 1'],
  ['mutants', {}, 'node scripts/mutate.mjs'],
]

const failed = runs.filter(([name, env, command]) => {
  console.log(`\n== ${name}: ${command}`)
  const [program, ...args] = command.split(' ')
  const { status, error } = spawnSync(program, args, { env: { ...process.env, ...env }, stdio: 'inherit' })
  if (error) console.error(error.message)
  return status !== 0
})
console.log(`\n${runs.length - failed.length} passed, ${failed.length} failed`)
process.exitCode = failed.length === 0 ? 0 : 1
