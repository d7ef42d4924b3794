/** Any table that can be read is written as it was, any value that can be written is read as it was, and no bytes do harm. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeIvrs, devicesOf, encodeIvrs, IvrsError, lintIvrs } from '../src/ivrs/index.js'
import type { DeviceEntry, Ivhd, Ivhd10, Ivhd11, Ivmd, Ivrs, UnknownBlock } from '../src/ivrs/index.js'
import { acpiDevice, aliased, ioapic, ivhd10, ivhd11, ivmd, plain, table } from './ivrs-tables.js'

const bits = (count: number): fc.Arbitrary<number> => fc.nat({ max: 2 ** count - 1 })
const wide = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })
const bytes = (minLength: number, maxLength = minLength): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength, maxLength })
const text = (length: number): fc.Arbitrary<string> =>
  bytes(0, length).map((codes) => String.fromCharCode(...codes).replace(/\0+$/, ''))
const masked = (mask: number): fc.Arbitrary<number> => bits(32).map((value) => (value & mask) >>> 0)

const deviceId = bits(16)
const settings = bits(8)

const known = new Set([0, 1, 2, 3, 4, 64, 66, 67, 70, 71, 72])
const unknownEntry: fc.Arbitrary<DeviceEntry> = fc
  .tuple(
    bits(7).filter((type) => !known.has(type)),
    bytes(7),
  )
  .map(([type, rest]) => ({
    kind: 'unknown',
    bytes: Uint8Array.of(type, ...rest).slice(0, 4 << (type >> 6)),
  }))

const entry: fc.Arbitrary<DeviceEntry> = fc.oneof(
  fc.oneof(bytes(3), bytes(7)).map((content) => ({ kind: 'pad' as const, content })),
  fc.record({
    kind: fc.constantFrom('all' as const, 'select' as const, 'rangeStart' as const, 'rangeEnd' as const),
    deviceId,
    settings,
  }),
  fc.record({
    kind: fc.constantFrom('aliasSelect' as const, 'aliasStart' as const),
    deviceId,
    settings,
    alias: deviceId,
    reserved: bits(16),
  }),
  fc.record({
    kind: fc.constantFrom('extendedSelect' as const, 'extendedStart' as const),
    deviceId,
    settings,
    atsDisabled: fc.boolean(),
    reserved: bits(31),
  }),
  fc.record({
    kind: fc.constant('special' as const),
    handle: bits(8),
    deviceId,
    variety: bits(8),
    settings,
    reserved: bits(16),
  }),
  fc.record({
    kind: fc.constant('acpiHid' as const),
    deviceId,
    settings,
    hid: text(8),
    cid: text(8),
    uidFormat: bits(8),
    uid: bytes(0, 255),
  }),
  unknownEntry,
)

/** Entries of no known length, or cut off. */
const lastEntry: fc.Arbitrary<DeviceEntry> = fc
  .oneof(
    bytes(1, 20).filter(([type = 0]) => type >= 0x80),
    bytes(1, 3).map((start) => Uint8Array.of(2, ...start.subarray(1))),
  )
  .map((start) => ({ kind: 'unknown', bytes: start }))

const entries = fc
  .tuple(fc.array(entry, { maxLength: 12 }), fc.array(lastEntry, { maxLength: 1 }))
  .map(([all, last]) => [...all, ...last])

const common = {
  kind: fc.constant('ivhd' as const),
  flags: fc.record({
    htTunEn: fc.boolean(),
    passPW: fc.boolean(),
    resPassPW: fc.boolean(),
    isoc: fc.boolean(),
    iotlbSup: fc.boolean(),
    coherent: fc.boolean(),
    preFSup: fc.boolean(),
    pprSup: fc.boolean(),
  }),
  deviceId: fc.oneof(bits(1), deviceId),
  capabilityOffset: bits(16),
  mmioBase: wide,
  segment: fc.oneof(bits(1), bits(16)),
  info: fc.record({ msiNum: bits(5), unitId: bits(5), reserved: masked(0xe0e0) }),
  entries,
}

