import { readdirSync, readFileSync } from 'node:fs'
import { defineConfig } from 'tsup'

/**
 * Constants stay constants. esbuild joins modules with `var`, and an engine loads and compares a `var` each time that
 * hot code uses it, functions included; a `const` it puts in place. Each one is written in as many characters, so that
 * the source map holds.
 */
const constants = {
  name: 'constants',
  buildStart(): void {
    for (const file of readdirSync('src', { recursive: true, encoding: 'utf8' })) {
      if (file.endsWith('.ts') && /^(export )?(let|var|enum) /m.test(readFileSync(`src/${file}`, 'utf8'))) {
        throw new Error(
          `src/${file}: a variable or an enum that is not const, which bundling would make const`,
        )
      }
    }
  },
  renderChunk: (code: string): { code: string } => ({
    code: code.replace(/^var ([\w$]+) = /gm, 'const $1='),
  }),
}

export default defineConfig({
  entry: ['src/index.ts'],
  format: 'esm',
  target: 'es2023',
  dts: true,
  sourcemap: true,
  clean: true,
  plugins: [constants],
  esbuildOptions: (options) => {
    // Puts constants in place that stand before everything else in their modules.
    options.minifySyntax = true
  },
})
