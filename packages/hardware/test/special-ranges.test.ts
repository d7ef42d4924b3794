import { describe, expect, it } from 'vitest'
import { nestingFeatures } from '../src/index.js'
import type { Request, SwitchChoices, Translation } from '../src/index.js'
import { ats, bit, fullChip, passing } from './rig-chip.js'
import type { Entry, Chip } from './rig-chip.js'
import type { ChipOptions } from './chip.js'

const device = 0x600
const domain = 0x42n
const valid = 1n
/** DTE q1 with SysMgt or IoCtl. */
const sysMgt = (value: bigint): bigint => domain | (value << 40n)
const ioCtl = (value: bigint): bigint => domain | (value << 35n)
/** DTE q2 with IV, and IntCtl. */
const intCtl = (value: bigint): bigint => 0x117840013n | (value << 60n)

type Kind = 'read' | 'write' | 'non-posted write'
const kinds = ['read', 'write', 'non-posted write'] as const
const asking = (iova: bigint, kind: Kind, more: Partial<Request> = {}): Request => ({
  deviceId: device,
  iova,
  write: kind !== 'read',
  nonPosted: kind === 'non-posted write',
  ...more,
})

/** What is logged: sign-extended, as parts do for addresses above FD_0000_0000h. */
const invalid = (type: number, iova: bigint): Entry => [
  0x8000000000000000n | (BigInt(type) << 57n) | BigInt(device),
  iova >= 0xfd00000000n ? iova | 0xffffff0000000000n : iova,
]

interface Place extends ChipOptions {
  readonly dte?: readonly bigint[]
}

function chipOf({ dte = [passing, domain], ...options }: Place = {}): Chip {
  const chip = fullChip(0n, options)
  chip.setDte(device, dte)
  return chip
}

/** The answer, after checking that the log tells the same. */
function ask(asked: Request, place: Place = {}): Translation {
  const chip = chipOf(place)
  const answer = chip.iommu.request(asked)
  const events = chip.takeEvents()
  if (answer.kind === 'fault' && answer.logged) expect(events).toEqual([answer.event])
  else expect(events).toEqual([])
  return answer
}

const expectInvalid = (answer: Translation, type: number, iova: bigint): void => {
  expect(answer).toMatchObject({ kind: 'fault', logged: true, event: invalid(type, iova) })
}

describe('FEE0_0000 to FEEF_FFFF', () => {
  const edges = [0xfee00000n, 0xfee12344n, 0xfeeffffcn]

  it.each(edges)('is for interrupts: a posted write to %x', (iova) => {
    expect(ask(asking(iova, 'write'))).toEqual({ kind: 'interrupt', address: iova })
  })

  it.each(edges)('is for nothing else: type 0 for %x', (iova) => {
    for (const kind of ['read', 'non-posted write'] as const) expectInvalid(ask(asking(iova, kind)), 0, iova)
  })

  it.each([0xfedffffcn, 0xfef00000n])('ends there: %x is memory', (iova) => {
    for (const kind of kinds) {
      expect(ask(asking(iova, kind))).toMatchObject({ kind: 'translated', spa: iova })
    }
  })

  it.each([0x1fee00000n, 0xfeee00000n, 0x8000fee00000n])('is below 4 GiB alone: %x is memory', (iova) => {
    expect(ask(asking(iova, 'write'))).toMatchObject({ kind: 'translated', spa: iova })
  })

  it('is not looked at with IommuEn off', () => {
    const chip = chipOf()
    chip.write(0x18, 0n)
    for (const kind of kinds) {
      expect(chip.iommu.request(asking(0xfee00000n, kind))).toEqual({
        kind: 'forwarded',
        address: 0xfee00000n,
      })
    }
  })

  it('faults as a page for a request with PASID, by switch for writes alone', () => {
    const guest = { dte: [passing | bit(55) | bit(54), domain] }
    const cause = (kind: Kind, switches: Partial<SwitchChoices>): unknown => {
      const answer = ask(asking(0xfee00000n, kind, { pasid: 5 }), { ...guest, switches })
      return answer.kind === 'fault' ? answer.event[0] >> 60n : answer.kind
    }
    expect(kinds.map((kind) => cause(kind, {}))).toEqual([2n, 2n, 2n])
    expect(cause('write', { interruptWithPasid: 'writes' })).toBe(2n)
    expect(cause('read', { interruptWithPasid: 'writes' })).toBe(8n)
  })

  it('is refused to a translation request: TR=1 type 1', () => {
    const chip = chipOf({ dte: [passing, domain | ats] })
    for (const iova of edges) {
      expect(chip.iommu.translationRequest({ deviceId: device, iova: iova & ~0xfffn })).toMatchObject({
        kind: 'unsupported-request',
        logged: true,
        event: [0x8300000000000600n, iova & ~0xfffn],
      })
    }
  })
})