const low: fc.Arbitrary<Ivhd10> = fc.record({
  ...common,
  type: fc.constant(0x10 as const),
  features: fc.record({
    xtSup: fc.boolean(),
    nxSup: fc.boolean(),
    gtSup: fc.boolean(),
    glxSup: bits(2),
    iaSup: fc.boolean(),
    gaSup: fc.boolean(),
    heSup: fc.boolean(),
    pasMax: bits(5),
    pnCounters: bits(4),
    pnBanks: bits(6),
    msiNumPpr: bits(5),
    gats: bits(2),
    hats: bits(2),
  }),
})

const high: fc.Arbitrary<Ivhd11> = fc.record({
  ...common,
  type: fc.constantFrom(0x11 as const, 0x40 as const),
  attributes: fc.record({
    hatDis: fc.boolean(),
    pnCounters: bits(4),
    pnBanks: bits(6),
    msiNumPpr: bits(5),
    reserved: masked(0xf0001ffe),
  }),
  efr: wide,
  efr2: wide,
})

const memory: fc.Arbitrary<Ivmd> = fc.record({
  kind: fc.constant('ivmd' as const),
  type: fc.constantFrom(0x20 as const, 0x21 as const, 0x22 as const),
  flags: fc.record({
    unity: fc.boolean(),
    ir: fc.boolean(),
    iw: fc.boolean(),
    exclusion: fc.boolean(),
    reserved: masked(0xf0),
  }),
  deviceId,
  auxiliary: deviceId,
  reserved: wide,
  start: wide,
  byteLength: wide,
  rest: bytes(0, 5),
})

const unknownBlock: fc.Arbitrary<UnknownBlock> = fc
  .tuple(
    bits(8).filter((type) => ![0x10, 0x11, 0x40, 0x20, 0x21, 0x22].includes(type)),
    bits(8),
    bytes(0, 40),
  )
  .map(([type, flags, rest]) => ({
    kind: 'unknown',
    bytes: Uint8Array.of(type, flags, rest.length + 4, 0, ...rest),
  }))

const ivrs: fc.Arbitrary<Ivrs> = fc.record({
  revision: bits(8),
  oemId: text(6),
  oemTableId: text(8),
  oemRevision: bits(32),
  creatorId: text(4),
  creatorRevision: bits(32),
  info: fc.record({
    efrSup: fc.boolean(),
    dmaRemap: fc.boolean(),
    gvaSize: bits(3),
    paSize: bits(7),
    vaSize: bits(7),
    htAtsResv: fc.boolean(),
    reserved: masked(0xff80001c),
  }),
  reserved: wide,
  blocks: fc.array(fc.oneof(low, high, memory, unknownBlock), { maxLength: 6 }),
})

/** Makes the length and the checksum right. */
function sealed(table: Uint8Array): Uint8Array {
  new DataView(table.buffer).setUint32(4, table.length, true)
  table[9] = 0
  table[9] = -table.reduce((sum, byte) => sum + byte, 0) & 0xff
  return table
}

/** Blocks with a type and a length, and any bytes in them. */
const rawTable = fc
  .array(fc.tuple(fc.constantFrom(0x10, 0x11, 0x40, 0x20, 0x21, 0x22, 0x83), bytes(40, 120)), {
    maxLength: 5,
  })
  .map((blocks) => {
    const header = encodeIvrs(table([]))
    const body = blocks.flatMap(([type, content]) => [type, 0, content.length + 4, 0, ...content])
    return sealed(Uint8Array.of(...header, ...body))
  })

/** What reading may do: give a table, or say why not. */
function tryRead(from: Uint8Array): Ivrs | undefined {
  try {
    return decodeIvrs(from)
  } catch (error) {
    expect(error).toBeInstanceOf(IvrsError)
    return undefined
  }
}

const ivhds = (from: Ivrs): Ivhd[] => from.blocks.filter((block) => block.kind === 'ivhd')

