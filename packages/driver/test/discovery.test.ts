/** What the driver makes of firmware's IVRS table and of the capability block of each IOMMU. */
import { encodeIvrs, Iommu, nestingFeatures, SparseMemory } from '@nestwalk/hardware'
import type { IommuOptions, IommuPort } from '@nestwalk/hardware'
import { describe, expect, it } from 'vitest'
import { foundByFirmware, foundByRegisters } from '../src/discovery.js'
import type { Discovery } from '../src/discovery.js'
import { persistentBits, settingsFor, settingsRuns } from '../src/firmware-settings.js'
import type { FirmwareSettings } from '../src/firmware-settings.js'
import type { Refusal } from '../src/outcome.js'
import { aliasOf, aliasRange, bytesOf, ivhd, ivmd, range, select, table, withoutAts } from './firmware.js'

const chip = (options: Omit<IommuOptions, 'memory'> = {}): Iommu =>
  Iommu.create({ ...options, memory: SparseMemory.create(1 << 24) })

function found(bytes: Uint8Array, ports: readonly IommuPort[] = [chip()], segment = 0): Discovery {
  const discovery = foundByFirmware(bytes, segment, ports)
  if ('ok' in discovery) throw new Error(discovery.why)
  return discovery
}

const refusal = (bytes: Uint8Array, ports: readonly IommuPort[] = [chip()]): string => {
  const { errno, rule } = foundByFirmware(bytes, 0, ports) as Refusal
  return `${errno} ${rule}`
}

const settings = (discovery: Discovery, deviceId: number): FirmwareSettings | undefined =>
  settingsFor(discovery.ranges ?? [], deviceId)

describe('which IOMMU a device is behind', () => {
  const second = { deviceId: 0x4002, mmioBase: 0xfec00000n }
  const two = found(
    bytesOf(
      ivhd([...range(0x10, 0x1f), select(0x30)]),
      ivhd([...range(0x4000, 0x4fff), select(0x18)], second),
    ),
    [chip(), chip({ pci: { iommuDeviceId: 0x4002 } })],
  )

  it.each([
    [0x10, 0],
    [0x1f, 0],
    [0x20, undefined],
    [0x30, 0],
    [0x4000, 1],
    [0x4fff, 1],
    // Named by both: the later one of the table.
    [0x18, 1],
  ])('%i: %o', (deviceId, iommu) => {
    expect(settings(two, deviceId)?.iommu).toBe(iommu)
  })

  it('the table goes up to the highest DeviceID that is named', () => {
    expect(two.lastDeviceId).toBe(0x4fff)
    expect(found(bytesOf(ivhd([{ kind: 'all', deviceId: 0, settings: 0 }]))).lastDeviceId).toBe(0xffff)
    expect(found(bytesOf(ivhd([aliasOf(0x10, 0x90)]))).lastDeviceId).toBe(0x90)
    expect(found(bytesOf(ivhd([]))).lastDeviceId).toBe(0)
  })

  it('of an IOMMU that is defined twice, the definition of the higher type counts', () => {
    const both = found(bytesOf(ivhd([select(0x10)]), ivhd([select(0x20)], { type: 0x40 })))
    expect(both.iommus).toHaveLength(1)
    expect([settings(both, 0x10), settings(both, 0x20)?.iommu]).toEqual([undefined, 0])
  })

  it('another segment is another matter', () => {
    const bytes = bytesOf(ivhd([select(0x10)]), ivhd([select(0x20)], { segment: 1 }), ivmd({ reserved: 1n }))
    expect(found(bytes).ranges).toMatchObject([{ first: 0x10, last: 0x10 }])
    expect(found(bytes).unityMaps).toEqual([])
    expect(found(bytes, [chip()], 1).ranges).toMatchObject([{ first: 0x20, last: 0x20 }])
    expect(found(bytes, [chip()], 1).unityMaps).toHaveLength(1)
  })
})

