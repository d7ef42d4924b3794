/** The performance counters: which there are, what each source counts, what the filters leave out, and the wrap. */
import { describe, expect, it } from 'vitest'
import { nestingFeatures, SparseMemory, Iommu } from '../src/index.js'
import type { Chip, ChipOptions } from './chip.js'
import { event, place, quietControl, register, statusBit } from './chip.js'
import { guestPages, hostEntryAt, hostPages, nestedChip, nestedDte } from './tables.js'

const configuration = 0x4000
/** Locks of the banks' filters. */
const lockAt = { pasid: 0x4008, domain: 0x4010, device: 0x4018 } as const
/** Registers of a counter. */
const at = { count: 0, source: 0x08, pasid: 0x10, domain: 0x18, device: 0x20, report: 0x28 } as const
const counterAt = (bank: number, counter: number): number => 0x40000 + (bank << 12) + (counter << 8)
const filters = ['pasid', 'domain', 'device'] as const

/** Sources by the numbers that software programs. */
const passUntranslated = 0x01
const passExcluded = 0x03
const targetAbort = 0x04
const translated = 0x05
const dteMiss = 0x0b
const tableReads = 0x0c
const interruptDteMiss = 0x10
const interruptOther = 0x15
const ignoredAccess = 0x14
const dteHit = 0x0a
const commands = 0x11
const invalidations = 0x12
const directoryHit = 0x08
const directoryMiss = 0x09
const allSources = Array.from({ length: 0x18 }, (_, n) => n + 1)

const pcSup = 1n << 9n
/** PREFETCH_IOMMU_PAGES as well. */
const features = { ...nestingFeatures, efr: nestingFeatures.efr | pcSup | 1n }
const capacity = 1n << 48n
const cere = 1n << 63n
const matchOn = 1n << 31n

/** Nested, domain 0x42; its requests without PASID go through the host table alone. */
const device = 0x600
const domain = 0x42
/** Table entry: V=0. */
const passing = 0x700
const dte = {
  rights: 3n << 61n,
  iotlb: 1n << 32n,
  suppressed: 1n << 34n,
  // IV, sixteen entries, table at 70000000, IntCtl 10.
  interrupts: 0x2000000070000009n,
} as const
const [nestedQ0 = 0n, nestedQ1 = 0n] = nestedDte(domain)

interface Asked {
  readonly deviceId?: number
  readonly pasid?: number
  readonly iova?: bigint
  readonly write?: boolean
}

function countingChip(options: ChipOptions = {}): Chip {
  const chip = nestedChip([], { features, counters: { banks: 2, counters: 12 }, ...options })
  setEntry(chip)
  // Remapped, for a guest, and RemapEn=0.
  chip.put([0x70000000n, 1n], [0x70000008n, 0x51n])
  chip.put([0x70000010n, 0xc1n], [0x70000018n, 0x71000052n])
  return chip
}

/** Bits of the first two words set or cleared. */
function setEntry(chip: Chip, { more = 0n, less = 0n, moreQ1 = 0n, q2 = 0n } = {}): void {
  chip.setDte(device, [(nestedQ0 & ~less) | more, nestedQ1 | dte.iotlb | moreQ1, q2, 0n])
}

const ask = (chip: Chip, asked: Asked = {}) =>
  chip.iommu.request({ deviceId: device, iova: hostPages, ...asked })
const nested = { pasid: 5, iova: guestPages } as const
const absent = 0x110000n

const program = (chip: Chip, where: number, source: number): void => {
  chip.write(where + at.source, BigInt(source))
}

/** What one counter of a source counts of some work. */
function counted(chip: Chip, source: number, work: () => unknown): number {
  const where = counterAt(0, 0)
  program(chip, where, source)
  const before = chip.read(where)
  work()
  return Number(chip.read(where) - before)
}

type Counts = Readonly<Partial<Record<number, number>>>

/** What a counter for each source counts of some work: those that are not zero. */
function countsOf(chip: Chip, work: () => unknown): Counts {
  const where = (source: number): number => counterAt(Math.floor((source - 1) / 12), (source - 1) % 12)
  for (const source of allSources) {
    program(chip, where(source), source)
    chip.write(where(source), 0n)
  }
  work()
  const counts = allSources.map((source) => [source, Number(chip.read(where(source)))] as const)
  return Object.fromEntries(counts.filter(([, count]) => count !== 0))
}

/** Leaves out the sources of which the manual does not say whether they count such work. */
const without = (counts: Counts, open: readonly number[]): Counts =>
  Object.fromEntries(Object.entries(counts).filter(([source]) => !open.includes(Number(source))))

