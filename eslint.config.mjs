import js from '@eslint/js'
import { defineConfig, globalIgnores } from 'eslint/config'
import { builtinModules } from 'node:module'
import tseslint from 'typescript-eslint'

const tests = ['**/*.test.ts', '**/*.test-d.ts', '**/*.bench.ts', '**/test/**/*.ts', '**/bench/**/*.ts']
const library = 'packages/*/src/**/*.ts'
const chip = 'packages/hardware/src'

/** Translation, look-up, walk and invalidation: numbers and typed arrays only. */
const hot = `${chip}/{walk,cache,queue,interrupt}/**/*.ts`

/** Where typed arrays are indexed so densely that `array[i]!` may stand for "in range by construction". */
const indexed = [hot, `${chip}/memory/**/*.ts`, `${chip}/*.ts`, ...tests]

const noBigInt = [
  'Literal[bigint]',
  'Identifier[name=/^(BigInt|BigInt64Array|BigUint64Array)$/]',
  'MemberExpression > Identifier[name=/^[gs]etBig(Ui|I)nt64$/]',
  'TSBigIntKeyword',
].map((selector) => ({ selector, message: 'Hot code works on int32 words: no BigInt here.' }))

const publicEntryOnly = {
  group: ['@nestwalk/*/*', '!@nestwalk/*/package.json', '!@nestwalk/hardware/vectors'],
  message: 'Import a package through its public entry.',
}

const nodeModules = {
  group: ['node:*', ...builtinModules.filter((name) => !name.includes('/')).map((name) => `/${name}`)],
  message: 'Libraries also run in browsers: nothing of Node here.',
}

const driver = {
  group: ['@nestwalk/driver'],
  message: 'A vIOMMU belongs to a VMM: it uses iommufd, never the driver.',
}

const clock = 'A machine can be forked: time is the step counter, and chance is a seed in its state.'
const hostOnly = 'Libraries also run in browsers: nothing of the process here.'

export default defineConfig(
  globalIgnores(['**/dist/', '**/coverage/', '**/.turbo/', '**/corpus/', '**/vectors/']),
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      eqeqeq: 'error',
      'no-restricted-imports': ['error', { patterns: [publicEntryOnly] }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-import-type-side-effects': 'error',
      '@typescript-eslint/no-unnecessary-condition': ['error', { allowConstantLoopConditions: true }],
      // Opcodes are cut out of words: any number may stand there, and `default` takes it.
      '@typescript-eslint/no-unsafe-enum-assignment': 'off',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/prefer-for-of': 'off',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
    },
  },
  {
    files: [library],
    rules: {
      'no-console': 'error',
      'no-restricted-imports': ['error', { patterns: [publicEntryOnly, nodeModules] }],
      'no-restricted-globals': [
        'error',
        ...['Date', 'performance'].map((name) => ({ name, message: clock })),
        ...['process', 'Buffer', 'global', 'setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask'].map(
          (name) => ({ name, message: hostOnly }),
        ),
      ],
      'no-restricted-properties': ['error', { object: 'Math', property: 'random', message: clock }],
    },
  },
  {
    // Real software is processes, sockets, files and time.
    files: ['packages/interop/src/**/*.ts'],
    rules: {
      'no-restricted-imports': ['error', { patterns: [publicEntryOnly] }],
      'no-restricted-globals': 'off',
    },
  },
  {
    files: ['packages/viommu/src/**/*.ts'],
    rules: { 'no-restricted-imports': ['error', { patterns: [publicEntryOnly, nodeModules, driver] }] },
  },
  {
    files: [hot],
    rules: { 'no-restricted-syntax': ['error', ...noBigInt] },
  },
  {
    files: indexed,
    rules: { '@typescript-eslint/no-non-null-assertion': 'off' },
  },
  {
    files: tests,
    rules: {
      'no-console': 'off',
      'no-restricted-globals': 'off',
      'no-restricted-imports': ['error', { patterns: [publicEntryOnly] }],
      'no-restricted-properties': 'off',
      'no-restricted-syntax': 'off',
      '@typescript-eslint/no-empty-function': 'off',
      '@typescript-eslint/only-throw-error': 'off',
      '@typescript-eslint/unbound-method': 'off',
    },
  },
  {
    files: ['**/*.mjs'],
    rules: { 'no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }] },
    languageOptions: {
      globals: { URL: 'readonly', console: 'readonly', performance: 'readonly', process: 'readonly' },
    },
  },
)