describe('what firmware wants of a device', () => {
  it('aliases: the last one counts, and none that is the device itself', () => {
    const one = found(
      bytesOf(ivhd([...aliasRange(0x80, 0x87, 0x90), aliasOf(0x82, 0x91), aliasOf(0x84, 0x84)])),
    )
    const aliases = [0x80, 0x82, 0x84, 0x90].map((deviceId) => settings(one, deviceId)?.aliases)
    expect(aliases).toEqual([[0x90], [0x91], [], []])
    // The alias is translated by the same IOMMU.
    expect(settings(one, 0x90)?.iommu).toBe(0)
  })

  it('no ATS where the extended data says so', () => {
    const one = found(bytesOf(ivhd([...range(0, 0xff), withoutAts(0x10)])))
    expect([0x10, 0x11].map((deviceId) => settings(one, deviceId)?.atsAllowed)).toEqual([false, true])
  })

  it.each([
    ['INITPass', 0x01, [0n, 0n, 1n << 56n, 0n]],
    ['EIntPass', 0x02, [0n, 0n, 1n << 57n, 0n]],
    ['NMIPass', 0x04, [0n, 0n, 1n << 58n, 0n]],
    ['the reserved bit', 0x08, [0n, 0n, 0n, 0n]],
    ['SysMgt 1, with IW for erratum 63', 0x10, [1n << 62n, 1n << 40n, 0n, 0n]],
    ['SysMgt 2', 0x20, [0n, 2n << 40n, 0n, 0n]],
    ['SysMgt 3', 0x30, [0n, 3n << 40n, 0n, 0n]],
    ['Lint0Pass', 0x40, [0n, 0n, 1n << 62n, 0n]],
    ['Lint1Pass', 0x80, [0n, 0n, 1n << 63n, 0n]],
  ])('bits of the entry: %s', (_name, data, words) => {
    expect(persistentBits(data)).toEqual(words)
  })

  it('bits of all entries that name a device are joined', () => {
    const one = found(bytesOf(ivhd([...range(0x10, 0x1f, 0x01), select(0x14, 0x80)])))
    expect(settings(one, 0x14)?.persistentBits).toEqual(persistentBits(0x81))
    expect(settings(one, 0x15)?.persistentBits).toEqual(persistentBits(0x01))
    expect(settingsRuns(one.ranges ?? [])).toEqual([
      { first: 0x10, last: 0x13, settings: 0x01 },
      { first: 0x14, last: 0x14, settings: 0x81 },
      { first: 0x15, last: 0x1f, settings: 0x01 },
    ])
  })
})

describe('memory that devices are to reach at its own address', () => {
  const maps = (...changes: Parameters<typeof ivmd>) =>
    found(bytesOf(ivhd([select(0x10)]), ivmd(...changes))).unityMaps
  const flags = { unity: true, ir: true, iw: true, exclusion: false, reserved: 0 }

  it('for one device, a range of devices, all devices', () => {
    const devices = [maps(), maps({ type: 0x22, auxiliary: 0x1f }), maps({ type: 0x20, deviceId: 0 })]
    expect(devices.map(([map]) => [map!.firstDevice, map!.lastDevice])).toEqual([
      [0x10, 0x10],
      [0x10, 0x1f],
      [0, 0xffff],
    ])
  })

  it('with the rights that the table gives', () => {
    expect(maps({ flags: { ...flags, iw: false } })[0]!.rights).toEqual({ read: true, write: false })
    expect(maps({ flags: { ...flags, ir: false } })[0]!.rights).toEqual({ read: false, write: true })
  })

  it('an exclusion is a map too, readable and writable whatever else is said', () => {
    const exclusion = { ...flags, unity: false, exclusion: true, ir: false, iw: false }
    expect(maps({ flags: exclusion })).toMatchObject([{ rights: { read: true, write: true } }])
    expect(maps({ flags: { ...exclusion, unity: true } })).toMatchObject([
      { rights: { read: true, write: true } },
    ])
    expect(maps({ flags: { ...flags, unity: false } })).toEqual([])
  })

  it('in whole pages, every byte of it', () => {
    expect(maps({ start: 0x7a000ff8n, byteLength: 0x10n })).toMatchObject([
      { start: 0x7a000000n, byteLength: 0x2000n },
    ])
  })

  it('unless there is none, or it is no physical memory', () => {
    expect(maps({ byteLength: 0n })).toEqual([])
    expect(maps({ start: (1n << 52n) - 0x1000n })).toHaveLength(1)
    expect(maps({ start: (1n << 52n) - 0x1000n, byteLength: 0x1001n })).toEqual([])
  })
})