describe('the registers of counters', () => {
  it('are absent without PCSup', () => {
    const chip = countingChip({ features: { ...features, efr: features.efr & ~pcSup } })
    for (const offset of [
      configuration,
      ...Object.values(lockAt),
      counterAt(0, 0),
      counterAt(0, 0) + at.source,
    ]) {
      chip.write(offset, 1n)
      expect(chip.read(offset), offset.toString(16)).toBe(0n)
    }
  })

  it.each([
    [2, 4, 0x2200n],
    [1, 1, 0x1080n],
    [63, 15, 0x3f780n],
  ])('tell in the configuration how many there are: %i banks of %i', (banks, counters, value) => {
    const chip = countingChip({ counters: { banks, counters } })
    expect(chip.read(configuration)).toBe(value)
    chip.write(configuration, ~value & 0xffffffffn)
    expect(chip.read(configuration)).toBe(value)
  })

  it('are those of two banks of four by default, as on shipping parts', () => {
    const iommu = Iommu.create({ memory: SparseMemory.create(2 ** 30), features })
    expect(iommu.readMmio(configuration, 8)).toBe(0x2200n)
  })

  it.each([
    [0, 4],
    [64, 4],
    [2, 0],
    [2, 16],
    [1.5, 4],
  ])('%d banks of %d are refused: the fields do not hold them', (banks, counters) => {
    expect(() => countingChip({ counters: { banks, counters } })).toThrow(RangeError)
  })

  it('are those of the counters that there are, each its own', () => {
    const shape = { banks: 3, counters: 5 }
    const chip = countingChip({ counters: shape })
    const places: [offset: number, exists: boolean, value: bigint][] = []
    for (let bank = 0; bank <= shape.banks; bank++) {
      for (let counter = 0; counter <= shape.counters; counter++) {
        const exists = bank < shape.banks && counter < shape.counters
        for (const offset of Object.values(at)) {
          const mark = BigInt((bank << 5) | (counter << 2) | (offset >> 4))
          // No source: 0 in its field, or nothing would keep still.
          places.push([counterAt(bank, counter) + offset, exists, offset === at.source ? 0n : mark + 1n])
        }
      }
    }
    for (const [offset, , value] of places) chip.write(offset, value)
    for (const [offset, exists, value] of places) {
      expect(chip.read(offset), offset.toString(16)).toBe(exists ? value : 0n)
    }
    // After the last register of a counter there is none.
    chip.write(counterAt(0, 0) + 0x30, 0x1234n)
    expect(chip.read(counterAt(0, 0) + 0x30)).toBe(0n)
    expect(chip.read(counterAt(0, 1))).toBe(5n)
  })

  it.each([
    ['count', at.count, 0xffff_ffff_ffffn],
    ['source', at.source, 0x8000_00ffn],
    ['PASID match', at.pasid, 0x000f_ffff_800f_ffffn],
    ['DomainID match', at.domain, 0x0000_ffff_8000_ffffn],
    ['DeviceID match', at.device, 0x0000_ffff_8000_ffffn],
    ['report', at.report, 0x8000_0000_ffff_ffffn],
  ])('keep their fields, written at once or by halves: %s', (_, offset, fields) => {
    const chip = countingChip()
    const where = counterAt(1, 2) + offset
    chip.write(where, fields)
    expect(chip.read(where)).toBe(fields)
    chip.write(where, 0n)
    expect(chip.read(where)).toBe(0n)
    chip.iommu.writeMmio(where + 4, 4, fields >> 32n)
    expect(chip.read(where)).toBe((fields >> 32n) << 32n)
    chip.iommu.writeMmio(where, 4, fields & 0xffffffffn)
    expect(chip.read(where)).toBe(fields)
    expect(chip.iommu.readMmio(where, 4)).toBe(fields & 0xffffffffn)
    expect(chip.iommu.readMmio(where + 4, 4)).toBe(fields >> 32n)
  })

  it.each([
    ['count', at.count, 0xffff_ffff_ffffn],
    ['source', at.source, 0x8000_00ffn],
  ])('read zero beside their fields: %s', (_, offset, fields) => {
    const chip = countingChip()
    chip.write(counterAt(0, 3) + offset, (1n << 64n) - 1n)
    expect(chip.read(counterAt(0, 3) + offset)).toBe(fields)
  })
})

describe('a bank lock', () => {
  const marked = matchOn | (0xffffn << 32n)

  it.each([
    ['pasid', 0],
    ['pasid', 1],
    ['domain', 0],
    ['domain', 1],
    ['device', 0],
    ['device', 1],
    ['pasid', 31],
    ['domain', 32],
    ['device', 62],
  ] as const)('keeps the %s filters of bank %i, and no other register', (kind, locked) => {
    const chip = countingChip({ counters: { banks: 63, counters: 2 } })
    const banks = [0, 1, 30, 31, 32, 33, 62]
    const registers = banks.flatMap((bank) =>
      [0, 1].flatMap((counter) =>
        (['count', 'source', ...filters, 'report'] as const).map((name) => ({
          bank,
          name,
          where: counterAt(bank, counter) + at[name],
        })),
      ),
    )
    for (const { where } of registers) chip.write(where, marked | 1n)
    chip.write(lockAt[kind], 1n << BigInt(locked))
    for (const { where } of registers) chip.write(where, 2n)
    for (const { bank, name, where } of registers) {
      const isKept = bank === locked && name === kind
      expect(chip.read(where), where.toString(16)).toBe(isKept ? marked | 1n : 2n)
    }
  })

  it('keeps them from halves as well, and until it is cleared', () => {
    const chip = countingChip()
    const where = counterAt(1, 3) + at.domain
    chip.write(where, marked | 1n)
    chip.write(lockAt.domain, 2n)
    chip.iommu.writeMmio(where, 4, 0n)
    chip.iommu.writeMmio(where + 4, 4, 0n)
    expect(chip.read(where)).toBe(marked | 1n)
    chip.write(lockAt.domain, 0n)
    chip.write(where, 7n)
    expect(chip.read(where)).toBe(7n)
  })

  it('does not stop its bank from being programmed and counting', () => {
    const chip = countingChip()
    for (const lock of Object.values(lockAt)) chip.write(lock, (1n << 64n) - 1n)
    expect(counted(chip, translated, () => ask(chip))).toBe(1)
  })
})

