/** What iommufd tells of devices behind AMD IOMMUs: hardware information, capabilities, reserved regions. */
import { encodeIvrs, nestingFeatures } from '@nestwalk/hardware'
import type { Ivhd11, Ivmd } from '@nestwalk/hardware'
import { describe, expect, it } from 'vitest'
import { AmdRig, efrBit, featuresBut } from './amd-rig.js'

const device = 0x18
const interrupts = { first: 0xfee00000n, last: 0xfeefffffn }
const hyperTransport = { first: 0xfd_0000_0000n, last: 0xff_ffff_ffffn }

describe('GET_HW_INFO', () => {
  it.each([0, 4])('of type %d has the feature registers, type 4, 16 bytes', (type) => {
    const rig = AmdRig.create()
    rig.run(rig.driver.probe(device, 1))
    const info = rig.run(rig.backend.hwInfo(rig.device(device), type))
    expect(info.type).toBe(4)
    const view = new DataView(info.bytes.buffer)
    expect(info.bytes.length).toBe(16)
    expect(view.getBigUint64(0, true)).toBe(nestingFeatures.efr)
    expect(view.getBigUint64(8, true)).toBe(nestingFeatures.efr2)
  })

  it.each([1, 2, 3, 5, 0xfeedbeef])('has no type %d', (type) => {
    const rig = AmdRig.create()
    rig.run(rig.driver.probe(device, 1))
    expect(rig.refusal(() => rig.backend.hwInfo(rig.device(device), type))).toBe(
      'EOPNOTSUPP amd-hw-info-type',
    )
  })

  it('is that of the IOMMU which the device is behind', () => {
    const otherFeatures = featuresBut({ without: [efrBit.hdSup] })
    const rig = AmdRig.create({ iommus: 2, otherFeatures })
    rig.run(rig.driver.probe(device, 1, 1))
    const { bytes } = rig.run(rig.backend.hwInfo(rig.device(device), 0))
    expect(new DataView(bytes.buffer).getBigUint64(0, true)).toBe(otherFeatures.efr)
  })
})

describe('a device', () => {
  it('is known once the driver has found it', () => {
    const rig = AmdRig.create()
    expect(rig.backend.device(device)).toBeUndefined()
    rig.run(rig.driver.probe(device, 7))
    expect(rig.device(device)).toMatchObject({ deviceId: device, group: 7, iommu: 0 })
    expect(rig.backend.groupMembers(7)).toEqual([device])
  })

  it('enforces coherency always, and has neither executable nor privileged PASIDs', () => {
    const rig = AmdRig.create()
    rig.run(rig.driver.probe(device, 1, 0, { maxPasids: 512 }))
    expect(rig.device(device)).toMatchObject({
      ...{ enforcesCoherency: true, canExecutePasid: false, hasPrivilegedPasid: false },
    })
  })

  it.each([
    [1 << 20, 0xffff],
    [512, 512],
    [0, 0],
  ])('with %d PASIDs has %d of them, as the IOMMU has 16 bits less one', (maxPasids, pasids) => {
    const rig = AmdRig.create()
    rig.run(rig.driver.probe(device, 1, 0, { maxPasids }))
    expect(rig.device(device).pasids).toBe(pasids)
  })

  it('tracks dirty pages if its IOMMU has HDSup, and has ATS if it is able to', () => {
    const rig = AmdRig.create({ iommus: 2, otherFeatures: featuresBut({ without: [efrBit.hdSup] }) })
    rig.run(rig.driver.probe(device, 1, 0, { atsQueueDepth: 8 }))
    rig.run(rig.driver.probe(0x20, 2, 1))
    expect(rig.device(device)).toMatchObject({ canTrackDirty: true, hasAts: true })
    expect(rig.device(0x20)).toMatchObject({ canTrackDirty: false, hasAts: false })
  })
})

describe('reserved regions', () => {
  const reserved = (...efr2: readonly bigint[]): unknown => {
    const [first, second] = efr2.map((value) => ({ features: featuresBut({ efr2: value }) }))
    const rig = AmdRig.create({
      iommus: efr2.length,
      features: first!.features,
      ...(second === undefined ? {} : { otherFeatures: second.features }),
    })
    rig.run(rig.driver.probe(device, 1))
    return rig.device(device).reserved
  }

  it('are the interrupt addresses and the HyperTransport hole', () => {
    expect(reserved(8n)).toEqual([interrupts, hyperTransport])
  })

  it('have no HyperTransport hole where every IOMMU ignores it', () => {
    expect(reserved(8n | (1n << 11n))).toEqual([interrupts])
    expect(reserved(8n | (1n << 11n), 8n | (1n << 11n))).toEqual([interrupts])
    expect(reserved(8n | (1n << 11n), 8n)).toEqual([interrupts, hyperTransport])
  })
})

