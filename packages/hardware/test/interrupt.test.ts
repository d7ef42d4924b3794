/** Interrupt remapping up to the table: what goes on, what is refused, and the exact events. */
import { parseHex } from '@nestwalk/bits'
import { describe, expect, it } from 'vitest'
import dteVectors from '../vectors/dte.json' with { type: 'json' }
import eventVectors from '../vectors/events.json' with { type: 'json' }
import { nestingFeatures } from '../src/index.js'
import { event } from './chip.js'
import {
  device,
  tableAt,
  backingPage,
  guest,
  dte,
  irte32,
  irte128,
  irteGuest,
  rigWith,
  ask,
  expectForwarded,
  expectAborted,
  expectRefused,
  spaOf,
  illegalBits,
  illegalLevel,
  notPresent,
} from './interrupt-cases.js'
import type { Place } from './interrupt-cases.js'
import { allFeatures, deviceTableAt, on } from './interrupt-rig.js'
import type { Answer } from './interrupt-rig.js'

const remaps = (words: readonly bigint[], place: Place = {}): boolean =>
  ask({ dte: words, irte: [irte32({})], ...place }).outcome === 'remapped'

describe('an interrupt goes on unchanged', () => {
  it('while IommuEn is clear, whatever the tables say', () => {
    expectForwarded(ask({ control: on.guestApic, dte: dte(3n << 52n) }, 0x4031), 0x4031)
  })

  it.each([0n, 1n, 3n, 0x6000000000000003n])('where IV is clear, with the lower half %s', (q0) => {
    const words = [q0, 0x42n, 0x2030000117840012n, 0x7fffn]
    expectForwarded(ask({ dte: words }, 0xc731), 0xc731)
  })

  it.each([0, 1])('where IntCtl is 1: delivery mode %i', (mode) => {
    const forward = dte().map((word, n) => (n === 2 ? 0x1000000117840013n : word))
    const data = 0xabcd_0031 | (mode << 8)
    expectForwarded(ask({ dte: forward }, data, 0xfee0500cn), data >>> 0, 0xfee0500cn)
  })

  it.each([
    ['NMI', 4, 1n << 58n],
    ['INIT', 5, 1n << 56n],
    ['ExtInt', 7, 1n << 57n],
  ])('with its pass bit, to a physical destination: %s', (_, mode, passBit) => {
    const data = (mode << 8) | 0x31
    expectForwarded(ask({ dte: dte(passBit) }, data), data)
    expectRefused({ dte: dte(passBit) }, undefined, data, 0xfee00004n)
    expectRefused({ dte: dte(0x700000000000000n & ~passBit) }, undefined, data)
  })

  it.each([3, 6])('but never with delivery mode %i', (mode) => {
    expectRefused({ dte: dte(0xcfn << 54n) }, undefined, mode << 8)
  })

  it('with the pass bits of a real entry, although its table remaps', () => {
    const words = dteVectors.vectors.find(({ name }) => name === 'D10')!.words.map(parseHex)
    for (const mode of [4, 5, 7]) expectForwarded(ask({ dte: words }, mode << 8), mode << 8)
    expectRefused({ dte: words, sizeBytes: 2 ** 36 }, '00000600 20080009 fee00000 00000000')
  })
})

describe('an SMI', () => {
  const smi = 0x231
  const filter = on.iommu | on.smiFilter

  it('passes without a filter, with any destination mode', () => {
    expectForwarded(ask({}, smi), smi)
    expectForwarded(ask({}, smi, 0xfee00004n), smi, 0xfee00004n)
    expectRefused({ switches: { logicalSmi: 'abort' } }, undefined, smi, 0xfee00004n)
    expectForwarded(ask({ switches: { logicalSmi: 'abort' } }, smi), smi)
  })

  it('passes the filter if a valid register names its device', () => {
    const filtered = (...values: bigint[]): Answer => {
      const rig = rigWith({ control: filter })
      values.forEach((value, n) => rig.write(0x60 + 8 * n, value))
      return rig.interrupt(device, smi)
    }
    expect(filtered().outcome).toBe('aborted')
    expect(filtered(0x10600n).outcome).toBe('forwarded')
    expect(filtered(0x10601n, 0x600n).outcome).toBe('aborted')
    expect(filtered(0n, 0x10600n).outcome).toBe('forwarded')
  })

  it('is not filtered by a part without filters', () => {
    const features = { ...allFeatures, efr: allFeatures.efr & ~(3n << 16n) }
    expectForwarded(ask({ control: filter, features }, smi), smi)
  })

  it('is counted, and once more when it is blocked', () => {
    const rig = rigWith({ control: filter })
    rig.interrupt(device, smi)
    rig.look(device, smi)
    expect(rig.counts).toEqual([
      [0x17, device, 0],
      [0x18, device, 0],
    ])
  })
})

