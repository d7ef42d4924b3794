/** Nesting on AMD: what Linux 7.3 answers, and what it would with its own code wired. */
import { decodeDte, domainId, encodeDte, nestingFeatures } from '@nestwalk/hardware'
import type { Dte } from '@nestwalk/hardware'
import { perNestedDomain, viommuMap, viommuMapLinux73 } from '@nestwalk/driver'
import type { Effect } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { driverData, driverDataArray, noData } from '../src/user-data.js'
import { AmdRig, readWrite } from './amd-rig.js'
import type { RigOptions } from './amd-rig.js'

const [device, other] = [0x18, 0x20]
const amdGuest = 3

interface Nest {
  readonly rig: AmdRig
  readonly parent: number
  readonly viommu: number
}

/** Two devices, a nest parent with memory at 0x4000_0000 and a vIOMMU of type 3 on it. */
function nestWith(options: RigOptions = {}): Nest {
  const rig = AmdRig.create({ extensions: true, ...options })
  rig.run(rig.driver.probe(device, 1))
  rig.run(rig.driver.probe(other, 2, (options.iommus ?? 1) - 1))
  const parent = rig.run(rig.backend.allocatePaging(rig.device(device), { flags: 1, data: noData })).number
  rig.run(rig.backend.map(parent, 0n, 0x4000_0000n, 0x10_0000n, readWrite))
  return { rig, parent, viommu: makeViommu(rig, parent) }
}

function makeViommu(rig: AmdRig, parent: number, type = 3): number {
  const offerRegion = (): bigint => 0x1000n
  const request = { device: rig.device(device), parent, type, data: noData, offerRegion }
  return rig.run(rig.backend.createViommu(request)).number
}

const guestFields: Partial<Dte> = {
  ...{ valid: true, translationValid: true, guestValid: true, guestIoValid: true },
  ...{ gcr3Root: 0x10000n, domainId: domainId(5) },
}

const bytesOf = (words: readonly bigint[]): Uint8Array => new Uint8Array(BigUint64Array.from(words).buffer)

const entryOf = (fields: Partial<Dte>): bigint[] => [...encodeDte({ ...guestFields, ...fields })]

const allocate = ({ rig, viommu }: Nest, words: readonly bigint[] = entryOf({})) =>
  rig.backend.allocateNestedOnViommu(viommu, { flags: 0, data: driverData(amdGuest, bytesOf(words)) })

describe('Linux 7.3', () => {
  const linux = { extensions: false }

  it.each([1, 2, 3, 0xdeadbeef])('makes a vIOMMU of type %d, as of any', (type) => {
    const { rig, parent } = nestWith(linux)
    expect(rig.backend.hasViommu(rig.device(device), type)).toBe(true)
    rig.run(rig.backend.destroyViommu(makeViommu(rig, parent, type)))
  })

  it('takes the name of a device in it, whatever it is', () => {
    const { rig, viommu } = nestWith(linux)
    const name = (1n << 64n) - 1n
    rig.run(rig.backend.addVdevice(viommu, rig.device(device), name))
    rig.run(rig.backend.removeVdevice(viommu, rig.device(device), name))
  })

  it('makes no nested HWPT, takes no invalidation, and has no hardware queue', () => {
    const nest = nestWith(linux)
    const { rig, viommu } = nest
    const { backend } = rig
    const array = driverDataArray(3, [new Uint8Array(16)])
    expect(rig.refusal(() => allocate(nest))).toBe('EOPNOTSUPP amd-nested-unwired')
    expect(rig.refusal(() => backend.invalidateViommu(viommu, array))).toBe(
      'EOPNOTSUPP amd-invalidate-unwired',
    )
    expect(rig.refusal(() => backend.invalidateNested())).toBe('EOPNOTSUPP amd-invalidate-nested')
    expect(backend.nestsOnParent).toBe(false)
    expect(backend.hasGuestPasidTables).toBe(false)
    expect([1, 2, 3].map((type) => backend.hasHwQueue(viommu, type))).toEqual([false, false, false])
  })
})

