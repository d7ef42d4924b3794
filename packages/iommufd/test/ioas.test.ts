/** IOAS_MAP and IOAS_UNMAP: what is refused, in the kernel's order, and what reaches the chip. */
import { describe, expect, it } from 'vitest'
import type { Context, ObjectId } from '../src/index.js'
import { d3, d4, guestEntry, Host, mapping, nestingContext } from './host.js'

const last64 = (1n << 64n) - 1n
const page = 0x1000n

interface Place {
  readonly host: Host
  readonly context: Context
  readonly ioas: ObjectId
}

function emptyIoas(host = Host.create()): Place {
  const context = host.iommufd.open()
  return { host, context, ioas: host.run(context.ioasAlloc()) }
}

const areasOf = (context: Context, ioas: ObjectId): unknown => {
  const object = context.object(ioas)
  return object?.kind === 'ioas' ? object.table.areas : undefined
}

describe('IOAS_MAP', () => {
  const noRights = { readable: false, writeable: false }
  const noIoas = { ioas: 9 }
  const refusals: readonly (readonly [
    errno: string,
    why: string,
    readonly [iova: bigint, memory: bigint, length: bigint],
    more: object,
  ])[] = [
    ['EOVERFLOW', 'an address of 2^64 - 1, before the rights', [last64, 0n, page], noRights],
    ['EOVERFLOW', 'a length of 2^64 - 1, before the IOAS is looked up', [0n, 0n, last64], noIoas],
    ['EINVAL', 'neither readable nor writeable, before the IOAS', [0n, 0n, page], { ...noRights, ...noIoas }],
    ['ENOENT', 'an IOAS that is not there, before the length', [0n, 0n, 0n], noIoas],
    ['EOVERFLOW', 'memory that wraps, before the address', [1n, page, last64 - 0xfffn], {}],
    ['EINVAL', 'no length', [0n, 0n, 0n], {}],
    ['EINVAL', 'a length above 2^64 - 1 less a page', [0n, 0n, last64 - 0xfffn], {}],
    ['EINVAL', 'a length that is not whole pages', [0n, 0n, 0x1800n], {}],
    ['EINVAL', 'an address that is not a page, before the wrap', [last64 - 0xffen, 0n, page], {}],
    ['EOVERFLOW', 'addresses that wrap', [last64 - 0xfffn, 0n, 2n * page], {}],
    ['EEXIST', 'what is mapped, before the alignment of the memory', [0x5000n, 0x800n, page], {}],
    ['EEXIST', 'a range that begins in an area', [0x5000n, 0n, 3n * page], {}],
    ['EEXIST', 'a range around an area', [0x3000n, 0n, 8n * page], {}],
    ['EEXIST', 'a range that ends in an area', [0x3000n, 0n, 3n * page], {}],
    ['EINVAL', 'memory that is not whole pages', [0x1000n, 0x800n, page], {}],
  ]
  it.each(refusals)('%s for %s', (errno, _why, [from, to, length], more) => {
    const { host, context, ioas } = emptyIoas()
    host.run(context.attach(host.run(context.bind(d3)), ioas))
    host.run(context.ioasMap(mapping(ioas, 0x5000n, 0x700000n, 2n * page)))
    expect(host.errno(() => context.ioasMap(mapping(ioas, from, to, length, more)))).toBe(errno)
  })

  it('aligns nothing in an IOAS without HWPTs, which then cannot have one: EADDRINUSE', () => {
    const unaligned: readonly (readonly [bigint, bigint, bigint])[] = [
      [0x1000n, 0n, 0x1800n],
      [0x1001n, 1n, page],
      [0x1000n, 0x800n, page],
    ]
    for (const [from, to, length] of unaligned) {
      const { host, context, ioas } = emptyIoas()
      const device = host.run(context.bind(d3))
      host.run(context.ioasMap(mapping(ioas, from, to, length)))
      expect(host.errno(() => context.attach(device, ioas))).toBe('EADDRINUSE')
    }
  })

  it('fits between two areas that touch it', () => {
    const { host, context, ioas } = emptyIoas()
    for (const from of [0x3000n, 0x5000n, 0x4000n]) host.run(context.ioasMap(mapping(ioas, from, from, page)))
    expect(areasOf(context, ioas)).toMatchObject([{ iova: 0x3000n }, { iova: 0x4000n }, { iova: 0x5000n }])
  })

  it('may use address 0, and the last page', () => {
    const { host, context, ioas } = emptyIoas()
    const device = host.run(context.bind(d3))
    host.run(context.attach(device, ioas))
    host.run(context.ioasMap(mapping(ioas, 0n, 0x700000n, page)))
    host.run(context.ioasMap({ ...mapping(ioas, 0n, 0x800000n, page), iova: last64 - 0xfffn }))
    expect(host.leads(d3, 0xabcn)).toBe('700abc')
    expect(host.leads(d3, last64 - 0xfffn)).toBe('800000')
  })

  it('gives the rights that were asked for, and no others', () => {
    const { host, context, ioas } = emptyIoas()
    host.run(context.attach(host.run(context.bind(d3)), ioas))
    host.run(context.ioasMap(mapping(ioas, 0x1000n, 0x700000n, page, { writeable: false })))
    host.run(context.ioasMap(mapping(ioas, 0x2000n, 0x701000n, page, { readable: false })))
    const chip = host.iommus[0]!
    const rights = [0x1000n, 0x2000n].flatMap((iova) =>
      [false, true].map((write) => chip.walkFresh({ deviceId: d3, iova, write }).kind),
    )
    expect(rights).toEqual(['translated', 'fault', 'fault', 'translated'])
  })

  it('says ENOMEM when the kernel has no page for a table, and maps nothing anywhere', () => {
    const host = Host.create({ pages: 14 })
    const { context, ioas } = emptyIoas(host)
    const device = host.run(context.bind(d3))
    const made: ObjectId[] = []
    for (;;) {
      const hwpt = context.hwptAlloc({ device, pageTable: ioas })
      if (!hwpt.ok) break
      made.push(host.run(hwpt))
    }
    expect(made.length).toBeGreaterThan(1)
    expect(host.errno(() => context.ioasMap(mapping(ioas, 0x1000n, 0x700000n, page)))).toBe('ENOMEM')
    // Room for the tables of one HWPT, not of all.
    host.run(context.destroy(made.pop()!))
    host.run(context.destroy(made.pop()!))
    expect(made.length).toBeGreaterThan(1)
    expect(host.errno(() => context.ioasMap(mapping(ioas, 0x1000n, 0x700000n, page)))).toBe('ENOMEM')
  })
})