describe('port I/O, FD_FC00_0000 to FD_FDFF_FFFF', () => {
  const edges = [0xfdfc000000n, 0xfdfc123450n, 0xfdfdfffffcn]

  it.each(edges)('with IoCtl 00 is refused: type 2 for %x', (iova) => {
    for (const kind of kinds) expectInvalid(ask(asking(iova, kind), { dte: [passing, ioCtl(0n)] }), 2, iova)
  })

  it.each(edges)('with IoCtl 01 is forwarded: %x', (iova) => {
    for (const kind of kinds) {
      expect(ask(asking(iova, kind), { dte: [passing, ioCtl(1n)] })).toEqual({
        kind: 'forwarded',
        address: iova,
      })
    }
  })

  it.each(edges)('with IoCtl 10 is translated as memory: %x', (iova) => {
    const dte = [passing, ioCtl(2n)]
    for (const kind of kinds)
      expect(ask(asking(iova, kind), { dte })).toMatchObject({ kind: 'translated', spa: iova })
    // By page tables: nothing is mapped in an empty one.
    const paged = [0x6000000100200803n, ioCtl(2n)]
    expect(ask(asking(iova, 'read'), { dte: paged })).toMatchObject({ kind: 'fault' })
  })

  it.each(edges)('with IoCtl 10 and TV=0 is refused: type 7 for %x', (iova) => {
    for (const kind of kinds) expectInvalid(ask(asking(iova, kind), { dte: [valid, ioCtl(2n)] }), 7, iova)
  })

  it('with IoCtl 11 meets an illegal entry, RZ=0', () => {
    const answer = ask(asking(0xfdfc000000n, 'read'), { dte: [passing, ioCtl(3n)] })
    if (answer.kind !== 'fault') throw new Error(`expected a fault, not ${answer.kind}`)
    expect(answer.event[0] & ~bit(53)).toBe(0x1000000000000600n)
    // Elsewhere the field does not count.
    expect(ask(asking(0x1000n, 'read'), { dte: [passing, ioCtl(3n)] })).toMatchObject({ kind: 'translated' })
  })

  it('with V=0 is forwarded, whatever IoCtl says', () => {
    for (const value of [0n, 1n, 2n, 3n]) {
      const answer = ask(asking(0xfdfc000000n, 'write'), { dte: [0n, ioCtl(value)] })
      expect(answer).toEqual({ kind: 'forwarded', address: 0xfdfc000000n })
    }
  })
})

