import { describe, expect, it } from 'vitest'
import {
  counterOffset,
  decodeCommand,
  decodeEfr,
  decodeEfr2,
  decodeEvent,
  decodeGa,
  decodePpr,
  deviceId,
  deviceTableSegmentBase,
  encodeEvent,
  encodeGa,
  encodePpr,
  marc,
  pasid,
  registerMap,
  registers,
  smiFilter,
  statusLayout,
  statusWriteOneToClear,
} from './index.js'

describe('the register map', () => {
  it('has every register at an aligned offset of its own', () => {
    let end = 0
    for (const { name, offset, widthBits } of registerMap) {
      expect(offset, name).toBeGreaterThanOrEqual(end)
      expect(offset % (widthBits / 8), name).toBe(0)
      end = offset + widthBits / 8
    }
  })

  it('has unique names', () => {
    const names = registerMap.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
  })

  it('numbers segments, filters, MARCs and counters', () => {
    expect([1, 2, 3, 7].map((n) => deviceTableSegmentBase(n).offset)).toEqual([0x100, 0x108, 0x110, 0x130])
    expect([0, 15].map((n) => smiFilter(n).offset)).toEqual([0x60, 0xd8])
    expect(marc(3).length).toMatchObject({ name: 'MARC 3 Length', offset: 0x258 })
    expect(counterOffset(1, 2)).toBe(0x41200)
    expect(() => deviceTableSegmentBase(8)).toThrow('there is no device table segment base 8')
    expect(() => smiFilter(16)).toThrow(RangeError)
    expect(() => marc(-1)).toThrow(RangeError)
  })

  it('knows its layouts', () => {
    expect(registers.efr2).toMatchObject({ offset: 0x1a0, widthBits: 64, layout: { name: 'EFR2' } })
  })
})

it('the bits of Status that are cleared by writing 1 are its interrupts and overflows', () => {
  const cleared = Object.entries(statusLayout.fields)
    .filter(([name]) => /Int$|verflow|Ovrflw/i.test(name))
    .flatMap(([, { spans }]) => spans.map(({ lo }) => 1n << BigInt(lo)))
  expect(cleared.reduce((mask, bit) => mask | bit, 0n)).toBe(statusWriteOneToClear)
})

describe('records by function', () => {
  it('feature registers decode from a number', () => {
    expect(decodeEfr(0x246577efa2254afan)).toMatchObject({ gtSup: true, gIoSup: true, pasMax: 15, hats: 2 })
    expect(decodeEfr2(8n).gcr3TrpModeSup).toBe(true)
  })

  it('a PPR or GA entry has its code filled in', () => {
    const ppr = encodePpr({ deviceId: deviceId(0x600), pasid: pasid(0x12345), groupIndex: 0x23 })
    expect(decodePpr(ppr)).toMatchObject({ code: 1, pasid: 0x12345, groupIndex: 0x23 })
    expect(decodeGa(encodeGa({ gaTag: 7 }))).toEqual({ code: 1, gaTag: 7, deviceId: 0 })
  })

  it('an event without a code, or a command without an opcode, is unknown', () => {
    expect(decodeEvent(new BigUint64Array(2))).toEqual({ kind: 'Unknown', code: 0 })
    expect(decodeEvent(BigUint64Array.of(0xf0000000_00000000n, 0n))).toEqual({ kind: 'Unknown', code: 15 })
    expect(decodeCommand(new BigUint64Array(2))).toEqual({ kind: 'Unknown', opcode: 0 })
  })

  it('GN is filled in for the kinds that it decides', () => {
    const words = encodeEvent({ kind: 'GuestPageTabHardwareError', pasid: pasid(0x12345), errorType: 1 })
    expect(words[0]).toBe(0x42012345_00010000n)
    expect(decodeEvent(words)).toMatchObject({ kind: 'GuestPageTabHardwareError', guestNested: true })
  })
})
