import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { InteropError } from '../src/index.js'
import { makeFolder } from '../src/make-folder.js'

const folder = mkdtempSync(join(tmpdir(), 'nw-folder-'))
afterAll(() => {
  rmSync(folder, { recursive: true })
})

it('makes a folder and those that it is in, and leaves one that is there', () => {
  const deep = join(folder, 'a', 'b', 'c')
  makeFolder(deep)
  makeFolder(deep)
  expect(existsSync(deep)).toBe(true)
})

it('says what cannot be made, and does not go on for ever', () => {
  writeFileSync(join(folder, 'file'), '')
  const cure = /cannot be made .*: name another folder/
  expect(() => makeFolder(join(folder, 'file', 'below'))).toThrow(cure)
  // A folder that exists and says of every new one that it does not.
  expect(() => makeFolder('/proc/nope/below')).toThrow(InteropError)
})