describe('system management, FD_F91x_xxxx', () => {
  const place = 0xfdf9100000n

  it.each<[bigint, Kind, number]>([
    [0n, 'write', 3],
    [0n, 'read', 4],
    [0n, 'non-posted write', 4],
    [1n, 'read', 4],
    [1n, 'non-posted write', 4],
    [2n, 'read', 4],
    [2n, 'non-posted write', 4],
  ])('with SysMgt %d refuses a %s: type %d', (value, kind, type) => {
    for (const iova of [place, 0xfdf91ffffcn]) {
      expectInvalid(ask(asking(iova, kind), { dte: [passing, sysMgt(value)] }), type, iova)
    }
  })

  it('with SysMgt 01 forwards posted writes', () => {
    for (const iova of [place, 0xfdf91ffffcn]) {
      const answer = ask(asking(iova, 'write'), { dte: [passing, sysMgt(1n)] })
      expect(answer).toEqual({ kind: 'forwarded', address: iova })
    }
  })

  it('with SysMgt 01 and without DTE.IW does not forward (erratum 63)', () => {
    const answer = ask(asking(place, 'write'), { dte: [passing & ~bit(62), sysMgt(1n)] })
    expect(answer.kind).toBe('fault')
  })

  it('with SysMgt 10 forwards some posted writes, INTx messages, and refuses the others: type 3', () => {
    const answers = Array.from({ length: 0x100 }, (_, n) =>
      ask(asking(place + BigInt(n << 12), 'write'), { dte: [passing, sysMgt(2n)] }),
    )
    const refused = answers.filter(({ kind }) => kind === 'fault')
    const forwarded = answers.filter(({ kind }) => kind === 'forwarded')
    expect(refused.length + forwarded.length).toBe(answers.length)
    expect(refused.length).toBeGreaterThan(forwarded.length)
    for (const answer of refused) expect(answer.kind === 'fault' && (answer.event[0] >> 57n) & 7n).toBe(3n)
  })

  it('with SysMgt 11 is translated by the page tables', () => {
    for (const kind of kinds) {
      const answer = ask(asking(place, kind), { dte: [passing, sysMgt(3n)] })
      expect(answer).toMatchObject({ kind: 'translated', spa: place })
    }
    const paged = ask(asking(place, 'write'), { dte: [0x6000000100200803n, sysMgt(3n)] })
    expect(paged).toMatchObject({ kind: 'fault', event: [0x2020004200000600n, expect.anything()] })
  })

  it('with SysMgt 11 and TV=0 is refused: type 7', () => {
    for (const kind of kinds) expectInvalid(ask(asking(place, kind), { dte: [valid, sysMgt(3n)] }), 7, place)
  })

  it('with V=0 is forwarded', () => {
    for (const value of [0n, 1n, 2n, 3n]) {
      const answer = ask(asking(place, 'write'), { dte: [0n, sysMgt(value)] })
      expect(answer).toEqual({ kind: 'forwarded', address: place })
    }
  })

  it('does not count for memory', () => {
    for (const value of [0n, 1n, 2n, 3n]) {
      expect(ask(asking(0x1000n, 'write'), { dte: [passing, sysMgt(value)] })).toMatchObject({
        kind: 'translated',
      })
    }
  })
})

describe('interrupt and EOI, FD_F8xx_xxxx', () => {
  it.each([0xfdf8000000n, 0xfdf8140000n, 0xfdf8fffffcn])(
    'with IntCtl 00 refuses a posted write: type 5 for %x',
    (address) => {
      const chip = chipOf({ dte: [0n, 0n, intCtl(0n)] })
      const answer = chip.iommu.requestInterrupt({ deviceId: device, address, data: 0 })
      expect(answer).toMatchObject({ kind: 'aborted', logged: true, event: invalid(5, address) })
      expect(chip.takeEvents()).toEqual([invalid(5, address)])
    },
  )

  it('logs the bytes that a real part logged for 00:00.0', () => {
    const chip = fullChip()
    chip.setDte(0, [0n, 0n, intCtl(0n)])
    chip.iommu.requestInterrupt({ deviceId: 0, address: 0xfdf8000000n, data: 0 })
    expect(chip.takeEvents()).toEqual([[0x8a00000000000000n, 0xfffffffdf8000000n]])
  })

  it('with IntCtl 01 or without IV forwards it', () => {
    for (const q2 of [intCtl(1n), 0n]) {
      const chip = chipOf({ dte: [0n, 0n, q2] })
      const asked = { deviceId: device, address: 0xfdf8000000n, data: 0x31 }
      expect(chip.iommu.requestInterrupt(asked)).toMatchObject({ kind: 'forwarded', address: 0xfdf8000000n })
    }
  })

  it('is an interrupt for a memory request that is a posted write', () => {
    const address = 0xfdf8140000n
    const answer = chipOf().iommu.request(asking(address, 'write'))
    expect(answer).toEqual({ kind: 'interrupt', address })
  })

  it('is not readable', () => {
    expect(ask(asking(0xfdf8000000n, 'read')).kind).toBe('fault')
  })
})

describe('reserved interrupt ranges, FD_F920_0000 to FD_FAFF_FFFF', () => {
  it.each([0xfdf9200000n, 0xfdf9fffffcn, 0xfdfa000000n, 0xfdfafffffcn])(
    'refuse a posted write: type 6 for %x',
    (iova) => {
      expectInvalid(ask(asking(iova, 'write')), 6, iova)
    },
  )

  it('are not readable', () => {
    expect(ask(asking(0xfdfa000000n, 'read')).kind).toBe('fault')
  })
})

