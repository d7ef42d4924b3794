/** IVRS tables with one mistake each, tables close to them without, and what lint is to find. */
import { encodeIvrs } from '../src/ivrs/index.js'
import type { DeviceEntry, Ivhd11, Ivmd, Ivrs, IvrsBlock, IvrsRule } from '../src/ivrs/index.js'
import { acpiDevice, aliased, extended, ioapic, ivhd10, ivhd11, ivmd, plain, table } from './ivrs-tables.js'

const { info } = table()
const base = ivhd11()
const withInfo = (changes: Partial<Ivrs['info']>): Ivrs => table(undefined, { info: { ...info, ...changes } })
const withEntries = (...entries: DeviceEntry[]): Ivrs =>
  table([ivhd11({ entries: [plain('all'), ioapic, ...entries] })])
const withEfr = (efr: bigint, efr2 = 0n, changes: Partial<Ivhd11> = {}): Ivrs =>
  table([ivhd11({ efr, efr2, ...changes })])
const withFlags = (flags: Partial<Ivmd['flags']>): Ivrs =>
  table([base, ivmd({ flags: { ...ivmd().flags, ...flags } })])
const range = (first: number, last: number, settings = 0): DeviceEntry[] => [
  plain('rangeStart', first, settings),
  plain('rangeEnd', last),
]
const aliasRange = (first: number, last: number, alias: number, settings = 0): DeviceEntry[] => [
  aliased('aliasStart', first, alias, settings),
  plain('rangeEnd', last),
]
const memory = (...blocks: Partial<Ivmd>[]): Ivrs => table([base, ...blocks.map((block) => ivmd(block))])
const features = ivhd10().features
const other = { deviceId: 3, mmioBase: 0xfebc0000n, entries: [plain('all')] }

const bytes = (ivrs: Ivrs, changes: Record<number, number>, extra: readonly number[] = []): Uint8Array => {
  const copy = Uint8Array.of(...encodeIvrs(ivrs), ...extra)
  for (const [at, value] of Object.entries(changes)) copy[Number(at)] = value
  return copy
}

