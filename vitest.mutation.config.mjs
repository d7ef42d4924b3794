import { mergeConfig } from 'vitest/config'
import base from './vitest.config.mjs'

/** The tests that a part of the code is mutated against: `scripts/mutate.mjs` names them. */
const config = mergeConfig(base, {})
config.test = {
  ...config.test,
  include: JSON.parse(process.env['NESTWALK_MUTATION_TESTS'] ?? '[]'),
  setupFiles: ['packages/hardware/test/mutation/setup.ts'],
  env: { NESTWALK_WALKS: '800', NESTWALK_RUNS: '0.1' },
  coverage: { enabled: false },
  // Loading the code once for each file of tests would take longer than the tests.
  isolate: false,
}
export default config
