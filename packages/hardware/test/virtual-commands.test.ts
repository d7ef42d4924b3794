/** Commands of guests of the hardware vIOMMU: what each becomes and reaches, and which are not legal. */
import { describe, expect, it } from 'vitest'
import { nestingFeatures } from '../src/index.js'
import { CommandOutcome } from '../src/queue/command-outcome.js'
import { register } from './chip.js'
import {
  everything,
  waitInterrupt,
  store,
  nested,
  rigWithGuests,
  warm,
  rewritten,
  expectHalt,
  illegalAt,
  hardwareErrorAt,
} from './virtual-guests.js'
import {
  behind,
  guestSpa,
  hostDte,
  offControl,
  onControl,
  page,
  privateAt,
  ring,
  ringOn,
  translateDevice,
  vfc,
  virtualControl,
  virtualFeatures,
  VirtualRig,
  words,
} from './virtual-rig.js'
import type { Pair } from './virtual-rig.js'

describe('a guest’s command', () => {
  it.each<[string, Pair, string]>([
    ['INVALIDATE_IOMMU_PAGES', [0x3000000500000000n, 0x10000000n], '00000000 30000007 10000000 00000000'],
    [
      'INVALIDATE_IOMMU_PAGES, GN',
      [0x3000000600012345n, 0x7f0000002005n],
      '00012345 30000008 00002005 00007f00',
    ],
    ['INVALIDATE_DEVTAB_ENTRY', [0x2000000000000021n, 0n], '00000011 20000000 00000000 00000000'],
    ['INVALIDATE_INTERRUPT_TABLE', [0x5000000000000020n, 0n], '00000010 50000000 00000000 00000000'],
    ['PREFETCH_IOMMU_PAGES', [0x6000000504000020n, 0x40000004n], '04000010 60000005 40000004 00000000'],
    ['COMPLETE_PPR_REQUEST', [0x7000000500000020n, 0x12300000004n], '00000010 70000005 00000004 00000123'],
    ['INVALIDATE_IOTLB_PAGES', [0x4145002020230020n, 0x7f0000003004n], '20230010 41450010 00003004 00007f00'],
    [
      'INVALIDATE_IOTLB_PAGES of another’s queue',
      [0x4145001320230021n, 4n],
      '20230011 41450011 00000004 00000000',
    ],
  ])('names what the guest’s is mapped to: %s', (_, command, becomes) => {
    const rig = rigWithGuests()
    expect(rewritten(rig, 3, command)).toEqual([becomes])
    expect(rig.hostEvents()).toEqual([])
  })

  it('of another guest with the same IDs names other things', () => {
    const rig = rigWithGuests()
    expect(rewritten(rig, 4, [0x3000000500000000n, 0n])).toEqual(['00000000 30000009 00000000 00000000'])
    expect(rewritten(rig, 4, [0x2000000000000020n, 0n])).toEqual(['00000012 20000000 00000000 00000000'])
  })

  it('reads its map from memory where the cache has nothing, and then keeps to the cache', () => {
    const rig = rigWithGuests()
    const at = behind(privateAt.domains(3)) + 9n * 8n
    rig.put([at, 0xabcd000001n])
    const invalidate: Pair = [0x3000000900000000n, 0n]
    expect(rewritten(rig, 3, invalidate)).toEqual(['00000000 3000abcd 00000000 00000000'])
    rig.put([at, 0n])
    expect(rewritten(rig, 3, invalidate)).toEqual(['00000000 3000abcd 00000000 00000000'])
  })

  it('reads its map from memory each time in a chip without a map cache', () => {
    const rig = rigWithGuests({ mapCacheEntries: 0 })
    const invalidate: Pair = [0x3000000500000000n, 0n]
    expect(rewritten(rig, 3, invalidate)).toHaveLength(1)
    rig.mapDomain(3, 5, 0xff)
    expect(rewritten(rig, 3, invalidate)).toEqual(['00000000 300000ff 00000000 00000000'])
    rig.mapDomain(3, 5, 0, false)
    expect(rewritten(rig, 3, invalidate)).toEqual([])
  })

  it('is read from private memory, or with GstBufferTRPMode from the guest’s', () => {
    const rig = rigWithGuests()
    rig.enqueue(3, waitInterrupt)
    rig.put([guestSpa(3, ring.commands), 0n])
    expect(rig.step(3)).toBe(true)
    rig.writeMmio(register.control, nested)
    rig.restart(3)
    expect(rig.command(3, store(0x5008n, 9n))).toBe(1)
    expect(rig.load(guestSpa(3, 0x5008n))).toBe(9n)
  })

  it('with GstBufferTRPMode may lie above 4 GiB of a ring that starts below', () => {
    const rig = rigWithGuests({ control: nested })
    rig.control(3, vfc.command, 0xffff_f009n)
    rig.mapGuest(3, 0xffff_f000n)
    rig.mapGuest(3, 0x1_0000_0000n)
    rig.setPage(3, page.commandHead, 0x1000n)
    rig.setPage(3, page.commandTail, 0x1020n)
    rig.control(3, vfc.command, 0xffff_f000n | 0x109n)
    rig.put([guestSpa(3, 0x1_0000_0000n), 0x1000000000000002n])
    expect([rig.step(3), rig.step(3)]).toEqual([true, true])
    expectHalt(rig, illegalAt(0x1_0000_0010n), 0x1010n)
  })

  it('moves the head around the ring', () => {
    const rig = rigWithGuests()
    rig.control(3, vfc.command, ring.commands | 8n)
    rig.setPage(3, page.commandHead, 0xff0n)
    rig.setPage(3, page.commandTail, 0xff0n)
    rig.control(3, vfc.command, ring.commands | ringOn)
    expect(rig.command(3, waitInterrupt, waitInterrupt)).toBe(2)
    expect(rig.page(3, page.commandHead)).toBe(0x10n)
    expect(rig.step(3)).toBe(false)
  })

  it('of a guest that is not there is none', () => {
    expect(VirtualRig.create().step(9)).toBe(false)
  })
})

