/** HWPTs on an IOAS behind AMD IOMMUs: which table the flags give, what it maps, and what was written through it. */
import { nestingFeatures } from '@nestwalk/hardware'
import { describe, expect, it } from 'vitest'
import { driverData, noData } from '../src/user-data.js'
import { AmdRig, efrBit, featuresBut, readWrite } from './amd-rig.js'
import type { RigOptions } from './amd-rig.js'

const [device, other] = [0x18, 0x20]
const [nestParent, dirtyTracking, pasid] = [1, 2, 8]

function rigWith(options: RigOptions = {}): AmdRig {
  const rig = AmdRig.create(options)
  rig.run(rig.driver.probe(device, 1, 0))
  rig.run(rig.driver.probe(other, 2, (options.iommus ?? 1) - 1))
  return rig
}

const allocate = (rig: AmdRig, flags: number, deviceId = device) =>
  rig.backend.allocatePaging(rig.device(deviceId), { flags, data: noData })

const kindOf = (rig: AmdRig, flags: number): string | undefined =>
  rig.driver.domain(rig.run(allocate(rig, flags)).number)?.kind

describe('flags', () => {
  it('none, dirty tracking, nest parent and both give a host table', () => {
    const rig = rigWith()
    expect(
      [0, nestParent, dirtyTracking, nestParent | dirtyTracking].map((flags) => kindOf(rig, flags)),
    ).toEqual(Array(4).fill('host-table'))
  })

  it('PASID gives a guest-format table', () => {
    expect(kindOf(rigWith(), pasid)).toBe('guest-table')
  })

  it.each([pasid | dirtyTracking, pasid | nestParent, pasid | nestParent | dirtyTracking, 16])(
    '0x%s together are refused',
    (flags) => {
      const rig = rigWith()
      expect(rig.refusal(() => allocate(rig, flags))).toBe('EOPNOTSUPP amd-paging-flags')
    },
  )

  it('with driver data of whatever type are refused', () => {
    const rig = rigWith()
    const data = driverData(3, new Uint8Array(32))
    expect(rig.refusal(() => rig.backend.allocatePaging(rig.device(device), { flags: 0, data }))).toBe(
      'EOPNOTSUPP amd-paging-data',
    )
  })

  it('none give what the kernel prefers, and the other table where that is not to be had', () => {
    expect(kindOf(rigWith({ defaultTable: 'guest' }), 0)).toBe('guest-table')
    // EFR.HATS 3: no host tables; GTSup clear: no guest tables.
    const noHostTables = { ...nestingFeatures, efr: nestingFeatures.efr | (3n << 10n) }
    expect(kindOf(rigWith({ features: noHostTables }), 0)).toBe('guest-table')
    const noGuestTables = featuresBut({ without: [efrBit.gtSup] })
    expect(kindOf(rigWith({ features: noGuestTables, defaultTable: 'guest' }), 0)).toBe('host-table')
  })
})

describe('features that a table needs', () => {
  it.each([
    ['dirty tracking', dirtyTracking, 'HDSup', featuresBut({ without: [efrBit.hdSup] })],
    ['a nest parent', nestParent, 'GTSup', featuresBut({ without: [efrBit.gtSup] })],
    ['a nest parent', nestParent, 'GIoSup', featuresBut({ without: [efrBit.gIoSup] })],
    ['a nest parent', nestParent, 'GCR3TRPModeSup', featuresBut({ efr2: 0n })],
    ['PASIDs', pasid, 'PPRSup', featuresBut({ without: [efrBit.pprSup] })],
    ['PASIDs', pasid, 'EPHSup', featuresBut({ without: [efrBit.ephSup] })],
    ['PASIDs', pasid, 'GTSup', featuresBut({ without: [efrBit.gtSup] })],
  ])('%s (%d): %s', (_name, flags, _feature, features) => {
    const rig = rigWith({ features })
    expect(rig.refusal(() => allocate(rig, flags))).toMatch(/^EOPNOTSUPP /)
    rig.run(allocate(rig, 0))
  })

  it('dirty tracking is asked of the IOMMU of the device; behind another one the domain is refused', () => {
    const rig = rigWith({ iommus: 2, otherFeatures: featuresBut({ without: [efrBit.hdSup] }) })
    expect(rig.refusal(() => allocate(rig, dirtyTracking, other))).toMatch(/^EOPNOTSUPP /)
    const { number } = rig.run(allocate(rig, dirtyTracking))
    rig.run(rig.backend.attach([device], 0, number, undefined))
    expect(rig.refusal(() => rig.backend.attach([other], 0, number, undefined))).toMatch(/^EINVAL /)
  })
})