describe('a device table entry', () => {
  it('beyond the table is a page fault without a domain', () => {
    const rig = rigWith()
    rig.write(0, deviceTableAt | 0n)
    expectAborted(rig, rig.interrupt(device, 0), '00000600 20080000 fee00000 00000000')
  })

  it('beyond the table may be an illegal entry', () => {
    const rig = rigWith({ chipSwitches: { deviceIdBeyondTable: 'illegal-dev-table-entry' } })
    rig.write(0, deviceTableAt | 0n)
    expectAborted(rig, rig.interrupt(device, 0, 0xfee01234n), '00000600 10080000 fee01234 00000000')
  })

  it('that cannot be read is a hardware error at its address', () => {
    const rig = rigWith()
    rig.write(0, 0xffffffffff000n | 0x1ffn)
    expectAborted(rig, rig.interrupt(0x10, 0), '00000010 32080000 fffff200 000fffff')
  })

  it('with a reserved bit in its upper half is illegal, and with one in its lower half is not', () => {
    const negative = dteVectors.checks.find(({ request }) => request === 'interrupt')!
    expectRefused(
      { dte: negative.words.map(parseHex) },
      '00000600 10880000 fee01234 00000000',
      0,
      0xfee01234n,
    )
    for (const bit of [52, 53]) expectRefused({ dte: dte(1n << BigInt(bit)) }, illegalBits)
    for (const bit of [0, 14, 15, 48, 53]) expectRefused({ dte: dte(0n, 1n << BigInt(bit)) }, illegalBits)
    for (const bit of [16, 31, 32, 47, 54, 55, 63]) expect(remaps(dte(0n, 1n << BigInt(bit)))).toBe(true)
    for (const bit of [54, 55, 56, 57, 58, 59, 62, 63]) expect(remaps(dte(1n << BigInt(bit)))).toBe(true)
    expect(remaps(dte(0n, 0n, 0x8000000000000005n))).toBe(true)
  })

  it('takes vImuEn while the hardware vIOMMU is on', () => {
    const words = dte(0n, 0x8000n)
    expect(remaps(words, { control: on.iommu | on.viommu })).toBe(true)
    expect(remaps(words, { control: on.iommu | on.viommu, features: nestingFeatures })).toBe(false)
    expect(remaps(words, { switches: { virtualImuOff: 'ignored' } })).toBe(true)
  })

  it('is illegal with IntCtl 3', () => {
    const words = dte(1n << 60n)
    expectRefused({ dte: words }, illegalBits)
    expectRefused({ dte: words, switches: { interruptControlReserved: 'rz-0' } }, illegalLevel)
    expectForwarded(ask({ dte: words }, 0x231), 0x231)
  })

  it.each([12n, 15n])('is illegal with IntTabLen %i, if the table is needed', (length) => {
    const words = [0n, 0n, 0x2000000117840001n | (length << 1n), 0n]
    expectRefused({ dte: words }, illegalLevel)
    expectRefused({ dte: words, switches: { interruptTableTooLong: 'rz-1' } }, illegalBits)
    expectForwarded(ask({ dte: words.map((word) => word ^ (word === 0n ? 0n : 3n << 60n)) }, 0), 0)
  })

  it('aborts silently with IntCtl 0, and with an event in the HyperTransport range', () => {
    const words = dte().map((word, n) => (n === 2 ? 0x117840013n : word))
    expectRefused({ dte: words }, undefined)
    expectRefused(
      { dte: words, switches: { interruptAbort: 'invalid-device-request' } },
      '00000600 8a000000 fee00000 00000000',
    )
    const rig = rigWith()
    rig.setDte(0, words)
    const vector = eventVectors.vectors.find(({ name }) => name.includes('type 5'))!
    const answer = rig.interrupt(0, 0, 0xfffffffdf8000000n)
    expectAborted(rig, answer, '00000000 8a000000 f8000000 fffffffd')
    expect(answer.event).toEqual(vector.words.map(parseHex))
  })
})

