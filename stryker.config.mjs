/** Mutation testing of the hot code of the chip: `pnpm mutate`, or a part with `pnpm mutate --mutate 'GLOB'`. */
export default {
  mutate: [
    'packages/hardware/src/{walk,cache,queue}/**/*.ts',
    '!packages/hardware/src/**/*.test.ts',
    // Names of words and bits alone.
    '!packages/hardware/src/walk/{answer,fault,rights,trace}.ts',
  ],
  plugins: ['@stryker-mutator/vitest-runner'],
  testRunner: 'vitest',
  vitest: { configFile: 'vitest.mutation.config.mjs', related: false },
  coverageAnalysis: 'perTest',
  ignoreStatic: true,
  // Texts of exceptions say what they say.
  mutator: { excludedMutations: ['StringLiteral'] },
  reporters: ['clear-text', 'progress-append-only', 'json'],
  clearTextReporter: { allowColor: false, logTests: false, reportTests: false },
  jsonReporter: { fileName: 'reports/mutation.json' },
  ignorePatterns: ['coverage', 'reports', '**/dist', 'apps', '.turbo'],
  tempDirName: '.stryker-tmp',
  concurrency: 2,
  timeoutMS: 10_000,
  disableTypeChecks: false,
  thresholds: { high: 90, low: 85, break: 85 },
}