describe('what a table can do', () => {
  const v1Sizes = ((1n << 52n) - 1n) & ~0xfffn & ~(1n << 39n)
  const v2Sizes = (1n << 12n) | (1n << 21n) | (1n << 30n)

  it.each([
    [0, (1n << 48n) - 1n],
    [1, (1n << 57n) - 1n],
    [2, (1n << 64n) - 1n],
  ])('host tables with HATS %d: up to 0x%x, every page size but 512 GiB', (hats, last) => {
    const features = { ...nestingFeatures, efr: (nestingFeatures.efr & ~(3n << 10n)) | (BigInt(hats) << 10n) }
    const rig = rigWith({ features })
    expect(rig.run(allocate(rig, 0))).toMatchObject({ aperture: { first: 0n, last }, pageSizes: v1Sizes })
  })

  it.each([
    [0, 47n],
    [1, 56n],
  ])('guest tables with GATS %d: %d bits, 4 KiB, 2 MiB and 1 GiB', (gats, bits) => {
    const features = { ...nestingFeatures, efr: (nestingFeatures.efr & ~(3n << 12n)) | (BigInt(gats) << 12n) }
    const rig = rigWith({ features })
    expect(rig.run(allocate(rig, pasid))).toMatchObject({
      ...{ aperture: { first: 0n, last: (1n << bits) - 1n }, pageSizes: v2Sizes },
    })
  })

  it('enforces coherency; tracks dirty pages if it was made for that', () => {
    const rig = rigWith()
    const can = [0, nestParent, dirtyTracking, nestParent | dirtyTracking, pasid].map((flags) => {
      const { enforcesCoherency, canTrackDirty } = rig.run(allocate(rig, flags))
      expect(enforcesCoherency).toBe(true)
      return canTrackDirty
    })
    expect(can).toEqual([false, false, true, true, false])
  })
})

describe.each([0, pasid])('a table of flags %d', (flags) => {
  function mapped(): { rig: AmdRig; domain: number } {
    const rig = rigWith()
    const domain = rig.run(allocate(rig, flags)).number
    rig.run(rig.backend.attach([device], 0, domain, undefined))
    return { rig, domain }
  }

  it('leads its devices where it says, until that is unmapped', () => {
    const { rig, domain } = mapped()
    const { backend } = rig
    rig.run(backend.map(domain, 0x20_0000n, 0x4000_0000n, 0x20_1000n, readWrite))
    expect(backend.translate(domain, 0x20_1234n)).toBe(0x4000_1234n)
    expect(backend.translate(domain, 0x1fffffn)).toBeUndefined()
    expect(backend.pageAt(domain, 0x3f_ffffn)).toEqual({ first: 0x20_0000n, last: 0x3f_ffffn })
    expect(backend.pageAt(domain, 0x40_0000n)).toEqual({ first: 0x40_0000n, last: 0x40_0fffn })
    expect(backend.pageAt(domain, 0x40_1000n)).toBeUndefined()
    expect(rig.leads(device, 0x40_0008n)).toBe('40200008')
    expect(rig.run(backend.unmap(domain, 0n, 1n << 30n))).toBe(0x20_1000n)
    expect(rig.leads(device, 0x40_0008n)).toBe('fault')
    expect(rig.run(backend.unmap(domain, 0n, 1n << 30n))).toBe(0n)
  })

  it('has no larger pages than it may', () => {
    const { rig, domain } = mapped()
    rig.run(rig.backend.map(domain, 0x20_0000n, 0x4000_0000n, 0x20_0000n, readWrite, 4096n))
    expect(rig.backend.pageAt(domain, 0x21_0000n)).toEqual({ first: 0x21_0000n, last: 0x21_0fffn })
  })

  it('maps nothing that nobody may use', () => {
    const { rig, domain } = mapped()
    const rights = { read: false, write: false }
    expect(rig.refusal(() => rig.backend.map(domain, 0n, 0n, 0x1000n, rights))).toBe('EINVAL amd-map-rights')
  })

  it('maps nothing to where no physical address leads', () => {
    const { rig, domain } = mapped()
    expect(rig.refusal(() => rig.backend.map(domain, 0n, 1n << 52n, 0x1000n, readWrite))).toBe(
      'EOVERFLOW target',
    )
  })
})