/** Work, how often it makes each source count, and the sources of which the manual does not say. */
type Row = readonly [
  name: string,
  work: (chip: Chip) => unknown,
  counts: Counts,
  open?: readonly number[],
  before?: (chip: Chip) => unknown,
]

const abort =
  (asked: Asked = {}) =>
  (chip: Chip) => {
    expect(ask(chip, asked)).toMatchObject({ kind: 'fault' })
  }

const memoryRows: readonly Row[] = [
  ['a host translation by a walk', (chip) => ask(chip), { 0x05: 1, 0x07: 1, 0x0b: 1, 0x0c: 3, 0x0d: 3 }],
  [
    'the next one, from the IOTLB',
    (chip) => ask(chip, { iova: hostPages + 8n, write: true }),
    { 0x05: 1, 0x06: 1, 0x0a: 1 },
    [],
    ask,
  ],
  [
    'one of another page',
    (chip) => ask(chip, { iova: hostPages + 0x1000n }),
    { 0x05: 1, 0x07: 1, 0x0a: 1, 0x0c: 3, 0x0d: 3 },
    [],
    ask,
  ],
  [
    'one of a page of 2 MiB',
    (chip) => ask(chip),
    { 0x05: 1, 0x07: 1, 0x0b: 1, 0x0c: 2, 0x0d: 2 },
    [],
    (chip) => chip.put([0x100001000n, dte.rights | 0x300000001n]),
  ],
  // Two levels of GCR3 and four of guest tables, each with three host levels before it, and three after them.
  [
    'a nested translation by a walk',
    (chip) => ask(chip, nested),
    { 0x05: 1, 0x07: 1, 0x0b: 1, 0x0c: 27, 0x0d: 21, 0x0e: 6 },
  ],
  [
    'the next one, from the IOTLB',
    (chip) => ask(chip, nested),
    { 0x05: 1, 0x06: 1, 0x0a: 1 },
    [],
    (chip) => ask(chip, nested),
  ],
  [
    'one by guest tables alone',
    (chip) => ask(chip, nested),
    { 0x05: 1, 0x07: 1, 0x0b: 1, 0x0c: 5, 0x0e: 5 },
    [],
    guestOnly,
  ],
  ['a device with V=0', (chip) => ask(chip, { deviceId: passing }), { 0x01: 1, 0x0b: 1 }],
  [
    'a device with V=0, once more',
    (chip) => ask(chip, { deviceId: passing, write: true }),
    { 0x01: 1, 0x0a: 1 },
    [],
    (chip) => ask(chip, { deviceId: passing }),
  ],
  [
    'a request by a translated address',
    (chip) => chip.iommu.translatedRequest({ deviceId: device, iova: 0x123000n }),
    { 0x02: 1, 0x0b: 1 },
  ],
  ['a request in the exclusion range', (chip) => ask(chip), { 0x03: 1, 0x0b: 1 }, [], exclude],
  [
    'one beside it',
    (chip) => ask(chip, { iova: hostPages + 0x1000n }),
    { 0x05: 1, 0x07: 1, 0x0b: 1, 0x0c: 3, 0x0d: 3 },
    [],
    exclude,
  ],
  ['TV=0', abort(), { 0x04: 1, 0x0b: 1 }, [], (chip) => setEntry(chip, { less: 2n })],
  ['a reserved bit in the entry', abort(), { 0x04: 1, 0x0b: 1 }, [], (chip) => setEntry(chip, { more: 4n })],
  ['IR=0', abort(), { 0x04: 1, 0x0b: 1 }, [], (chip) => setEntry(chip, { less: dte.rights })],
  [
    'IR=0, and SA, which hides the event',
    abort(),
    { 0x04: 1, 0x0b: 1 },
    [],
    (chip) => setEntry(chip, { less: dte.rights, moreQ1: dte.suppressed }),
  ],
  // Whether an attempt counts as a translation is not said.
  ['an absent page', abort({ iova: absent }), { 0x04: 1, 0x07: 1, 0x0b: 1, 0x0c: 3, 0x0d: 3 }, [translated]],
  [
    'a right that the leaf does not give',
    abort({ write: true }),
    { 0x04: 1, 0x07: 1, 0x0b: 1, 0x0c: 3, 0x0d: 3 },
    [translated],
    (chip) => chip.put([hostEntryAt(hostPages), (1n << 61n) | 0x300000001n]),
  ],
  [
    'an absent guest page',
    abort({ ...nested, iova: guestPages + 0x10000n }),
    { 0x04: 1, 0x07: 1, 0x0b: 1, 0x0c: 24, 0x0d: 18, 0x0e: 6 },
    [translated],
  ],
  ['a translation request', (chip) => askAts(chip), { 0x07: 1, 0x0b: 1, 0x0c: 3, 0x0d: 3 }, [translated]],
  [
    'a translation request to write',
    (chip) => askAts(chip, { write: true }),
    { 0x07: 1, 0x0b: 1, 0x0c: 3, 0x0d: 3 },
    [translated],
  ],
  ['a translation request from the IOTLB', (chip) => askAts(chip), { 0x06: 1, 0x0a: 1 }, [translated], ask],
  // A successful answer without rights aborts nothing.
  [
    'a translation request for an absent page',
    (chip) => askAts(chip, { iova: absent }),
    { 0x07: 1, 0x0b: 1, 0x0c: 3, 0x0d: 3 },
    [translated],
  ],
  // No entry is looked up; whether the request counts as one that passed is not said.
  ['a request while the IOMMU is off', (chip) => ask(chip), {}, [passUntranslated], switchOff],
  ['a look at fresh tables', (chip) => chip.iommu.walkFresh({ deviceId: device, iova: hostPages }), {}],
]

