import { beforeEach, describe, expect, it } from 'vitest'
import type { BackendDevice, Region, UserData } from '../src/backend.js'
import { MockBackend } from '../src/mock/mock-backend.js'
import type { Outcome } from '../src/outcome.js'
import { driverData, driverDataArray, noData } from '../src/user-data.js'

const nestParent = 1
const dirtyTracking = 2
const pasidFlag = 8
const type = 0xdeadbeef

function valueOf<T>(outcome: Outcome<T>): T {
  if (!outcome.ok) throw new Error(`${outcome.errno}: ${outcome.why}`)
  return outcome.value
}

const errnoOf = (outcome: Outcome<unknown>): string | undefined => (outcome.ok ? undefined : outcome.errno)
const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer)
const hwptData = (...values: number[]): UserData => driverData(0xdead, words(...values))
const bigintText = (_key: string, value: unknown): unknown =>
  typeof value === 'bigint' ? value.toString() : value
const lastPart = { first: 0x0100_0000n, last: 0x0100_0fffn }

describe('the mock IOMMU', () => {
  let backend: MockBackend
  let device: BackendDevice
  let parent: number

  const plug = (options = { dirty: true, pasid: false }): BackendDevice =>
    backend.device(backend.addDevice(options))!
  const paging = (flags = 0, data = noData): number =>
    valueOf(backend.allocatePaging(device, { flags, data })).number
  const viommuOf = (data = noData): number =>
    valueOf(backend.createViommu({ device, parent, type, data, offerRegion: () => 0x1000n })).number
  const nestedOn = (viommu: number): number =>
    valueOf(backend.allocateNestedOnViommu(viommu, { flags: 0, data: hwptData(5) }))

  beforeEach(() => {
    backend = new MockBackend()
    device = plug()
    parent = paging(nestParent)
  })

  it('has devices, each alone in its group behind one IOMMU, with nothing but dirty tracking', () => {
    const other = plug({ dirty: false, pasid: true })
    expect(device).toMatchObject({ iommu: 0, pasids: 0, canTrackDirty: true, enforcesCoherency: false })
    expect(device).toMatchObject({ hasAts: false, canExecutePasid: false, reserved: [] })
    expect(other).toMatchObject({ iommu: 0, pasids: 1 << 20, canTrackDirty: false })
    expect(other.group).not.toBe(device.group)
    expect(backend.groupMembers(other.group)).toEqual([other.deviceId])
    backend.removeDevice(other.deviceId)
    expect(backend.device(other.deviceId)).toBeUndefined()
    expect(backend.groupMembers(other.group)).toEqual([])
  })

  it('describes its hardware', () => {
    const bytes = words(0, 0xdeadbeef)
    expect(valueOf(backend.hwInfo(device, 0))).toEqual({ type: 0xfeedbeef, bytes })
    expect(valueOf(backend.hwInfo(device, 0xfeedbeef))).toEqual({ type: 0xfeedbeef, bytes })
    expect(errnoOf(backend.hwInfo(device, 4))).toBe('EOPNOTSUPP')
  })

  it('takes flags of a page table in any combination, and no others', () => {
    for (const flags of [0, 1, 2, 3, 8, 9, 10, 11]) {
      expect(valueOf(backend.allocatePaging(device, { flags, data: noData })).canTrackDirty).toBe(
        (flags & dirtyTracking) !== 0,
      )
    }
    expect(errnoOf(backend.allocatePaging(device, { flags: 16, data: noData }))).toBe('EOPNOTSUPP')
    const plain = plug({ dirty: false, pasid: false })
    expect(errnoOf(backend.allocatePaging(plain, { flags: dirtyTracking, data: noData }))).toBe('EOPNOTSUPP')
    expect(backend.allocatePaging(plain, { flags: nestParent, data: noData }).ok).toBe(true)
  })

  it('takes data of its type for a page table: 4 or 8 bytes', () => {
    const allocate = (data: UserData): string | undefined =>
      errnoOf(backend.allocatePaging(device, { flags: 0, data }))
    expect(allocate(driverData(1, words(0, 0)))).toBe('EOPNOTSUPP')
    expect(allocate(hwptData(0))).toBeUndefined()
    expect(allocate(hwptData(0, 1))).toBeUndefined()
    expect(allocate(hwptData(0, 7))).toBe('EOPNOTSUPP')
    expect(allocate(hwptData(0, 0, 0, 0))).toBe('EINVAL')
    expect(allocate(driverData(0xdead, new Uint8Array(3)))).toBe('EINVAL')
  })

  it('makes nested domains that start with the given TLB value', () => {
    const request = { flags: pasidFlag, data: hwptData(0xbadbeef) }
    const nested = valueOf(backend.allocateNestedOnParent(device, parent, request))
    expect([...backend.iotlb(nested)]).toEqual([0xbadbeef, 0xbadbeef, 0xbadbeef, 0xbadbeef])
    const refused = (flags: number, data: UserData): string | undefined =>
      errnoOf(backend.allocateNestedOnViommu(viommuOf(), { flags, data }))
    expect(refused(dirtyTracking, hwptData(1))).toBe('EOPNOTSUPP')
    expect(refused(0, driverData(1, words(1)))).toBe('EOPNOTSUPP')
    expect(refused(0, driverData(0xdead, new Uint8Array(2)))).toBe('EINVAL')
    expect(refused(0, hwptData(1))).toBeUndefined()
  })

  it('keeps a device without dirty tracking off a domain with it, but not off its PASIDs', () => {
    const plain = plug({ dirty: false, pasid: true })
    const tracking = paging(dirtyTracking | pasidFlag)
    expect(errnoOf(backend.attach([plain.deviceId], 0, tracking))).toBe('EINVAL')
    expect(backend.attach([plain.deviceId], 7, tracking).ok).toBe(true)
    expect(backend.attach([plain.deviceId], 0, paging()).ok).toBe(true)
    expect(errnoOf(backend.attach([plain.deviceId], 0, tracking))).toBe('EINVAL')
  })

  it('wants a vDEVICE for a nested domain made on a vIOMMU, and then knows where events go', () => {
    const viommu = viommuOf()
    const nested = nestedOn(viommu)
    expect(errnoOf(backend.attach([device.deviceId], 0, nested))).toBe('ENOENT')
    expect(backend.attach([device.deviceId], 7, nested).ok).toBe(true)
    valueOf(backend.addVdevice(viommu, device, 0x99n))
    valueOf(backend.attach([device.deviceId], 0, nested))
    expect(backend.eventSource(device.deviceId)).toEqual({ viommu, virtualId: 0x99n })
    valueOf(backend.attach([device.deviceId], 0, parent))
    expect(backend.eventSource(device.deviceId)).toBeUndefined()
    valueOf(backend.attach([device.deviceId], 0, nested))
    valueOf(backend.detach([device.deviceId], 0))
    expect(backend.eventSource(device.deviceId)).toBeUndefined()
    valueOf(backend.removeVdevice(viommu, device, 0x99n))
    expect(errnoOf(backend.attach([device.deviceId], 0, nested))).toBe('ENOENT')
  })

  it('keeps the virtual ID with which a device came to its vIOMMU', () => {
    const viommu = viommuOf()
    const [first, second] = [nestedOn(viommu), nestedOn(viommu)]
    valueOf(backend.addVdevice(viommu, device, 1n))
    valueOf(backend.attach([device.deviceId], 0, first))
    valueOf(backend.removeVdevice(viommu, device, 1n))
    valueOf(backend.addVdevice(viommu, device, 2n))
    valueOf(backend.attach([device.deviceId], 0, second))
    expect(backend.eventSource(device.deviceId)?.virtualId).toBe(1n)
    valueOf(backend.attach([device.deviceId], 0, parent))
    valueOf(backend.attach([device.deviceId], 0, second))
    expect(backend.eventSource(device.deviceId)?.virtualId).toBe(2n)
  })

  it('lets every second change of PASID 1024 fail, until it is detached', () => {
    const { deviceId } = plug({ dirty: true, pasid: true })
    const target = paging(pasidFlag)
    const change = (pasid: number): string | undefined =>
      errnoOf(
        backend.transaction(() => {
          const moved = backend.attach([deviceId], pasid, target)
          return moved.ok ? undefined : moved
        }),
      )
    expect([change(1024), change(1024), change(1024), change(1024)]).toEqual([
      undefined,
      'ENOMEM',
      undefined,
      'ENOMEM',
    ])
    expect(change(1024)).toBeUndefined()
    valueOf(backend.detach([deviceId], 1024))
    expect(change(1024)).toBeUndefined()
    expect([change(1023), change(1023), change(1025), change(1025)]).toEqual(Array(4).fill(undefined))
    const without = device.deviceId
    expect(backend.attach([without], 1024, target).ok).toBe(true)
    expect(backend.attach([without], 1024, target).ok).toBe(true)
  })

  it('invalidates a nested domain request by request', () => {
    const nested = valueOf(backend.allocateNestedOnParent(device, parent, { flags: 0, data: hwptData(5) }))
    const invalidate = (...entries: Uint8Array[]) =>
      valueOf(backend.invalidateNested(nested, driverDataArray(type, entries)))
    const short = ({ handled, refused }: ReturnType<typeof invalidate>) => [handled, refused?.errno]
    expect(short(invalidate(words(0, 1)))).toEqual([1, undefined])
    expect([...backend.iotlb(nested)]).toEqual([5, 0, 5, 5])
    expect(short(invalidate(words(0, 0), words(0, 4), words(0, 2)))).toEqual([1, 'EINVAL'])
    expect([...backend.iotlb(nested)]).toEqual([0, 0, 5, 5])
    expect(short(invalidate(words(2, 0)))).toEqual([0, 'EOPNOTSUPP'])
    expect(short(invalidate(words(1, 4)))).toEqual([0, 'EINVAL'])
    expect(short(invalidate(new Uint8Array(12)))).toEqual([0, 'EINVAL'])
    expect(short(invalidate(words(1, 3)))).toEqual([1, undefined])
    expect([...backend.iotlb(nested)]).toEqual([0, 0, 0, 0])
    expect(short(invalidate())).toEqual([0, undefined])
    expect(short(valueOf(backend.invalidateNested(nested, driverDataArray(0xdadbeef, []))))).toEqual([
      0,
      'EINVAL',
    ])
  })

  it('invalidates the caches of devices through a vIOMMU, all requests copied before the first is done', () => {
    const viommu = viommuOf()
    const other = plug()
    valueOf(backend.addVdevice(viommu, device, 0x99n))
    const invalidate = (entries: Uint8Array[], kind = type) => {
      const { handled, refused } = valueOf(backend.invalidateViommu(viommu, driverDataArray(kind, entries)))
      return [handled, refused?.errno]
    }
    const cache = () => [...backend.deviceCache(device.deviceId)]
    const full = 0xbaddad
    expect(cache()).toEqual([full, full, full, full])
    expect(invalidate([words(0, 0x99, 0, 0), words(0, 0x99, 1, 9)])).toEqual([0, 'E2BIG'])
    expect(cache()).toEqual([full, full, full, full])
    expect(invalidate([words(0, 0x99, 1, 0)])).toEqual([1, undefined])
    expect(cache()).toEqual([full, 0, full, full])
    expect(invalidate([words(0, 0x99, 0), words(0, 0x98, 2)])).toEqual([1, 'EINVAL'])
    expect(invalidate([words(2, 0x99, 0)])).toEqual([0, 'EOPNOTSUPP'])
    expect(invalidate([words(1, 0x99, 4)])).toEqual([0, 'EINVAL'])
    expect(cache()).toEqual([0, 0, full, full])
    expect(invalidate([words(1, 0x99, 0)])).toEqual([1, undefined])
    expect(cache()).toEqual([0, 0, 0, 0])
    expect(invalidate([])).toEqual([0, undefined])
    expect(invalidate([], 0xdadbeef)).toEqual([0, 'EINVAL'])
    expect([...backend.deviceCache(other.deviceId)]).toEqual([full, full, full, full])
  })

  it('loops a word of a vIOMMU back, in its data and in the two pages that it offers', () => {
    const offered: Region[] = []
    const create = (data: UserData) =>
      backend.createViommu({
        device,
        parent,
        type,
        data,
        offerRegion: (region) => {
          offered.push(region)
          return 0x3000n
        },
      })
    expect(backend.hasViommu(device, type)).toBe(true)
    expect(backend.hasViommu(device, 3)).toBe(false)
    expect(valueOf(create(noData)).region).toBeUndefined()
    expect(errnoOf(create(driverData(type, words(7))))).toBe('EINVAL')
    expect(offered).toEqual([])
    const bytes = words(0x1234, 0, 0, 0, 0, 0)
    const { region } = valueOf(create(driverData(type, bytes)))
    expect(bytes).toEqual(words(0x1234, 0x1234, 0x3000, 0, 8192, 0))
    expect(offered).toEqual([region])
    expect(region?.bytes).toEqual(Uint8Array.from([0x34, 0x12, ...new Uint8Array(8190)]))
  })

  it('has two hardware queues to a vIOMMU, the second upon the first', () => {
    const viommu = viommuOf()
    valueOf(backend.map(parent, lastPart.first, 0x8000n, 0x1000n, { read: true, write: true }))
    const create = (index: number, physical = 0x8000n, iova = lastPart.first) =>
      backend.createHwQueue({ viommu, type, index, iova, length: 0x1000n, physical })
    expect(backend.hasHwQueue(viommu, type)).toBe(true)
    expect(backend.hasHwQueue(viommu, 1)).toBe(false)
    expect(errnoOf(create(1))).toBe('EIO')
    expect(errnoOf(create(2))).toBe('EINVAL')
    expect(errnoOf(create(0, 0x9000n))).toBe('EFAULT')
    expect(errnoOf(create(0, 0x9000n, lastPart.first + 0x1000n))).toBe('EFAULT')
    expect(valueOf(create(0))).toEqual({})
    expect(errnoOf(create(0))).toBe('EEXIST')
    expect(valueOf(create(1))).toEqual({ dependsOn: 0 })
    valueOf(backend.destroyHwQueue(viommu, 1))
    expect(valueOf(create(1))).toEqual({ dependsOn: 0 })
  })

  it('takes everything back when a transaction is refused, or throws', () => {
    const viommu = viommuOf()
    const nested = nestedOn(viommu)
    valueOf(backend.addVdevice(viommu, device, 5n))
    valueOf(backend.map(parent, lastPart.first, 0x8000n, 0x1000n, { read: true, write: true }))
    valueOf(backend.attach([device.deviceId], 0, parent))
    const standing = backend.snapshot()
    const everything = (): void => {
      const added = plug()
      valueOf(backend.attach([added.deviceId], 3, paging(pasidFlag)))
      valueOf(backend.invalidateNested(nested, driverDataArray(type, [words(1, 0)])))
      valueOf(backend.invalidateViommu(viommu, driverDataArray(type, [words(1, 5, 0)])))
      valueOf(backend.attach([device.deviceId], 0, nested))
      valueOf(backend.detach([device.deviceId], 0))
      valueOf(backend.removeVdevice(viommu, device, 5n))
      valueOf(backend.addVdevice(viommu, device, 6n))
      const request = { viommu, type, index: 0, iova: lastPart.first, length: 0x1000n, physical: 0x8000n }
      valueOf(backend.createHwQueue(request))
      valueOf(backend.setDirtyTracking(parent, true))
      valueOf(backend.freeDomain(nested))
      valueOf(backend.destroyViommu(viommu))
      expect(backend.snapshot()).not.toEqual(standing)
    }
    const refusal = { ok: false, errno: 'ENOMEM', rule: 'test', why: 'for the test' } as const
    expect(
      backend.transaction(() => {
        everything()
        return refusal
      }),
    ).toEqual(refusal)
    expect(backend.snapshot()).toEqual(standing)
    expect(() =>
      backend.transaction(() => {
        everything()
        throw new Error('for the test')
      }),
    ).toThrow('for the test')
    expect(backend.snapshot()).toEqual(standing)
  })

  it('keeps what an inner transaction did before a later one is refused', () => {
    const outcome = backend.transaction(() => {
      plug()
      const inner = backend.transaction(() => {
        plug()
        return { ok: false, errno: 'ENOMEM', rule: 'test', why: 'for the test' } as const
      })
      return errnoOf(inner)
    })
    expect(outcome).toEqual({ ok: true, value: 'ENOMEM', effects: [] })
    expect(backend.device(device.deviceId + 1)).toBeDefined()
    expect(backend.device(device.deviceId + 2)).toBeUndefined()
  })

  it('forks into two that do not see each other', () => {
    const viommu = viommuOf(driverData(type, words(1, 0, 0, 0, 0, 0)))
    const nested = nestedOn(viommu)
    const fork = backend.fork()
    expect(fork.snapshot()).toEqual(backend.snapshot())
    const standing = fork.snapshot()
    valueOf(backend.invalidateNested(nested, driverDataArray(type, [words(1, 0)])))
    valueOf(backend.addVdevice(viommu, device, 5n))
    valueOf(backend.attach([device.deviceId], 0, nested))
    valueOf(backend.invalidateViommu(viommu, driverDataArray(type, [words(1, 5, 0)])))
    expect(fork.snapshot()).toEqual(standing)
    expect(() => backend.transaction(() => backend.fork())).toThrow('in the middle of a transaction')
  })

  it('looks the same however it came to be what it is', () => {
    const other = backend.fork()
    const second = plug({ dirty: true, pasid: true })
    other.addDevice({ dirty: true, pasid: true })
    const viommu = viommuOf()
    valueOf(other.createViommu({ device, parent, type, data: noData, offerRegion: () => 0n }))
    for (const [each, ids] of [
      [backend, [5n, 4n]],
      [other, [4n, 5n]],
    ] as const) {
      for (const id of ids) valueOf(each.addVdevice(viommu, id === 5n ? device : second, id))
      for (const id of ids) valueOf(each.attach([second.deviceId], Number(id), parent))
    }
    expect(JSON.stringify(other.snapshot(), bigintText)).toBe(JSON.stringify(backend.snapshot(), bigintText))
    expect(other.snapshot()).not.toEqual(new MockBackend().snapshot())
  })

  it('does not know numbers that it has not given', () => {
    expect(() => backend.freeDomain(99)).toThrow(RangeError)
    expect(() => backend.iotlb(parent)).toThrow(RangeError)
    expect(() => backend.translate(nestedOn(viommuOf()), 0n)).toThrow(RangeError)
    expect(() => backend.destroyViommu(99)).toThrow(RangeError)
    expect(() => backend.removeDevice(99)).toThrow(RangeError)
  })
})
