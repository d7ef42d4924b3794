import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { GuestRam, InteropError } from '../src/index.js'

const folder = mkdtempSync(join(tmpdir(), 'nw-ram-'))
const path = join(folder, 'ram')
afterAll(() => {
  rmSync(folder, { recursive: true })
})

const fourGibibytes = 1n << 32n
const rights = { readable: true, writable: true }

function freshRam(): GuestRam {
  writeFileSync(path, new Uint8Array(0x40000))
  const ram = GuestRam.open(path)
  ram.map({ address: 0n, sizeBytes: 0x20000n, fileOffset: 0n, ...rights })
  return ram
}

describe('a guest’s RAM', () => {
  it('is the file, where the VMM says that it lies', () => {
    const ram = freshRam()
    ram.map({ address: fourGibibytes, sizeBytes: 0x20000n, fileOffset: 0x20000n, ...rights })
    expect(ram.write(0x1000, Uint8Array.of(1, 2, 3, 4))).toBe(true)
    expect(ram.write(2 ** 32 + 0x1000, Uint8Array.of(5, 6, 7, 8))).toBe(true)
    const file = readFileSync(path)
    expect([...file.subarray(0x1000, 0x1004)]).toEqual([1, 2, 3, 4])
    expect([...file.subarray(0x21000, 0x21004)]).toEqual([5, 6, 7, 8])
    const page = new Uint8Array(4096)
    expect(ram.readPage(2 ** 32 + 0x1000, page)).toBe(true)
    expect([...page.subarray(0, 5)]).toEqual([5, 6, 7, 8, 0])
    ram.close()
  })

  it('is nowhere else, and no longer where it was unmapped', () => {
    const ram = freshRam()
    const bytes = new Uint8Array(8)
    expect([ram.read(0x1fff8, bytes), ram.read(0x1fffc, bytes)]).toEqual([true, false])
    expect(ram.write(0x20000, bytes)).toBe(false)
    ram.unmap(0n)
    expect(ram.read(0x1000, bytes)).toBe(false)
    ram.map({ address: 0n, sizeBytes: 0x1000n, fileOffset: 0n, ...rights })
    ram.unmapAll()
    expect(ram.read(0, bytes)).toBe(false)
    ram.close()
  })

  it.each([
    ['firmware below 4 GiB, which has another place in another file', 0xc0000n, 0n, true],
    ['what may not be written', 0x30000n, 0x30000n, false],
    ['what is longer than the file', fourGibibytes, 0x3f000n, true],
  ])('is not %s', (_, address, fileOffset, writable) => {
    const ram = freshRam()
    ram.map({ address, sizeBytes: 0x10000n, fileOffset, readable: true, writable })
    expect(ram.read(Number(address), new Uint8Array(8))).toBe(false)
    ram.close()
  })

  it('that cannot be opened is named, with the reason', () => {
    expect(() => GuestRam.open(join(folder, 'none'))).toThrow(InteropError)
  })
})
