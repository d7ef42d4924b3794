/** Single queries on a small machine: where a replay sees a difference, where it does not, and how it tells. */
import { describe, expect, it } from 'vitest'
import { readSnapshot, replay } from '../src/index.js'
import type { Mismatch } from '../src/index.js'

/** Device table at 1000, event log at 2000, host tables at 3000 (level 2) and 4000 (level 1). */
const place = { deviceTable: 0x1000, eventLog: 0x2000, directory: 0x3000, table: 0x4000 } as const
const rights = 3n << 61n
/** V, TV, IR, IW, Mode 2, HAD 11. */
const translating = 0x6000000000000003n | (2n << 9n) | (3n << 7n) | BigInt(place.directory)
const suppressAll = 1n << 34n
/** By device: it translates, does so without events, passes addresses through, is blocked. */
const entries: readonly (readonly [q0: bigint, q1: bigint])[] = [
  [translating, 7n],
  [translating, 7n | suppressAll],
  [0x6000000000000003n, 8n],
  [1n, 9n],
]
/** IommuEn, EventLogEn, GTEn, A and D of host tables. */
const control = 1n | (1n << 2n) | (1n << 16n) | (3n << 46n)

interface Recorded {
  readonly withLog?: boolean
  /** Addresses of the pages, in the order in which they were recorded. */
  readonly pages?: readonly number[]
  readonly regs?: Readonly<Record<string, string>>
}

function differences(
  queries: readonly object[],
  { withLog = true, pages, regs = {} }: Recorded = {},
): Mismatch[] {
  const listed = pages ?? Object.values(place)
  const bytes = new DataView(new ArrayBuffer(listed.length * 4096))
  const put = (address: number, value: bigint): void => {
    const page = listed.indexOf(address & ~0xfff)
    if (page >= 0) bytes.setBigUint64(page * 4096 + (address & 0xfff), value, true)
  }
  entries.forEach(([q0, q1], device) => {
    put(place.deviceTable + device * 32, q0)
    put(place.deviceTable + device * 32 + 8, q1)
  })
  put(place.directory, rights | BigInt(place.table) | (1n << 9n) | 1n)
  put(place.table, rights | 0x9000n | 1n)
  const json = {
    memBytes: 0x10000,
    pages: listed,
    regs: {
      '0x0': `0x${place.deviceTable.toString(16)}`,
      '0x18': `0x${control.toString(16)}`,
      ...(withLog ? { '0x10': `0x80000000000${place.eventLog.toString(16)}` } : {}),
      ...regs,
    },
    // Host A and D.
    features: { efr: `0x${(0x247577efa2254afan | (1n << 49n) | (1n << 52n)).toString(16)}`, efr2: 8 },
    queries,
  }
  return [...replay(readSnapshot(json, new Uint8Array(bytes.buffer))).mismatches]
}

/** IO_PAGE_FAULT of the absent page at 5000 for each device. */
const absent = (device: number): string => `0${device}000000070000200050000000000000`
const refused = { src: 'model', iova: 0x5000, w: 0, pa: null, event: null }
const translated = { ...refused, iova: 0, pa: '0x9000', size: 4096 }