describe('what a guest’s invalidation reaches', () => {
  it('is the mapped domain', () => {
    const rig = rigWithGuests()
    warm(rig)
    expect(rig.command(3, [0x3000000500000000n, everything])).toBe(1)
    expect(rig.cachedDomains()).toEqual([8, 9, 10])
  })

  it('is the mapped device', () => {
    const rig = rigWithGuests()
    warm(rig)
    rig.command(
      3,
      [0x2000000000000021n, 0n],
      [0x4000002000000020n, everything & ~2n],
      [0x7000000000000021n, 0x2300000000n],
    )
    expect(rig.cachedDevices().filter((id) => id >= 0x10 && id < 0x20)).toEqual([0x10, 0x12, 0x13])
    expect(rig.parts.devices.take()).toMatchObject({ kind: 'invalidate', deviceId: 0x10, sizeLog2: 64 })
    expect(rig.parts.devices.take()).toMatchObject({ kind: 'page-response', deviceId: 0x11, group: 0x23 })
  })

  it('is for INVALIDATE_IOMMU_ALL all that the guest’s maps lead to', () => {
    const rig = rigWithGuests()
    warm(rig)
    expect(rig.command(3, [0x8000000000000000n, 0n])).toBe(1)
    expect(rig.cachedDomains()).toEqual([9, 10])
    expect(rig.cachedDevices().filter((id) => id >= 0x10 && id < 0x20)).toEqual([0x12, 0x13])
  })

  it('may be for INVALIDATE_IOMMU_ALL the domains alone', () => {
    const rig = rigWithGuests({ choices: { guestInvalidateAll: 'domains' } })
    warm(rig)
    expect(rewritten(rig, 3, [0x8000000000000000n, 0n])).toEqual([
      '00000000 30000007 fffff003 7fffffff',
      '00000000 30000008 fffff003 7fffffff',
    ])
  })

  it('is for INVALIDATE_IOMMU_ALL what single commands would reach: cached mappings count before memory', () => {
    const rig = rigWithGuests()
    rig.put(
      [behind(privateAt.domains(3)) + 40n, 0n],
      [behind(privateAt.domains(3)) + 0x7fff8n, 0xabcd000001n],
    )
    expect(rewritten(rig, 3, [0x8000000000000000n, 0n]).filter((each) => each[9] === '3')).toEqual([
      '00000000 30000007 fffff003 7fffffff',
      '00000000 30000008 fffff003 7fffffff',
      '00000000 3000abcd fffff003 7fffffff',
    ])
  })

  it('is everything that the parent’s domain has, if all 65536 are mapped to it', () => {
    const rig = VirtualRig.create()
    rig.addGuest(1)
    for (let id = 0; id < 65536; id++) rig.mapDomain(1, id, 0x43)
    rig.mapDomain(1, 77, 0x44)
    const seen = rewritten(rig, 1, [0x8000000000000000n, 0n])
    expect(seen).toEqual(['00000000 30000043 fffff003 7fffffff', '00000000 30000044 fffff003 7fffffff'])
  })
})