function guestOnly(chip: Chip): void {
  // GCR3 table of one level at 600000000, Mode 0; the guest tables after it.
  chip.setDte(device, [
    nestedQ0 & ~0xffffffffffe00n & ~(0x1fn << 56n),
    BigInt(domain) | (0xcn << 43n),
    0n,
    0n,
  ])
  chip.put([0x600000028n, 0x600001001n], [0x600001000n, 0x600002007n], [0x600002008n, 0x600003007n])
  chip.put([0x600003008n, 0x600004007n], [0x600004000n, 0x300000007n])
}

function exclude(chip: Chip): void {
  chip.write(0x20, hostPages | 3n)
  chip.write(0x28, hostPages)
}

function switchOff(chip: Chip): void {
  ask(chip)
  chip.write(register.control, 0n)
}

const askAts = (chip: Chip, asked: Asked = {}) => {
  const answer = chip.iommu.translationRequest({ deviceId: device, iova: hostPages, ...asked })
  expect(answer.kind).toBe('completed')
}

const guestApic = (1n << 17n) | (1n << 25n)
const smiFilterEn = 1n << 22n
const interrupt = (data: number, kind: string) => (chip: Chip) => {
  expect(chip.iommu.requestInterrupt({ deviceId: device, address: 0xfee00000n, data })).toMatchObject({
    kind,
  })
}
const smi = 0x200
const filterSmis = (chip: Chip): void => chip.write(register.control, quietControl | smiFilterEn)

const interruptRows: readonly Row[] = [
  ['one that is remapped', interrupt(0, 'remapped'), { 0x10: 1, 0x15: 1 }],
  ['the next one', interrupt(0, 'remapped'), { 0x0f: 1, 0x15: 1 }, [], interrupt(0, 'remapped')],
  [
    'one after a memory request: the entry is cached once for both',
    interrupt(0, 'remapped'),
    { 0x0f: 1, 0x15: 1 },
    [],
    ask,
  ],
  [
    'a memory request after one',
    (chip) => ask(chip),
    { 0x05: 1, 0x07: 1, 0x0a: 1, 0x0c: 3, 0x0d: 3 },
    [],
    interrupt(0, 'remapped'),
  ],
  ['one for a guest', interrupt(1, 'posted'), { 0x10: 1, 0x16: 1 }],
  // Whether it is a target abort of memory is not said.
  ['one without an entry', interrupt(2, 'aborted'), { 0x10: 1 }, [targetAbort]],
  ['an SMI', interrupt(smi, 'forwarded'), { 0x10: 1, 0x17: 1 }],
  [
    'an SMI that the filter blocks',
    interrupt(smi, 'aborted'),
    { 0x10: 1, 0x17: 1, 0x18: 1 },
    [targetAbort],
    filterSmis,
  ],
  [
    'an SMI that passes the filter',
    interrupt(smi, 'forwarded'),
    { 0x10: 1, 0x17: 1 },
    [],
    (chip) => {
      filterSmis(chip)
      chip.write(0x60, 0x10000n | BigInt(device))
    },
  ],
  // No entry is looked up; whether the interrupt itself counts is not said.
  ['one while the IOMMU is off', interrupt(0, 'forwarded'), {}, [interruptOther], switchOff],
  ['an NMI, which has no pass bit', interrupt(0x400, 'aborted'), { 0x10: 1 }, [targetAbort]],
]

const command = {
  wait: [0x1000000000000002n, 0n],
  deviceEntry: [0x2000000000000000n | BigInt(device), 0n],
  pages: [0x3000000000000000n | (BigInt(domain) << 32n), 0x7ffffffffffff003n],
  iotlb: [0x4000000000000000n | BigInt(device), 0n],
  interruptTable: [0x5000000000000000n | BigInt(device), 0n],
  prefetch: [0x6000000000000000n | BigInt(device), hostPages],
  prefetchAbsent: [0x6000000000000000n | BigInt(device), absent],
  pageResponse: [0x7000000000000000n | BigInt(device), 0n],
  all: [0x8000000000000000n, 0n],
  /** A reserved bit. */
  illegalPages: [0x3000000000000000n | (BigInt(domain) << 32n), 0x7ffffffffffff00bn],
} as const
type CommandName = keyof typeof command
const carry =
  (...names: CommandName[]) =>
  (chip: Chip) => {
    const moved = chip.command(...names.map((name) => command[name]))
    expect(moved).toBe(names.length)
  }

