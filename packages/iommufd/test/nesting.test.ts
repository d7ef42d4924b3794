/** HWPT_ALLOC, VIOMMU_ALLOC, VDEVICE_ALLOC and HWPT_INVALIDATE: what is refused, in the kernel's order. */
import { encodeCommand, domainId, nestingFeatures } from '@nestwalk/hardware'
import { iova } from '@nestwalk/bits'
import { perDevice, viommuMap, viommuMapLinux73 } from '@nestwalk/driver'
import { describe, expect, it } from 'vitest'
import { amdGuestDataType } from '../src/amd/abi.js'
import { amdViommuType, driverData, guestCommandArray, guestEntryData, hwptFlags } from '../src/index.js'
import { d1, d2, d3, d4, entryWords, guestEntry, Host, mapping, nestingContext } from './host.js'

describe('HWPT_ALLOC', () => {
  it('needs a DEVICE before it looks at the page table: ENOENT', () => {
    const host = Host.create()
    const { context, ioas } = nestingContext(host)
    expect(host.errno(() => context.hwptAlloc({ device: 99, pageTable: 99 }))).toBe('ENOENT')
    expect(host.errno(() => context.hwptAlloc({ device: ioas, pageTable: ioas }))).toBe('ENOENT')
  })

  it('says EINVAL, not ENOENT, for a page table that is not there', () => {
    const host = Host.create()
    const { context, device } = nestingContext(host)
    expect(host.errno(() => context.hwptAlloc({ device, pageTable: 99 }))).toBe('EINVAL')
  })

  it('says EINVAL for an object that is no page table', () => {
    const host = Host.create()
    const { context, device, viommu } = nestingContext(host)
    const nested = host.run(context.hwptAlloc({ device, pageTable: viommu, data: guestEntry() }))
    const vdevice = host.run(context.vdeviceAlloc(viommu, device, 3n))
    for (const pageTable of [device, nested, vdevice]) {
      expect(host.errno(() => context.hwptAlloc({ device, pageTable }))).toBe('EINVAL')
    }
  })

  it('takes no driver data for an IOAS: EOPNOTSUPP', () => {
    const host = Host.create()
    const { context, device, ioas } = nestingContext(host)
    const request = { device, pageTable: ioas, data: guestEntry() }
    expect(host.errno(() => context.hwptAlloc(request))).toBe('EOPNOTSUPP')
  })

  it('makes a nested HWPT only through a vIOMMU: EOPNOTSUPP on a parent', () => {
    const host = Host.create()
    const { context, device, ioas, parent } = nestingContext(host)
    const plain = host.run(context.hwptAlloc({ device, pageTable: ioas }))
    for (const pageTable of [parent, plain]) {
      const request = { device, pageTable, data: guestEntry() }
      expect(host.errno(() => context.hwptAlloc(request))).toBe('EOPNOTSUPP')
    }
  })

  it('wants GTSup, GIoSup and GCR3TRPMode for a nest parent', () => {
    const { efr, efr2 } = nestingFeatures
    const lacking = [
      { efr: efr & ~(1n << 4n), efr2 },
      { efr: efr & ~(1n << 48n), efr2 },
      { efr, efr2: efr2 & ~(1n << 3n) },
    ]
    for (const features of lacking) {
      const host = Host.create({ features })
      const context = host.iommufd.open()
      const device = host.run(context.bind(d3))
      const pageTable = host.run(context.ioasAlloc())
      expect(host.errno(() => context.hwptAlloc({ device, pageTable, flags: hwptFlags.nestParent }))).toBe(
        'EOPNOTSUPP',
      )
      host.run(context.hwptAlloc({ device, pageTable }))
    }
  })

  it('makes nothing when there is no page or no DomainID', () => {
    const noPage = Host.create({ pages: 11 })
    // A paging domain without a DomainID is none that could be allocated, for Linux.
    const noId = Host.create({ lastDomainId: 1 })
    for (const host of [noPage, noId]) {
      const context = host.iommufd.open()
      const device = host.run(context.bind(d3))
      const pageTable = host.run(context.ioasAlloc())
      let made = context.hwptAlloc({ device, pageTable })
      while (made.ok) {
        host.run(made)
        made = context.hwptAlloc({ device, pageTable })
      }
      expect(host.errno(() => context.hwptAlloc({ device, pageTable }))).toBe('ENOMEM')
      expect(host.errno(() => context.attach(device, pageTable))).toBe('ENOMEM')
    }
  })
})