describe('what an IOMMU can do', () => {
  const other = { efr: nestingFeatures.efr & ~8n, efr2: 0n }
  const one = [select(0x10)]

  it('firmware is believed, and a mismatch is told', () => {
    const { iommus, findings } = found(bytesOf(ivhd(one, {}, other)))
    expect(iommus[0]!.features).toEqual(other)
    expect(findings).toMatchObject([{ rule: 'feature-mismatch', iommu: 0 }])
    expect(findings[0]!.why).toContain(nestingFeatures.efr.toString(16))
    expect(found(bytesOf(ivhd(one))).findings).toEqual([])
  })

  it.each([
    ['EFR', { ...nestingFeatures, efr: other.efr }],
    ['EFR2', { ...nestingFeatures, efr2: other.efr2 }],
  ])('a mismatch of %s alone is one', (_name, told) => {
    expect(found(bytesOf(ivhd(one, {}, told))).findings).toMatchObject([{ rule: 'feature-mismatch' }])
  })

  it('the registers are asked where the table has no image: type 10h, an image of 0, IVinfo.EFRSup clear', () => {
    const without = [
      bytesOf(ivhd(one, {}, { efr: 0n, efr2: 8n })),
      encodeIvrs(table([ivhd(one, {}, other)], false)),
    ]
    for (const bytes of without) {
      const { iommus, findings } = found(bytes)
      expect(iommus[0]!.features).toEqual(nestingFeatures)
      expect(findings).toEqual([])
    }
  })

  it('a capability without EFRSup has no feature registers to ask', () => {
    const bytes = encodeIvrs(table([ivhd(one, {}, other)], false))
    expect(found(bytes, [chip({ features: { efr: 0n, efr2: 0n } })]).iommus[0]!.features).toEqual({
      efr: 0n,
      efr2: 0n,
    })
  })

  it('HATDis: host tables are off whatever EFR says', () => {
    const attributes = { hatDis: true, pnCounters: 0, pnBanks: 0, msiNumPpr: 0, reserved: 0 }
    const off = [{}, { attributes }].map(
      (changes) => found(bytesOf(ivhd(one, changes))).iommus[0]!.hostTablesOff,
    )
    expect(off).toEqual([false, true])
  })

  it('NpCache and IotlbSup are in the capability', () => {
    const [iommu] = found(bytesOf(ivhd(one)), [chip({ pci: { npCache: true, iotlbSup: false } })]).iommus
    expect(iommu).toMatchObject({ npCache: true, iotlbSup: false })
    expect(found(bytesOf(ivhd(one))).iommus[0]).toMatchObject({ npCache: false, iotlbSup: true })
  })
})

describe('where the registers are', () => {
  const bytes = bytesOf(ivhd([select(0x10)]))
  const on = (base: bigint): Iommu => {
    const iommu = chip()
    iommu.writeConfig(0x48, 4, Number(base >> 32n))
    iommu.writeConfig(0x44, 4, Number(base & 0xffffffffn) | 1)
    return iommu
  }

  it('where the table says, once they are made to answer', () => {
    const { iommus, findings } = found(bytes)
    expect(iommus[0]!.registerBase).toEqual({ capability: 0x40, base: 0xfeb80000n })
    expect(findings).toEqual([])
  })

  it('they may answer already, there or elsewhere; Linux looks where the table says', () => {
    const there = found(bytes, [on(0xfeb80000n)])
    expect([there.iommus[0]!.registerBase, there.findings]).toEqual([undefined, []])
    const elsewhere = found(bytes, [on(0x1_fd000000n)])
    expect(elsewhere.findings).toMatchObject([{ rule: 'register-base-mismatch', iommu: 0 }])
  })

  it('a table without a place serves only IOMMUs that have one', () => {
    const nowhere = bytesOf(ivhd([select(0x10)], { mmioBase: 0n }))
    expect(refusal(nowhere)).toBe('ENODEV no-register-base')
    expect(found(nowhere, [on(0xfeb80000n)]).iommus).toHaveLength(1)
  })
})

describe('what cannot be: a refusal', () => {
  it.each([
    ['no table', new Uint8Array(0), 'EINVAL ivrs-unreadable'],
    [
      'another table',
      Uint8Array.from(bytesOf(), (byte, i) => (i === 0 ? 0x58 : byte)),
      'EINVAL ivrs-unreadable',
    ],
    ['a table that is cut off', bytesOf(ivhd([select(0x10)])).subarray(0, 60), 'EINVAL ivrs-unreadable'],
    ['a table without IOMMUs', bytesOf(), 'ENODEV iommus-of-the-table'],
    [
      'a table with more IOMMUs than there are',
      bytesOf(ivhd([]), ivhd([], { deviceId: 3 })),
      'ENODEV iommus-of-the-table',
    ],
    [
      'no capability where the table has it',
      bytesOf(ivhd([], { capabilityOffset: 0x64 })),
      'ENODEV no-iommu-capability',
    ],
    [
      'a capability beyond configuration space',
      bytesOf(ivhd([], { capabilityOffset: 0xfffc })),
      'ENODEV no-iommu-capability',
    ],
  ])('%s', (_name, bytes, line) => {
    expect(refusal(bytes)).toBe(line)
  })

  it('an IOMMU without configuration space', () => {
    const port: IommuPort = {
      readMmio: () => 0n,
      writeMmio: () => undefined,
      takeInterrupt: () => undefined,
    }
    expect(refusal(bytesOf(ivhd([])), [port])).toBe('ENODEV no-iommu-capability')
  })
})

it('without a table the registers say what there is, and nobody says anything about devices', () => {
  const features = { efr: nestingFeatures.efr, efr2: 0n }
  const { iommus, ...rest } = foundByRegisters([chip(), chip({ features })])
  expect(iommus.map((iommu) => iommu.features)).toEqual([nestingFeatures, features])
  expect(rest).toEqual({ ranges: undefined, unityMaps: [], lastDeviceId: undefined, findings: [] })
})