/** What a prefetch looks up; whether that counts as if a device had asked is not said. */
const lookedUp = [translated, 0x06, 0x07, 0x08, 0x09, 0x0a, dteMiss, tableReads, 0x0d, 0x0e]
/** Whether these are meant by TLB invalidations is not said: they are for TLBs of devices. */
const tlbInvalidation = 0x13

const commandRows: readonly Row[] = [
  ['COMPLETION_WAIT', carry('wait'), { 0x11: 1 }],
  ['INVALIDATE_DEVTAB_ENTRY', carry('deviceEntry'), { 0x11: 1, 0x12: 1 }],
  ['INVALIDATE_IOMMU_PAGES', carry('pages'), { 0x11: 1, 0x12: 1, 0x13: 1 }],
  ['INVALIDATE_IOTLB_PAGES', carry('iotlb'), { 0x11: 1, 0x12: 1 }, [tlbInvalidation]],
  ['INVALIDATE_INTERRUPT_TABLE', carry('interruptTable'), { 0x11: 1, 0x12: 1 }],
  ['PREFETCH_IOMMU_PAGES', carry('prefetch'), { 0x11: 1 }, lookedUp],
  [
    'PREFETCH_IOMMU_PAGES of an absent page: never a target abort',
    carry('prefetchAbsent'),
    { 0x11: 1 },
    lookedUp,
  ],
  ['COMPLETE_PPR_REQUEST', carry('pageResponse'), { 0x11: 1 }],
  ['INVALIDATE_IOMMU_ALL', carry('all'), { 0x11: 1, 0x12: 1, 0x13: 1 }],
  ['several', carry('pages', 'deviceEntry', 'interruptTable', 'wait'), { 0x11: 4, 0x12: 3, 0x13: 1 }],
  [
    'several, carried out at once',
    (chip) => {
      chip.enqueue(command.pages, command.pages, command.wait)
      expect(chip.iommu.run()).toBe(3)
    },
    { 0x11: 3, 0x12: 2, 0x13: 2 },
  ],
  // It invalidates nothing; whether it was processed is not said.
  [
    'an invalidation with a reserved bit',
    (chip) => {
      chip.command(command.illegalPages)
      expect(chip.takeEvents()).toEqual([[0x5000000000000000n, place.commandRing]])
    },
    {},
    [0x11],
  ],
  [
    'an invalidation that cannot be fetched',
    (chip) => {
      chip.write(register.control, 0n)
      chip.write(register.commandBase, 0xffffffffff000n | (8n << 56n))
      chip.write(register.control, quietControl)
      chip.write(register.commandTail, 0x20n)
      expect(chip.run()).toBe(1)
    },
    {},
    [0x11],
    carry('pages'),
  ],
  ['an empty ring', (chip) => chip.run(), {}],
]

const rows: readonly (readonly [string, Row])[] = [
  ...memoryRows.map((row) => ['memory', row] as const),
  ...interruptRows.map((row) => ['interrupts', row] as const),
  ...commandRows.map((row) => ['commands', row] as const),
]

describe('what each source counts', () => {
  it.each(rows.map(([group, row]) => [group, ...row] as const))(
    'of %s: %s',
    (_group, _name, work, counts, open = [], before) => {
      const chip = countingChip({ control: quietControl | guestApic })
      setEntry(chip, { q2: dte.interrupts })
      before?.(chip)
      expect(
        without(
          countsOf(chip, () => work(chip)),
          open,
        ),
      ).toEqual(counts)
    },
  )
})

