import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const packages = fileURLToPath(new URL('packages', import.meta.url))

export default defineConfig({
  resolve: {
    // As in tsconfig.base.json: packages see each other's sources, so tests need no build.
    alias: [{ find: /^@nestwalk\/([^/]+)$/, replacement: `${packages}/$1/src/index.ts` }],
  },
  test: {
    // A busy machine must not fail a test: the limit is there for what hangs.
    testTimeout: 120_000,
    // One for each processor: by default one of them is left idle.
    maxWorkers: '100%',
    include: ['packages/*/{src,test}/**/*.test.ts', 'apps/*/{src,test}/**/*.test.ts', 'test/*.test.mjs'],
    coverage: {
      provider: 'v8',
      include: ['packages/{hardware,driver}/src/**/*.ts'],
      exclude: ['**/*.test.ts', '**/*.bench.ts'],
      reporter: ['text', 'html'],
      thresholds: {
        'packages/hardware/src/**': { lines: 98, branches: 98 },
        'packages/driver/src/**': { lines: 95, branches: 95 },
      },
    },
  },
})