describe('HWPT_ALLOC on a vIOMMU', () => {
  it('needs a device behind the vIOMMU’s IOMMU, before anything about the entry: EINVAL', () => {
    const host = Host.create({
      iommus: 2,
      devices: [
        [d3, 2, 0],
        [d4, 3, 1],
      ],
    })
    const { context, viommu } = nestingContext(host)
    const elsewhere = host.run(context.bind(d4))
    const request = { device: elsewhere, pageTable: viommu, flags: hwptFlags.nestParent }
    expect(host.errno(() => context.hwptAlloc(request))).toBe('EINVAL')
  })

  it.each([
    [viommuMapLinux73, 'done'],
    [viommuMap, 'EINVAL'],
  ])('an attach to a device behind another IOMMU, under $0.letter: $1 (U20)', (policy, end) => {
    const host = Host.create({
      policy,
      iommus: 2,
      devices: [
        [d3, 2, 0],
        [d4, 3, 1],
      ],
    })
    const { context, device, viommu } = nestingContext(host)
    const elsewhere = host.run(context.bind(d4))
    const nested = host.run(context.hwptAlloc({ device, pageTable: viommu, data: guestEntry() }))
    const attached = context.attach(elsewhere, nested)
    expect(attached.ok ? 'done' : attached.errno).toBe(end)
  })

  it('is one level deep, and needs the guest’s entry: EOPNOTSUPP', () => {
    const host = Host.create()
    const { context, device, viommu } = nestingContext(host)
    const entry = guestEntry()
    const refused = [
      { device, pageTable: viommu, flags: hwptFlags.nestParent, data: entry },
      { device, pageTable: viommu },
    ]
    for (const request of refused) expect(host.errno(() => context.hwptAlloc(request))).toBe('EOPNOTSUPP')
  })

  it('takes an entry of exactly 32 bytes: EINVAL', () => {
    const host = Host.create()
    const { context, device, viommu } = nestingContext(host)
    for (const length of [0, 24, 31, 33, 40]) {
      const data = driverData(amdGuestDataType, new Uint8Array(length))
      expect(host.errno(() => context.hwptAlloc({ device, pageTable: viommu, data }))).toBe('EINVAL')
    }
  })

  const bits = (word: number, value: bigint): bigint[] =>
    entryWords().map((old, i) => (i === word ? old | value : old))
  const withoutRoot = [(1n << 55n) | (3n << 61n) | 3n, 5n, 0n, 0n]
  const fiveLevels = bits(2, 1n << 54n)
  const entries: readonly (readonly [string, string, readonly bigint[]])[] = [
    ['EINVAL', 'Mode is not 0', bits(0, 1n << 9n)],
    ['EINVAL', 'Mode is 7', bits(0, 7n << 9n)],
    ['EINVAL', 'the host root is not 0', bits(0, 0x1000n)],
    ['EINVAL', 'the highest bit of the host root is set', bits(0, 1n << 51n)],
    ['EINVAL', 'V and GV stand without a GCR3 root', withoutRoot],
    ['EINVAL', 'GuestPagingMode is 2', bits(2, 2n << 54n)],
    ['EINVAL', 'GuestPagingMode is 3', bits(2, 3n << 54n)],
    ['EINVAL', 'GLX is 3', bits(0, 3n << 56n)],
    ['accepted', 'all is well', entryWords()],
    ['accepted', 'five levels on a host that has them', fiveLevels],
    ['accepted', 'GLX is 2', bits(0, 2n << 56n)],
    ['accepted', 'V is 0, even without a root', [1n << 55n, 5n, 0n, 0n]],
    ['accepted', 'GV is 0, even without a root', [3n, 5n, 0n, 0n]],
    ['accepted', 'the root is only in bits 31:16', [withoutRoot[0]!, 5n | (1n << 16n), 0n, 0n]],
    ['accepted', 'the root is only in bits 63:43', [withoutRoot[0]!, 5n | (1n << 43n), 0n, 0n]],
    ['accepted', 'nothing at all is set', [0n, 0n, 0n, 0n]],
    [
      'accepted',
      'rights, reserved and interrupt bits are as they like',
      bits(0, 0x7cn).map((word, i) => (i === 3 ? 1n : word)),
    ],
  ]
  it.each(entries)('%s if %s', (result, _when, entry) => {
    const host = Host.create()
    const { context, device, viommu } = nestingContext(host)
    const request = { device, pageTable: viommu, data: guestEntryData(entry) }
    if (result === 'accepted') host.run(context.hwptAlloc(request))
    else expect(host.errno(() => context.hwptAlloc(request))).toBe(result)
  })

  it('has five levels only where the host has: EOPNOTSUPP, after all that is EINVAL', () => {
    const { efr, efr2 } = nestingFeatures
    const host = Host.create({ features: { efr: efr & ~(3n << 12n), efr2 } })
    const { context, device, viommu } = nestingContext(host)
    const errno = (entry: readonly bigint[]): string =>
      host.errno(() => context.hwptAlloc({ device, pageTable: viommu, data: guestEntryData(entry) }))
    expect(errno(fiveLevels)).toBe('EOPNOTSUPP')
    expect(errno(fiveLevels.map((word, i) => (i === 0 ? word | (3n << 56n) : word)))).toBe('EINVAL')
  })

  it('runs out of DomainIDs with ENOSPC, and shares one for equal guest DomainIDs', () => {
    const host = Host.create({ lastDomainId: 2 })
    const { context, device, viommu } = nestingContext(host)
    const alloc = (id: number) => context.hwptAlloc({ device, pageTable: viommu, data: guestEntry(id) })
    host.run(alloc(7))
    host.run(alloc(7))
    expect(host.errno(() => alloc(8))).toBe('ENOSPC')
  })
})

