/**
 * What a walk reads where silicon has caches on the way: each entry once, and those no more that a cached table, or a
 * cached place of a guest's page, stands for.
 */
import { describe, expect, it } from 'vitest'
import type { MicroArchitecture, Request, SwitchChoices } from '../src/index.js'
import { controlBit, quietControl } from './chip.js'
import type { Chip } from './chip.js'
import { guestEntryAt, guestPages, hostEntryAt, hostPages, nestedChip, nestedDte } from './tables.js'

const device = 5
const spaOf = (gpa: bigint): bigint => 0x200000000n + gpa
/** Mode 3; GLX 1; four levels of guest table. */
const [host, gcr3, guest] = [3, 2, 4]
/** Every entry of GCR3 and guest tables by a walk of the host table, and the page itself by one. */
const whole = (gcr3 + guest) * (host + 1) + host
const hashed = { kind: 'hashed', capacityLog2: 8 } as const
const flushHost = [0x3000000000000000n | (BigInt(device) << 32n), 0x7ffffffffffff001n] as const

interface Options {
  readonly design: Partial<MicroArchitecture>
  readonly switches?: Partial<SwitchChoices>
  readonly control?: bigint
  readonly q0?: bigint
}

function chipOf({ design, switches = {}, control = quietControl, q0 = 0n }: Options): Chip {
  const chip = nestedChip([device], { microArchitecture: design, switches, control })
  const [first = 0n, ...rest] = nestedDte(device)
  chip.setDte(device, [first | q0, ...rest])
  return chip
}

/** Where the answer came from, the entries read for it, and what came out. */
function ask(chip: Chip, asked: Partial<Request>): readonly unknown[] {
  const answer = chip.iommu.request({ deviceId: device, iova: guestPages, ...asked })
  if (answer.kind === 'fault') return ['fault', answer.reads, Number((answer.event[0] >> 48n) & 0xd0n)]
  if (answer.kind !== 'translated') throw new Error(`not a translation: ${answer.kind}`)
  return [answer.from, answer.reads, answer.spa]
}

const page = (n: number): bigint => BigInt(n) << 12n
const nested = (n: number, more: Partial<Request> = {}): Partial<Request> => ({
  ...{ pasid: 5, iova: guestPages + page(n) },
  ...more,
})
const ofHost = (n: number, more: Partial<Request> = {}): Partial<Request> => ({
  iova: hostPages + page(n),
  ...more,
})
const at = (n: number): bigint => spaOf(hostPages + page(n))
const hostLeaf = (spa: bigint): bigint => (3n << 61n) | spa | 1n
const absent = 0x00
const denied = 0x50

describe('a chip that keeps nested translations as wholes', () => {
  it('walks for each page from the beginning', () => {
    const chip = chipOf({ design: {} })
    expect(ask(chip, nested(0))).toEqual(['walk', whole, at(0)])
    expect(ask(chip, nested(0))).toEqual(['iotlb', 0, at(0)])
    expect(ask(chip, nested(1))).toEqual(['walk', whole, at(1)])
    expect(ask(chip, ofHost(0))).toEqual(['walk', host, at(0)])
    expect(ask(chip, ofHost(1))).toEqual(['walk', host, at(1)])
    expect(ask(chip, ofHost(0))).toEqual(['iotlb', 0, at(0)])
  })
})