describe('a guest’s command that is not legal', () => {
  const rest = [0n, 9n, 10n, 11n, 12n, 13n, 14n, 15n].map((code): Pair => [code << 60n, 0n])
  it.each<Pair>([
    ...rest,
    [0x3000000500100000n, 0n],
    [0x3000000500000000n, 8n],
    [0x2000000100000020n, 0n],
    [0x1010000000000002n, 0n],
    [0x8000000000000001n, 0n],
    [0x8000000100000000n, 0n],
    [0x8000000000000000n, 1n],
    [0x8000000000000000n, 1n << 32n],
    [0x9000000300000000n, 0n],
    [0xa000000010000000n, 0n],
  ])('halts its queue alone, and its own log tells it: %# %d', (lo, hi) => {
    const rig = rigWithGuests()
    warm(rig)
    const maps = (): readonly number[] => [
      ...rig.cachedDomains(),
      ...rig.cachedDevices().filter((id) => id >= 0x10),
    ]
    const before = maps()
    rig.command(3, waitInterrupt, [lo, hi], waitInterrupt)
    expectHalt(rig, illegalAt(ring.commands + 0x10n), 0x10n)
    expect(rig.hostEvents()).toEqual([])
    expect(maps()).toEqual(before)
    expect(rig.command(4, waitInterrupt)).toBe(1)
    rig.restart(3)
    expect(rig.command(3, waitInterrupt)).toBe(1)
  })

  it('is one that the chip lacks', () => {
    const efr = virtualFeatures.efr & ~(1n << 6n)
    const rig = rigWithGuests({ features: { ...nestingFeatures, efr } })
    rig.command(3, [0x8000000000000000n, 0n])
    expectHalt(rig, illegalAt(ring.commands))
  })

  it.each([0x5000000000000020n, 0x6000000000000020n])('may be one that no table lists: %d', (lo) => {
    const rig = rigWithGuests({ choices: { guestInterruptAndPrefetch: 'illegal' } })
    rig.command(3, [lo, 0n])
    expectHalt(rig, illegalAt(ring.commands))
  })
})