describe('dirty tracking', () => {
  function tracking(): { rig: AmdRig; domain: number } {
    const rig = rigWith()
    const domain = rig.run(allocate(rig, dirtyTracking)).number
    rig.run(rig.backend.map(domain, 0x10_0000n, 0x4000_0000n, 0x8000n, readWrite, 4096n))
    rig.run(rig.backend.attach([device], 0, domain, undefined))
    return { rig, domain }
  }
  const write = (rig: AmdRig, iova: bigint): void => {
    expect(rig.iommus[0]!.request({ deviceId: device, iova, write: true }).kind).toBe('translated')
  }
  const range = { first: 0x10_0000n, last: 0x10_7fffn }

  it('reports what was written since, once', () => {
    const { rig, domain } = tracking()
    write(rig, 0x10_0000n)
    rig.run(rig.backend.setDirtyTracking(domain, true))
    write(rig, 0x10_3008n)
    const page = { first: 0x10_3000n, last: 0x10_3fffn }
    expect(rig.run(rig.backend.readDirty(domain, range, false))).toEqual([page])
    expect(rig.run(rig.backend.readDirty(domain, range, true))).toEqual([page])
    expect(rig.run(rig.backend.readDirty(domain, range, true))).toEqual([])
    write(rig, 0x10_3008n)
    expect(rig.run(rig.backend.readDirty(domain, range, true))).toEqual([page])
  })

  it('sets HAD in the entries of its devices', () => {
    const { rig, domain } = tracking()
    const had = (): bigint => (rig.entry(device)[0]! >> 7n) & 3n
    expect(had()).toBe(0n)
    rig.run(rig.backend.setDirtyTracking(domain, true))
    expect(had()).toBe(3n)
    rig.run(rig.backend.setDirtyTracking(domain, false))
    expect(had()).toBe(0n)
  })

  it('is not for other tables', () => {
    const rig = rigWith()
    const { number } = rig.run(allocate(rig, 0))
    expect(rig.refusal(() => rig.backend.setDirtyTracking(number, true))).toBe('EOPNOTSUPP no-dirty-tracking')
    expect(rig.refusal(() => rig.backend.readDirty(number, range, true))).toBe('EOPNOTSUPP no-dirty-tracking')
  })
})

describe('several devices', () => {
  it('are attached all or none, and blocked again', () => {
    const rig = rigWith({ iommus: 2, otherFeatures: featuresBut({ without: [efrBit.hdSup] }) })
    const tracks = rig.run(allocate(rig, dirtyTracking)).number
    expect(rig.refusal(() => rig.backend.attach([device, other], 0, tracks, undefined))).toMatch(/^EINVAL /)
    const { number } = rig.run(allocate(rig, 0))
    rig.run(rig.backend.map(number, 0x5000n, 0x9000n, 0x1000n, readWrite))
    rig.run(rig.backend.attach([device, other], 0, number, undefined))
    expect([device, other].map((each) => rig.leads(each, 0x5000n))).toEqual(['9000', '9000'])
    rig.run(rig.backend.detach([device, other], 0))
    expect([device, other].map((each) => rig.leads(each, 0x5000n))).toEqual(['fault', 'fault'])
    rig.run(rig.backend.freeDomain(number))
  })

  it('of a transaction that is refused, nothing remains', () => {
    const rig = rigWith()
    const before = rig.state()
    const outcome = rig.backend.transaction(() => {
      const made = allocate(rig, 0)
      if (!made.ok) return made
      expect(made.effects).toEqual([])
      const mapping = rig.backend.map(made.value.number, 0n, 0x9000n, 0x1000n, readWrite)
      if (!mapping.ok) return mapping
      return rig.backend.map(made.value.number, 0n, 1n << 52n, 0x1000n, readWrite)
    })
    expect(outcome).toMatchObject({ ok: false, errno: 'EOVERFLOW', rule: 'target' })
    expect(rig.state()).toBe(before)
  })
})