describe.each(['split', 'both'] as const)('a chip that keeps where GPAs lie: %s', (nestedEntries) => {
  const make = (more: Partial<Options> = {}): Chip => chipOf({ design: { nestedEntries }, ...more })

  it('finds tables and pages by that', () => {
    const chip = make()
    expect(ask(chip, nested(0))).toEqual(['walk', whole, at(0)])
    expect(ask(chip, nested(0))).toEqual(['iotlb', 0, at(0)])
    // The tables of the next page are known, the page is not.
    expect(ask(chip, nested(1))).toEqual(['walk', gcr3 + guest + host, at(1)])
    // What is known of GPAs answers requests without PASID, and those answers tell where GPAs lie.
    expect(ask(chip, ofHost(0))).toEqual(['iotlb', 0, at(0)])
    expect(ask(chip, { iova: 0x11000n })).toEqual(['iotlb', 0, spaOf(0x11000n)])
    const other = make()
    expect(ask(other, { iova: 0x11000n })).toEqual(['walk', host, spaOf(0x11000n)])
    expect(ask(other, nested(0))).toEqual(['walk', whole - host, at(0)])
  })

  it('walks the host table alone for a right that it lacks there', () => {
    const chip = make()
    const entry = chip.load(hostEntryAt(hostPages)) ?? 0n
    const write = { write: true }
    chip.put([hostEntryAt(hostPages), entry & ~(1n << 62n)])
    expect(ask(chip, nested(0))).toEqual(['walk', whole, at(0)])
    expect(ask(chip, nested(0, write))).toEqual(['fault', host, denied])
    chip.put([hostEntryAt(hostPages), entry])
    expect(ask(chip, nested(0, write))).toEqual(['walk', host, at(0)])
    expect(ask(chip, nested(0, write))).toEqual(['iotlb', 0, at(0)])
  })

  it('walks all tables for a right that it lacks in the guest', () => {
    const chip = make()
    chip.put([guestEntryAt(1, 0n), hostPages | 5n])
    expect(ask(chip, nested(0))).toEqual(['walk', whole, at(0)])
    chip.put([guestEntryAt(1, 0n), hostPages | 7n])
    expect(ask(chip, nested(0, { write: true }))).toEqual(['walk', gcr3 + guest + host, at(0)])
  })

  it('walks for the first write where D is to be set, in the part that lacks it', () => {
    const hostMarks = make({ control: quietControl | controlBit.hostDirty, q0: 3n << 7n })
    ask(hostMarks, nested(0))
    expect(ask(hostMarks, nested(0, { write: true }))).toEqual(['walk', host, at(0)])
    expect((hostMarks.load(hostEntryAt(hostPages)) ?? 0n) & 0x60n).toBe(0x60n)
    expect(ask(hostMarks, nested(0, { write: true }))).toEqual(['iotlb', 0, at(0)])
    const guestMarks = make({ control: quietControl & ~controlBit.guestDirtyOff })
    ask(guestMarks, nested(0))
    expect(ask(guestMarks, nested(0, { write: true }))).toEqual(['walk', gcr3 + guest + host, at(0)])
    expect((guestMarks.load(guestEntryAt(1, 0n)) ?? 0n) & 0x40n).toBe(0x40n)
    expect(ask(guestMarks, nested(0, { write: true }))).toEqual(['iotlb', 0, at(0)])
  })

  it('answers with the smaller page, and the offset in each', () => {
    const chip = make()
    // The guest's 2 MiB at GPA 0; one page of the host.
    const directory = spaOf(0x20000n + (4n + 4n - 2n) * 0x1000n) + 8n
    chip.put([directory, 0x87n])
    const asked = { ...nested(0), iova: guestPages + hostPages + 0x123n }
    expect(ask(chip, asked)).toEqual(['walk', expect.any(Number), at(0) + 0x123n])
    expect(ask(chip, { ...asked, iova: asked.iova + 1n })).toEqual(['iotlb', 0, at(0) + 0x124n])
    // The same GVA page by its GPA: the guest's tables are not read again.
    const next = { ...asked, iova: asked.iova + 0x1000n }
    const found = chip.iommu.request({ deviceId: device, ...next })
    expect(found).toMatchObject({ from: 'walk', reads: host, spa: at(1) + 0x123n, sizeLog2: 12 })
    expect(ask(chip, next)).toEqual(['iotlb', 0, at(1) + 0x123n])
    const answer = chip.iommu.request({ deviceId: device, ...next })
    expect(answer).toMatchObject({ sizeLog2: 12, readable: true, writable: true, filler: device })
  })

  it('answers with what both parts grant, and the smaller of their pages, when the host is walked alone', () => {
    for (const [entry, sizeLog2] of [
      [hostLeaf(at(0)), 12],
      // 64 KiB of the host.
      [hostLeaf(at(0)) | 0x7e00n, 12],
    ] as const) {
      const chip = make()
      chip.put([hostEntryAt(hostPages), entry & ~(1n << 61n)])
      ask(chip, nested(0, { write: true }))
      chip.put([hostEntryAt(hostPages), entry & ~(1n << 62n)])
      const answer = chip.iommu.request({ deviceId: device, iova: guestPages, ...nested(0) })
      const expected = { spa: at(0), sizeLog2, readable: true, writable: false }
      expect(answer).toMatchObject({ from: 'walk', reads: host, ...expected })
      const again = chip.iommu.request({ deviceId: device, iova: guestPages, ...nested(0) })
      expect(again).toMatchObject({ from: 'iotlb', reads: 0, ...expected })
    }
  })

  it('keeps the whole as well, or not', () => {
    const chip = make()
    ask(chip, nested(0))
    const isWhole = chip.iommu.iotlbEntries().some((entry) => entry.pasid === 5 && entry.page === guestPages)
    expect(isWhole).toBe(nestedEntries === 'both')
  })

  it('keeps of a table’s page whether a write there has D to set', () => {
    const chip = make({ control: quietControl | controlBit.hostDirty, q0: 3n << 7n })
    const [clean, dirty] = [hostEntryAt(0x11000n), hostEntryAt(0x10000n)]
    chip.put([dirty, (chip.load(dirty) ?? 0n) | 0x60n])
    ask(chip, nested(0))
    expect((chip.load(clean) ?? 0n) & 0x60n).toBe(0x20n)
    expect(ask(chip, { iova: 0x10000n, write: true })).toEqual(['iotlb', 0, spaOf(0x10000n)])
    expect(ask(chip, { iova: 0x11000n, write: true })).toEqual(['walk', host, spaOf(0x11000n)])
    expect((chip.load(clean) ?? 0n) & 0x60n).toBe(0x60n)
    const quiet = make()
    ask(quiet, nested(0))
    expect(ask(quiet, { iova: 0x11000n, write: true })).toEqual(['iotlb', 0, spaOf(0x11000n)])
  })

  it('faults where the host has no page for a table', () => {
    const chip = make()
    const table = hostEntryAt(0x11000n)
    const entry = chip.load(table) ?? 0n
    chip.put([table, 0n])
    expect(ask(chip, nested(0))).toEqual(['fault', 2 * host + 1, absent])
    chip.put([table, entry])
    expect(ask(chip, nested(0))).toEqual(['walk', whole - host, at(0)])
  })

  it('takes no table from where it may not be read', () => {
    const chip = make()
    const table = hostEntryAt(0x11000n)
    chip.put([table, (chip.load(table) ?? 0n) & ~(1n << 61n)])
    expect(ask(chip, { iova: 0x11000n, write: true })).toEqual(['walk', host, spaOf(0x11000n)])
    expect(ask(chip, nested(0))).toEqual(['fault', 2 * host + 1, denied])
  })

  it('keeps guest tables without a host table as wholes', () => {
    const chip = chipOf({ design: { nestedEntries } })
    const [q0 = 0n, ...rest] = nestedDte(device)
    chip.setDte(device, [q0 & ~0xe00n, ...rest])
    for (let gpa = 0x10000n; gpa < 0x30000n; gpa += 8n) chip.put([gpa, chip.load(spaOf(gpa)) ?? 0n])
    expect(ask(chip, nested(0))).toEqual(['walk', gcr3 + guest, hostPages])
    expect(ask(chip, nested(0))).toEqual(['iotlb', 0, hostPages])
    expect(ask(chip, nested(1))).toEqual(['walk', gcr3 + guest, hostPages + page(1)])
  })
})

