/**
 * The TypeScript in every README and in docs/ runs, and prints what is said there.
 *
 * A ```ts block may be followed by a ```text block with its output. Packages are imported from their sources.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { format } from 'node:util'
import { afterAll, describe, expect, it, vi } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'nestwalk-readme-'))
afterAll(() => rmSync(folder, { recursive: true }))

const readmes = ['packages', 'apps']
  .flatMap((parent) => readdirSync(join(root, parent)).map((name) => join(parent, name, 'README.md')))
  .concat(readdirSync(join(root, 'docs')).flatMap((name) => (name.endsWith('.md') ? join('docs', name) : [])))
  .map((path) => ({ path, snippets: snippetsOf(readFileSync(join(root, path), 'utf8')) }))
  .filter(({ snippets }) => snippets.length > 0)

/** Each ```ts block with the line it starts on and the ```text block that follows it, if one does. */
function snippetsOf(markdown) {
  const blocks = markdown.matchAll(/^```ts\n(.*?)^```$(?:\s*^```text\n(.*?)^```$)?/gms)
  return [...blocks].map(({ 1: code, 2: output, index }) => ({
    line: markdown.slice(0, index).split('\n').length,
    code,
    output,
  }))
}

/** Runs a module and returns what it printed. */
async function printed(name, code) {
  const path = join(folder, `${name}.ts`)
  writeFileSync(path, code)
  const lines = []
  const log = vi.spyOn(console, 'log').mockImplementation((...values) => lines.push(`${format(...values)}\n`))
  try {
    await import(path)
  } finally {
    log.mockRestore()
  }
  return lines.join('')
}

describe.each(readmes)('$path', ({ path, snippets }) => {
  it.each(snippets)('line $line', async ({ line, code, output }) => {
    const text = await printed(`${path.replaceAll(/\W/g, '-')}-${line}`, code)
    if (output !== undefined) expect(text).toBe(output)
  })
})

it('finds the snippets', () => {
  expect(readmes.map(({ path }) => path)).toContain('packages/bits/README.md')
})
