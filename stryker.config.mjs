/** For `scripts/mutate.mjs`, which says what to mutate and which tests to run. */
export default {
  plugins: ['@stryker-mutator/vitest-runner'],
  testRunner: 'vitest',
  vitest: { configFile: 'vitest.mutation.config.mjs', related: false },
  coverageAnalysis: 'perTest',
  // What only runs as a module is loaded: tables of numbers, most of them.
  ignoreStatic: true,
  // Texts of exceptions say what they say.
  mutator: { excludedMutations: ['StringLiteral'] },
  reporters: ['progress-append-only', 'json'],
  jsonReporter: { fileName: 'reports/mutation.json' },
  ignorePatterns: ['coverage', 'reports', '**/dist', 'apps', '.turbo'],
  tempDirName: '.stryker-tmp',
  concurrency: 2,
  timeoutMS: 10_000,
  thresholds: { high: 90, low: 85, break: null },
}