describe('reserved regions', () => {
  it('are the MSI window and the HyperTransport hole', () => {
    expect(Host.create().backend.device(d3)?.reserved).toEqual([
      { first: 0xfee0_0000n, last: 0xfeef_ffffn },
      { first: 0xfd_0000_0000n, last: 0xff_ffff_ffffn },
    ])
  })

  const edges: readonly (readonly [bigint, bigint, 'free' | 'reserved'])[] = [
    [0xfedf_f000n, page, 'free'],
    [0xfedf_f000n, 2n * page, 'reserved'],
    [0xfee0_0000n, page, 'reserved'],
    [0xfeef_f000n, page, 'reserved'],
    [0xfef0_0000n, page, 'free'],
    [0xfe00_0000n, 0x200_0000n, 'reserved'],
    [0xfc_ffff_f000n, page, 'free'],
    [0xfd_0000_0000n, page, 'reserved'],
    [0xff_ffff_f000n, page, 'reserved'],
    [0x100_0000_0000n, page, 'free'],
  ]
  it.each(edges)('with a device attached a mapping at %s of %s bytes is %s', (from, length, is) => {
    const { host, context, ioas } = emptyIoas()
    const device = host.run(context.bind(d3))
    host.run(context.attach(device, ioas))
    const map = () => context.ioasMap(mapping(ioas, from, 0x10000000n, length))
    if (is === 'free') host.run(map())
    else expect(host.errno(map)).toBe('EINVAL')
  })

  it.each(edges)(
    'without one it is mapped, and then a device cannot come: %s, %s bytes, %s',
    (from, length, is) => {
      const { host, context, ioas } = emptyIoas()
      const device = host.run(context.bind(d3))
      const hwpt = host.run(context.hwptAlloc({ device, pageTable: ioas }))
      host.run(context.ioasMap(mapping(ioas, from, 0x10000000n, length)))
      for (const to of [ioas, hwpt]) {
        const attach = () => context.attach(device, to)
        if (is === 'free') {
          host.run(attach())
          host.run(context.detach(device))
        } else {
          expect(host.errno(attach)).toBe('EADDRINUSE')
        }
      }
    },
  )

  it('count through a nested HWPT, and until the last device has left', () => {
    const host = Host.create()
    const { context, device, ioas, viommu, parent } = nestingContext(host)
    const other = host.run(context.bind(d4))
    const nested = host.run(context.hwptAlloc({ device, pageTable: viommu, data: guestEntry() }))
    const map = () => context.ioasMap(mapping(ioas, 0xfee0_0000n, 0x700000n, page))
    host.run(context.attach(device, nested))
    host.run(context.attach(other, parent))
    expect(host.errno(map)).toBe('EINVAL')
    host.run(context.detach(other))
    expect(host.errno(map)).toBe('EINVAL')
    host.run(context.detach(device))
    host.run(map())
    expect(host.errno(() => context.attach(device, nested))).toBe('EADDRINUSE')
    expect(host.errno(() => context.attach(device, parent))).toBe('EADDRINUSE')
  })

  it('move with a device to another IOAS', () => {
    const { host, context, ioas } = emptyIoas()
    const device = host.run(context.bind(d3))
    const other = host.run(context.ioasAlloc())
    const map = (into: ObjectId) => () => context.ioasMap(mapping(into, 0xfee0_0000n, 0x700000n, page))
    host.run(context.attach(device, ioas))
    host.run(context.replace(device, other))
    expect(host.errno(map(other))).toBe('EINVAL')
    host.run(map(ioas)())
    expect(host.errno(() => context.replace(device, ioas))).toBe('EADDRINUSE')
  })

  it('keep the old attachment when a device cannot move to the new IOAS', () => {
    const { host, context, ioas } = emptyIoas()
    const device = host.run(context.bind(d3))
    const hwpt = host.run(context.attach(device, ioas))
    const other = host.run(context.ioasAlloc())
    host.run(context.ioasMap(mapping(other, 0xfee0_0000n, 0x700000n, page)))
    expect(host.errno(() => context.replace(device, other))).toBe('EADDRINUSE')
    expect(context.object(device)).toMatchObject({ attachments: new Map([[0, hwpt]]) })
  })
})