describe('a chip with a page-walk cache', () => {
  const make = (more: Partial<Options> = {}): Chip => chipOf({ design: { pageWalkCache: hashed }, ...more })

  it('starts host walks at the lowest table that it knows', () => {
    const chip = make()
    const top = chip.load(0x100000000n) ?? 0n
    expect(ask(chip, ofHost(0))).toEqual(['walk', host, at(0)])
    expect(ask(chip, ofHost(1))).toEqual(['walk', 1, at(1)])
    // 2 MiB further on that of level 2, where nothing more is present.
    expect(ask(chip, ofHost(0x200))).toEqual(['fault', 1, absent])
    chip.put([0x100000000n, 0n])
    expect(ask(chip, ofHost(0x201))).toEqual(['fault', 1, absent])
    expect(ask(chip, ofHost(2))).toEqual(['walk', 1, at(2)])
    chip.put([0x100000000n, top])
    // Every table of another domain.
    chip.setDte(6, nestedDte(6))
    expect(ask(chip, { ...ofHost(2), deviceId: 6 })).toEqual(['walk', host, at(2)])
  })

  it('starts guest walks at the lowest table of the PASID that it knows', () => {
    const chip = make()
    // All tables and the page are in one table of the host, whose directories are read once.
    const first = host - 1 + (gcr3 + guest) * 2 + 1
    expect(ask(chip, nested(0))).toEqual(['walk', first, at(0)])
    expect(ask(chip, nested(1))).toEqual(['walk', 3, at(1)])
    expect(ask(chip, nested(0x200))).toEqual(['fault', 2, absent])
    expect(ask(chip, { ...nested(2), pasid: 0x200 })).toEqual(['walk', (gcr3 + guest) * 2 + 1, at(2)])
  })

  it('goes on with tables that memory has no more, until they are invalidated with PDE=1', () => {
    const chip = make()
    ask(chip, ofHost(0))
    // Nothing is present in the top table now.
    chip.put([0x100000000n, 0n])
    expect(ask(chip, ofHost(1))).toEqual(['walk', 1, at(1)])
    chip.command(flushHost)
    expect(ask(chip, ofHost(1))).toEqual(['walk', 1, at(1)])
    chip.command([flushHost[0], flushHost[1] | 2n])
    expect(ask(chip, ofHost(1))).toEqual(['fault', 1, absent])
  })

  it('refuses by what the directories grant', () => {
    const chip = make()
    const directory = 0x100000000n
    chip.put([directory, (chip.load(directory) ?? 0n) & ~(1n << 62n)])
    expect(ask(chip, ofHost(0))).toEqual(['walk', host, at(0)])
    expect(ask(chip, ofHost(1, { write: true }))).toEqual(['fault', 0, denied])
    const late = make({ switches: { rightsOrder: 'leaf' } })
    late.put([directory, (late.load(directory) ?? 0n) & ~(1n << 62n)])
    expect(ask(late, ofHost(0))).toEqual(['walk', host, at(0)])
    expect(ask(late, ofHost(1, { write: true }))).toEqual(['fault', 1, denied])
  })
})

