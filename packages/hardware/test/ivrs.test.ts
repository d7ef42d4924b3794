import { parseHex } from '@nestwalk/bits'
import { describe, expect, it } from 'vitest'
import vectors from '../vectors/ivrs.json' with { type: 'json' }
import {
  decodeIvrs,
  deviceSettingBits,
  encodeIvrs,
  IvrsError,
  ivhdsInUse,
  lintIvrs,
} from '../src/ivrs/index.js'
import type { DeviceEntry, IvrsBlock } from '../src/ivrs/index.js'
import { acpiDevice, aliased, extended, ioapic, ivhd10, ivhd11, ivmd, plain, table } from './ivrs-tables.js'

const bytesOf = (hex: string): Uint8Array =>
  Uint8Array.from(
    hex.split(' ').filter((byte) => byte !== ''),
    (byte) => Number.parseInt(byte, 16),
  )

const tableBytes = (rows: readonly string[][]): Uint8Array => bytesOf(rows.map(([hex]) => hex).join(' '))

/** What is not zero: vectors leave the rest out. */
function nonZero(value: unknown): unknown {
  if (value instanceof Uint8Array) return [...value]
  if (Array.isArray(value)) return value.map(nonZero)
  if (typeof value !== 'object' || value === null) return value
  const kept = Object.entries(value).filter(([, field]) => ![0, 0n, false, ''].includes(field as number))
  return Object.fromEntries(kept.map(([name, field]) => [name, nonZero(field)]))
}

/** Values of vectors: texts with 0x are bigints, `hex` is bytes. */
const fromVector = (json: unknown): unknown =>
  JSON.parse(JSON.stringify(json), (_, value: unknown) => {
    if (typeof value === 'string' && value.startsWith('0x')) return parseHex(value.slice(2))
    if (typeof value === 'object' && value !== null && 'hex' in value) return [...bytesOf(String(value.hex))]
    return value
  })

const sample = (index: number): Uint8Array => tableBytes(vectors.vectors[index]?.rows ?? [])

/** A copy with bytes changed. */
const damaged = (bytes: Uint8Array, changes: Record<number, number>): Uint8Array => {
  const copy = bytes.slice()
  for (const [at, value] of Object.entries(changes)) copy[Number(at)] = value
  return copy
}

describe('an IVRS table', () => {
  it.each(vectors.vectors)('reads as the manual lays it out: $name', ({ rows, table: expected }) => {
    expect(nonZero(decodeIvrs(tableBytes(rows)))).toEqual(fromVector(expected))
  })

  it.each(vectors.vectors)('is written as it was read: $name', ({ rows }) => {
    const bytes = tableBytes(rows)
    expect(encodeIvrs(decodeIvrs(bytes))).toEqual(bytes)
  })

  it('has a checksum that is made anew when it is written', () => {
    const bytes = damaged(sample(0), { 9: 0xff })
    expect(encodeIvrs(decodeIvrs(bytes))).toEqual(sample(0))
  })

  it('ends where it says', () => {
    const bytes = Uint8Array.of(...sample(0), 1, 2, 3)
    expect(decodeIvrs(bytes)).toEqual(decodeIvrs(sample(0)))
  })

  it('may lie anywhere in a buffer, and the value keeps none of it', () => {
    const buffer = Uint8Array.of(9, ...sample(2), 9)
    const view = buffer.subarray(1, buffer.length - 1)
    const ivrs = decodeIvrs(view)
    buffer.fill(0)
    expect(encodeIvrs(ivrs)).toEqual(sample(2))
  })

  it('has the data bytes of its entries taken apart', () => {
    expect(deviceSettingBits(0xd7)).toEqual({
      initPass: true,
      eIntPass: true,
      nmiPass: true,
      sysMgt: 1,
      lint0Pass: true,
      lint1Pass: true,
      reserved: 0,
    })
    expect(deviceSettingBits(0x28)).toMatchObject({ initPass: false, sysMgt: 2, reserved: 8 })
    expect(() => deviceSettingBits(0x100)).toThrow(/settings cannot be 256: it takes 0 to 0xff/)
    expect(() => deviceSettingBits(-1)).toThrow(RangeError)
    expect(() => deviceSettingBits(0.5)).toThrow(RangeError)
  })
})

