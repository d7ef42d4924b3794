/** What stops a guest of the hardware vIOMMU that is not its own doing: tables, memory, maps; and who is told. */
import { describe, expect, it } from 'vitest'
import { place, register } from './chip.js'
import { waitInterrupt, store, rigWithGuests, warm, expectHalt, hardwareErrorAt } from './virtual-guests.js'
import {
  guestSpa,
  hostDte,
  onControl,
  page,
  privateAt,
  ring,
  translateDevice,
  vfc,
  virtualFeatures,
  words,
} from './virtual-rig.js'
import type { Pair, VirtualRig } from './virtual-rig.js'

describe('the entry through which hardware reaches a guest’s memory', () => {
  const [good0 = 0n, good1 = 0n] = hostDte(0x9030000n, 0x83)
  it.each<[string, bigint, string]>([
    ['V=0', 0n, '80000103 10200000 00042008 00000000'],
    ['TV=0', 1n, '80000103 10200000 00042008 00000000'],
    ['Mode 0', 0x6000000000000003n, '80000103 10200000 00042008 00000000'],
    ['Mode 7', good0 | 0xe00n, '80000103 10200000 00042008 00000000'],
    ['a reserved bit', good0 | 4n, '80000103 10a00000 00042008 00000000'],
    ['no IW', good0 & ~(1n << 62n), '80000103 20700083 00042008 00000000'],
    [
      'a table without memory',
      (good0 & ~0xffffffffff000n) | 0xfffff00000000n,
      '80000103 42200083 00000000 000fffff',
    ],
  ])('has to translate by a host table: %s', (_, q0, event) => {
    const rig = rigWithGuests()
    rig.setDte(translateDevice(3), [q0, good1, 0n, 0n])
    rig.command(3, store(0x42008n, 1n))
    expectHalt(rig, hardwareErrorAt(0x42008n))
    expect(rig.hostEvents()).toEqual([words(event)])
    expect([rig.load(0x42008n), rig.load(guestSpa(3, 0x42008n))]).toEqual([0n, 0n])
  })

  it('has to be in the device table', () => {
    const rig = rigWithGuests()
    rig.control(3, vfc.misc, 0x80_0000n)
    rig.writeMmio(register.deviceTableBase, place.deviceTable)
    rig.control(3, vfc.misc, 0xfff_0000n)
    rig.command(3, store(0x42008n, 1n))
    expectHalt(rig, hardwareErrorAt(0x42008n))
    expect(rig.hostEvents()).toEqual([words('80000fff 20200000 00042008 00000000')])
  })

  it('has to be in memory', () => {
    const rig = rigWithGuests()
    rig.command(3, waitInterrupt)
    rig.command(3, [0x8000000000000000n, 0n])
    rig.writeMmio(register.deviceTableBase, 0xfffff000001ffn)
    rig.memory.words.activate()
    rig.parts.deviceTableCache.invalidate(translateDevice(3))
    rig.command(3, store(0x42008n, 1n))
    expect(rig.hostEvents()).toEqual([words('80000103 32200000 00002060 000fffff')])
  })

  it('may have bits 58:57 in leaves while pages migrate', () => {
    const rights = (3n << 61n) | (1n << 57n)
    const features = { ...virtualFeatures, efr2: virtualFeatures.efr2 | 4n }
    for (const [control, stored] of [
      [onControl, 0n],
      [onControl | (1n << 56n), 1n],
    ] as const) {
      const rig = rigWithGuests({ features, control })
      rig.mapGuest(3, 0x42000n, rights)
      rig.command(3, store(0x42008n, 1n))
      expect(rig.load(guestSpa(3, 0x42008n))).toBe(stored)
    }
  })
})

describe('a guest’s ring', () => {
  it.each<[string, (rig: VirtualRig) => void, string]>([
    ['absent', (rig) => rig.unmapPrivate(privateAt.commands(3)), '80000002 20000077 00180000 00000028'],
    [
      'without memory',
      (rig) => rig.losePrivate(privateAt.commands(3)),
      '00010003 c0000000 00180000 00000028',
    ],
  ])('that cannot be read halts, and both logs tell: %s', (_, harm, event) => {
    const rig = rigWithGuests()
    rig.enqueue(3, waitInterrupt)
    harm(rig)
    expect(rig.step(3)).toBe(true)
    expectHalt(rig, hardwareErrorAt(ring.commands))
    expect(rig.hostEvents()).toEqual([words(event)])
  })
})

describe('an ID without a mapping', () => {
  const devices = [0x2000000000000099n, 0x4000000000000099n, 0x5000000000000099n, 0x7000000000000099n]
  it.each<[bigint, string]>([
    [0x3000009900000000n, '00000003 c0000000 001804c8 00000020'],
    ...devices.map((lo): [bigint, string] => [lo, '00000003 c0000000 00300990 00000010']),
  ])('is told in the host’s log, and the guest’s queue halts or goes on without: %d', (lo, event) => {
    for (const unmappedGuestId of ['halts', 'skipped'] as const) {
      const rig = rigWithGuests({ choices: { unmappedGuestId } })
      warm(rig)
      rig.command(3, waitInterrupt, [lo, 0n], waitInterrupt)
      expect(rig.hostEvents()).toEqual([words(event)])
      expect(rig.cachedDomains()).toEqual([7, 8, 9, 10])
      expect(rig.parts.devices.take()).toBeUndefined()
      if (unmappedGuestId === 'halts') expectHalt(rig, hardwareErrorAt(ring.commands + 0x10n), 0x10n)
      else expect([rig.page(3, page.commandHead), rig.guestEvents(3)]).toEqual([0x30n, []])
    }
  })

  it.each<[string, Pair, (rig: VirtualRig) => void, string]>([
    [
      'a map page is absent',
      [0x3000009900000000n, 0n],
      (rig) => rig.unmapPrivate(privateAt.domains(3)),
      '40000002 20000077 001804c8 00000020',
    ],
    [
      'a map page is not memory',
      [0x3000009900000000n, 0n],
      (rig) => rig.losePrivate(privateAt.domains(3)),
      '00000003 c0000000 001804c8 00000020',
    ],
    [
      'a map page is absent for all',
      [0x8000000000000000n, 0n],
      (rig) => rig.unmapPrivate(privateAt.domains(3) + 0x1000n),
      '40000002 20000077 00181000 00000020',
    ],
    [
      'a map page is not memory for all',
      [0x8000000000000000n, 0n],
      (rig) => rig.losePrivate(privateAt.devices(3) + 0x2000n),
      '00000003 c0000000 00302000 00000010',
    ],
  ])('is one, too, where %s', (_, command, harm, event) => {
    const rig = rigWithGuests()
    warm(rig)
    harm(rig)
    rig.command(3, command)
    expect(rig.hostEvents()).toEqual([words(event)])
    expectHalt(rig, hardwareErrorAt(ring.commands))
    expect(rig.cachedDomains()).toEqual([7, 8, 9, 10])
  })

  it('after a mapping was taken away, cached or not', () => {
    const rig = rigWithGuests()
    rig.mapDomain(3, 5, 0, false)
    rig.command(3, [0x3000000500000000n, 0n])
    expect(rig.hostEvents()).toEqual([words('00000003 c0000000 00180028 00000020')])
  })
})