describe('a guest’s COMPLETION_WAIT', () => {
  it('stores to the guest’s memory, and sets the guest’s status', () => {
    const rig = rigWithGuests()
    rig.command(3, store(0x42008n, 0xfedcba9876543210n))
    expect(rig.load(guestSpa(3, 0x42008n))).toBe(0xfedcba9876543210n)
    expect(rig.load(0x42008n)).toBe(0n)
    expect(rig.page(3, page.status) & 4n).toBe(0n)
    rig.command(3, waitInterrupt)
    expect(rig.page(3, page.status) & 4n).toBe(4n)
    expect(rig.readMmio(register.status) & 4n).toBe(0n)
    expect(rig.virtual.takeGuestInterrupt()).toBeUndefined()
    rig.setPage(3, page.status, 4n)
    expect(rig.page(3, page.status) & 4n).toBe(0n)
  })

  it('raises the guest’s interrupt if ComWaitIntEn is on', () => {
    const rig = rigWithGuests()
    for (const guestId of [4, 3]) {
      rig.control(guestId, vfc.command, ring.commands | 0x308n)
      rig.command(guestId, waitInterrupt)
    }
    expect(rig.virtual.takeGuestInterrupt()).toEqual({ guestId: 3, line: 1 })
    expect(rig.virtual.takeGuestInterrupt()).toEqual({ guestId: 4, line: 1 })
    expect(rig.virtual.takeGuestInterrupt()).toBeUndefined()
  })

  it('waits for devices that have not answered', () => {
    const rig = rigWithGuests()
    expect(rig.command(3, [0x4000002000000020n, everything & ~2n], waitInterrupt)).toBe(1)
    expect(rig.page(3, page.commandHead)).toBe(0x10n)
    rig.parts.devices.take()
    rig.parts.devices.complete(0x10, 0)
    expect(rig.step(3)).toBe(true)
  })

  it('does not wait for what another guest or the host asked of a device, nor the host for a guest’s', () => {
    const rig = rigWithGuests()
    expect(rig.command(4, [0x4000002000000020n, everything & ~2n])).toBe(1)
    expect(rig.command(3, store(0x42008n, 7n))).toBe(1)
    expect(rig.hostCommand(store(0x42008n, 8n))).toBe(CommandOutcome.done)
    expect(rig.command(4, waitInterrupt)).toBe(0)
    expect(rig.hostCommand([0x4000002000000010n, everything & ~2n])).toBe(CommandOutcome.done)
    expect(rig.hostCommand(store(0x42008n, 9n))).toBe(CommandOutcome.waits)
    expect(rig.command(3, store(0x42008n, 10n))).toBe(1)
  })

  it('waits for a place, as other commands to devices do', () => {
    const rig = rigWithGuests()
    const command: Pair = [0x4000002001000020n, everything & ~2n]
    expect(rig.command(3, command, command)).toBe(1)
    rig.parts.devices.take()
    rig.parts.devices.complete(0x10, 0)
    expect(rig.step(3)).toBe(true)
  })

  it('sets A and D in the host’s table if the entry asks for it', () => {
    const rig = rigWithGuests({ control: onControl | (3n << 46n) })
    const leaf = (rig: VirtualRig): bigint => {
      const root = 0x9000000n + 3n * 0x10000n
      const next = rig.load(rig.load(root) & 0xffffffffff000n) & 0xffffffffff000n
      return rig.load(next + 0x42n * 8n) & 0x60n
    }
    const [q0 = 0n, ...others] = hostDte(0x9030000n, 0x83)
    const marks: bigint[] = []
    for (const had of [0n, 1n, 2n, 3n]) {
      rig.setDte(translateDevice(3), [q0 | (had << 7n), ...others])
      if (had === 2n) continue
      rig.command(3, store(0x42000n, 1n))
      marks.push(leaf(rig))
    }
    expect(marks).toEqual([0n, 0x20n, 0x60n])
    const without = rigWithGuests({
      control: onControl | (3n << 46n),
      features: { ...virtualFeatures, efr: virtualFeatures.efr & ~((1n << 49n) | (1n << 52n)) },
    })
    without.setDte(translateDevice(3), [q0 | (3n << 7n), ...others])
    without.command(3, store(0x42000n, 1n))
    expect([without.load(guestSpa(3, 0x42000n)), leaf(without)]).toEqual([1n, 0n])
  })

  it.each<[string, (rig: VirtualRig) => void, string]>([
    ['an absent page', (rig) => rig.unmapGuest(3, 0x42000n), '80000103 20200083 00042008 00000000'],
    [
      'a page for reading',
      (rig) => rig.mapGuest(3, 0x42000n, 1n << 61n),
      '80000103 20700083 00042008 00000000',
    ],
    ['no memory', (rig) => rig.loseGuest(3, 0x42000n), '00010003 c0000000 00042008 00000000'],
    ['no translate-DeviceID', (rig) => rig.control(3, vfc.misc, 0n), '80000000 10200000 00042008 00000000'],
  ])('that cannot store halts the guest’s queue and tells both logs: %s', (_, harm, event) => {
    const rig = rigWithGuests()
    harm(rig)
    rig.command(3, store(0x42008n, 1n))
    expectHalt(rig, hardwareErrorAt(0x42008n))
    expect(rig.hostEvents()).toEqual([words(event)])
  })
})

describe('a chip’s counting', () => {
  it('learns the same of the host’s last request: guests’ walks leave it alone', () => {
    const rig = rigWithGuests()
    const { deviceTable } = rig.translator
    rig.command(3, store(0x42008n, 1n))
    rig.touch(0x10, 0x1000n)
    expect(deviceTable.wasCached).toBe(false)
    rig.command(3, store(0x42008n, 1n))
    expect(deviceTable.wasCached).toBe(false)
  })
})

describe('Control.vCmdEn', () => {
  it('lets commands run; logs do without it', () => {
    const rig = rigWithGuests({ control: offControl(virtualControl.vCmdEn) })
    expect(rig.command(3, waitInterrupt)).toBe(0)
    expect(rig.virtual.deliverGuestEvent(3, 1, 0x20000000, 0, 0)).toBe(true)
  })
})