describe('an interrupt without an entry', () => {
  const valid = dte(0n, 0n, 1n)
  const ignoring = dte(0x20n, 0n, 1n)

  it.each([
    [0n, 0, true],
    [0n, 1, false],
    [9n, 511, true],
    [9n, 512, false],
    [8n, 256, false],
    [8n, 255, true],
  ])('is refused from 2^IntTabLen on: 2^%i, index %i', (length, index, isIn) => {
    const many = {
      control: on.iommu | on.manyInterrupts,
      dte: [1n, 0x42n, 0x2000000117840001n | (length << 1n), 0n],
    }
    const rig = rigWith(many)
    rig.put((tableAt + BigInt(index) * 4n) & ~7n, irte32({}) | (irte32({}) << 32n))
    const answer = rig.interrupt(device, index, 0xfee00004n)
    expect(answer.index).toBe(index)
    if (isIn) expect(answer.outcome).toBe('remapped')
    else expectAborted(rig, answer, '00000600 20080042 fee00004 00000000')
  })

  it('with RemapEn clear is the documented event', () => {
    expectRefused({ dte: valid }, notPresent)
    const vector = eventVectors.vectors.find(({ name }) => name.includes('RemapEn'))!
    expect(ask({ dte: valid }).event).toEqual(vector.words.map(parseHex))
    // RemapEn counts before anything else in the entry.
    expectRefused({ dte: valid, irte: [0xff00009cn] }, notPresent)
  })

  it('names no domain where the lower half of the device entry does not count', () => {
    expectRefused({ dte: dte() }, '00000600 20080000 fee00000 00000000')
    expectRefused({ dte: dte(), switches: { domainWithoutValid: 'as-stored' } }, notPresent)
  })

  const silent = (place: Place, data = 0): boolean => {
    const rig = rigWith(place)
    const answer = rig.interrupt(device, data)
    expect([answer.outcome, answer.event[0] >> 60n]).toEqual(['aborted', 2n])
    expect(rig.events).toHaveLength(answer.logged ? 1 : 0)
    return !answer.logged
  }

  it('is not logged with SupIOPF, or with IG', () => {
    expect(silent({ dte: valid, irte: [2n] })).toBe(true)
    expect(silent({ dte: ignoring })).toBe(true)
    expect(silent({ dte: ignoring }, 0x7f)).toBe(true)
    const beyond: Place = { dte: [1n, 0x42n, 0x2000000117840021n, 0n] }
    expect(silent(beyond, 1)).toBe(true)
    expect(silent({ ...beyond, switches: { ignoreUnmapped: 'every-fault' } }, 1)).toBe(true)
    expect(silent({ ...beyond, switches: { ignoreUnmapped: 'remap-disabled' } }, 1)).toBe(false)
  })

  it('or is malformed: SupIOPF counts by default, IG by choice', () => {
    const bad = [0xff000001n]
    expect(silent({ dte: valid, irte: bad })).toBe(false)
    expect(silent({ dte: ignoring, irte: bad })).toBe(false)
    expect(silent({ dte: ignoring, irte: bad, switches: { ignoreUnmapped: 'every-fault' } })).toBe(true)
    expect(silent({ dte: valid, irte: [0xff000003n] })).toBe(true)
    const disabledOnly = { switches: { suppressEntryFaults: 'remap-disabled' } } as const
    expect(silent({ dte: valid, irte: [0xff000003n], ...disabledOnly })).toBe(false)
    expect(silent({ dte: valid, irte: [2n], ...disabledOnly })).toBe(true)
  })

  it('is a fault all the same when the log takes nothing', () => {
    const rig = rigWith({ dte: valid, logs: false })
    expect(rig.interrupt(device, 0)).toMatchObject({
      outcome: 'aborted',
      logged: false,
      event: event(notPresent),
    })
    expect(rig.events).toHaveLength(1)
  })
})

describe('looking', () => {
  it('tells what would happen, and changes nothing', () => {
    const irte = irteGuest({ gaLogInterrupt: true, vector: 0x51, backingPage: spaOf(backingPage) })
    const rig = rigWith({ control: guest, dte: dte(0n, 0n, 1n), irte })
    rig.put(tableAt + 16n, ...irte128({ vector: 7 }))
    const fingerprint = rig.fingerprint()
    expect(rig.look(device, 0)).toMatchObject({ outcome: 'posted', notice: 2, vector: 0x51, source: 1 })
    expect(rig.look(device, 1)).toMatchObject({ outcome: 'remapped', data: 7 })
    expect(rig.look(device, 2)).toMatchObject({ outcome: 'aborted', logged: false, event: event(notPresent) })
    expect(rig.fingerprint()).toBe(fingerprint)
    expect([rig.gaLog, rig.events, rig.counts, rig.cache.entries()]).toEqual([[], [], [], []])
  })
})

describe('performance counters', () => {
  it('are told of interrupts that go through the table', () => {
    const rig = rigWith({ control: guest, dte: dte(0n, 0n, 1n), irte: irte128({}) })
    rig.put(tableAt + 16n, ...irteGuest({}))
    for (const data of [0, 1, 2]) rig.interrupt(device, data)
    expect(rig.counts).toEqual([
      [0x15, device, 0x42],
      [0x16, device, 0x42],
    ])
  })
})
