import { expect, it } from 'vitest'
import { gpa, gva, iova, spa } from './index.js'

it('physical addresses have 52 bits', () => {
  expect(spa(0xf_ffff_ffff_ffffn)).toBe(0xf_ffff_ffff_ffffn)
  expect(gpa(0n)).toBe(0n)
  expect(() => spa(1n << 52n)).toThrow('0x10000000000000 is no SPA: it has 52 bits, 0 to 0xfffffffffffff')
  expect(() => gpa(1n << 52n)).toThrow(RangeError)
})

it('virtual addresses have 64 bits', () => {
  expect(iova(0xffff_ffff_ffff_ffffn)).toBe(0xffff_ffff_ffff_ffffn)
  expect(gva(0xffff_8000_0000_0000n)).toBe(0xffff_8000_0000_0000n)
  expect(() => iova(1n << 64n)).toThrow('is no IOVA: it has 64 bits')
  expect(() => gva(-1n)).toThrow('-1 is no GVA')
})