describe('a vIOMMU', () => {
  it('is of type 3, the one that the extensions have', () => {
    const { rig } = nestWith()
    expect([1, 2, 3, 4].map((type) => rig.backend.hasViommu(rig.device(device), type))).toEqual([
      ...[false, false, true, false],
    ])
  })

  it('is in use while there are nested domains on it, and keeps its parent in use', () => {
    const nest = nestWith()
    const { rig, viommu, parent } = nest
    const nested = rig.run(allocate(nest))
    expect(rig.refusal(() => rig.backend.destroyViommu(viommu))).toBe('EBUSY viommu-in-use')
    expect(rig.refusal(() => rig.backend.freeDomain(parent))).toBe('EBUSY domain-in-use')
    rig.run(rig.backend.freeDomain(nested))
    rig.run(rig.backend.destroyViommu(viommu))
    rig.run(rig.backend.freeDomain(parent))
  })
})

describe('a vDEVICE', () => {
  it('has a DeviceID of 16 bits', () => {
    const { rig, viommu } = nestWith()
    const add = (name: bigint) => rig.backend.addVdevice(viommu, rig.device(device), name)
    for (const name of [0x1_0000n, 1n << 32n, (1n << 32n) | 5n, 1n << 63n, (1n << 64n) - 1n]) {
      expect(rig.refusal(() => add(name))).toBe('EINVAL virtual-id-width')
    }
    rig.run(add(0xffffn))
    rig.run(rig.backend.removeVdevice(viommu, rig.device(device), 0xffffn))
    rig.run(add(0n))
  })
})