/** Tables with just one finding each, and where it is. */
export const positive: [IvrsRule, Ivrs | Uint8Array, offset: number, path: string][] = [
  ['unreadable', new Uint8Array(10), 0, ''],
  ['checksum', bytes(table(), { 9: 0 }), 9, ''],
  ['bytes-after-table', bytes(table(), {}, [7]), 100, ''],
  ['table-revision', table(undefined, { revision: 0 }), 8, 'revision'],
  ['table-revision', table(undefined, { revision: 4 }), 8, 'revision'],
  ['block-revision', table(undefined, { revision: 1 }), 48, 'blocks[0]'],
  ['block-revision', table([ivhd11({ type: 0x40 })], { revision: 1 }), 48, 'blocks[0]'],
  ['address-sizes', withInfo({ gvaSize: 1 }), 36, 'info'],
  ['address-sizes', withInfo({ paSize: 0 }), 36, 'info'],
  ['address-sizes', withInfo({ paSize: 53 }), 36, 'info'],
  ['address-sizes', withInfo({ vaSize: 0 }), 36, 'info'],
  ['address-sizes', withInfo({ vaSize: 65 }), 36, 'info'],
  ['efr-support', withInfo({ efrSup: false }), 72, 'blocks[0].efr'],
  [
    'efr-support',
    table([ivhd11({ efr: 0n, efr2: 1n })], { info: { ...info, efrSup: false } }),
    72,
    'blocks[0].efr',
  ],
  ['reserved-bits', withInfo({ reserved: 4 }), 36, 'info.reserved'],
  ['reserved-bits', table(undefined, { reserved: 1n }), 40, 'reserved'],
  ['reserved-bits', table([ivhd11({ info: { ...base.info, reserved: 0x20 } })]), 48, 'blocks[0]'],
  ['reserved-bits', table([ivhd10({ info: { ...base.info, reserved: 0x20 } })]), 48, 'blocks[0]'],
  ['reserved-bits', table([ivhd11({ flags: { ...base.flags, pprSup: true } })]), 48, 'blocks[0]'],
  ['reserved-bits', table([ivhd11({ flags: { ...base.flags, preFSup: true } })]), 48, 'blocks[0]'],
  ['reserved-bits', table([ivhd11({ attributes: { ...base.attributes, reserved: 2 } })]), 48, 'blocks[0]'],
  ['reserved-bits', withEfr(base.efr | (1n << 30n)), 48, 'blocks[0]'],
  ['reserved-bits', withEfr(base.efr, 1n << 63n), 48, 'blocks[0]'],
  ['reserved-bits', withEntries(plain('all', 1)), 100, 'blocks[0].entries[2]'],
  ['reserved-bits', withEntries(plain('select', 1, 8)), 100, 'blocks[0].entries[2]'],
  [
    'reserved-bits',
    withEntries(plain('rangeStart', 1), plain('rangeEnd', 1, 1)),
    104,
    'blocks[0].entries[3]',
  ],
  ['reserved-bits', withEntries({ ...ioapic, handle: 9, reserved: 1 }), 100, 'blocks[0].entries[2]'],
  ['reserved-bits', withFlags({ reserved: 0x10 }), 100, 'blocks[1]'],
  ['reserved-bits', memory({ type: 0x20, deviceId: 1 }), 100, 'blocks[1]'],
  ['reserved-bits', memory({ auxiliary: 1 }), 100, 'blocks[1]'],
  ['reserved-bits', memory({ reserved: 1n }), 100, 'blocks[1]'],
  ['reserved-bits', memory({ rest: new Uint8Array(1) }), 100, 'blocks[1]'],
  [
    'unknown-block',
    table([base, { kind: 'unknown', bytes: Uint8Array.of(0x83, 0, 4, 0) }]),
    100,
    'blocks[1]',
  ],
  ['duplicate-iommu', table([ivhd10(), ivhd10(), base]), 48 + 36, 'blocks[1]'],
  ['ivhd-disagree', table([ivhd10({ mmioBase: 0xfebc0000n }), base]), 48, 'blocks[0]'],
  ['ivhd-types-differ', table([base, ivhd10(other)]), 100, 'blocks[1]'],
  ['ivhd-types-differ', table([base, ivhd10()]), 48, 'blocks[0]'],
  ['mmio-alignment', table([ivhd11({ mmioBase: 0xfeb81000n })]), 56, 'blocks[0].mmioBase'],
  ['mmio-alignment', table([ivhd11({ mmioBase: 0n })]), 56, 'blocks[0].mmioBase'],
  ['mmio-alignment', withEfr(base.efr | 0x200n, 0n, { mmioBase: 0xfeb84000n }), 56, 'blocks[0].mmioBase'],
  [
    'mmio-alignment',
    table([ivhd10({ mmioBase: 0xfeb84000n, features: { ...features, pnCounters: 1, pnBanks: 1 } })]),
    56,
    'blocks[0].mmioBase',
  ],
  ['mmio-overlap', table([base, ivhd11({ ...other, mmioBase: base.mmioBase })]), 108, 'blocks[1].mmioBase'],
  [
    'mmio-overlap',
    table([ivhd11({ ...other, mmioBase: 0xfebfc000n }), ivhd11({ efr: base.efr | 0x200n })]),
    56,
    'blocks[0].mmioBase',
  ],
  ['capability-offset', table([ivhd11({ capabilityOffset: 0 })]), 54, 'blocks[0].capabilityOffset'],
  ['capability-offset', table([ivhd11({ capabilityOffset: 0x3c })]), 54, 'blocks[0].capabilityOffset'],
  ['capability-offset', table([ivhd11({ capabilityOffset: 0x42 })]), 54, 'blocks[0].capabilityOffset'],
  ['capability-offset', table([ivhd11({ capabilityOffset: 0xec })]), 54, 'blocks[0].capabilityOffset'],
  ['features', table([ivhd10({ features: { ...features, glxSup: 3 } })]), 68, 'blocks[0].features'],
  ['features', table([ivhd10({ features: { ...features, gats: 2 } })]), 68, 'blocks[0].features'],
  ['features', withEfr(base.efr | 0xc000n), 72, 'blocks[0].efr'],
  ['features', withEfr(1n << 48n), 72, 'blocks[0].efr'],
  ['features', withEfr(base.efr, 8n), 72, 'blocks[0].efr'],
  ['features', withEfr(base.efr | (1n << 52n)), 72, 'blocks[0].efr'],
  ['features', withEfr(base.efr | (1n << 50n)), 72, 'blocks[0].efr'],
  ['features', withEfr(base.efr | (1n << 55n)), 72, 'blocks[0].efr'],
  ['features', withEfr(base.efr | 0xc00n), 72, 'blocks[0].efr'],
  ['features', table([ivhd11({ attributes: { ...base.attributes, hatDis: true } })]), 72, 'blocks[0].efr'],
  ['pasid-width', withEfr(base.efr | (16n << 32n)), 72, 'blocks[0].efr'],
  ['pasid-width', table([ivhd10({ features: { ...features, pasMax: 31 } })]), 68, 'blocks[0].features'],
  [
    'unknown-entry',
    withEntries({ kind: 'unknown', bytes: Uint8Array.of(5, 0, 0, 0) }),
    100,
    'blocks[0].entries[2]',
  ],
  [
    'unknown-entry',
    withEntries({ kind: 'unknown', bytes: new Uint8Array(8).fill(65) }),
    100,
    'blocks[0].entries[2]',
  ],
  ['entry-length', withEntries({ kind: 'unknown', bytes: Uint8Array.of(2, 0) }), 100, 'blocks[0].entries[2]'],
  [
    'entry-length',
    withEntries({ kind: 'unknown', bytes: Uint8Array.of(0xf0, 0) }),
    100,
    'blocks[0].entries[2]',
  ],
  [
    'entry-length',
    withEntries({ kind: 'unknown', bytes: Uint8Array.of(0x80, 0) }),
    100,
    'blocks[0].entries[2]',
  ],
  ['range-without-end', withEntries(plain('rangeStart', 8)), 100, 'blocks[0].entries[2]'],
  ['range-without-end', withEntries(plain('rangeStart', 8), ...range(16, 23)), 100, 'blocks[0].entries[2]'],
  ['range-without-start', withEntries(plain('rangeEnd', 8)), 100, 'blocks[0].entries[2]'],
  ['range-without-start', withEntries(...range(8, 9), plain('rangeEnd', 10)), 108, 'blocks[0].entries[4]'],
  ['range-reversed', withEntries(...range(9, 8)), 104, 'blocks[0].entries[3]'],
  ['range-overlap', withEntries(...range(8, 15), ...range(15, 20)), 108, 'blocks[0].entries[4]'],
  ['range-overlap', withEntries(...range(15, 20), ...range(8, 15)), 108, 'blocks[0].entries[4]'],
  ['range-overlap', withEntries(...range(8, 15), ...aliasRange(12, 13, 0, 1)), 108, 'blocks[0].entries[4]'],
  ['range-overlap', withEntries(plain('select', 8), plain('select', 8, 1)), 104, 'blocks[0].entries[3]'],
  [
    'range-overlap',
    withEntries(aliased('aliasSelect', 8, 1), aliased('aliasSelect', 8, 2)),
    108,
    'blocks[0].entries[3]',
  ],
  [
    'range-overlap',
    withEntries(plain('select', 8), extended('extendedSelect', 8)),
    104,
    'blocks[0].entries[3]',
  ],
  [
    'alias-chain',
    withEntries(aliased('aliasSelect', 9, 8), aliased('aliasSelect', 8, 7)),
    100,
    'blocks[0].entries[2]',
  ],
  [
    'ats-disabled',
    table([
      ivhd11({
        flags: { ...base.flags, iotlbSup: false },
        entries: [plain('all'), ioapic, extended('extendedSelect', 8)],
      }),
    ]),
    100,
    'blocks[0].entries[2]',
  ],
  ['special-variety', withEntries({ ...ioapic, variety: 0 }), 100, 'blocks[0].entries[2]'],
  ['special-variety', withEntries({ ...ioapic, variety: 3 }), 100, 'blocks[0].entries[2]'],
  ['duplicate-handle', withEntries({ ...ioapic, deviceId: 0xa1 }), 100, 'blocks[0].entries[2]'],
  [
    'duplicate-handle',
    withEntries({ ...ioapic, variety: 2 }, { ...ioapic, variety: 2 }),
    108,
    'blocks[0].entries[3]',
  ],
  ['no-ioapic', table([ivhd11({ entries: [plain('all')] })]), 48, 'blocks'],
  ['no-ioapic', table([ivhd11({ entries: [plain('all'), { ...ioapic, variety: 2 }] })]), 48, 'blocks'],
  ['southbridge-ioapic', table([ivhd11({ entries: [{ ...ioapic, deviceId: 0xa1 }] })]), 48, 'blocks'],
  ['acpi-hid', withEntries(acpiDevice), 100, 'blocks[0].entries[2]'],
  ...[
    { ...acpiDevice, hid: '' },
    { ...acpiDevice, uidFormat: 3 },
    { ...acpiDevice, uidFormat: 0 },
    { ...acpiDevice, uidFormat: 1, uid: new Uint8Array(0) },
  ].map((entry): [IvrsRule, Ivrs, number, string] => [
    'acpi-hid',
    table([ivhd11({ type: 0x40, entries: [plain('all'), ioapic, entry] })]),
    100,
    'blocks[0].entries[2]',
  ]),
  ['ivmd-alignment', memory({ start: 0x7a000800n }), 116, 'blocks[1].start'],
  ['ivmd-alignment', memory({ byteLength: 0x800n }), 116, 'blocks[1].start'],
  ['ivmd-length', memory({ byteLength: 0n }), 124, 'blocks[1].byteLength'],
  ['ivmd-length', memory({ start: 0xffffffffff000n, byteLength: 0x2000n }), 124, 'blocks[1].byteLength'],
  ['ivmd-range', memory({ type: 0x22, deviceId: 9, auxiliary: 8 }), 106, 'blocks[1].auxiliary'],
  ['ivmd-flags', withFlags({ exclusion: true }), 101, 'blocks[1].flags'],
  ['ivmd-flags', withFlags({ unity: false }), 101, 'blocks[1].flags'],
  ['ivmd-flags', withFlags({ ir: false, iw: false }), 101, 'blocks[1].flags'],
  ['ivmd-overlap', memory({}, { start: 0x79fff000n, byteLength: 0x2000n }), 100, 'blocks[1]'],
  ['ivmd-overlap', memory({ type: 0x20, deviceId: 0 }, {}), 132, 'blocks[2]'],
  ['ivmd-overlap', memory({ type: 0x22, deviceId: 8, auxiliary: 16 }, {}), 132, 'blocks[2]'],
]

