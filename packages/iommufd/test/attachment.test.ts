/** Attach, replace, detach: automatic HWPTs, and the two rules for groups. */
import { describe, expect, it } from 'vitest'
import type { Context, ObjectId } from '../src/index.js'
import { d1, d2, d3, d4, guestEntry, Host, mapping, nestingContext } from './host.js'

interface Place {
  readonly host: Host
  readonly context: Context
  readonly device: ObjectId
  readonly ioas: ObjectId
}

function bound(host = Host.create(), deviceId = d3): Place {
  const context = host.iommufd.open()
  const device = host.run(context.bind(deviceId))
  return { host, context, device, ioas: host.run(context.ioasAlloc()) }
}

const attachedTo = (context: Context, device: ObjectId): ObjectId | undefined => {
  const object = context.object(device)
  return object?.kind === 'device' ? object.attachments.get(0) : undefined
}

describe('attach', () => {
  it('needs a device, then something to attach to: ENOENT', () => {
    const { host, context, device } = bound()
    expect(host.errno(() => context.attach(99, 99))).toBe('ENOENT')
    expect(host.errno(() => context.attach(device, 99))).toBe('ENOENT')
  })

  it('says EINVAL for an object that is no page table', () => {
    const host = Host.create()
    const { context, device, viommu } = nestingContext(host)
    const vdevice = host.run(context.vdeviceAlloc(viommu, device, 1n))
    for (const to of [device, viommu, vdevice]) {
      expect(host.errno(() => context.attach(device, to))).toBe('EINVAL')
    }
  })

  it('of an attached device says ENOENT, then EBUSY, for whichever HWPT', () => {
    const { host, context, device, ioas } = bound()
    const one = host.run(context.hwptAlloc({ device, pageTable: ioas }))
    const other = host.run(context.hwptAlloc({ device, pageTable: ioas }))
    host.run(context.attach(device, one))
    expect(host.errno(() => context.attach(device, 99))).toBe('ENOENT')
    expect(host.errno(() => context.attach(device, other))).toBe('EBUSY')
    expect(host.errno(() => context.attach(device, ioas))).toBe('EBUSY')
    expect(host.errno(() => context.attach(device, one))).toBe('EBUSY')
  })

  it('to the IOAS again says EBUSY', () => {
    const { host, context, device, ioas } = bound()
    host.run(context.attach(device, ioas))
    expect(host.errno(() => context.attach(device, ioas))).toBe('EBUSY')
  })
})

describe('an automatic HWPT', () => {
  it('is made by attaching to an IOAS, shared, and gone with the last device', () => {
    const { host, context, device, ioas } = bound()
    const second = host.run(context.bind(d4))
    const hwpt = host.run(context.attach(device, ioas))
    expect(context.object(hwpt)).toMatchObject({ kind: 'paging-hwpt', ioas, isAutomatic: true })
    expect(host.run(context.attach(second, ioas))).toBe(hwpt)
    host.run(context.detach(device))
    expect(context.object(hwpt)).toBeDefined()
    host.run(context.detach(second))
    expect(context.object(hwpt)).toBeUndefined()
    host.run(context.destroy(ioas))
  })

  it('is never an explicit one', () => {
    const { host, context, device, ioas } = bound()
    const explicit = host.run(context.hwptAlloc({ device, pageTable: ioas }))
    const automatic = host.run(context.attach(device, ioas))
    expect(automatic).not.toBe(explicit)
    host.run(context.replace(device, explicit))
    expect(context.object(automatic)).toBeUndefined()
    host.run(context.detach(device))
    expect(context.object(explicit)).toBeDefined()
  })

  it('may be named, and then others find it there', () => {
    const { host, context, device, ioas } = bound()
    const second = host.run(context.bind(d4))
    const hwpt = host.run(context.attach(device, ioas))
    expect(host.run(context.attach(second, hwpt))).toBe(hwpt)
  })

  it('goes when its last device is replaced away, after the new one has its number', () => {
    const { host, context, device, ioas } = bound()
    const other = host.run(context.ioasAlloc())
    const hwpt = host.run(context.attach(device, ioas))
    const moved = host.run(context.replace(device, other))
    expect(moved).not.toBe(hwpt)
    expect(context.object(hwpt)).toBeUndefined()
    expect(host.run(context.replace(device, ioas))).toBe(hwpt)
  })

  it('stays when its device is moved to the IOAS that it is on', () => {
    const { host, context, device, ioas } = bound()
    const hwpt = host.run(context.attach(device, ioas))
    const before = host.state()
    expect(host.run(context.replace(device, ioas))).toBe(hwpt)
    expect(host.run(context.replace(device, hwpt))).toBe(hwpt)
    expect(host.state()).toBe(before)
  })
})