describe('a nested HWPT', () => {
  const levels = (hex: bigint): bigint => hex << 56n
  const broken = {
    mode: 1n << 9n,
    hostRoot: 1n << 12n,
    noRoot: (1n << 55n) | 1n,
    pagingMode: 2n << 54n,
    glx: levels(3n),
  }
  const valid = entryOf({})
  const withoutRoot = valid.map((word, i) => {
    if (i === 0) return word & ~(7n << 58n)
    return i === 1 ? word & 0xffffn : word
  })

  it('is made of a guest device table entry', () => {
    const nest = nestWith()
    expect(nest.rig.driver.domain(nest.rig.run(allocate(nest)))).toMatchObject({
      ...{ kind: 'nested', guestEntry: valid, guestDomainId: 5, parent: nest.parent, viommu: nest.viommu },
    })
  })

  it('needs data of type 3', () => {
    const nest = nestWith()
    const { rig, viommu } = nest
    for (const type of [1, 2, 4, 0xdead]) {
      const data = driverData(type, bytesOf(valid))
      expect(rig.refusal(() => rig.backend.allocateNestedOnViommu(viommu, { flags: 0, data }))).toBe(
        'EOPNOTSUPP amd-nested-data-type',
      )
    }
  })

  it.each([8, 31, 33, 40])('needs 32 bytes of it: not %d', (length) => {
    const { rig, viommu } = nestWith()
    const data = driverData(amdGuest, new Uint8Array(length))
    const attempt = () => rig.backend.allocateNestedOnViommu(viommu, { flags: 0, data })
    expect(rig.refusal(attempt)).toMatch(/^EINVAL /)
  })

  // Each entry is wrong in its own way and in all later ones: the first of them decides.
  it.each([
    [
      'Mode',
      'EINVAL guest-entry-without-host-table',
      [broken.mode | broken.glx | 1n | (1n << 55n), 0n, broken.pagingMode, 0n],
    ],
    [
      'the host root',
      'EINVAL guest-entry-without-host-table',
      [broken.hostRoot | broken.glx, 0n, broken.pagingMode, 0n],
    ],
    ['the GCR3 root', 'EINVAL gcr3-root-required', [broken.noRoot | broken.glx, 0n, broken.pagingMode, 0n]],
    ['GuestPagingMode', 'EINVAL guest-paging-mode', [broken.glx, 0n, broken.pagingMode, 0n]],
    ['GLX', 'EINVAL gcr3-levels', [broken.glx, 0n, 1n << 54n, 0n]],
    ['five levels on an IOMMU with four', 'EOPNOTSUPP five-level-guest-tables', [0n, 0n, 1n << 54n, 0n]],
  ])('is refused for %s', (_what, refusal, words) => {
    const features = { ...nestingFeatures, efr: nestingFeatures.efr & ~(3n << 12n) }
    const nest = nestWith({ features })
    expect(nest.rig.refusal(() => allocate(nest, words))).toBe(refusal)
  })

  it.each([
    [
      'all bits of the host root',
      [0x000f_ffff_ffff_f000n, 0n, 0n, 0n],
      'EINVAL guest-entry-without-host-table',
    ],
    ['the lowest bit of the root in word 0', [1n | (1n << 55n) | (1n << 58n), 0n, 0n, 0n], 'accepted'],
    ['the lowest bit of the root in word 1', [1n | (1n << 55n), 1n << 16n, 0n, 0n], 'accepted'],
    ['the highest bit of the root', [1n | (1n << 55n), 1n << 63n, 0n, 0n], 'accepted'],
    [
      'bits between the parts of the root',
      [1n | (1n << 55n), 0x7ff_0000_ffffn & ~0xffff_0000n, 0n, 0n],
      'EINVAL gcr3-root-required',
    ],
    ['GV without V and no root', [1n << 55n, 0n, 0n, 0n], 'accepted'],
    ['V without GV and no root', [1n, 0n, 0n, 0n], 'accepted'],
    ['GuestPagingMode 3', [0n, 0n, 3n << 54n, 0n], 'EINVAL guest-paging-mode'],
    ['GuestPagingMode 1 on an IOMMU with five levels', [0n, 0n, 1n << 54n, 0n], 'accepted'],
    ['GLX 2', [levels(2n), 0n, 0n, 0n], 'accepted'],
    ['all zeroes', [0n, 0n, 0n, 0n], 'accepted'],
  ])('with %s', (_what, words, expected) => {
    const nest = nestWith()
    const outcome = allocate(nest, words)
    expect(outcome.ok ? 'accepted' : `${outcome.errno} ${outcome.rule}`).toBe(expected)
  })

  it('without a GCR3 root is refused if V and GV are set', () => {
    const nest = nestWith()
    expect(nest.rig.refusal(() => allocate(nest, withoutRoot))).toBe('EINVAL gcr3-root-required')
  })

  it('with the same guest DomainID on a vIOMMU has the same host DomainID; none left is ENOSPC', () => {
    // Ids: the parent's and two more.
    const nest = nestWith({ driver: { lastDomainId: 3 } })
    const { rig } = nest
    const first = rig.run(allocate(nest))
    const ids = (): number[] => rig.driver.tags.map(({ domainId: id }) => id)
    const before = ids()
    const second = rig.run(allocate(nest, entryOf({ gcr3Root: 0x20000n })))
    expect(ids()).toEqual(before)
    rig.run(allocate(nest, entryOf({ domainId: domainId(6) })))
    expect(rig.refusal(() => allocate(nest, entryOf({ domainId: domainId(7) })))).toBe('ENOSPC no-domain-id')
    rig.run(rig.backend.freeDomain(first))
    expect(rig.refusal(() => allocate(nest, entryOf({ domainId: domainId(7) })))).toBe('ENOSPC no-domain-id')
    rig.run(rig.backend.freeDomain(second))
    rig.run(allocate(nest, entryOf({ domainId: domainId(7) })))
  })
})

