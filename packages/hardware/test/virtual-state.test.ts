/** What a chip keeps for guests of its hardware vIOMMU: maps, their cache, places; RESET_VMMIO. */
import { describe, expect, it } from 'vitest'
import { SparseMemory } from '../src/index.js'
import { VirtualState } from '../src/virtual/index.js'
import { behind, page, privateAt, ringOn, vfc, VirtualRig, words } from './virtual-rig.js'

const ones = (1n << 64n) - 1n
const map = (host: bigint, guest: bigint): bigint => 0x8000000000000001n | (guest << 46n) | (host << 14n)
const reset = (guestId: bigint, bits = 0n): readonly [bigint, bigint] => [
  0xa000000000000000n | bits | guestId,
  0n,
]

function hostCommand(rig: VirtualRig, [lo, hi]: readonly [bigint, bigint]): number {
  const word = (value: bigint, n: bigint): number => Number(BigInt.asIntN(32, value >> (32n * n)))
  rig.memory.words.activate()
  return rig.commands.carryOut(word(lo, 0n), word(lo, 1n), word(hi, 0n), word(hi, 1n), 0, 0)
}

describe('the map control registers', () => {
  it('write entries to private memory: the host’s ID in bits 39:24, 16 and 8 bytes apart', () => {
    const rig = VirtualRig.create()
    rig.addGuest(3)
    rig.put([behind(privateAt.devices(3)) + 0x1238n, ones])
    rig.control(3, vfc.device, map(0xabcdn, 0x123n))
    rig.control(3, vfc.domain, map(0x1234n, 0xffffn))
    expect(rig.load(behind(privateAt.devices(3)) + 0x1230n)).toBe(0xabcd000001n)
    expect(rig.load(behind(privateAt.devices(3)) + 0x1238n)).toBe(0n)
    expect(rig.load(behind(privateAt.domains(3)) + 0x7fff8n)).toBe(0x1234000001n)
    expect(rig.readControl(3, vfc.device)).toBe(map(0xabcdn, 0x123n) & ~1n)
    expect(rig.hostEvents()).toEqual([])
  })

  it('write when the write bit is, and take entries out without the valid bit', () => {
    const rig = VirtualRig.create()
    rig.addGuest(3)
    const at = behind(privateAt.domains(3)) + 40n
    const entry = map(7n, 5n)
    rig.control(3, vfc.domain, entry & ~1n)
    expect(rig.load(at)).toBe(0n)
    rig.virtual.writeVfControl(3 * 64 + 12, 4, entry >> 32n)
    expect(rig.load(at)).toBe(0n)
    rig.virtual.writeVfControl(3 * 64 + 8, 4, entry & 0xffffffffn)
    expect(rig.load(at)).toBe(0x7000001n)
    rig.mapDomain(3, 5, 7, false)
    expect(rig.load(at)).toBe(0n)
    rig.mapDevice(3, 5, 7, false)
    expect(rig.load(behind(privateAt.devices(3)) + 80n)).toBe(0n)
  })

  it('reach the last GuestID', () => {
    const rig = VirtualRig.create()
    rig.mapPrivate(privateAt.devices(0xffff), 0x1000n)
    rig.mapPrivate(privateAt.domains(0xffff), 0x1000n)
    rig.mapDevice(0xffff, 1, 2)
    rig.mapDomain(0xffff, 1, 3)
    expect(rig.load(behind(0x1f_fff0_0010n))).toBe(0x2000001n)
    expect(rig.load(behind(0x27_fff8_0008n))).toBe(0x3000001n)
  })

  it('tell the host’s log where private memory takes nothing', () => {
    const rig = VirtualRig.create()
    rig.mapDomain(3, 5, 7)
    expect(rig.hostEvents()).toEqual([words('40000002 20200077 00180028 00000020')])
    rig.mapPrivate(privateAt.domains(3), 0x1000n, 1n << 61n)
    rig.mapDomain(3, 5, 7)
    expect(rig.hostEvents()).toEqual([words('40000002 20700077 00180028 00000020')])
    rig.losePrivate(privateAt.domains(3))
    rig.mapDomain(3, 5, 7)
    expect(rig.hostEvents()).toEqual([words('00000003 c0000000 00180028 00000020')])
  })
})