describe('replace', () => {
  it('says ENOENT for the device, then for the target, then EINVAL if nothing is attached', () => {
    const { host, context, device, ioas } = bound()
    expect(host.errno(() => context.replace(99, ioas))).toBe('ENOENT')
    expect(host.errno(() => context.replace(device, 99))).toBe('ENOENT')
    expect(host.errno(() => context.replace(device, device))).toBe('EINVAL')
    expect(host.errno(() => context.replace(device, ioas))).toBe('EINVAL')
  })

  it('goes between parent and nested HWPTs and back', () => {
    const host = Host.create()
    const { context, device, ioas, parent, viommu } = nestingContext(host)
    host.run(context.ioasMap(mapping(ioas, 0n, 0x1000000n, 0x200000n)))
    const [one, other] = [5, 6].map((id) =>
      host.run(context.hwptAlloc({ device, pageTable: viommu, data: guestEntry(id) })),
    )
    host.run(context.attach(device, parent))
    expect(host.leads(d3, 0x3000n)).toBe('1003000')
    for (const to of [one!, other!]) {
      host.run(context.replace(device, to))
      // The guest's GCR3 table is empty.
      expect(host.leads(d3, 0x3000n)).toBe('fault')
    }
    host.run(context.destroy(one!))
    expect(host.errno(() => context.destroy(other!))).toBe('EBUSY')
    host.run(context.replace(device, parent))
    expect(host.leads(d3, 0x3000n)).toBe('1003000')
    host.run(context.destroy(other!))
  })
})

describe('detach', () => {
  it('of what is not attached does nothing', () => {
    const { host, context, device } = bound()
    const before = host.state()
    host.run(context.detach(device))
    expect(host.state()).toBe(before)
    expect(host.errno(() => context.detach(99))).toBe('ENOENT')
  })
})