describe('VIOMMU_ALLOC', () => {
  it('needs a DEVICE, then a paging HWPT: ENOENT', () => {
    const host = Host.create()
    const { context, device, ioas, viommu } = nestingContext(host)
    const nested = host.run(context.hwptAlloc({ device, pageTable: viommu, data: guestEntry() }))
    expect(host.errno(() => context.viommuAlloc({ device: 99, parent: 99, type: amdViommuType }))).toBe(
      'ENOENT',
    )
    for (const parent of [99, ioas, nested, viommu, device]) {
      expect(
        host.errno(() => context.viommuAlloc({ device: device, parent: parent, type: amdViommuType })),
      ).toBe('ENOENT')
    }
  })

  it('needs a nest parent: EINVAL for another HWPT, explicit or automatic', () => {
    const host = Host.create()
    const context = host.iommufd.open()
    const device = host.run(context.bind(d3))
    const ioas = host.run(context.ioasAlloc())
    const plain = host.run(context.hwptAlloc({ device, pageTable: ioas }))
    const automatic = host.run(context.attach(device, ioas))
    for (const parent of [plain, automatic]) {
      expect(
        host.errno(() => context.viommuAlloc({ device: device, parent: parent, type: amdViommuType })),
      ).toBe('EINVAL')
    }
  })

  it('may be made several times on one parent', () => {
    const host = Host.create()
    const { context, device, parent, viommu } = nestingContext(host)
    const second = host.run(context.viommuAlloc({ device: device, parent: parent, type: amdViommuType }))
    host.run(context.destroy(viommu))
    expect(host.errno(() => context.destroy(parent))).toBe('EBUSY')
    host.run(context.destroy(second))
    host.run(context.destroy(parent))
  })
})