describe('guests in use', () => {
  it('are as many as the chip was made for; one more changes nothing, which can be read', () => {
    const rig = VirtualRig.create({ guests: 2 })
    rig.control(1, vfc.misc, 0x10000n)
    rig.setPage(7, page.commandTail, 0x10n)
    expect(rig.virtual.hasRefusedGuest).toBe(false)
    const before = rig.fingerprint()
    rig.control(9, vfc.misc, 0n)
    expect(rig.fingerprint()).not.toBe(before)
    expect(rig.virtual.hasRefusedGuest).toBe(true)
    rig.control(9, vfc.misc, 0x10000n)
    rig.setPage(9, page.commandTail, 0x10n)
    expect([rig.readControl(9, vfc.misc), rig.page(9, page.commandTail)]).toEqual([0n, 0n])
    expect(rig.virtual.guestIds()).toEqual([1, 7])
    hostCommand(rig, reset(7n, 1n << 31n))
    rig.control(9, vfc.misc, 0x10000n)
    expect(rig.virtual.guestIds()).toEqual([1, 9])
    expect(rig.virtual.hasRefusedGuest).toBe(true)
    hostCommand(rig, reset(0n, (1n << 31n) | (1n << 28n)))
    expect(rig.virtual.hasRefusedGuest).toBe(false)
    expect(rig.virtual.guestIds()).toEqual([])
  })

  it.each([0, 65537, 1.5])('cannot be %d at a time', (guests) => {
    const { words } = SparseMemory.create(1 << 16)
    expect(() => VirtualState.create(words, { guests })).toThrow(/guests .* from 1 to 65536/)
  })

  it.each([-1, 3, 131072, 0.5])('cannot share a map cache of %d entries', (mapCacheEntries) => {
    const { words } = SparseMemory.create(1 << 16)
    expect(() => VirtualState.create(words, { mapCacheEntries })).toThrow(/mapCacheEntries/)
  })
})

describe('RESET_VMMIO', () => {
  function busyRig(): VirtualRig {
    const rig = VirtualRig.create()
    for (const guestId of [3, 4]) {
      rig.addGuest(guestId)
      rig.mapDomain(guestId, 5, 7)
      rig.setPage(guestId, page.eventHead, 0x20n)
    }
    return rig
  }

  it('clears a guest’s registers but the command queue’s; with vCmd those, too; with All every guest’s', () => {
    const rig = busyRig()
    rig.setPage(3, page.commandTail, 0x20n)
    expect(hostCommand(rig, reset(3n))).toBe(0)
    expect(rig.page(3, page.commandTail)).toBe(0x20n)
    expect(rig.readControl(3, vfc.command)).toBe(0x10000n | ringOn)
    expect([
      rig.page(3, page.eventHead),
      rig.readControl(3, vfc.event),
      rig.readControl(3, vfc.misc),
    ]).toEqual([0n, 0n, 0n])
    expect(rig.page(4, page.eventHead)).toBe(0x20n)
    expect(hostCommand(rig, reset(3n, 1n << 31n))).toBe(0)
    expect(rig.virtual.guestIds()).toEqual([4])
    expect(hostCommand(rig, reset(0n, 1n << 28n))).toBe(0)
    expect(rig.page(4, page.eventHead)).toBe(0n)
    expect(rig.virtual.guestIds()).toEqual([4])
  })

  it('drops cached map entries: from then on memory counts', () => {
    const rig = busyRig()
    rig.touch(7, 0n)
    for (const guestId of [3, 4]) rig.put([behind(privateAt.domains(guestId)) + 40n, 0n])
    const invalidate = [0x3000000500000000n, 0x7ffffffffffff003n] as const
    expect(rig.command(3, invalidate)).toBe(1)
    expect(rig.hostEvents()).toEqual([])
    hostCommand(rig, reset(3n))
    rig.addGuest(3)
    rig.command(3, invalidate)
    expect(rig.hostEvents()).toEqual([words('00000003 c0000000 00180028 00000020')])
    rig.command(4, invalidate)
    expect(rig.hostEvents()).toEqual([])
    hostCommand(rig, reset(0n, 1n << 28n))
    rig.addGuest(4)
    rig.command(4, invalidate)
    expect(rig.hostEvents()).toEqual([words('00000004 c0000000 00200028 00000020')])
  })

  it('makes the same machine as one that the guest was never in', () => {
    const fresh = VirtualRig.create()
    const used = VirtualRig.create()
    used.control(3, vfc.command, 0x10000n | ringOn)
    used.control(3, vfc.misc, 0x10000n)
    expect(used.fingerprint()).not.toBe(fresh.fingerprint())
    hostCommand(used, reset(3n, 1n << 31n))
    expect(used.fingerprint()).toBe(fresh.fingerprint())
  })
})