describe('by the rule of the whole group', () => {
  function pair(): Place & { readonly second: ObjectId; readonly hwpts: readonly [ObjectId, ObjectId] } {
    const host = Host.create({ groupRule: 'whole-group' })
    const place = bound(host, d1)
    const { context, device, ioas } = place
    const second = host.run(context.bind(d2))
    const alloc = (pageTable: ObjectId): ObjectId => host.run(context.hwptAlloc({ device, pageTable }))
    const other = host.run(context.ioasAlloc())
    host.run(context.ioasMap(mapping(ioas, 0x1000n, 0x700000n, 0x1000n)))
    host.run(context.ioasMap(mapping(other, 0x1000n, 0x800000n, 0x1000n)))
    return { ...place, second, hwpts: [alloc(ioas), alloc(other)] }
  }
  const both = (host: Host): string[] => [d1, d2].map((deviceId) => host.leads(deviceId, 0x1000n))

  it('the first attach moves every member, and the others join without an effect', () => {
    const { host, context, device, second, hwpts } = pair()
    host.run(context.attach(device, hwpts[0]))
    expect(both(host)).toEqual(['700000', '700000'])
    const joined = context.attach(second, hwpts[0])
    expect(joined).toMatchObject({ ok: true, value: hwpts[0], effects: [] })
  })

  it('moves members that nobody has bound, too', () => {
    const host = Host.create()
    const { context, device, ioas } = bound(host, d1)
    host.run(context.ioasMap(mapping(ioas, 0x1000n, 0x700000n, 0x1000n)))
    host.run(context.attach(device, ioas))
    expect(both(host)).toEqual(['700000', '700000'])
  })

  it('the second member must name the same HWPT: EINVAL (U16)', () => {
    const { host, context, device, second, ioas, hwpts } = pair()
    host.run(context.attach(device, hwpts[0]))
    for (const to of [hwpts[1], ioas]) expect(host.errno(() => context.attach(second, to))).toBe('EINVAL')
    expect(host.errno(() => context.attach(second, 99))).toBe('ENOENT')
  })

  it('a member that is not attached itself cannot replace: EINVAL', () => {
    const { host, context, device, second, hwpts } = pair()
    host.run(context.attach(device, hwpts[0]))
    expect(host.errno(() => context.replace(second, hwpts[1]))).toBe('EINVAL')
  })

  it('replace by any member moves all', () => {
    const { host, context, device, second, hwpts } = pair()
    for (const each of [device, second]) host.run(context.attach(each, hwpts[0]))
    host.run(context.replace(second, hwpts[1]))
    expect([device, second].map((each) => attachedTo(context, each))).toEqual([hwpts[1], hwpts[1]])
    expect(both(host)).toEqual(['800000', '800000'])
    host.run(context.destroy(hwpts[0]))
  })

  it('replace to an IOAS moves all to its automatic HWPT, which goes with the last', () => {
    const { host, context, device, second, ioas, hwpts } = pair()
    for (const each of [device, second]) host.run(context.attach(each, hwpts[1]))
    const automatic = host.run(context.replace(device, ioas))
    expect([device, second].map((each) => attachedTo(context, each))).toEqual([automatic, automatic])
    host.run(context.replace(second, hwpts[0]))
    expect(context.object(automatic)).toBeUndefined()
  })

  it('the group is detached with the last member', () => {
    const { host, context, device, second, hwpts } = pair()
    for (const each of [device, second]) host.run(context.attach(each, hwpts[0]))
    expect(context.detach(device)).toMatchObject({ ok: true, effects: [] })
    expect(both(host)).toEqual(['700000', '700000'])
    expect(host.errno(() => context.destroy(hwpts[0]))).toBe('EBUSY')
    host.run(context.unbind(second))
    expect(both(host)).toEqual(['fault', 'fault'])
    host.run(context.destroy(hwpts[0]))
  })
})

describe('by the rule of each member', () => {
  it('members are attached, replaced and detached each for itself', () => {
    const host = Host.create({ groupRule: 'per-member' })
    const { context, device, ioas } = bound(host, d1)
    const second = host.run(context.bind(d2))
    const other = host.run(context.ioasAlloc())
    host.run(context.ioasMap(mapping(ioas, 0x1000n, 0x700000n, 0x1000n)))
    host.run(context.ioasMap(mapping(other, 0x1000n, 0x800000n, 0x1000n)))
    const both = (): string[] => [d1, d2].map((deviceId) => host.leads(deviceId, 0x1000n))
    const automatic = host.run(context.attach(device, ioas))
    expect(both()).toEqual(['700000', 'fault'])
    host.run(context.attach(second, other))
    expect(both()).toEqual(['700000', '800000'])
    expect(host.errno(() => context.attach(second, other))).toBe('EBUSY')
    expect(host.errno(() => context.attach(second, ioas))).toBe('EBUSY')
    expect(host.run(context.replace(second, ioas))).toBe(automatic)
    expect(both()).toEqual(['700000', '700000'])
    host.run(context.detach(device))
    expect(both()).toEqual(['fault', '700000'])
  })

  it('the group still has one owner', () => {
    const host = Host.create({ groupRule: 'per-member' })
    const [one, other] = [host.iommufd.open(), host.iommufd.open()]
    host.run(one.bind(d1))
    expect(host.errno(() => other.bind(d2))).toBe('EPERM')
  })
})

it('a fork goes its own way', () => {
  const { host, context, device, ioas } = bound()
  host.run(context.ioasMap(mapping(ioas, 0x1000n, 0x700000n, 0x1000n)))
  const before = host.state()
  const twin = host.fork()
  const there = twin.iommufd.context(context.number)!
  twin.run(there.attach(device, ioas))
  twin.run(twin.iommufd.open().bind(d4))
  expect(host.state()).toBe(before)
  expect(host.leads(d3, 0x1000n)).toBe('fault')
  expect(twin.leads(d3, 0x1000n)).toBe('700000')
  expect(host.iommufd.context(1)).toBeUndefined()
  host.run(context.bind(d4))
})