describe('the counting of', () => {
  it('accesses to 1FF8h: each read and each write, of either size', () => {
    const chip = countingChip()
    const { iommu } = chip
    for (const work of [
      () => iommu.readMmio(0x1ff8, 8),
      () => iommu.readMmio(0x1ff8, 4),
      () => iommu.writeMmio(0x1ff8, 8, 5n),
      () => iommu.writeMmio(0x1ff8, 4, 5n),
    ]) {
      expect(countsOf(chip, work)).toEqual({ [ignoredAccess]: 1 })
    }
    expect(iommu.readMmio(0x1ff8, 8)).toBe(0n)
  })

  it.each([0x1ff0, register.commandHead, register.status])('no access to %i', (offset) => {
    const chip = countingChip()
    const work = (): void => chip.write(offset, chip.read(offset))
    expect(countsOf(chip, work)).toEqual({})
  })

  it('page-walk cache lookups: a miss when it is empty, a hit when the table is known', () => {
    const microArchitecture = { pageWalkCache: { kind: 'hashed' } } as const
    const chip = countingChip({ microArchitecture })
    const cold = countsOf(chip, () => ask(chip))
    // Whether a miss counts once or once a level is not said.
    expect(cold[directoryMiss]).toBeGreaterThan(0)
    expect(without(cold, [directoryMiss])).toEqual({ 0x05: 1, 0x07: 1, 0x0b: 1, 0x0c: 3, 0x0d: 3 })
    // Of the three levels the last alone is left to read.
    expect(countsOf(chip, () => ask(chip, { iova: hostPages + 0x1000n }))).toEqual({
      ...{ 0x05: 1, 0x07: 1, [directoryHit]: 1, 0x0a: 1, 0x0c: 1, 0x0d: 1 },
    })
    expect(countsOf(chip, () => ask(chip))).toEqual({ 0x05: 1, 0x06: 1, 0x0a: 1 })
    chip.command(command.pages)
    expect(countsOf(chip, () => ask(chip))).not.toHaveProperty(String(directoryHit))
  })

  it('device entries begins anew when the entry was invalidated', () => {
    const chip = countingChip()
    ask(chip)
    chip.command(command.deviceEntry)
    expect(countsOf(chip, () => ask(chip))).toMatchObject({ [dteMiss]: 1 })
    expect(countsOf(chip, () => ask(chip))).toMatchObject({ [dteHit]: 1 })
  })

  it('a command that waits for a device: once, when it is done', () => {
    const chip = countingChip()
    chip.enqueue(command.iotlb, command.wait)
    expect(counted(chip, commands, () => chip.run())).toBe(1)
    expect(counted(chip, commands, () => [chip.run(), chip.run()])).toBe(0)
    const message = chip.iommu.takeDeviceMessage()
    const tag = message?.kind === 'invalidate' ? message.tag : -1
    expect(chip.iommu.completeInvalidation(device, tag)).toBe(true)
    expect(countsOf(chip, () => chip.run())).toEqual({ [commands]: 1 })
  })

  it('invalidations that are put off: each by its own kind', () => {
    const put = countingChip({ microArchitecture: { invalidations: 'at-completion-wait' } })
    const names: CommandName[] = [
      ...Array.from({ length: 20 }, () => 'deviceEntry' as const),
      'pages',
      'wait',
    ]
    expect(countsOf(put, () => carry(...names)(put))).toEqual({
      ...{ [commands]: 22, [invalidations]: 21, [tlbInvalidation]: 1 },
    })
  })

  it('prefetches that a platform makes: no target abort', () => {
    const chip = countingChip()
    const work = (): unknown => chip.iommu.prefetch({ deviceId: device, iova: absent })
    expect(without(countsOf(chip, work), lookedUp)).toEqual({})
  })
})

describe('a counter', () => {
  it.each([0, 0x19, 0x25, 0x45, 0x85, 0xff])('of source %i counts nothing', (source) => {
    const chip = countingChip({ control: quietControl | guestApic })
    setEntry(chip, { q2: dte.interrupts })
    const work = (): void => {
      ask(chip)
      ask(chip, { iova: absent })
      ask(chip, nested)
      interrupt(0, 'remapped')(chip)
      interrupt(1, 'posted')(chip)
      carry('pages', 'wait')(chip)
      chip.read(0x1ff8)
    }
    expect(counted(chip, source, work)).toBe(0)
  })

  it('counts beside others of its source and of other ones, in every bank', () => {
    const shape = { banks: 3, counters: 2 }
    const chip = countingChip({ counters: shape })
    program(chip, counterAt(0, 0), tableReads)
    program(chip, counterAt(0, 1), translated)
    program(chip, counterAt(2, 1), tableReads)
    ask(chip)
    const counts = [0, 1, 2].flatMap((bank) => [0, 1].map((counter) => chip.read(counterAt(bank, counter))))
    expect(counts).toEqual([3n, 1n, 0n, 0n, 0n, 3n])
  })

  it('goes on from what software wrote, stops without source, and keeps its count', () => {
    const chip = countingChip()
    const where = counterAt(1, 0)
    chip.write(where, 0x1_0000_0000n - 2n)
    program(chip, where, tableReads)
    ask(chip)
    // A carry into the high word.
    expect(chip.read(where)).toBe(0x1_0000_0001n)
    program(chip, where, 0)
    ask(chip, { iova: hostPages + 0x1000n })
    expect(chip.read(where)).toBe(0x1_0000_0001n)
    program(chip, where, translated)
    ask(chip)
    expect(chip.read(where)).toBe(0x1_0000_0002n)
    chip.write(where, 7n)
    ask(chip)
    expect(chip.read(where)).toBe(8n)
  })

  it('of a fork counts on its own', () => {
    const chip = countingChip()
    program(chip, counterAt(0, 0), tableReads)
    ask(chip)
    const fork = chip.fork()
    ask(fork, { iova: hostPages + 0x1000n })
    expect([chip.read(counterAt(0, 0)), fork.read(counterAt(0, 0))]).toEqual([3n, 6n])
  })
})