/** Everything that can be done with bytes. */
function useAll(from: Uint8Array): void {
  const found = lintIvrs(from)
  for (const { where } of found) expect(where.offset).toBeLessThanOrEqual(Math.max(48, from.length))
  const read = tryRead(from)
  expect(found.some(({ rule }) => rule === 'unreadable')).toBe(read === undefined)
  for (const ivhd of ivhds(read ?? table([]))) {
    const { settingsOf, ranges } = devicesOf(ivhd)
    for (const { first, last } of ranges) {
      expect(settingsOf(first)).toBeDefined()
      expect(settingsOf(last)).toBeDefined()
    }
  }
}

const runs = { numRuns: 300 }

describe('any IVRS table', () => {
  it('that is written is read as it was', () => {
    fc.assert(
      fc.property(ivrs, (value) => {
        expect(decodeIvrs(encodeIvrs(value))).toEqual(value)
      }),
      runs,
    )
  })

  it('that is written has a right checksum, and its length', () => {
    fc.assert(
      fc.property(ivrs, (value) => {
        const written = encodeIvrs(value)
        expect(written.reduce((sum, byte) => sum + byte, 0) & 0xff).toBe(0)
        expect(new DataView(written.buffer).getUint32(4, true)).toBe(written.length)
        expect(lintIvrs(written)).toEqual(lintIvrs(value))
      }),
      runs,
    )
  })

  it('that is read is written as it was', () => {
    fc.assert(
      fc.property(rawTable, (raw) => {
        expect(encodeIvrs(decodeIvrs(raw))).toEqual(raw)
      }),
      runs,
    )
  })

  it('may have any bytes changed, or cut off, without harm', () => {
    const damage = fc.array(fc.tuple(fc.nat(1 << 16), bits(8)), { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(ivrs, damage, fc.double({ min: 0, max: 1, noNaN: true }), (value, changes, part) => {
        const whole = encodeIvrs(value)
        for (const [at, byte] of changes) whole[at % whole.length] = byte
        useAll(whole)
        useAll(sealed(whole.slice(0, 48 + Math.floor(part * (whole.length - 48)))))
        useAll(whole.subarray(0, Math.floor(part * whole.length)))
      }),
      runs,
    )
  })

  it('may be any bytes at all', () => {
    const header = encodeIvrs(table([])).subarray(0, 48)
    fc.assert(
      fc.property(bytes(0, 300), (any) => {
        useAll(any)
        useAll(sealed(Uint8Array.of(...header, ...any)))
      }),
      runs,
    )
  })
})

describe('the largest blocks', () => {
  const largest = (...repeated: DeviceEntry[]): Ivrs => {
    const length = repeated.reduce((sum, { kind }) => sum + (kind === 'aliasStart' ? 8 : 4), 0)
    const times = Math.floor((0xffff - 40) / length)
    return table([ivhd11({ entries: Array.from({ length: times }, () => repeated).flat() })])
  }

  it.each([
    ['all devices, again and again', largest(plain('all'))],
    ['one device, again and again', largest(plain('select', 8))],
    ['wide ranges', largest(plain('rangeStart', 0), plain('rangeEnd', 0xffff))],
    ['wide ranges of aliases', largest(aliased('aliasStart', 0, 1), plain('rangeEnd', 0xffff))],
  ])('are worked through in bounded time: %s', (_, value) => {
    expect(lintIvrs(encodeIvrs(value)).length).toBeLessThan(40_000)
    for (const ivhd of ivhds(value)) expect(devicesOf(ivhd).settingsOf(8)).toBeDefined()
  })

  it('of memory, many of them, are worked through too', () => {
    const blocks = Array.from({ length: 2000 }, (_, i) => ivmd({ deviceId: i }))
    const rules = lintIvrs(table([ivhd10(), ...blocks])).map(({ rule }) => rule)
    expect(rules).toEqual([])
  })

  it('hold the longest ACPI device', () => {
    const device = { ...acpiDevice, uid: new Uint8Array(255).fill(0x41) }
    const value = table([ivhd11({ type: 0x40, entries: [plain('all'), ioapic, device] })])
    expect(decodeIvrs(encodeIvrs(value))).toEqual(value)
    expect(lintIvrs(value)).toEqual([])
  })
})
