/** A chip on memory that is not the model's own: same answers, and it sees what others store at once. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { load64, SparseMemory, store64 } from '../src/index.js'
import type { OutsideMemory } from '../src/index.js'
import { operation, perform, programDomains, visible } from './random-program.js'
import { runs } from './runs.js'
import { nestedChip } from './tables.js'

/** Memory of somebody else, with a hole and an end. */
class Shared implements OutsideMemory {
  readonly pages = new Map<number, Uint8Array>()
  readonly hole = 0x7000

  constructor(readonly sizeBytes: number) {}

  readPage(address: number, into: Uint8Array): boolean {
    if (address === this.hole || address >= this.sizeBytes) return false
    const page = this.pages.get(address)
    if (page === undefined) into.fill(0)
    else into.set(page)
    return true
  }

  write(address: number, bytes: Uint8Array): boolean {
    const at = Math.floor(address / 4096) * 4096
    if (at === this.hole || at >= this.sizeBytes) return false
    let page = this.pages.get(at)
    if (page === undefined) this.pages.set(at, (page = new Uint8Array(4096)))
    page.set(bytes, address - at)
    return true
  }
}

describe('memory of somebody else', () => {
  it('is read and written where it lies', () => {
    const shared = new Shared(2 ** 40)
    const memory = SparseMemory.over(shared)
    expect(store64(memory, 0xff00001ff8n, 0xfedcba9876543210n)).toBe(true)
    expect(memory.store32(0x1004, 0, 0x12345678)).toBe(true)
    expect([...shared.pages.keys()]).toEqual([0xff00001000, 0x1000])
    const bytes = shared.pages.get(0xff00001000)!
    expect([...bytes.subarray(0xff8)]).toEqual([0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe])
    expect(load64(memory, 0x1000n)).toBe(0x1234567800000000n)
    bytes[0xfff] = 0x7e
    expect(load64(memory, 0xff00001ff8n)).toBe(0x7edcba9876543210n)
    expect([memory.sizeBytes, memory.isOutside]).toEqual([2 ** 40, true])
    expect(SparseMemory.create(2 ** 20).isOutside).toBe(false)
  })

  it('has holes and an end', () => {
    const memory = SparseMemory.over(new Shared(2 ** 20))
    for (const at of [0x7000n, 0x7ff8n, 0x100000n, 0xffffffffff000n]) {
      expect([load64(memory, at), store64(memory, at, 1n)]).toEqual([undefined, false])
      expect(memory.store32(Number(at & 0xffffffffn) | 0, Number(at >> 32n), 1)).toBe(false)
    }
  })

  it('keeps a word where it was found while 255 other pages are asked for', () => {
    const shared = new Shared(2 ** 40)
    const memory = SparseMemory.over(shared)
    for (let page = 0; page < 300; page++) store64(memory, BigInt(page + 16) << 12n, BigInt(page))
    const wordOfPage = (page: number): number => memory.wordOf((page + 16) << 12, 0)
    for (let page = 0; page < 300; page++) wordOfPage(page)
    const first = wordOfPage(7)
    for (let page = 8; page < 263; page++) wordOfPage(page)
    expect(memory.words.array[first]).toBe(7)
    wordOfPage(263)
    expect(memory.words.array[first]).toBe(263)
    expect(wordOfPage(7)).not.toBe(first)
  })

  it('cannot be forked, nor have a chip that would have to be told of stores', () => {
    const memory = SparseMemory.over(new Shared(2 ** 20))
    expect(() => memory.fork()).toThrow('cannot be forked')
    expect(() => nestedChip([1], { memory, tablePageCache: true })).toThrow('tablePageCache')
  })
})

describe('a chip on memory of somebody else', () => {
  it('answers and stores as one on its own does', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (program) => {
        const shared = new Shared(2 ** 40)
        const own = nestedChip(programDomains)
        const outside = nestedChip(programDomains, { memory: SparseMemory.over(shared) })
        for (const each of program) expect(perform(outside, each)).toBe(perform(own, each))
        expect(visible(outside)).toBe(visible(own))
        for (const [at, bytes] of shared.pages) {
          const view = new DataView(bytes.buffer)
          for (let offset = 0; offset < 4096; offset += 8) {
            const found = view.getBigUint64(offset, true)
            if (found !== own.load(BigInt(at + offset))) expect.fail(`memory differs at ${at + offset}`)
          }
        }
      }),
      { numRuns: runs(100) },
    )
  })
})
