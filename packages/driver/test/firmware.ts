/** IVRS tables for tests: two IOMMUs, and parts to change. */
import { encodeIvrs, nestingFeatures } from '@nestwalk/hardware'
import type { DeviceEntry, FeatureRegisters, Ivhd11, Ivmd, Ivrs, IvrsBlock } from '@nestwalk/hardware'

export const select = (deviceId: number, settings = 0): DeviceEntry => ({
  kind: 'select',
  deviceId,
  settings,
})

export const range = (first: number, last: number, settings = 0): DeviceEntry[] => [
  { kind: 'rangeStart', deviceId: first, settings },
  { kind: 'rangeEnd', deviceId: last, settings: 0 },
]

export const aliasOf = (deviceId: number, alias: number, settings = 0): DeviceEntry => ({
  kind: 'aliasSelect',
  deviceId,
  alias,
  settings,
  reserved: 0,
})

export const aliasRange = (first: number, last: number, alias: number): DeviceEntry[] => [
  { kind: 'aliasStart', deviceId: first, alias, settings: 0, reserved: 0 },
  { kind: 'rangeEnd', deviceId: last, settings: 0 },
]

export const withoutAts = (deviceId: number): DeviceEntry => ({
  kind: 'extendedSelect',
  deviceId,
  settings: 0,
  atsDisabled: true,
  reserved: 0,
})

/** The IOMMU of a table with DeviceID 2, where the chip has its function by default. */
export const ivhd = (
  entries: readonly DeviceEntry[],
  changes: Partial<Ivhd11> = {},
  { efr, efr2 }: FeatureRegisters = nestingFeatures,
): Ivhd11 => ({
  kind: 'ivhd',
  type: 0x11,
  flags: {
    ...{ htTunEn: false, passPW: false, resPassPW: false, isoc: false },
    ...{ iotlbSup: true, coherent: true, preFSup: false, pprSup: false },
  },
  deviceId: 2,
  capabilityOffset: 0x40,
  mmioBase: 0xfeb80000n,
  segment: 0,
  info: { msiNum: 0, unitId: 0, reserved: 0 },
  attributes: { hatDis: false, pnCounters: 0, pnBanks: 0, msiNumPpr: 0, reserved: 0 },
  efr,
  efr2,
  entries,
  ...changes,
})

/** Memory that device 00:02.0 is to read and write at its own address. */
export const ivmd = (changes: Partial<Ivmd> = {}): Ivmd => ({
  kind: 'ivmd',
  type: 0x21,
  flags: { unity: true, ir: true, iw: true, exclusion: false, reserved: 0 },
  deviceId: 0x10,
  auxiliary: 0,
  reserved: 0n,
  start: 0x7a000000n,
  byteLength: 0x1000n,
  rest: new Uint8Array(0),
  ...changes,
})

export const table = (blocks: readonly IvrsBlock[], efrSup = true): Ivrs => ({
  revision: 2,
  oemId: 'AMD',
  oemTableId: 'NESTWALK',
  oemRevision: 1,
  creatorId: 'AMD',
  creatorRevision: 1,
  info: {
    ...{ efrSup, dmaRemap: false, htAtsResv: false },
    ...{ gvaSize: 2, paSize: 48, vaSize: 64, reserved: 0 },
  },
  reserved: 0n,
  blocks,
})

export const bytesOf = (...blocks: IvrsBlock[]): Uint8Array => encodeIvrs(table(blocks))
