import { defineConfig } from 'tsup'

export default defineConfig({
  entry: ['src/nestwalk.ts'],
  format: 'esm',
  target: 'es2023',
  dts: false,
  sourcemap: true,
  clean: true,
})