describe('a counter that wraps', () => {
  const where = counterAt(1, 2)
  const setUp = (count: bigint, report: bigint, source = translated): Chip => {
    const chip = countingChip()
    chip.write(where + at.report, report)
    chip.write(where, count)
    program(chip, where, source)
    return chip
  }

  it('tells its note in EVENT_COUNTER_ZERO, once', () => {
    const chip = setUp(capacity - 2n, cere | 0x1234n)
    ask(chip)
    expect([chip.read(where), chip.takeEvents()]).toEqual([capacity - 1n, []])
    ask(chip)
    expect(chip.read(where)).toBe(0n)
    expect(chip.takeEvents()).toEqual([event('00000000 a0000000 00000000 00001234')])
    expect(chip.hasStatus(statusBit.eventLogInt)).toBe(true)
    ask(chip)
    expect([chip.read(where), chip.takeEvents()]).toEqual([1n, []])
  })

  it('tells all 32 bits of it', () => {
    const chip = setUp(capacity - 1n, cere | 0xfedcba98n)
    ask(chip)
    expect(chip.takeEvents()).toEqual([event('00000000 a0000000 00000000 fedcba98')])
  })

  it('tells nothing without CERE', () => {
    const chip = setUp(capacity - 1n, 0xffffffffn)
    ask(chip)
    expect([chip.read(where), chip.takeEvents()]).toEqual([0n, []])
  })

  it.each([
    [3n, 0n, true],
    [2n, 1n, true],
    [1n, 2n, true],
    [4n, capacity - 1n, false],
  ])('by three at once, %d before the end', (left, count, wraps) => {
    const chip = setUp(capacity - left, cere, tableReads)
    ask(chip)
    expect(chip.read(where)).toBe(count)
    expect(chip.takeEvents()).toEqual(wraps ? [event('00000000 a0000000 00000000 00000000')] : [])
  })

  it('at 48 bits, not at 32 or 47', () => {
    for (const count of [0xffffffffn, (1n << 47n) - 1n]) {
      const chip = setUp(count, cere)
      ask(chip)
      expect([chip.read(where), chip.takeEvents()]).toEqual([count + 1n, []])
    }
  })

  it('is no counter that software sets to zero', () => {
    const chip = setUp(capacity - 1n, cere)
    chip.write(where, 0n)
    chip.write(where, capacity)
    expect([chip.read(where), chip.takeEvents()]).toEqual([0n, []])
  })

  it('tells beside others that wrap with it, each its own note', () => {
    const chip = setUp(capacity - 1n, cere | 1n)
    const other = counterAt(0, 0)
    chip.write(other + at.report, cere | 2n)
    chip.write(other, capacity - 1n)
    program(chip, other, tableReads)
    ask(chip)
    const notes = chip.takeEvents().map(([, hi]) => hi >> 32n)
    expect(notes.sort()).toEqual([1n, 2n])
  })
})

const fullMask = { pasid: 0xfffffn, domain: 0xffffn, device: 0xffffn } as const

/** Makes one request that counts as `source`, with an id of each kind. */
function filterChip(
  kind: (typeof filters)[number],
  id: bigint,
): { chip: Chip; source: number; work: () => void } {
  const chip = countingChip()
  const n = Number(id)
  if (kind === 'domain') {
    chip.setDte(device, nestedDte(n))
    return { chip, source: translated, work: () => expect(ask(chip).kind).toBe('translated') }
  }
  // V=0: devices of any DeviceID pass, with any PASID.
  const asked = kind === 'device' ? { deviceId: n, pasid: 0x11 } : { deviceId: passing, pasid: n }
  return { chip, source: passUntranslated, work: () => expect(ask(chip, asked).kind).toBe('forwarded') }
}

describe.each(filters)('the %s filter', (kind) => {
  const full = fullMask[kind]
  const top = (full + 1n) >> 1n
  const value = top | 0x1234n

  it.each([
    ['the id', value, full, matchOn, value, 1],
    ['an id that differs in bit 0', value, full, matchOn, value ^ 1n, 0],
    ['an id that differs in the highest bit', value, full, matchOn, value ^ top, 0],
    ['the id 0', value, full, matchOn, 0n, 0],
    ['any id but 0', 0n, full, matchOn, value, 0],
    ['0 for 0', 0n, full, matchOn, 0n, 1],
    ['the id in the bits of the mask, 7:0', value, 0xffn, matchOn, 0x0534n, 1],
    ['another id in the bits of the mask, 7:0', value, 0xffn, matchOn, value ^ 0x80n, 0],
    ['the id in the bits of the mask, the upper ones', value, full & ~0xffn, matchOn, value ^ 0xffn, 1],
    ['another id in the bits of the mask, the upper ones', value, full & ~0xffn, matchOn, value ^ 0x100n, 0],
    ['the id in the highest bit alone', value, top, matchOn, top, 1],
    ['another id in the highest bit alone', value, top, matchOn, 0x1234n, 0],
    ['any id, without mask', value, 0n, matchOn, 0x0101n, 1],
    ['any id while it is off', value, full, 0n, 0x0101n, 1],
  ])('lets count %s', (_, wanted, mask, on, id, count) => {
    const { chip, source, work } = filterChip(kind, id)
    chip.write(counterAt(0, 0) + at[kind], (mask << 32n) | on | wanted)
    expect(counted(chip, source, work)).toBe(count)
  })

  it('is that of its own counter', () => {
    const { chip, source, work } = filterChip(kind, value)
    chip.write(counterAt(0, 1) + at[kind], (full << 32n) | matchOn | (value ^ 1n))
    program(chip, counterAt(0, 1), source)
    expect(counted(chip, source, work)).toBe(1)
    expect(chip.read(counterAt(0, 1))).toBe(0n)
  })
})

