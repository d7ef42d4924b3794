import { readFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { runCommandLine } from '../src/command-line.js'

it("the README shows the demo's output as it is", async () => {
  const readme = await readFile(new URL('../../../README.md', import.meta.url), 'utf8')
  const shown = /The demo prints:\n\n```text\n(.*?)```/s.exec(readme)?.[1]
  let printed = ''
  await runCommandLine(['demo'], { stdout: (text) => (printed += text), stderr: () => undefined })
  expect(shown).toBe(printed)
})