/** Tables close to those above, without findings. */
export const negative: [IvrsRule, Ivrs | Uint8Array][] = [
  ['unreadable', encodeIvrs(table())],
  ['checksum', encodeIvrs(table())],
  ['bytes-after-table', encodeIvrs(table())],
  ['table-revision', table(undefined, { revision: 3 })],
  ['block-revision', table([ivhd10()], { revision: 1 })],
  ['address-sizes', withInfo({ paSize: 52 })],
  ['efr-support', table([ivhd11({ efr: 0n })], { info: { ...info, efrSup: false } })],
  ['efr-support', table([ivhd10()], { info: { ...info, efrSup: false } })],
  ['reserved-bits', table([ivhd10({ flags: { ...base.flags, preFSup: true, pprSup: true } })])],
  ['reserved-bits', withEntries(plain('select', 1, 0xf7))],
  ['reserved-bits', withEntries({ kind: 'pad', content: new Uint8Array(7).fill(255) })],
  ['reserved-bits', memory({ type: 0x22, auxiliary: 0x17 })],
  ['unknown-block', memory({})],
  ['no-ivhd', table()],
  ['duplicate-iommu', table([base, ivhd11(other)])],
  ['ivhd-disagree', table([ivhd10(), base])],
  ['ivhd-disagree', table([ivhd10(), ivhd11({ type: 0x40, entries: [plain('all'), ioapic, acpiDevice] })])],
  ['ivhd-types-differ', table([ivhd10(), ivhd10(other), base, ivhd11(other)])],
  ['mmio-alignment', table([ivhd11({ mmioBase: 0xfeb84000n })])],
  ['mmio-alignment', withEfr(base.efr | 0x200n)],
  ['mmio-alignment', table([ivhd10({ mmioBase: 0x4000n, features: { ...features, pnCounters: 1 } })])],
  ['mmio-overlap', table([base, ivhd11({ ...other, mmioBase: 0xfeb84000n })])],
  ['capability-offset', table([ivhd11({ capabilityOffset: 0xe8 })])],
  ['features', withEfr((1n << 48n) | 0x10n, 8n)],
  ['features', withEfr(base.efr | (3n << 49n) | (1n << 52n) | 2n)],
  ['features', withEfr(base.efr | 0x80n | (1n << 55n))],
  ['features', withEfr(base.efr | 0xc00n, 0n, { attributes: { ...base.attributes, hatDis: true } })],
  ['features', table([ivhd10({ features: { ...features, gtSup: false, glxSup: 3, gats: 3 } })])],
  ['features', withEfr(base.efr | 0x1000n)],
  ['pasid-width', withEfr(base.efr | (15n << 32n))],
  ['pasid-width', withEfr(31n << 32n)],
  ['no-devices', table()],
  ['unknown-entry', withEntries({ kind: 'pad', content: new Uint8Array(3) })],
  ['entry-length', withEntries(plain('select', 1))],
  ['range-without-end', withEntries(...range(8, 9))],
  ['range-without-start', withEntries(...range(8, 9))],
  ['range-reversed', withEntries(...range(8, 8))],
  ['range-overlap', withEntries(...range(8, 15), ...range(16, 23))],
  ['range-overlap', withEntries(...range(8, 0x400), ...aliasRange(0x300, 0x3ff, 0x300))],
  ['range-overlap', withEntries(...aliasRange(0x300, 0x3ff, 0x300), ...range(8, 0x400))],
  ['range-overlap', withEntries(...aliasRange(0x300, 0x3ff, 0x300, 1), ...range(0x400, 0x4ff))],
  ['range-overlap', withEntries(plain('select', 8), plain('select', 8), aliased('aliasSelect', 8, 9, 1))],
  ['alias-chain', withEntries(...aliasRange(0x300, 0x3ff, 0x300), aliased('aliasSelect', 8, 7))],
  ['ats-disabled', withEntries(extended('extendedSelect', 8))],
  [
    'ats-disabled',
    table([
      ivhd11({
        flags: { ...base.flags, iotlbSup: false },
        entries: [plain('all'), ioapic, extended('extendedSelect', 8, false)],
      }),
    ]),
  ],
  ['special-variety', withEntries({ ...ioapic, variety: 2 })],
  ['duplicate-handle', withEntries({ ...ioapic, handle: 0x22 }, { ...ioapic, variety: 2 })],
  ['duplicate-handle', table([ivhd10(), base])],
  ['no-ioapic', table([base, ivhd11(other)])],
  ['southbridge-ioapic', withEntries({ ...ioapic, handle: 1, deviceId: 0xa1 })],
  ...[
    acpiDevice,
    { ...acpiDevice, uidFormat: 0, uid: new Uint8Array(0) },
    { ...acpiDevice, uidFormat: 1 },
  ].map((entry): [IvrsRule, Ivrs] => [
    'acpi-hid',
    table([ivhd11({ type: 0x40, entries: [plain('all'), ioapic, entry] })]),
  ]),
  ['ivmd-alignment', memory({ start: 0x1000n })],
  ['ivmd-length', memory({ start: 0xffffffffff000n })],
  ['ivmd-range', memory({ type: 0x22, deviceId: 8, auxiliary: 8 })],
  ['ivmd-flags', withFlags({ unity: false, exclusion: true, ir: false, iw: false })],
  ['ivmd-flags', withFlags({ iw: false })],
  ['ivmd-flags', withFlags({ ir: false })],
  ['ivmd-overlap', memory({}, { start: 0x7a001000n })],
  ['ivmd-overlap', memory({}, { deviceId: 0x11 })],
  ['ivmd-overlap', memory({ type: 0x22, deviceId: 0, auxiliary: 15 }, {})],
  ['ivmd-exclusions', memory({})],
]