describe('a chip with a cache of guest CR3s', () => {
  it('reads no GCR3 table for a PASID that it knows', () => {
    const chip = chipOf({ design: { gcr3Cache: hashed } })
    // Where GPAs lie is not kept: neither is it known from requests without PASID, nor do those know it afterwards.
    expect(ask(chip, { iova: 0x11000n })).toEqual(['walk', host, spaOf(0x11000n)])
    expect(ask(chip, nested(0))).toEqual(['walk', whole, at(0)])
    expect(ask(chip, { iova: 0x10000n })).toEqual(['walk', host, spaOf(0x10000n)])
    expect(ask(chip, nested(1))).toEqual(['walk', whole - gcr3 * (host + 1), at(1)])
    expect(ask(chip, { ...nested(2), pasid: 0 })).toEqual(['walk', whole, at(2)])
    expect(ask(chip, { ...nested(3), pasid: 0 })).toEqual(['walk', whole - gcr3 * (host + 1), at(3)])
    // Nor when it is another one now.
    chip.put([spaOf(0x10000n), 0n])
    expect(ask(chip, nested(4))).toEqual(['walk', whole - gcr3 * (host + 1), at(4)])
    expect(ask(chip, { ...nested(5), pasid: 1 })).toEqual(['fault', host + 1, absent])
  })
})

