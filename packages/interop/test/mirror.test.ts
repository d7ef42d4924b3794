import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { configuredMirror, urisOf } from '../src/debian/mirror.js'

const folder = mkdtempSync(join(tmpdir(), 'nw-apt-'))
mkdirSync(join(folder, 'sources.list.d'))
afterAll(() => {
  rmSync(folder, { recursive: true })
})

describe('the mirror of this machine', () => {
  it('is the first that is not the security archive', () => {
    writeFileSync(join(folder, 'sources.list'), '# deb http://old/debian trixie main\n')
    writeFileSync(
      join(folder, 'sources.list.d', 'debian.sources'),
      'Types: deb\nURIs: http://mirror/debian-security\nSuites: bookworm-security\n\n' +
        'Types: deb\n# a comment\nURIs: http://mirror/debian http://second/debian\nSuites: bookworm\n',
    )
    expect(configuredMirror(folder)).toBe('http://mirror/debian')
  })

  it('missing: says so, and what to do', () => {
    expect(() => configuredMirror(join(folder, 'nowhere'))).toThrow(
      /names no Debian mirror: run this on Debian/,
    )
  })

  it('may stand in a one-line list, with options', () => {
    const list =
      'deb [arch=amd64 signed-by=/k.gpg] http://a/debian trixie main\ndeb-src http://b/debian x main\n'
    expect(urisOf(list, false)).toEqual(['http://a/debian'])
  })
})