describe('address translation, FD_FBxx_xxxx', () => {
  it.each([0xfdfb000000n, 0xfdfbfffffcn])(
    'with HtAtsResv refuses a write, type 3, and a read, type 4: %x',
    (iova) => {
      const place = { pci: { htAtsResv: true } }
      expectInvalid(ask(asking(iova, 'write'), place), 3, iova)
      expectInvalid(ask(asking(iova, 'read'), place), 4, iova)
      expectInvalid(ask(asking(iova, 'non-posted write'), place), 4, iova)
    },
  )
})

describe('the rest of the HyperTransport hole', () => {
  const rest = [0xfdfe000000n, 0xfdfffffffcn, 0xfe00000000n, 0xfffffffffcn]

  it.each(rest)('is not memory: %x is aborted, with an event by switch', (iova) => {
    for (const kind of kinds) {
      expect(ask(asking(iova, kind))).toMatchObject({ kind: 'fault', logged: false })
      const logged = ask(asking(iova, kind), { switches: { hyperTransportRest: 'logged' } })
      expect(logged).toMatchObject({ kind: 'fault', logged: true })
    }
  })

  it.each([0xfcfffffffcn, 0x10000000000n])('ends there: %x is memory', (iova) => {
    expect(ask(asking(iova, 'write'))).toMatchObject({ kind: 'translated', spa: iova })
  })

  it('is bounded at FD_0000_0000 and FF_FFFF_FFFF', () => {
    for (const iova of [0xfd00000000n, 0xfdf7fffffcn]) {
      expect(ask(asking(iova, 'read')).kind).toBe('fault')
    }
  })
})

describe('with HtRangeIgnore', () => {
  const features = { ...nestingFeatures, efr2: nestingFeatures.efr2 | bit(11) }
  it.each([
    0xfd00000000n,
    0xfdf8000000n,
    0xfdf9100000n,
    0xfdfa000000n,
    0xfdfb000000n,
    0xfdfc000000n,
    0xfdfe000000n,
    0xfe00000000n,
    0xfffffffffcn,
  ])('the hole is ordinary memory: %x', (iova) => {
    for (const kind of kinds) {
      expect(ask(asking(iova, kind), { features })).toMatchObject({ kind: 'translated', spa: iova })
    }
  })

  it('interrupts stay where they are', () => {
    expect(ask(asking(0xfee00000n, 'write'), { features })).toMatchObject({ kind: 'interrupt' })
  })
})

