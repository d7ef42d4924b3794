import { spawnSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { cpioOf, folder, program, regularFile } from '../src/linux/cpio.js'

/** Reads the archive by the layout that Linux documents: 6 characters of magic, 13 fields of 8 hexadecimal digits. */
function entriesOf(archive: Buffer): { name: string; mode: number; content: string }[] {
  const found: { name: string; mode: number; content: string }[] = []
  for (let at = 0; at < archive.length;) {
    const field = (n: number): number =>
      parseInt(archive.toString('latin1', at + 6 + n * 8, at + 14 + n * 8), 16)
    expect(archive.toString('latin1', at, at + 6)).toBe('070701')
    expect(at % 4).toBe(0)
    const [mode, size, nameSize] = [field(1), field(6), field(11)]
    const name = archive.toString('latin1', at + 110, at + 110 + nameSize - 1)
    expect(archive[at + 110 + nameSize - 1]).toBe(0)
    const start = Math.ceil((at + 110 + nameSize) / 4) * 4
    found.push({ name, mode, content: archive.toString('latin1', start, start + size) })
    at = Math.ceil((start + size) / 4) * 4
  }
  return found
}

const archive = cpioOf([
  { name: 'm', content: new Uint8Array(0), mode: folder },
  { name: 'm/a', content: Buffer.from('12345'), mode: regularFile },
  { name: 'init', content: Buffer.from('abcd'), mode: program },
])

describe('a cpio archive', () => {
  it('has each entry at a multiple of four bytes, and ends in a trailer', () => {
    expect(entriesOf(archive)).toEqual([
      { name: 'm', mode: 0o40755, content: '' },
      { name: 'm/a', mode: 0o100644, content: '12345' },
      { name: 'init', mode: 0o100755, content: 'abcd' },
      { name: 'TRAILER!!!', mode: 0, content: '' },
    ])
  })

  const tool = spawnSync('cpio', ['--version'])
  it.skipIf(tool.error !== undefined)('is listed by cpio itself', () => {
    const { stdout, status } = spawnSync('cpio', ['-it'], { input: archive })
    expect([stdout.toString(), status]).toEqual(['m\nm/a\ninit\n', 0])
  })
})