describe('a nested entry that remembers the GPAs that it came by', () => {
  const flushPage = (gpa: bigint): readonly [bigint, bigint] => [flushHost[0], gpa]
  const make = (design: Partial<MicroArchitecture>): Chip =>
    chipOf({
      design: { ...design, remembersGpas: true },
      switches: { hostFlushOfNested: 'by-remembered-gpa' },
    })

  it.each<[string, Partial<MicroArchitecture>]>([
    ['walked from the beginning', {}],
    ['from a cached table', { pageWalkCache: hashed }],
    ['from a cached guest CR3', { gcr3Cache: hashed }],
  ])('goes with those, and with no other: %s', (_, design) => {
    const chip = make(design)
    // GCR3 tables, guest tables of PASID 5, the page itself.
    const own = [0x10000n, 0x11000n, ...[0n, 1n, 2n, 3n].map((n) => 0x24000n + (n << 12n)), hostPages]
    for (let gpa = 0x10000n; gpa < 0x110000n; gpa += 0x1000n) {
      for (const n of [2, 0]) ask(chip, nested(n))
      expect(ask(chip, nested(0))).toEqual(['iotlb', 0, at(0)])
      chip.command(flushPage(gpa))
      const kept = own.includes(gpa) ? 'walk' : 'iotlb'
      expect(ask(chip, nested(0))[0], `GPA ${gpa.toString(16)}`).toBe(kept)
    }
  })
})

describe('an absent page', () => {
  const made = [ofHost(0), nested(0)] as const

  it.each(made)('is found as soon as it is there: %o', (asked) => {
    const chip = chipOf({ design: {} })
    const entry = chip.load(hostEntryAt(hostPages)) ?? 0n
    chip.put([hostEntryAt(hostPages), 0n])
    expect(ask(chip, asked)).toEqual(['fault', expect.any(Number), absent])
    chip.put([hostEntryAt(hostPages), entry])
    expect(ask(chip, asked)).toEqual(['walk', expect.any(Number), at(0)])
  })

  it.each(made)('is found where absent pages are kept only after an invalidation: %o', (asked) => {
    for (const remembersGpas of [false, true]) {
      const chip = chipOf({ design: { cachesAbsent: true, remembersGpas } })
      const entry = chip.load(hostEntryAt(hostPages)) ?? 0n
      chip.put([hostEntryAt(hostPages), 0n])
      expect(ask(chip, asked)).toEqual(['fault', expect.any(Number), absent])
      chip.put([hostEntryAt(hostPages), entry])
      expect(ask(chip, asked)).toEqual(['fault', 0, absent])
      chip.command(flushHost)
      expect(ask(chip, asked)).toEqual(['walk', expect.any(Number), at(0)])
    }
  })

  it('is kept apart from one that is denied, or malformed', () => {
    const chip = chipOf({ design: { cachesAbsent: true } })
    const entry = chip.load(hostEntryAt(hostPages)) ?? 0n
    for (const [wrong, flags] of [
      [entry & ~(1n << 61n), denied],
      [entry | (1n << 52n), 0x90],
    ] as const) {
      chip.put([hostEntryAt(hostPages), wrong])
      expect(ask(chip, ofHost(0))).toEqual(['fault', host, flags])
    }
    chip.put([hostEntryAt(hostPages), entry])
    expect(ask(chip, ofHost(0))).toEqual(['walk', host, at(0)])
  })
})

describe('a hit without the rights, where that is a fault by choice', () => {
  const make = (control = quietControl, q0 = 0n): Chip =>
    chipOf({ design: {}, switches: { hitWithoutRights: 'fault' }, control, q0 })

  it.each([ofHost(0), nested(0)])('is denied though the tables grant it now: %o', (asked) => {
    const chip = make()
    const entry = chip.load(hostEntryAt(hostPages)) ?? 0n
    chip.put([hostEntryAt(hostPages), entry & ~(1n << 62n)])
    ask(chip, asked)
    chip.put([hostEntryAt(hostPages), entry])
    expect(ask(chip, { ...asked, write: true })).toEqual(['fault', 0, denied])
    expect(ask(chip, asked)).toEqual(['iotlb', 0, at(0)])
    chip.command(flushHost)
    expect(ask(chip, { ...asked, write: true })).toEqual(['walk', expect.any(Number), at(0)])
  })

  it('is none where D alone is to be set', () => {
    const chip = make(quietControl | controlBit.hostDirty, 3n << 7n)
    ask(chip, ofHost(0))
    expect(ask(chip, ofHost(0, { write: true }))).toEqual(['walk', host, at(0)])
  })
})
