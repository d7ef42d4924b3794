/** For `scripts/mutate.mjs`, which says what to mutate and which tests to run. Parts may run side by side. */
const part = process.env['NESTWALK_MUTATION_PART']
const name = part === undefined ? 'mutation' : `mutation-${part}`

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
  jsonReporter: { fileName: `reports/${name}.json` },
  ignorePatterns: ['coverage', 'reports', '.stryker-tmp', '**/dist', 'apps', '.turbo'],
  tempDirName: `.stryker-tmp/${name}`,
  concurrency: 2,
  timeoutMS: 10_000,
  thresholds: { high: 90, low: 85, break: null },
}
