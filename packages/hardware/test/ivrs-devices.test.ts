import { describe, expect, it } from 'vitest'
import vectors from '../vectors/ivrs.json' with { type: 'json' }
import { decodeIvrs, devicesOf } from '../src/ivrs/index.js'
import type { DeviceEntry, IvhdDevices } from '../src/ivrs/index.js'
import { acpiDevice, aliased, extended, ioapic, ivhd11, plain } from './ivrs-tables.js'

const devices = (...entries: DeviceEntry[]): IvhdDevices => devicesOf(ivhd11({ entries }))
const plainly = (settings = 0): unknown => ({ settings, alias: undefined, atsDisabled: false })

describe('the devices of an IVHD', () => {
  it('are those of the sample', () => {
    const rows = vectors.vectors[0]?.rows ?? []
    const bytes = rows.flatMap(([hex = '']) => hex.split(' ').map((byte) => Number.parseInt(byte, 16)))
    const [ivhd] = decodeIvrs(Uint8Array.from(bytes)).blocks
    if (ivhd?.kind !== 'ivhd') throw new Error('the sample starts with an IVHD')
    const { settingsOf, specials, acpiDevices } = devicesOf(ivhd)
    expect(settingsOf(0x0007)).toBeUndefined()
    expect(settingsOf(0x0008)).toEqual(plainly())
    expect(settingsOf(0xfffe)).toEqual(plainly())
    expect(settingsOf(0xffff)).toBeUndefined()
    expect(settingsOf(0x0300)).toEqual({ settings: 0, alias: 0xa4, atsDisabled: false })
    expect([0x307, 0x308, 0x3ff, 0x400].map((id) => settingsOf(id)?.alias)).toEqual([
      undefined,
      0xa4,
      0xa4,
      undefined,
    ])
    expect(settingsOf(0x00a0)).toEqual(plainly(0xd7))
    expect([0x20f, 0x210, 0x211].map((id) => settingsOf(id)?.atsDisabled)).toEqual([false, true, false])
    expect(specials).toEqual([
      { variety: 'ioapic', handle: 0x21, deviceId: 0xa0, settings: 0xd7 },
      { variety: 'hpet', handle: 0, deviceId: 0xa0, settings: 0 },
    ])
    expect(acpiDevices).toEqual([])
  })

  it('are all of them with an entry for all, as one range', () => {
    const { ranges, settingsOf } = devices(plain('all', 0, 0x41))
    expect(ranges).toEqual([{ first: 0, last: 0xffff, settings: 0x41, alias: undefined, atsDisabled: false }])
    for (const id of [0, 0x1234, 0xffff]) expect(settingsOf(id)).toEqual(plainly(0x41))
  })

  it('are none without entries', () => {
    expect(devices().ranges).toEqual([])
    expect(devices().settingsOf(0)).toBeUndefined()
    const unknown: DeviceEntry = { kind: 'unknown', bytes: Uint8Array.of(5, 0, 0, 0) }
    expect(devices({ kind: 'pad', content: new Uint8Array(3) }, unknown).ranges).toEqual([])
  })

  it('have the settings of the start of their range', () => {
    const { settingsOf } = devices(extended('extendedStart', 8, true, 2), plain('rangeEnd', 15, 0xff))
    expect([7, 8, 15, 16].map(settingsOf)).toEqual([
      undefined,
      { settings: 2, alias: undefined, atsDisabled: true },
      { settings: 2, alias: undefined, atsDisabled: true },
      undefined,
    ])
  })

  it('are in no range that lacks its start or its end, or is reversed', () => {
    expect(devices(plain('rangeEnd', 9)).ranges).toEqual([])
    expect(devices(plain('rangeStart', 9)).ranges).toEqual([])
    expect(devices(plain('rangeStart', 9), plain('rangeEnd', 8), plain('rangeEnd', 10)).ranges).toEqual([])
    expect(devices(plain('rangeStart', 4), plain('rangeStart', 6), plain('rangeEnd', 6)).ranges).toHaveLength(
      1,
    )
  })

  it('may be named between the start and the end of a range', () => {
    const { ranges } = devices(plain('rangeStart', 8), plain('select', 0x20), plain('rangeEnd', 9))
    expect(ranges.map(({ first, last }) => [first, last])).toEqual([
      [0x20, 0x20],
      [8, 9],
    ])
  })

  it('share their settings with their alias', () => {
    const { settingsOf } = devices(aliased('aliasSelect', 0x300, 0xa4, 0x80))
    expect(settingsOf(0xa4)).toEqual(plainly(0x80))
    expect(settingsOf(0x300)).toEqual({ settings: 0x80, alias: 0xa4, atsDisabled: false })
  })

  const twice = [
    plain('all', 0, 1),
    aliased('aliasSelect', 8, 0x10, 2),
    extended('extendedSelect', 8, true, 4),
    plain('select', 8, 0x40),
  ]

  it('have the bits of all entries that name them, and the last alias', () => {
    expect(devices(...twice).settingsOf(8)).toEqual({ settings: 0x47, alias: 0x10, atsDisabled: true })
    const others = devices(...twice, aliased('aliasSelect', 8, 0x18))
    expect(others.settingsOf(8)).toMatchObject({ alias: 0x18 })
  })

  it('have what the last entry says, if that is wanted', () => {
    expect(devicesOf(ivhd11({ entries: twice }), 'last').settingsOf(8)).toEqual(plainly(0x40))
    expect(devicesOf(ivhd11({ entries: twice }), 'last').settingsOf(9)).toEqual(plainly(1))
    expect(devicesOf(ivhd11({ entries: [] }), 'last').settingsOf(9)).toBeUndefined()
  })

  it('are special ones and those of ACPI too', () => {
    const odd: DeviceEntry = { ...ioapic, variety: 3, deviceId: 0xb0 }
    const { specials, acpiDevices, settingsOf } = devices(odd, { ...acpiDevice, settings: 2 })
    expect(specials).toEqual([{ variety: 'unknown', handle: 0x21, deviceId: 0xb0, settings: 0xd7 }])
    expect(acpiDevices).toEqual([{ ...acpiDevice, settings: 2 }])
    expect(settingsOf(0xb0)).toEqual(plainly(0xd7))
    expect(settingsOf(0xa5)).toEqual(plainly(2))
  })

  it.each([-1, 0x10000, 0.5, Number.NaN])('have a DeviceID: %d is none', (deviceId) => {
    expect(() => devices().settingsOf(deviceId)).toThrow(RangeError)
    expect(() => devices().settingsOf(deviceId)).toThrow(`deviceId cannot be ${deviceId}`)
  })
})