describe('a model’s answer', () => {
  it('agrees', () => {
    expect(
      differences([
        { ...translated, devid: 0 },
        { ...refused, devid: 0, event: absent(0) },
        { ...refused, devid: 1 },
      ]),
    ).toEqual([])
  })

  it('is held against the event that the chip gives where no log was recorded, unless that names none', () => {
    const queries = [
      { ...refused, devid: 0, event: absent(0) },
      { ...refused, devid: 0, event: absent(1) },
      { ...refused, devid: 0 },
    ]
    expect(differences(queries, { withLog: false }).map(({ query }) => query)).toEqual([1])
    expect(differences(queries).map(({ query }) => query)).toEqual([1, 2])
  })

  it('is told with the kind of the event, if there is one', () => {
    const found = differences([{ ...refused, devid: 0, event: '0'.repeat(32) }])
    expect(found).toMatchObject([
      {
        asked: '00:00.0 reads 0x5000',
        expected: `refused with an unknown event ${'0'.repeat(32)}`,
        got: `refused with IoPageFault ${absent(0)}`,
      },
    ])
  })

  it('names the words that changed by address, in whatever order the pages were recorded', () => {
    const marked = (address: number): string[] => {
      const entry = address === place.table ? rights | 0x9001n : rights | BigInt(place.table) | 0x201n
      const bits = address === place.table ? 0x60n : 0x20n
      return [address, entry, entry | bits].map((each) => `0x${each.toString(16)}`)
    }
    const stores = [marked(place.directory), marked(place.table)]
    const query = { ...translated, devid: 0, w: 1, stores }
    for (const pages of [Object.values(place), Object.values(place).reverse()]) {
      expect(differences([query], { pages })).toEqual([])
    }
    expect(differences([{ ...query, stores: stores.slice(0, 1) }])).toMatchObject([
      {
        expected: 'no further word changed',
        got: `0x4000 changed from ${stores[1]![1]} to ${stores[1]![2]}`,
      },
    ])
  })
})

describe('an emulator’s answer', () => {
  it('with an event where the chip has none is a difference', () => {
    const probe = { src: 'probe', iova: 0x5000, w: 0, pa: null, event: absent(1) }
    expect(differences([{ ...probe, devid: 1 }])).toMatchObject([{ got: 'refused without an event' }])
    expect(differences([{ ...probe, devid: 0, event: absent(0) }])).toEqual([])
  })

  it('of a write to the interrupt range goes nowhere', () => {
    const probe = { src: 'probe', devid: 2, iova: '0xfee00000', w: 1 }
    expect(differences([{ ...probe, pa: null }])).toEqual([])
    expect(differences([{ ...probe, pa: '0xfee00000' }])).toMatchObject([
      { expected: '0xfee00000', got: 'an interrupt message' },
    ])
  })
})

describe('a live translation', () => {
  it('by an entry that passes addresses through is told by pages of 4 KiB', () => {
    const live = { src: 'live', devid: 2, iova: '0x123456' }
    expect(differences([{ ...live, hpaBase: '0x123000' }])).toEqual([])
    expect(differences([{ ...live, hpaBase: '0x124000' }])).toMatchObject([
      { expected: 'the page of 0x124000', got: '0x123456, untranslated' },
    ])
  })
})

describe('a range that a kernel unmapped', () => {
  it('is refused for a device whose entry lies beyond the memory', () => {
    const range = { src: 'guest', devid: 0xffff, iova: 0, size: 4096, r: 0, wr: 1 }
    const regs = { '0x0': '0xf000' }
    expect(differences([{ ...range, pa: null }], { regs })).toEqual([])
    expect(differences([{ ...range, pa: '0x9000' }], { regs })).toHaveLength(1)
  })
})

describe('a snapshot', () => {
  it('without queries and without a device table skips nothing', () => {
    const json = { memBytes: 0x10000, pages: [], regs: {}, queries: [] }
    const result = replay(readSnapshot(json, new Uint8Array(0)))
    expect(result).toMatchObject({ queries: 0, compared: 0, skipped: {}, mismatches: [] })
  })

  it('takes the features from registers 30h and 1A0h, the second of which older parts do not have', () => {
    const read = (regs: object): unknown =>
      readSnapshot({ memBytes: 0x10000, pages: [], regs, queries: [] }, new Uint8Array(0)).features
    expect(read({ '0x30': '0x1234', '0x1a0': 8 })).toEqual({ efr: 0x1234n, efr2: 8n })
    expect(read({ '0x30': '0x1234' })).toEqual({ efr: 0x1234n, efr2: 0n })
    expect(read({ '0x1a0': 8 })).toBeUndefined()
  })
})
