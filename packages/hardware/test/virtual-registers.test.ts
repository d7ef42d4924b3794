/** Registers of guests of the hardware vIOMMU: fields, write rules, gates. */
import { decode, encode, reservedSpans } from '@nestwalk/bits'
import type { RecordLayout } from '@nestwalk/bits'
import { describe, expect, it } from 'vitest'
import { nestingFeatures } from '../src/index.js'
import * as virtual from '../src/virtual/index.js'
import { register } from './chip.js'
import { offControl, onControl, page, vfc, virtualControl, VirtualRig } from './virtual-rig.js'

const ones = (1n << 64n) - 1n

describe('the layouts of the registers that control a guest', () => {
  it.each([
    [
      virtual.deviceMapControlLayout,
      { write: true, valid: true, guestDeviceId: 0x1234, hostDeviceId: 0xabcd },
      '848d00002af34001',
    ],
    [
      virtual.domainMapControlLayout,
      { write: true, valid: true, guestDomainId: 0xffff, hostDomainId: 1 },
      'bfffc00000004001',
    ],
    [virtual.guestMiscControlLayout, { translateDeviceId: 0x103 }, '0000000001030000'],
    [virtual.guestLogBBaseLayout, { base: 0xffffffffff000n }, '000ffffffffff000'],
    [
      virtual.guestCommandControlLayout,
      { lengthLog2: 15, enabled: true, interruptEnabled: true, base: 0x123456789000n },
      '000012345678930f',
    ],
    [
      virtual.guestEventControlLayout,
      { lengthLog2: 8, lengthBLog2: 9, enabled: true, dual: 2, base: 0x1000n },
      '0000000000001998',
    ],
    [
      virtual.guestPprControlLayout,
      {
        lengthLog2: 8,
        lengthBLog2: 9,
        enabled: true,
        requestsEnabled: true,
        dual: 2,
        autoResponse: true,
        base: 0xffffffffff000n,
      },
      '00ffffffffff3598',
    ],
    [virtual.domainMapEntryLayout, { valid: true, hostDomainId: 0xabcd }, '000000abcd000001'],
  ] as const)('put fields where the series has them: $name', (layout, fields, hex) => {
    const encoded = encode(layout as RecordLayout, fields)
    expect(encoded[0]?.toString(16).padStart(16, '0')).toBe(hex)
    expect(decode(layout as RecordLayout, encoded)).toMatchObject(fields)
  })
})

