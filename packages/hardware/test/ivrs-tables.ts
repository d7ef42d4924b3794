/** IVRS tables for tests to work on: one that is sound, and its parts. */
import type {
  AcpiHidEntry,
  DeviceEntry,
  Ivhd10,
  Ivhd11,
  Ivmd,
  Ivrs,
  IvrsBlock,
  SpecialEntry,
} from '../src/ivrs/index.js'

const noFlags = {
  htTunEn: false,
  passPW: false,
  resPassPW: false,
  isoc: false,
  iotlbSup: true,
  coherent: true,
  preFSup: false,
  pprSup: false,
}

const noInfo = { msiNum: 0, unitId: 0, reserved: 0 }

export const ioapic: SpecialEntry = {
  kind: 'special',
  handle: 0x21,
  deviceId: 0xa0,
  variety: 1,
  settings: 0xd7,
  reserved: 0,
}

export const acpiDevice: AcpiHidEntry = {
  kind: 'acpiHid',
  deviceId: 0xa5,
  settings: 0,
  hid: 'AMDI0020',
  cid: '',
  uidFormat: 2,
  uid: Uint8Array.of(0x31),
}

export const plain = (
  kind: 'all' | 'select' | 'rangeStart' | 'rangeEnd',
  deviceId = 0,
  settings = 0,
): DeviceEntry => ({ kind, deviceId, settings })

export const aliased = (
  kind: 'aliasSelect' | 'aliasStart',
  deviceId: number,
  alias: number,
  settings = 0,
): DeviceEntry => ({ kind, deviceId, settings, alias, reserved: 0 })

export const extended = (
  kind: 'extendedSelect' | 'extendedStart',
  deviceId: number,
  atsDisabled = true,
  settings = 0,
): DeviceEntry => ({ kind, deviceId, settings, atsDisabled, reserved: 0 })

/** EFR has no performance counters: the features are those of {@link ivhd10}, so that the two agree. */
export const ivhd11 = (changes: Partial<Ivhd11> = {}): Ivhd11 => ({
  kind: 'ivhd',
  type: 0x11,
  flags: noFlags,
  deviceId: 2,
  capabilityOffset: 0x40,
  mmioBase: 0xfeb80000n,
  segment: 0,
  info: noInfo,
  attributes: { hatDis: false, pnCounters: 0, pnBanks: 0, msiNumPpr: 0, reserved: 0 },
  efr: 0x58n,
  efr2: 0n,
  entries: [plain('all'), ioapic],
  ...changes,
})

export const ivhd10 = (changes: Partial<Ivhd10> = {}): Ivhd10 => ({
  kind: 'ivhd',
  type: 0x10,
  flags: noFlags,
  deviceId: 2,
  capabilityOffset: 0x40,
  mmioBase: 0xfeb80000n,
  segment: 0,
  info: noInfo,
  features: {
    xtSup: false,
    nxSup: true,
    gtSup: true,
    glxSup: 0,
    iaSup: true,
    gaSup: false,
    heSup: false,
    pasMax: 0,
    pnCounters: 0,
    pnBanks: 0,
    msiNumPpr: 0,
    gats: 0,
    hats: 0,
  },
  entries: [plain('all'), ioapic],
  ...changes,
})

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

/** A table without findings, unless the blocks given have some. */
export const table = (blocks: readonly IvrsBlock[] = [ivhd11()], changes: Partial<Ivrs> = {}): Ivrs => ({
  revision: 2,
  oemId: 'AMD',
  oemTableId: 'NESTWALK',
  oemRevision: 1,
  creatorId: 'AMD',
  creatorRevision: 1,
  info: {
    efrSup: true,
    dmaRemap: false,
    gvaSize: 2,
    paSize: 48,
    vaSize: 64,
    htAtsResv: false,
    reserved: 0,
  },
  reserved: 0n,
  blocks,
  ...changes,
})