describe('VDEVICE_ALLOC', () => {
  it('needs a vIOMMU and a DEVICE: ENOENT', () => {
    const host = Host.create()
    const { context, device, viommu } = nestingContext(host)
    expect(host.errno(() => context.vdeviceAlloc(99, device, 1n))).toBe('ENOENT')
    expect(host.errno(() => context.vdeviceAlloc(viommu, 99, 1n))).toBe('ENOENT')
  })

  it('needs a device behind the vIOMMU’s IOMMU: EINVAL', () => {
    const host = Host.create({
      iommus: 2,
      devices: [
        [d3, 2, 0],
        [d4, 3, 1],
      ],
    })
    const { context, viommu } = nestingContext(host)
    const elsewhere = host.run(context.bind(d4))
    expect(host.errno(() => context.vdeviceAlloc(viommu, elsewhere, 1n))).toBe('EINVAL')
  })

  it('gives a device one vDEVICE in all vIOMMUs: EEXIST', () => {
    const host = Host.create()
    const { context, device, parent, viommu } = nestingContext(host)
    const other = host.run(context.viommuAlloc({ device: device, parent: parent, type: amdViommuType }))
    host.run(context.vdeviceAlloc(viommu, device, 1n))
    expect(host.errno(() => context.vdeviceAlloc(viommu, device, 2n))).toBe('EEXIST')
    expect(host.errno(() => context.vdeviceAlloc(other, device, 2n))).toBe('EEXIST')
  })

  it('gives a virtual ID once in a vIOMMU: EEXIST, and in another one again', () => {
    const host = Host.create()
    const { context, device, parent, viommu } = nestingContext(host)
    const other = host.run(context.viommuAlloc({ device: device, parent: parent, type: amdViommuType }))
    const second = host.run(context.bind(d4))
    host.run(context.vdeviceAlloc(viommu, device, 1n))
    expect(host.errno(() => context.vdeviceAlloc(viommu, second, 1n))).toBe('EEXIST')
    host.run(context.vdeviceAlloc(other, second, 1n))
  })
})