describe('the registers that control a guest', () => {
  it.each([
    [vfc.device, virtual.deviceMapControlLayout, ~1n],
    [vfc.domain, virtual.domainMapControlLayout, ~1n],
    [vfc.misc, virtual.guestMiscControlLayout, -1n],
    [vfc.eventB, virtual.guestLogBBaseLayout, -1n],
    [vfc.command, virtual.guestCommandControlLayout, -1n],
    [vfc.event, virtual.guestEventControlLayout, -1n],
    [vfc.ppr, virtual.guestPprControlLayout, -1n],
    [vfc.pprB, virtual.guestLogBBaseLayout, -1n],
  ] as const)('keep the bits that their layouts name, at %d', (offset, layout, keeps) => {
    const rig = VirtualRig.create()
    rig.addGuest(5)
    rig.control(5, vfc.command, 0n)
    rig.control(5, vfc.event, 0n)
    rig.control(5, vfc.ppr, 0n)
    let named = ones
    for (const { hi, lo } of reservedSpans(layout)) named &= ~((2n << BigInt(hi)) - (1n << BigInt(lo)))
    rig.control(5, offset, ones)
    expect(rig.readControl(5, offset)).toBe(named & keeps & ones)
  })

  it('are there for each GuestID, 64 bytes apart, and take 32-bit halves', () => {
    const rig = VirtualRig.create()
    rig.virtual.writeVfControl(0xffff * 64 + 0x10, 4, 0xabcd1234n)
    rig.virtual.writeVfControl(3 * 64 + 0x1c, 4, 0xfffffn)
    rig.virtual.writeVfControl(3 * 64 + 0x18, 4, 0x5000n)
    expect(rig.readControl(0xffff, vfc.misc)).toBe(0xabcd0000n)
    expect(rig.readControl(3, vfc.eventB)).toBe(0xfffff00005000n)
    expect(rig.virtual.readVfControl(3 * 64 + 0x1c, 4)).toBe(0xfffffn)
    expect(rig.virtual.readVfControl(3 * 64 + 0x18, 4)).toBe(0x5000n)
    expect(rig.virtual.guestIds()).toEqual([3, 0xffff])
  })

  it('ignore what is not aligned, and guests never written to read as zero', () => {
    const rig = VirtualRig.create()
    rig.virtual.writeVfControl(0x12, 4, ones)
    rig.virtual.writeVfControl(0x14, 8, ones)
    rig.virtual.writeVf(0x22, 4, ones)
    expect(rig.readControl(9, vfc.misc)).toBe(0n)
    expect(rig.page(9, page.status)).toBe(0n)
    expect(rig.virtual.guestIds()).toEqual([])
    rig.control(0, vfc.misc, ones)
    expect(rig.virtual.readVfControl(0x12, 4)).toBe(0n)
    expect(rig.virtual.readVf(0x22, 4)).toBe(0n)
  })

  it.each([-1, 0.5, 1 << 28, NaN])('refuse an offset outside the BAR: %d', (offset) => {
    const rig = VirtualRig.create()
    expect(() => rig.virtual.readVf(offset, 8)).toThrow(/offset .* from 0 to 268435455/)
    expect(() => rig.virtual.writeVf(offset, 8, 0n)).toThrow(RangeError)
    expect(() => rig.virtual.readVfControl(offset, 8)).toThrow(/offset .* from 0 to 4194303/)
    expect(() => rig.virtual.writeVfControl(offset, 8, 0n)).toThrow(RangeError)
    expect(() => rig.virtual.stepGuest(offset, rig.commands)).toThrow(/guestId .* from 0 to 65535/)
    expect(() => rig.virtual.deliverGuestEvent(offset, 0, 0, 0, 0)).toThrow(RangeError)
  })

  it.each([
    ['EFR.vIommuSup', { features: nestingFeatures }],
    ['Control.vIommuEn', { control: offControl(virtualControl.viommuEn) }],
  ])('are not there without %s', (_, options) => {
    const rig = VirtualRig.create(options)
    rig.control(1, vfc.misc, ones)
    rig.setPage(1, page.commandTail, 0x10n)
    expect(rig.readControl(1, vfc.misc)).toBe(0n)
    expect(rig.virtual.guestIds()).toEqual([])
    expect(rig.virtual.deliverGuestEvent(1, 0, 0, 0, 0)).toBe(false)
  })
})

describe('the page of a guest', () => {
  it('has heads and tails of 19 bits, a status, an automatic response, and nothing else', () => {
    const rig = VirtualRig.create()
    for (let offset = 0; offset < 4096; offset += 8) rig.setPage(2, offset, ones)
    const seen: Record<number, bigint> = {}
    for (let offset = 0; offset < 4096; offset += 8) {
      const value = rig.page(2, offset)
      if (value !== 0n) seen[offset] = value
    }
    const pointers = [0, 8, 0x10, 0x18, 0x30, 0x38, 0x50, 0x58, 0x70, 0x78]
    expect(seen).toEqual({ ...Object.fromEntries(pointers.map((at) => [at, 0x7fff0n])), 0x80: 0x1fn })
  })

  it.each([
    ['PPRSup', 1n << 1n, [0x30, 0x38, 0x50, 0x58, 0x80]],
    ['DualPprLogSup', 3n << 24n, [0x50, 0x58]],
    ['DualEventLogSup', 3n << 28n, [0x70, 0x78]],
    ['PprAutoRspSup', 1n << 41n, [0x80]],
  ])('lacks what the chip lacks: %s', (_, bits, missing) => {
    const efr = (nestingFeatures.efr | (1n << 55n)) & ~bits
    const rig = VirtualRig.create({ features: { ...nestingFeatures, efr } })
    const all = Object.values(page).filter((offset) => offset !== page.status)
    for (const offset of all) rig.setPage(2, offset, ones)
    expect(all.filter((offset) => rig.page(2, offset) === 0n)).toEqual(missing)
  })

  it('takes 32-bit accesses; high halves are zero', () => {
    const rig = VirtualRig.create()
    rig.virtual.writeVf(4096 + 8, 4, 0x20n)
    rig.virtual.writeVf(4096 + 12, 4, ones)
    expect(rig.virtual.readVf(4096 + 8, 4)).toBe(0x20n)
    expect(rig.virtual.readVf(4096 + 12, 4)).toBe(0n)
    expect(rig.page(1, page.commandTail)).toBe(0x20n)
  })

  it('tells what runs, and locks what hardware uses meanwhile', () => {
    const rig = VirtualRig.create()
    rig.addGuest(1)
    expect(rig.page(1, page.status)).toBe(0x98n)
    for (const offset of [page.commandHead, page.eventTail, page.eventBTail, page.pprTail, page.pprBTail]) {
      rig.setPage(1, offset, 0x40n)
      expect(rig.page(1, offset)).toBe(0n)
    }
    for (const offset of [page.eventHead, page.eventBHead, page.pprHead, page.pprBHead]) {
      rig.setPage(1, offset, 0x40n)
      expect(rig.page(1, offset)).toBe(0x40n)
    }
  })

  it.each([
    ['IommuEn', 1n, 0n],
    ['vCmdEn', virtualControl.vCmdEn, 0x88n],
  ])('tells that queues do not run without Control.%s', (_, bit, runs) => {
    const rig = VirtualRig.create()
    rig.addGuest(1)
    rig.writeMmio(register.control, offControl(bit))
    expect(rig.page(1, page.status)).toBe(runs)
    rig.enqueue(1, [0x1000000000000002n, 0n])
    expect(rig.step(1)).toBe(false)
    rig.writeMmio(register.control, onControl)
    expect(rig.step(1)).toBe(true)
  })

  it.each([vfc.command, vfc.event, vfc.ppr])(
    'tells that a queue with a reserved length does not run: %d',
    (offset) => {
      const rig = VirtualRig.create()
      rig.addGuest(1)
      rig.control(1, offset, 0n)
      const without = rig.page(1, page.status)
      rig.control(1, offset, 0x107n)
      expect(rig.page(1, page.status)).toBe(without)
      rig.control(1, offset, 0x108n)
      expect(rig.page(1, page.status)).not.toBe(without)
    },
  )
})