describe('damage', () => {
  const short = (bytes: Uint8Array, length: number): Uint8Array => bytes.slice(0, length)
  const sound = sample(0)

  it.each([
    ['too few bytes', short(sound, 47), 0, /at least 48 bytes, only 47.*give the whole table/],
    ['no bytes', new Uint8Array(0), 0, /only 0 are there/],
    ['another signature', damaged(sound, { 3: 0x54 }), 0, /signature is "IVRT", not "IVRS"/],
    ['a length beyond the bytes', short(sound, 179), 4, /length of 180 bytes, but 179 are there/],
    ['a length below the header', damaged(sound, { 4: 47 }), 4, /length of 47 bytes/],
    ['a block that runs over', damaged(sound, { 50: 0xff }), 50, /block states a length of 255 bytes/],
    ['a block of length 0', damaged(sound, { 50: 0 }), 50, /length of 0 bytes, but has 4 to 132; check/],
    ['a block of length 3', damaged(sound, { 50: 3 }), 50, /length of 3 bytes/],
    [
      'three bytes after the last block',
      damaged(sound, { 4: 151 }),
      148,
      /at least 4 bytes, only 3 are left/,
    ],
    ['an IVHD 10h of 23 bytes', damaged(sound, { 50: 23 }), 48, /has 23 bytes, but IVHD 10h has at least 24/],
    ['an IVHD 11h of 39 bytes', damaged(sample(1), { 50: 39 }), 48, /39 bytes, but IVHD 11h has at least 40/],
    ['an IVMD of 31 bytes', damaged(sound, { 4: 179, 150: 31 }), 148, /31 bytes, but IVMD has at least 32/],
  ] as const)('that makes a table unreadable is told with its place: %s', (_, bytes, offset, message) => {
    const reading = (): unknown => decodeIvrs(bytes)
    expect(reading).toThrow(IvrsError)
    expect(reading).toThrow(expect.objectContaining({ name: 'IvrsError', offset }))
    expect(reading).toThrow(message)
    expect(reading).toThrow(new RegExp(`^byte ${offset}: `))
    expect(lintIvrs(bytes)).toMatchObject([{ severity: 'error', rule: 'unreadable', where: { offset } }])
  })

  it('of the last entry leaves it as bytes', () => {
    const cut = (entry: string): unknown => {
      const whole = encodeIvrs(table([ivhd11({ entries: [plain('all')] })]))
      const entries = bytesOf(entry)
      const bytes = Uint8Array.of(...whole.subarray(0, 88), ...entries)
      bytes[4] = bytes.length
      bytes[50] = 40 + entries.length
      return decodeIvrs(bytes).blocks
    }
    const hid = `f0 a5 00 00${' 41'.repeat(16)} 02`
    for (const entry of ['02', '02 01 00', '48 00 00 00 00 a0 00', hid, `${hid} 02 31`, '80 00 00 00']) {
      expect(cut(entry)).toMatchObject([{ entries: [{ kind: 'unknown', bytes: bytesOf(entry) }] }])
    }
    expect(cut(`${hid} 02 31 32`)).toMatchObject([{ entries: [{ kind: 'acpiHid' }] }])
  })
})

describe('of several definitions of an IOMMU', () => {
  it('the one with the highest type is used: 40h, 11h, 10h', () => {
    const [low, middle, high] = [ivhd10(), ivhd11(), ivhd11({ type: 0x40 })]
    expect(ivhdsInUse(table([low, middle, high]))).toEqual([high])
    expect(ivhdsInUse(table([high, middle, low]))).toEqual([high])
    expect(ivhdsInUse(table([low, middle]))).toEqual([middle])
    expect(ivhdsInUse(table([low, ivmd()]))).toEqual([low])
  })

  it('each IOMMU has its own, told apart by segment and DeviceID', () => {
    const others = [ivhd10({ deviceId: 3 }), ivhd10({ segment: 1 })]
    expect(ivhdsInUse(table([ivhd10(), ivhd11(), ...others]))).toEqual([ivhd11(), ...others])
  })

  it('of the same type the first counts', () => {
    const second = ivhd11({ mmioBase: 0n })
    expect(ivhdsInUse(table([ivhd11(), second]))).toEqual([ivhd11()])
  })
})