describe('IOAS_UNMAP', () => {
  const areas: readonly (readonly [bigint, bigint])[] = [
    [0x10000n, page],
    [0x12000n, 2n * page],
  ]
  function withAreas(): Place {
    const place = emptyIoas()
    const { host, context, ioas } = place
    host.run(context.attach(host.run(context.bind(d3)), ioas))
    for (const [from, length] of areas)
      host.run(context.ioasMap(mapping(ioas, from, 0x700000n + from, length)))
    return place
  }

  it('looks the IOAS up before it looks at the range: ENOENT', () => {
    const { host, context } = withAreas()
    expect(host.errno(() => context.ioasUnmap(9, last64, page))).toBe('ENOENT')
  })

  const refusals: readonly (readonly [errno: string, why: string, from: bigint, length: bigint])[] = [
    ['EOVERFLOW', 'an address of 2^64 - 1', last64, page],
    ['EOVERFLOW', 'a length of 2^64 - 1 from elsewhere than 0', page, last64],
    ['EINVAL', 'no length', 0x10000n, 0n],
    ['EOVERFLOW', 'a range that wraps', last64 - 0xfffn, 2n * page],
    ['ENOENT', 'a hole', 0x11000n, page],
    ['ENOENT', 'the first part of an area', 0x12000n, page],
    ['ENOENT', 'the last part of an area', 0x13000n, page],
    ['ENOENT', 'half an area and beyond', 0x13000n, 8n * page],
  ]
  it.each(refusals)('%s for %s', (errno, _why, from, length) => {
    const { host, context, ioas } = withAreas()
    expect(host.errno(() => context.ioasUnmap(ioas, from, length))).toBe(errno)
    expect(host.leads(d3, 0x10000n)).toBe('710000')
  })

  it('takes the areas before one that the range cuts, and says ENOENT', () => {
    const { host, context, ioas } = withAreas()
    const unmapped = host.run(context.ioasUnmap(ioas, 0x10000n, 3n * page))
    expect(unmapped).toMatchObject({ bytes: page, refused: { errno: 'ENOENT' } })
    expect(host.leads(d3, 0x10000n)).toBe('fault')
    expect(host.leads(d3, 0x12000n)).toBe('712000')
  })

  it('takes areas and the holes around them, and tells the bytes that were mapped', () => {
    const { host, context, ioas } = withAreas()
    expect(host.run(context.ioasUnmap(ioas, 0xf000n, 3n * page))).toEqual({ bytes: page })
    expect(host.leads(d3, 0x10000n)).toBe('fault')
    expect(host.leads(d3, 0x13000n)).toBe('713000')
    expect(host.run(context.ioasUnmap(ioas, 0n, last64 - 1n))).toEqual({ bytes: 2n * page })
  })

  it('takes all with address 0 and length 2^64 - 1, even if there is nothing', () => {
    const { host, context, ioas } = withAreas()
    expect(host.run(context.ioasUnmap(ioas, 0n, last64))).toEqual({ bytes: 3n * page })
    expect(host.run(context.ioasUnmap(ioas, 0n, last64))).toEqual({ bytes: 0n })
    expect(host.leads(d3, 0x12000n)).toBe('fault')
  })

  it('returns when no cache has the page any more', () => {
    const { host, context, ioas } = withAreas()
    expect(host.request(d3, 0x12000n)).toBe('712000')
    host.run(context.ioasUnmap(ioas, 0x12000n, 2n * page))
    expect(host.request(d3, 0x12000n)).toBe('fault')
    host.run(context.ioasMap(mapping(ioas, 0x12000n, 0x900000n, page)))
    expect(host.request(d3, 0x12000n)).toBe('900000')
  })
})