describe('a device on a nested HWPT', () => {
  it('has an entry of the parent and of the guest', () => {
    const nest = nestWith()
    const { rig, parent } = nest
    const guest = {
      ...{ pageRequestsAllowed: true, gcr3Levels: 2, gcr3Root: 0x9_8765_4321_f000n, guestPagingMode: 1 },
      ...{ domainId: domainId(0xabcd), readAllowed: false, writeAllowed: false },
    }
    const nested = rig.run(allocate(nest, entryOf(guest)))
    rig.run(rig.backend.attach([device], 0, nested, undefined))
    const entry = decodeDte(BigUint64Array.from(rig.entry(device)))
    const table = rig.driver.domain(parent)
    const tag = rig.driver.tags.find(({ domainId: id }) => id === entry.domainId)
    expect(entry).toMatchObject({
      ...{ valid: true, translationValid: true, guestValid: true, readAllowed: true, writeAllowed: true },
      ...{
        mode: table?.kind === 'host-table' && table.mode,
        hostRoot: table?.kind === 'host-table' && table.root,
      },
      ...{ pageRequestsAllowed: true, guestIoValid: true, gcr3Levels: 2, guestPagingMode: 1 },
      ...{ gcr3Root: 0x9_8765_4321_f000n },
    })
    expect(tag).toBeDefined()
    expect(entry.domainId).not.toBe(0xabcd)
  })

  it('has HAD while the parent tracks dirty pages', () => {
    const { rig } = nestWith()
    const data = noData
    const tracking = rig.run(rig.backend.allocatePaging(rig.device(device), { flags: 3, data })).number
    const viommu = makeViommu(rig, tracking)
    const nested = rig.run(allocate({ rig, parent: tracking, viommu }))
    rig.run(rig.backend.attach([device], 0, nested, undefined))
    const had = (): bigint => (rig.entry(device)[0]! >> 7n) & 3n
    expect(had()).toBe(0n)
    rig.run(rig.backend.setDirtyTracking(tracking, true))
    expect(had()).toBe(3n)
  })

  it('is behind the IOMMU of the vIOMMU', () => {
    const nest = nestWith({ iommus: 2 })
    const nested = nest.rig.run(allocate(nest))
    expect(nest.rig.refusal(() => nest.rig.backend.attach([other], 0, nested, undefined))).toBe(
      'EINVAL viommu-of-another-iommu',
    )
  })

  it('cannot come from a domain with PASIDs, as Linux 7.3 has it', () => {
    const rig = AmdRig.create({ extensions: true, policy: viommuMapLinux73 })
    rig.run(rig.driver.probe(device, 1, 0, { maxPasids: 16 }))
    const { number: withPasids } = rig.run(
      rig.backend.allocatePaging(rig.device(device), { flags: 8, data: noData }),
    )
    const { number: parent } = rig.run(
      rig.backend.allocatePaging(rig.device(device), { flags: 1, data: noData }),
    )
    const nested = rig.run(allocate({ rig, parent, viommu: makeViommu(rig, parent) }))
    rig.run(rig.backend.attach([device], 0, withPasids, undefined))
    expect(rig.refusal(() => rig.backend.attach([device], 0, nested, withPasids))).toBe(
      'EINVAL pasid-enabled',
    )
    rig.run(rig.backend.detach([device], 0))
    rig.run(rig.backend.attach([device], 0, nested, undefined))
  })

  it.each([viommuMap, perNestedDomain])('forgets what the parent unmaps, policy $letter', (policy) => {
    const nest = nestWith({ policy })
    const { rig, parent } = nest
    for (const [deviceId, id] of [
      [device, 5],
      [other, 6],
    ] as const) {
      const nested = rig.run(allocate(nest, entryOf({ domainId: domainId(id) })))
      rig.run(rig.backend.attach([deviceId], 0, nested, undefined))
    }
    const outcome = rig.backend.unmap(parent, 0n, 0x10_0000n)
    const flushed = outcome.ok ? outcome.effects.flatMap(flushedId) : []
    const used = [device, other].map((deviceId) => Number(rig.entry(deviceId)[1]! & 0xffffn))
    expect(new Set(used).size).toBe(2)
    expect(flushed).toEqual(expect.arrayContaining(used))
  })
})

/** The DomainID of an INVALIDATE_IOMMU_PAGES. */
const flushedId = (effect: Effect): number[] =>
  effect.kind === 'command' && effect.command.kind === 'InvalidateIommuPages'
    ? [effect.command.domainId ?? 0]
    : []