describe('filters', () => {
  const matches = { device: BigInt(device), domain: BigInt(domain), pasid: 5n } as const
  const setFilter = (chip: Chip, kind: (typeof filters)[number], value: bigint): void =>
    chip.write(counterAt(0, 0) + at[kind], (fullMask[kind] << 32n) | matchOn | value)

  it('have all to agree', () => {
    for (const wrong of [undefined, ...filters]) {
      const chip = countingChip()
      for (const kind of filters) setFilter(chip, kind, matches[kind] ^ (kind === wrong ? 1n : 0n))
      expect(
        counted(chip, translated, () => ask(chip, nested)),
        wrong,
      ).toBe(wrong === undefined ? 1 : 0)
    }
  })

  it('for a PASID leave out requests without one', () => {
    const chip = countingChip()
    setFilter(chip, 'pasid', 0xfffffn)
    expect(counted(chip, translated, () => ask(chip))).toBe(0)
    setFilter(chip, 'pasid', 5n)
    expect(counted(chip, translated, () => ask(chip))).toBe(0)
    expect(counted(chip, translated, () => ask(chip, nested))).toBe(1)
  })

  it('let the amount through, too', () => {
    const chip = countingChip()
    setFilter(chip, 'domain', matches.domain)
    expect(counted(chip, tableReads, () => ask(chip, nested))).toBe(27)
  })

  // In each the DomainID is known: V=1, and the entry is legal.
  it.each([
    ['from the IOTLB', translated, ask, ask],
    ['an absent page, whose event names the domain', targetAbort, () => undefined, abort({ iova: absent })],
    [
      'IR=0, whose event names the domain',
      targetAbort,
      (chip: Chip) => setEntry(chip, { less: dte.rights }),
      abort(),
    ],
    [
      'TV=0, whose event names the domain',
      targetAbort,
      (chip: Chip) => setEntry(chip, { less: 2n }),
      abort(),
    ],
    ['in the exclusion range', passExcluded, exclude, (chip: Chip) => ask(chip)],
    [
      'a right missing in a guest table',
      targetAbort,
      () => undefined,
      abort({ ...nested, iova: guestPages + 0x10000n }),
    ],
    ['looking up the entry', dteMiss, () => undefined, ask],
  ])('for a domain count requests of its devices, and no other domain: %s', (_, source, before, work) => {
    for (const [wanted, count] of [
      [matches.domain, 1],
      [matches.domain ^ 1n, 0],
    ] as const) {
      const chip = countingChip()
      before(chip)
      setFilter(chip, 'domain', wanted)
      expect(
        counted(chip, source, () => work(chip)),
        `domain ${wanted}`,
      ).toBe(count)
    }
  })

  it.each([
    ['remapped', interruptOther, 0, 'remapped'],
    ['for a guest', 0x16, 1, 'posted'],
    ['an SMI', 0x17, smi, 'forwarded'],
  ])('for a device and a domain count its interrupts, and no others: %s', (_, source, data, kind) => {
    for (const filter of ['device', 'domain'] as const) {
      for (const [wanted, count] of [
        [matches[filter], 1],
        [matches[filter] ^ 1n, 0],
      ] as const) {
        const chip = countingChip({ control: quietControl | guestApic })
        setEntry(chip, { q2: dte.interrupts })
        setFilter(chip, filter, wanted)
        const name = `${filter} ${wanted}`
        expect(
          counted(chip, source, () => interrupt(data, kind)(chip)),
          name,
        ).toBe(count)
      }
    }
  })

  it.each(['device', 'domain'] as const)(
    'for a %s count the lookups of its interrupts, and no others',
    (filter) => {
      for (const [wanted, count] of [
        [matches[filter], 1],
        [matches[filter] ^ 1n, 0],
      ] as const) {
        const chip = countingChip({ control: quietControl | guestApic })
        setEntry(chip, { q2: dte.interrupts })
        setFilter(chip, filter, wanted)
        expect(counted(chip, interruptDteMiss, () => interrupt(0, 'remapped')(chip))).toBe(count)
      }
    },
  )

  it('for a domain leave out a device with V=0, whatever its entry holds', () => {
    const chip = countingChip()
    chip.setDte(device, [0n, BigInt(domain)])
    setFilter(chip, 'domain', matches.domain)
    expect(counted(chip, passUntranslated, () => ask(chip))).toBe(0)
  })

  it('for a domain count where no tables are used', () => {
    const chip = countingChip()
    chip.setDte(device, [0x6000000000000003n, BigInt(domain)])
    setFilter(chip, 'domain', matches.domain)
    expect(counted(chip, dteMiss, () => expect(ask(chip)).toMatchObject({ from: 'identity' }))).toBe(1)
  })
})
