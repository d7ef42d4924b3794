import { mergeConfig } from 'vitest/config'
import base from './vitest.config.mjs'

/** The tests that a part of the code is mutated against: `scripts/mutate.mjs` names them. */
const tests = JSON.parse(process.env['NESTWALK_MUTATION_TESTS'] ?? '[]')
const config = mergeConfig(base, {})
config.test = {
  ...config.test,
  include: tests,
  setupFiles: ['packages/hardware/test/mutation/setup.ts'],
  env: { NESTWALK_WALKS: '800', NESTWALK_RUNS: '0.1' },
  coverage: { enabled: false },
  // To load the code once for each file of tests would take longer than the driver's tests.
  isolate: !tests.every((file) => file.startsWith('packages/driver/')),
}
export default config