describe('memory that firmware wants a device to reach', () => {
  const mapped = 0x10
  const ivhd: Ivhd11 = {
    ...{ kind: 'ivhd', type: 0x11, deviceId: 2, capabilityOffset: 0x40, mmioBase: 0xfeb80000n, segment: 0 },
    flags: {
      ...{ htTunEn: false, passPW: false, resPassPW: false, isoc: false },
      ...{ iotlbSup: true, coherent: true, preFSup: false, pprSup: false },
    },
    info: { msiNum: 0, unitId: 0, reserved: 0 },
    attributes: { hatDis: false, pnCounters: 0, pnBanks: 0, msiNumPpr: 0, reserved: 0 },
    ...nestingFeatures,
    entries: [
      { kind: 'rangeStart', deviceId: mapped, settings: 0 },
      { kind: 'rangeEnd', deviceId: 0x1f, settings: 0 },
    ],
  }
  const ivmd: Ivmd = {
    ...{ kind: 'ivmd', type: 0x21, deviceId: mapped, auxiliary: 0, reserved: 0n },
    flags: { unity: true, ir: true, iw: true, exclusion: false, reserved: 0 },
    ...{ start: 0x7a000800n, byteLength: 0x1000n, rest: new Uint8Array(0) },
  }
  const ivrs = encodeIvrs({
    ...{ revision: 2, oemId: 'AMD', oemTableId: 'NESTWALK', oemRevision: 1 },
    ...{ creatorId: 'AMD', creatorRevision: 1, reserved: 0n, blocks: [ivhd, ivmd] },
    info: {
      ...{ efrSup: true, dmaRemap: false, htAtsResv: false },
      ...{ gvaSize: 2, paSize: 48, vaSize: 64, reserved: 0 },
    },
  })

  function withFirmware(): AmdRig {
    const rig = AmdRig.create({ driver: { ivrs } })
    rig.run(rig.driver.probe(mapped, 1))
    rig.run(rig.driver.probe(device, 1))
    rig.run(rig.driver.probe(0x1c, 2))
    return rig
  }

  it('is a reserved region of that device, in whole pages', () => {
    const rig = withFirmware()
    const direct = { first: 0x7a000000n, last: 0x7a001fffn }
    expect(rig.device(mapped).reserved).toEqual([direct, interrupts, hyperTransport])
    expect(rig.device(device).reserved).toEqual([interrupts, hyperTransport])
  })

  it('keeps its whole group from user space: such a device cannot be blocked', () => {
    const rig = withFirmware()
    expect(rig.refusal(() => rig.backend.claimGroup(1))).toBe('EINVAL amd-unity-mapped')
    rig.run(rig.backend.claimGroup(2))
  })
})

describe('a group', () => {
  it('is blocked when it is claimed, whatever its devices were on, and gets its default domain back', () => {
    const rig = AmdRig.create({ driver: { systemDefault: 'identity' } })
    for (const deviceId of [device, 0x20]) rig.run(rig.driver.probe(deviceId, 1))
    rig.run(rig.driver.probe(0x28, 2))
    const all = [device, 0x20, 0x28]
    const lead = (): string[] => all.map((deviceId) => rig.leads(deviceId, 0x5000n))
    expect(lead()).toEqual(['5000', '5000', '5000'])
    rig.run(rig.backend.claimGroup(1))
    expect(lead()).toEqual(['fault', 'fault', '5000'])
    rig.run(rig.backend.releaseGroup(1))
    expect(lead()).toEqual(['5000', '5000', '5000'])
  })

  it('is not to be had while the kernel has a process behind a PASID', () => {
    const rig = AmdRig.create({ driver: { systemDefault: 'identity' } })
    for (const deviceId of [0x20, device]) rig.run(rig.driver.probe(deviceId, 1, 0, { maxPasids: 16 }))
    const process = rig.run(rig.driver.allocateProcess())
    rig.run(rig.driver.attachPasid([0x20], 3, process))
    expect(rig.refusal(() => rig.backend.claimGroup(1))).toBe('EBUSY pasids-attached')
    expect(rig.leads(device, 0x5000n)).toBe('5000')
  })
})