describe('HWPT_INVALIDATE', () => {
  const pages = (id: number): readonly [bigint, bigint] => {
    const [lo, hi] = encodeCommand({
      kind: 'InvalidateIommuPages',
      domainId: domainId(id),
      size: true,
      address: iova(0x7fff_ffff_ffff_f000n),
    })
    return [lo!, hi!]
  }

  it('knows vIOMMUs: ENOENT for nothing, EINVAL for other objects, EOPNOTSUPP for a nested HWPT', () => {
    const host = Host.create()
    const { context, device, ioas, parent, viommu } = nestingContext(host)
    const nested = host.run(context.hwptAlloc({ device, pageTable: viommu, data: guestEntry() }))
    expect(host.errno(() => context.invalidate(99, guestCommandArray([pages(5)])))).toBe('ENOENT')
    for (const id of [device, ioas, parent]) {
      expect(host.errno(() => context.invalidate(id, guestCommandArray([pages(5)])))).toBe('EINVAL')
    }
    expect(host.errno(() => context.invalidate(nested, guestCommandArray([pages(5)])))).toBe('EOPNOTSUPP')
  })

  it('stops at the first bad entry and tells how many took effect', () => {
    const host = Host.create()
    const { context, device, viommu } = nestingContext(host)
    const nested = host.run(context.hwptAlloc({ device, pageTable: viommu, data: guestEntry() }))
    host.run(context.attach(device, nested))
    const bad: (readonly [string, readonly [bigint, bigint]])[] = [
      ['EOPNOTSUPP', [0x2n << 60n, 0n]],
      ['EOPNOTSUPP', [0xfn << 60n, 0n]],
      ['EINVAL', [pages(5)[0] | (1n << 20n), pages(5)[1]]],
      ['EINVAL', [pages(5)[0] | 7n, pages(5)[1]]],
    ]
    for (const [errno, words] of bad) {
      const outcome = context.invalidate(viommu, guestCommandArray([pages(5), words, pages(5)]))
      expect(host.run(outcome)).toMatchObject({ handled: 1, refused: { errno } })
      const commands = outcome.ok ? outcome.effects.filter(({ kind }) => kind === 'command') : []
      expect(commands).toHaveLength(1)
    }
    expect(host.run(context.invalidate(viommu, guestCommandArray([])))).toEqual({ handled: 0 })
  })

  it('goes out under the host’s DomainID, and not at all for an ID that stands for nothing', () => {
    const host = Host.create()
    const { context, device, viommu } = nestingContext(host)
    const nested = host.run(context.hwptAlloc({ device, pageTable: viommu, data: guestEntry(0xbeef) }))
    host.run(context.attach(device, nested))
    const hostId = Number(host.entry(d3)[1] & 0xffffn)
    const sent = (id: number): readonly unknown[] => {
      const outcome = context.invalidate(viommu, guestCommandArray([pages(id)]))
      host.run(outcome)
      return outcome.ok ? outcome.effects : []
    }
    expect(sent(0xbeef)).toMatchObject([
      { kind: 'command', command: { kind: 'InvalidateIommuPages', domainId: hostId } },
      { kind: 'wait' },
    ])
    expect(sent(hostId)).toEqual([])
  })

  it('reaches no other VM whatever ID it names', () => {
    const host = Host.create()
    const one = nestingContext(host, d3)
    const other = nestingContext(host, d4)
    for (const { context, device, viommu } of [one, other]) {
      const nested = host.run(context.hwptAlloc({ device, pageTable: viommu, data: guestEntry(5) }))
      host.run(context.attach(device, nested))
    }
    const own = host.entry(d3)[1] & 0xffffn
    for (let id = 0; id < 16; id++) {
      const outcome = one.context.invalidate(one.viommu, guestCommandArray([pages(id)]))
      host.run(outcome)
      for (const effect of outcome.ok ? outcome.effects : []) {
        if (effect.kind === 'command') expect(effect.command).toMatchObject({ domainId: Number(own) })
      }
    }
  })

  it('follows the policy: one tag for each device means the first of them only', () => {
    const host = Host.create({ policy: perDevice, groupRule: 'per-member' })
    const { context, device, viommu } = nestingContext(host, d1)
    const second = host.run(context.bind(d2))
    const nested = host.run(context.hwptAlloc({ device, pageTable: viommu, data: guestEntry() }))
    for (const each of [device, second]) host.run(context.attach(each, nested))
    const outcome = context.invalidate(viommu, guestCommandArray([pages(5)]))
    host.run(outcome)
    expect(outcome).toMatchObject({
      effects: [{ command: { domainId: Number(host.entry(d1)[1] & 0xffffn) } }, {}],
    })
  })
})

it('makes the device’s entry of the guest’s tables and the parent’s, and of nothing else', () => {
  const host = Host.create()
  const { context, device, ioas, parent, viommu } = nestingContext(host)
  host.run(context.ioasMap(mapping(ioas, 0n, 0x1000000n, 0x200000n)))
  host.run(context.attach(device, parent))
  const [low, high] = host.entry(d3)
  const greedy = entryWords().map((word, i) => (i === 1 ? word | (0x3ffn << 32n) : word))
  const nested = host.run(context.hwptAlloc({ device, pageTable: viommu, data: guestEntryData(greedy) }))
  host.run(context.replace(device, nested))
  const [nestedLow, nestedHigh] = host.entry(d3)
  const guests = (1n << 54n) | (1n << 55n) | (0x1fn << 56n)
  expect(nestedLow & ~guests).toBe(low & ~guests)
  expect(nestedLow & guests).toBe(entryWords()[0]! & guests)
  // Another DomainID than the parent's, and none of SE, SA, IoCtl, Cache, SD, EX, SysMgt.
  expect(nestedHigh & 0xffffn).not.toBe(high & 0xffffn)
  expect(nestedHigh >> 16n).toBe(0n)
})