describe('a value that does not fit', () => {
  const withEntries = (...entries: DeviceEntry[]): IvrsBlock => ivhd11({ entries })
  const unknown = (hex: string): DeviceEntry => ({ kind: 'unknown', bytes: bytesOf(hex) })
  const block = (hex: string): IvrsBlock => ({ kind: 'unknown', bytes: bytesOf(hex) })
  const { info } = table()

  it.each([
    ['revision', table([], { revision: 256 }), /revision.*256/],
    ['OEM ID', table([], { oemId: 'AMD-IOM' }), /oemId cannot have 7 characters: it takes up to 6/],
    ['OEM table ID', table([], { oemTableId: 'Ā' }), /oemTableId\[0\] cannot be 256: it takes 0 to 0xff/],
    ['creator ID', table([], { creatorId: '12345' }), /creatorId/],
    ['IVinfo', table([], { info: { ...info, paSize: 128 } }), /IVinfo.paSize cannot hold 128/],
    ['reserved bits', table([], { info: { ...info, reserved: 1 } }), /IVinfo.reserved/],
    ['DeviceID', table([ivhd11({ deviceId: 0x10000 })]), /deviceId/],
    ['MMIO base', table([ivhd10({ mmioBase: 1n << 64n })]), /mmioBase/],
    ['IVMD start', table([ivmd({ start: -1n })]), /start/],
    ['entry DeviceID', table([withEntries(plain('select', 0x10000))]), /select.deviceId cannot be 65536/],
    ['data byte', table([withEntries(plain('all', 0, 256))]), /all.settings cannot be 256/],
    ['alias', table([withEntries(aliased('aliasSelect', 0, -1))]), /aliasSelect.alias cannot be -1/],
    ['handle', table([withEntries({ ...ioapic, handle: 1.5 })]), /special.handle cannot be 1.5/],
    ['special DeviceID', table([withEntries({ ...ioapic, deviceId: 65536 })]), /special.deviceId/],
    ['special reserved', table([withEntries({ ...ioapic, reserved: 65536 })]), /special.reserved cannot/],
    [
      'extended data',
      table([withEntries({ ...extended('extendedSelect', 0), reserved: 2 ** 31 } as DeviceEntry)]),
      /extendedSelect.reserved cannot be 2147483648: it takes 0 to 0x7fffffff/,
    ],
    ['HID', table([withEntries({ ...acpiDevice, hid: '123456789' })]), /acpiHid.hid cannot have 9/],
    ['UID', table([withEntries({ ...acpiDevice, uid: new Uint8Array(256) })]), /acpiHid.uid.length/],
    ['pad', table([withEntries({ kind: 'pad', content: new Uint8Array(4) })]), /pad.content.* 3 or 7/],
    ['no unknown entry', table([withEntries(unknown(''))]), /unknown.bytes cannot be empty/],
    ['a known entry', table([withEntries(unknown('01 00 00 00'))]), /start an entry of 4 bytes/],
    ['two unknown entries', table([withEntries(unknown('05 00 00 00 05 00 00 00'))]), /of 4 bytes/],
    ['a rest in the middle', table([withEntries(unknown('90'), plain('all'))]), /only be the last/],
    ['a short block', table([block('83 00 03')]), /unknown block cannot be 3: it takes 4 or more/],
    ['a known block', table([block('10 00 04 00')]), /unknown block cannot have type 10h/],
    ['a block with a wrong length', table([block('83 00 05 00')]), /state a length of 5: it has 4 bytes/],
    [
      'a long IVHD',
      table([withEntries(...Array<DeviceEntry>(16375).fill(plain('all')))]),
      /IVHD.* 65540 bytes/,
    ],
    ['a long IVMD', table([ivmd({ rest: new Uint8Array(65504) })]), /IVMD cannot have 65536 bytes/],
  ] as const)('is refused with its name: %s', (_, ivrs, message) => {
    const writing = (): unknown => encodeIvrs(ivrs)
    expect(writing).toThrow(RangeError)
    expect(writing).toThrow(message)
  })

  it('is not one at its limit', () => {
    const longest = ivhd11({ entries: Array<DeviceEntry>(16373).fill(plain('all')) })
    expect(encodeIvrs(table([longest])).length).toBe(48 + 40 + 4 * 16373)
    const skipped = ivhd11({ entries: [unknown('05 01 02 03'), unknown('90 01')] })
    expect(decodeIvrs(encodeIvrs(table([skipped]))).blocks).toEqual([skipped])
  })
})