describe('translation requests', () => {
  const chip = (dte: readonly bigint[], options: ChipOptions = {}): Chip => chipOf({ dte, ...options })
  const seek = (of: Chip, iova: bigint, more: object = {}) =>
    of.iommu.translationRequest({ deviceId: device, iova, ...more })

  it.each([
    [0xfdf9100000n, 'system management'],
    [0xfdfc000000n, 'port I/O'],
    [0xfdf8000000n, 'interrupts'],
  ])('for %x, %s, are refused: TR=1 type 1', (iova) => {
    const answer = seek(chip([passing, domain | ats | (3n << 40n) | (2n << 35n)]), iova)
    expect(answer).toMatchObject({ kind: 'unsupported-request', logged: true })
    expect(answer.kind === 'unsupported-request' && answer.event[0]).toBe(0x8300000000000600n)
  })

  it.each<[string, readonly bigint[]]>([
    ['I=0', [passing, domain]],
    ['V=0', [0n, ats]],
    ['TV=0', [valid, domain | ats]],
  ])('of a device with %s are refused: TR=1 type 0', (_, dte) => {
    expect(seek(chip(dte), 0x5000n)).toMatchObject({
      kind: 'unsupported-request',
      logged: true,
      event: [0x8100000000000600n, 0x5000n],
    })
  })

  it('of a device with an illegal entry log it with TR=1, as a real part did', () => {
    // Case b of the samples: PPR without EPHEn.
    const answer = seek(chip([0x6190000000000003n, 0x00001001049e000bn, 0x200000013c610013n]), 0x131400000n)
    expect(answer).toMatchObject({
      kind: 'unsupported-request',
      event: [0x1180000000000600n, 0x131400000n],
    })
  })

  it('of a device beyond the table are refused with TR=1', () => {
    const of = chip([])
    of.write(0, 0x4000000n)
    expect(seek(of, 0x5000n)).toMatchObject({ kind: 'unsupported-request' })
  })

  it('for a page that is not there, or not allowed, are completed without rights and without an event', () => {
    const of = chip([0x6000000100200203n, domain | ats])
    of.put([0x100200008n, 0x0000000300000001n])
    for (const iova of [0x5000n, 0x1000n]) {
      expect(seek(of, iova)).toMatchObject({ kind: 'completed', readable: false, writable: false })
    }
    expect(of.takeEvents()).toEqual([])
  })

  it('for a page in a malformed table are aborted, with the event or not by switch', () => {
    for (const [choice, logged] of [
      ['logged', true],
      ['silent', false],
    ] as const) {
      const of = chip([0x6000000100200203n, domain | ats], { switches: { atsMalformed: choice } })
      // A reserved bit in the leaf.
      of.put([0x100200008n, 0x6010000300000001n])
      expect(seek(of, 0x1000n)).toMatchObject({ kind: 'completer-abort', logged })
      expect(of.takeEvents()).toHaveLength(logged ? 1 : 0)
    }
  })

  it('that meet no memory log PAGE_TAB_HARDWARE_ERROR with TR=1', () => {
    const of = chip([0x600ffffffffff203n, domain | ats])
    expect(seek(of, 0x1000n)).toMatchObject({
      kind: 'completer-abort',
      logged: true,
      event: [0x4300004200000600n, 0xffffffffff008n],
    })
  })

  it('tell page, size and rights', () => {
    const of = chip([0x6000000100200403n, domain | ats])
    // 2 MiB, read-only, U and no FC; and 16 KiB at level 1.
    of.put([0x100200000n, 0x2800000040000001n], [0x100200008n, 0x6000000100203201n])
    for (let n = 0n; n < 4n; n++) of.put([0x100203020n + n * 8n, 0x7000000876545e01n])
    expect(seek(of, 0x5000n)).toMatchObject({
      kind: 'completed',
      sizeLog2: 21,
      readable: true,
      writable: false,
      untranslatedOnly: true,
    })
    expect(seek(of, 0x206000n, { write: true })).toMatchObject({
      kind: 'completed',
      sizeLog2: 14,
      readable: true,
      writable: true,
      untranslatedOnly: false,
    })
  })

  it('that may write set D beforehand, by switch; with NW=1 they need not', () => {
    for (const [atsDirty, noWrite, dirty] of [
      ['set', false, true],
      ['left', false, false],
      ['set', true, false],
    ] as const) {
      const of = chip([0x6000000100200203n | (3n << 7n), domain | ats], { switches: { atsDirty } })
      of.write(0x18, of.read(0x18) | (3n << 46n))
      of.put([0x100200008n, 0x6000000300000001n])
      seek(of, 0x1000n, { write: !noWrite, noWrite })
      expect(((of.load(0x100200008n) ?? 0n) & 0x40n) !== 0n, `${atsDirty} ${noWrite}`).toBe(dirty)
    }
  })
})

describe('translated requests', () => {
  const go = (dte: readonly bigint[], kind: Kind, switches: Partial<SwitchChoices> = {}) => {
    const chip = chipOf({ dte, switches })
    const answer = chip.iommu.translatedRequest(asking(0x876543000n, kind))
    return { answer, events: chip.takeEvents() }
  }

  it('are forwarded from a device with I=1', () => {
    for (const kind of kinds) {
      const { answer } = go([0x6000000100200803n, domain | ats], kind)
      expect(answer).toEqual({ kind: 'forwarded', address: 0x876543000n })
    }
  })

  it.each<[string, readonly bigint[]]>([
    ['I=0', [passing, domain]],
    ['V=0', [0n, ats]],
  ])('from a device with %s are refused: TR=0 type 1', (_, dte) => {
    for (const kind of kinds) {
      const { answer, events } = go(dte, kind)
      expect(answer).toMatchObject({ kind: 'fault', event: [0x8200000000000600n, 0x876543000n] })
      expect(events).toHaveLength(1)
    }
  })

  it('need the rights of the entry, by switch', () => {
    const readOnly = [passing & ~bit(62), domain | ats]
    expect(go(readOnly, 'read').answer.kind).toBe('forwarded')
    expect(go(readOnly, 'write').answer).toMatchObject({ kind: 'fault' })
    expect(go(readOnly, 'write', { translatedRights: 'ignored' }).answer.kind).toBe('forwarded')
  })

  it('meet an illegal entry as others do', () => {
    expect(go([0x7n, ats], 'read').answer).toMatchObject({
      kind: 'fault',
      event: [0x1080000000000600n, 0x876543000n],
    })
  })
})