describe('a base in the registers of a guest', () => {
  it.each([
    [vfc.command, 0x5000n, page.commandTail, page.commandHead],
    [vfc.event, 0x5000n, page.eventTail, page.eventHead],
    [vfc.ppr, 0x50000n, page.pprTail, page.pprHead],
  ])(
    'clears the pointers when it changes, and stays while the queue runs: %d',
    (offset, base, tail, head) => {
      const rig = VirtualRig.create()
      rig.control(4, offset, base | 8n)
      rig.setPage(4, tail, 0x20n)
      rig.setPage(4, head, 0x20n)
      rig.control(4, offset, base | 0x308n)
      expect([rig.page(4, tail), rig.page(4, head)]).toEqual([0x20n, 0x20n])
      rig.control(4, offset, (base << 1n) | 0x309n)
      expect(rig.readControl(4, offset)).toBe(base | 0x308n)
      rig.control(4, offset, (base << 1n) | 8n)
      expect(rig.readControl(4, offset)).toBe((base << 1n) | 8n)
      expect([rig.page(4, tail), rig.page(4, head)]).toEqual([0n, 0n])
      rig.setPage(4, tail, 0x20n)
      rig.control(4, offset, (1n << 40n) | (base << 1n) | 8n)
      expect(rig.page(4, tail)).toBe(0n)
      rig.setPage(4, tail, 0x20n)
      rig.control(4, offset, (1n << 40n) | (base << 1n) | 9n)
      expect(rig.page(4, tail)).toBe(0n)
    },
  )

  it.each([
    [vfc.event, vfc.eventB, page.eventBTail, page.eventTail],
    [vfc.ppr, vfc.pprB, page.pprBTail, page.pprTail],
  ])('of a second ring does so too: %d', (control, base, tail, tailA) => {
    const rig = VirtualRig.create()
    rig.control(4, base, 0x5000n)
    rig.setPage(4, tail, 0x20n)
    rig.control(4, base, 0x5000n)
    expect(rig.page(4, tail)).toBe(0x20n)
    rig.control(4, base, 0x1_0000_5000n)
    expect(rig.page(4, tail)).toBe(0n)
    rig.setPage(4, tail, 0x20n)
    rig.setPage(4, tailA, 0x20n)
    rig.control(4, control, 0x80n)
    expect([rig.page(4, tail), rig.page(4, tailA)]).toEqual([0n, 0x20n])
    rig.control(4, control, 0x188n)
    rig.control(4, base, 0x9000n)
    expect(rig.readControl(4, base)).toBe(0x1_0000_5000n)
  })
})