/** Tables where one mistake is several findings. */
export const several: [IvrsRule[], Ivrs][] = [
  [['no-ivhd', 'no-ioapic'], table([])],
  [['no-ivhd', 'no-ioapic'], table([ivmd()])],
  [['no-devices', 'no-ioapic'], table([ivhd11({ entries: [] })])],
  [['duplicate-iommu', 'duplicate-iommu'], table([base, base, base])],
  [
    ['ivmd-exclusions', 'ivmd-exclusions'],
    memory(
      ...[0n, 1n, 2n].map((page) => ({
        start: page << 12n,
        flags: { ...ivmd().flags, unity: false, exclusion: true },
      })),
    ),
  ],
]

/** Two definitions of an IOMMU, and what they differ in. */
export const differing: [string, IvrsBlock, IvrsBlock][] = [
  ['mmioBase', ivhd10({ mmioBase: 0x4000n }), base],
  ['capabilityOffset', ivhd10({ capabilityOffset: 0x44 }), base],
  ['MsiNum', ivhd10({ info: { ...base.info, msiNum: 1 } }), base],
  ['UnitID', ivhd10({ info: { ...base.info, unitId: 1 } }), base],
  ['flags', ivhd10({ flags: { ...base.flags, coherent: false } }), base],
  ['device entries', ivhd10({ entries: [ioapic, plain('all')] }), base],
  ['PNCounters', ivhd10({ features: { ...features, pnCounters: 1 } }), base],
  ['PNBanks', ivhd10({ features: { ...features, pnBanks: 1 } }), base],
  ['MsiNumPPR', ivhd10({ features: { ...features, msiNumPpr: 1 } }), base],
  ['PreFSup', ivhd10(), ivhd11({ efr: base.efr | 1n })],
  ['PPRSup', ivhd10({ flags: { ...base.flags, pprSup: true } }), base],
  ['XTSup', ivhd10(), ivhd11({ efr: base.efr | 4n })],
  ['NXSup', ivhd10(), ivhd11({ efr: base.efr & ~8n })],
  ['GTSup', ivhd10(), ivhd11({ efr: base.efr & ~16n })],
  ['GLXSup', ivhd10(), ivhd11({ efr: base.efr | 0x4000n })],
  ['IASup', ivhd10(), ivhd11({ efr: base.efr & ~64n })],
  ['GASup', ivhd10(), ivhd11({ efr: base.efr | 128n })],
  ['HESup', ivhd10(), ivhd11({ efr: base.efr | 256n })],
  ['PASmax', ivhd10(), ivhd11({ efr: base.efr | (1n << 32n) })],
  ['GATS', ivhd10(), ivhd11({ efr: base.efr | 0x1000n })],
  ['HATS', ivhd10(), ivhd11({ efr: base.efr | 0x400n })],
  ['EFR', base, ivhd11({ type: 0x40, efr: base.efr | 1n })],
  ['EFR2', base, ivhd11({ type: 0x40, efr2: 1n })],
  ['MsiNum, UnitID', base, ivhd11({ type: 0x40, info: { msiNum: 2, unitId: 3, reserved: 0 } })],
]
