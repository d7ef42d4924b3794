import { mergeConfig } from 'vitest/config'
import base from './vitest.config.mjs'

/** The chip's tests that are quick and kill: a mutant is run against each that reaches it, so seconds count. */
const config = mergeConfig(base, {})
config.test = {
  ...config.test,
  include: [
    'packages/hardware/src/{walk,cache,queue}/**/*.test.ts',
    'packages/hardware/test/{walk.property,walk-examples,commands,events,iotlb-hits,recording}.test.ts',
    'packages/hardware/test/{cache-*,command-rules,logs,special-ranges,exclusion,ats,page-requests}.test.ts',
    'packages/hardware/test/table-page-cache.property.test.ts',
  ],
  setupFiles: ['packages/hardware/test/mutation/setup.ts'],
  env: { NESTWALK_WALKS: '800', NESTWALK_RUNS: '0.1' },
  coverage: { enabled: false },
}
export default config
