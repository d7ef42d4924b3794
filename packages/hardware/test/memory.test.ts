import { gpa, spa } from '@nestwalk/bits'
import { describe, expect, it } from 'vitest'
import { GuestMemory, load64, loadPages, SparseMemory, store64 } from '../src/index.js'
import { Chip } from './chip.js'

const mebibyte = 1 << 20

describe('a 64-bit word of memory', () => {
  it('is little-endian and lies where its address says', () => {
    const memory = SparseMemory.create(2 ** 52)
    expect(store64(memory, 0xffffffffffff8n, 0xfedcba9876543210n)).toBe(true)
    expect(load64(memory, 0xffffffffffff8n)).toBe(0xfedcba9876543210n)
    expect(memory.load32(-8, 0xfffff)).toBe(0x76543210)
    expect(memory.load32(-4, 0xfffff)).toBe(0xfedcba98 | 0)
  })

  it('is not there beyond the memory', () => {
    const memory = SparseMemory.create(mebibyte)
    expect(load64(memory, BigInt(mebibyte))).toBeUndefined()
    expect(store64(memory, BigInt(mebibyte), 1n)).toBe(false)
  })

  it.each([-8n, 1n << 52n, 4n, 0x1001n])('cannot be asked for at %d', (address) => {
    const memory = SparseMemory.create(mebibyte)
    expect(() => load64(memory, address)).toThrow(RangeError)
    expect(() => store64(memory, address, 0n)).toThrow(RangeError)
  })
})

describe('pages of an image', () => {
  it('are put at their addresses', () => {
    const memory = SparseMemory.create(2 ** 40)
    const bytes = Uint8Array.from({ length: 8192 }, (_, n) => (n * 7) >> 3)
    loadPages(memory, [0x3000n, 0x8000001000n], bytes)
    const view = new DataView(bytes.buffer)
    for (const [from, at] of [
      [0, 0x3000n],
      [4096, 0x8000001000n],
    ] as const) {
      for (const offset of [0, 8, 2048, 4088]) {
        expect(load64(memory, at + BigInt(offset))).toBe(view.getBigUint64(from + offset, true))
      }
    }
    expect(load64(memory, 0x4000n)).toBe(0n)
  })

  it.each([
    ['an address within a page', [0x3008n], 4096],
    ['an address of more than 52 bits', [1n << 52n], 4096],
    ['an address beyond the memory', [BigInt(mebibyte)], 4096],
    ['a page too few', [0x3000n, 0x4000n], 4096],
    ['a broken page', [0x3000n], 4095],
  ])('cannot be put anywhere with %s', (_, addresses, length) => {
    const memory = SparseMemory.create(mebibyte)
    expect(() => loadPages(memory, addresses, new Uint8Array(length))).toThrow(RangeError)
  })
})

describe('memory as a guest sees it', () => {
  const slots = [
    { gpa: gpa(0n), length: 0x10000n, spa: spa(0x180000000n) },
    { gpa: gpa(0x100000000n), length: 0x1000n, spa: spa(0x7f000n) },
  ]

  it('is the host memory behind each slot, and nothing between them', () => {
    const host = SparseMemory.create(2 ** 34)
    const guest = new GuestMemory(host, slots)
    expect(store64(guest, 0xfff8n, 0x1122334455667788n)).toBe(true)
    expect(load64(host, 0x18000fff8n)).toBe(0x1122334455667788n)
    expect(guest.store32(0x14, 1, -5)).toBe(true)
    expect(host.load32(0x7f014, 0)).toBe(-5)
    expect(load64(guest, 0x100000010n)).toBe(0xfffffffb00000000n)
    for (const outside of [0x10000n, 0xfffffff8n, 0x100001000n, (1n << 52n) - 8n]) {
      expect(load64(guest, outside)).toBeUndefined()
      expect(store64(guest, outside, 1n)).toBe(false)
    }
    expect(guest.store32(0x10000, 0, 1)).toBe(false)
  })

  it('goes with a fork of the host', () => {
    const host = SparseMemory.create(2 ** 34)
    const guest = new GuestMemory(host, slots)
    const fork = host.fork()
    const other = guest.forkOnto(fork)
    store64(other, 0n, 9n)
    expect([load64(guest, 0n), load64(other, 0n)]).toEqual([0n, 9n])
  })

  it.each([
    { gpa: gpa(0x800n), length: 0x1000n, spa: spa(0n) },
    { gpa: gpa(0n), length: 0x800n, spa: spa(0n) },
    { gpa: gpa(0n), length: 0x1000n, spa: spa(0x10n) },
    { gpa: gpa(0n), length: 0n, spa: spa(0n) },
  ])('is made of whole pages, unlike slot %#', (slot) => {
    expect(() => new GuestMemory(SparseMemory.create(mebibyte), [slot])).toThrow(RangeError)
  })
})

describe('a request', () => {
  it.each([
    { deviceId: 0x10000, iova: 0n },
    { deviceId: -1, iova: 0n },
    { deviceId: 1.5, iova: 0n },
    { deviceId: 1, iova: 0n, pasid: 0x100000 },
    { deviceId: 1, iova: 0n, pasid: -1 },
    { deviceId: 1, iova: 1n << 64n },
    { deviceId: 1, iova: -1n },
  ])('names a device of 16 bits, a PASID of 20 and an address of 64, unlike number %#', (asked) => {
    expect(() => Chip.create().iommu.request(asked)).toThrow(RangeError)
    expect(() => Chip.create().iommu.walkFresh(asked)).toThrow(RangeError)
  })

  it('that passes through keeps all 64 bits of its address', () => {
    const chip = Chip.create()
    chip.setDte(1, [0x6000000000000003n])
    const iova = 0xfedcba9876543210n
    expect(chip.iommu.request({ deviceId: 1, iova })).toMatchObject({
      spa: iova,
      from: 'identity',
      tag: undefined,
    })
  })
})
