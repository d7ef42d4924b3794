import { describe, expect, it } from 'vitest'
import { readSnapshot, replay } from '../src/index.js'
import type { Replay } from '../src/index.js'
import { casesOf, rawSnapshot, rawSnapshots, readReadme } from './corpus-files.js'
import type { RawSnapshot } from './corpus-files.js'

const replayRaw = ({ json, pageBytes }: RawSnapshot): Replay => replay(readSnapshot(json, pageBytes))

/** Rows of the README's tables that begin with a name in back-quotes: the name, and the number in a column. */
function readmeCounts(corpus: string, heading: string, column: number): Record<string, number> {
  const table = readReadme(corpus).split(heading)[1]!.split('\n## ')[0]!
  const rows = table.split('\n').map((line) => line.split('|').map((cell) => cell.trim()))
  return Object.fromEntries(
    rows
      .filter(([, name]) => name?.startsWith('`'))
      .map((cells) => [cells[1]!.replaceAll('`', ''), Number(cells.at(column))]),
  )
}

describe('the chip agrees with every recorded answer', () => {
  const totals = new Map<string, { queries: number; open: Record<string, number> }>()
  const corpora = ['qemu-linux', 'synthetic']
  const folders = corpora.flatMap((corpus) => casesOf(corpus).map((name) => `${corpus}/${name}`))

  it.each(folders)('%s', (folder) => {
    const total = { queries: 0, open: {} as Record<string, number> }
    for (const raw of rawSnapshots(folder)) {
      const result = replayRaw(raw)
      expect(result.mismatches.slice(0, 3), raw.name).toEqual([])
      expect(result.compared, raw.name).toBe(raw.json.queries.length)
      expect(result.skipped, raw.name).toEqual({})
      total.queries += result.queries
      for (const [name, count] of Object.entries(result.openCompared)) {
        total.open[name] = (total.open[name] ?? 0) + count
      }
    }
    totals.set(folder, total)
  })

  it('and these are as many as the description of the corpus says', () => {
    const synthetic = [...totals].filter(([folder]) => folder.startsWith('synthetic/'))
    const queries = synthetic.map(([folder, total]) => [folder.slice('synthetic/'.length), total.queries])
    expect(Object.fromEntries(queries)).toEqual(readmeCounts('synthetic', '## Cases', 3))
    const open: Record<string, number> = {}
    for (const [, total] of synthetic) {
      for (const [name, count] of Object.entries(total.open)) open[name] = (open[name] ?? 0) + count
    }
    expect(open).toEqual(readmeCounts('synthetic', '## Open points', -2))
    const recorded = [...totals].filter(([folder]) => folder.startsWith('qemu-linux/'))
    expect(recorded.reduce((sum, [, total]) => sum + total.queries, 0)).toBe(13959)
  })
})

/** The same snapshot with each query changed. */
const withQueries = (raw: RawSnapshot, change: (query: Record<string, unknown>) => object): RawSnapshot => ({
  ...raw,
  json: { ...raw.json, queries: raw.json.queries.map((query) => ({ ...query, ...change(query) })) },
})

/** The same snapshot with one page dropped from its list and from its bytes. */
function withoutPage(raw: RawSnapshot, index: number): RawSnapshot {
  const before = raw.pageBytes.subarray(0, index * 4096)
  const after = raw.pageBytes.subarray((index + 1) * 4096)
  const pages = raw.json.pages.filter((_, i) => i !== index)
  return { ...raw, json: { ...raw.json, pages }, pageBytes: Buffer.concat([before, after]) }
}

/** The same snapshot with one bit of its pages inverted. */
function withFlippedBit(raw: RawSnapshot, byte: number, bit: number): RawSnapshot {
  const pageBytes = Uint8Array.from(raw.pageBytes)
  pageBytes[byte]! ^= 1 << bit
  return { ...raw, pageBytes }
}

const shifted = (value: unknown): string => `0x${(BigInt(value as string) + 0x1000n).toString(16)}`

describe('a replay notices', () => {
  const half = rawSnapshot('qemu-linux/k73-vfio/half')
  const guestTables = rawSnapshot('qemu-linux/k73-v2-vfio-user/a')
  const segments = rawSnapshot('synthetic/segments/s00')
  const marking = rawSnapshot('synthetic/nested-ad/s00')

  it.each([half, guestTables, segments, marking])('every expected address that is wrong: $name', (raw) => {
    const wrong = withQueries(raw, ({ src, pa, hpaBase }) =>
      src === 'live' ? { hpaBase: shifted(hpaBase) } : { pa: pa === null ? '0x1000' : shifted(pa) },
    )
    const { mismatches } = replayRaw(wrong)
    const found = new Set(mismatches.map(({ query }) => query))
    // Within a large page the base of a live translation is not told apart.
    const unnoticed = raw.json.queries.filter((query, index) => query['src'] !== 'live' && !found.has(index))
    expect(unnoticed).toEqual([])
    expect(mismatches.length).toBeGreaterThan(raw.json.queries.length * 0.9)
  })

  it('a range that is mapped although the recording says it is not, and the reverse', () => {
    const guests = (raw: RawSnapshot): RawSnapshot => ({
      ...raw,
      json: { ...raw.json, queries: raw.json.queries.filter(({ src }) => src === 'guest') },
    })
    const wrong = withQueries(guests(half), ({ pa }) => ({ pa: pa === null ? '0x12345000' : null }))
    expect(replayRaw(wrong).mismatches).toHaveLength(wrong.json.queries.length)
  })

  it.each(['r', 'wr'])('a range with the wrong right %s', (right) => {
    const mapped = withQueries(half, (query) =>
      query['pa'] === null ? {} : { [right]: 1 - Number(query[right]) },
    )
    const guests = half.json.queries.filter(({ src, pa }) => src === 'guest' && pa !== null)
    expect(guests.length).toBeGreaterThan(0)
    expect(replayRaw(mapped).mismatches).toHaveLength(guests.length)
  })

  it('a range of guest tables whose write-only half is told to be closed to reads', () => {
    const writeOnly = guestTables.json.queries.filter(({ r, wr, pa }) => r === 0 && wr === 1 && pa !== null)
    expect(writeOnly.length).toBeGreaterThan(0)
    const wrong = withQueries(guestTables, ({ r, wr }) => (r === 0 && wr === 1 ? { wr: 0 } : {}))
    expect(replayRaw(wrong).mismatches).toHaveLength(writeOnly.length)
  })

  it("an event with another code or device, but no more of an emulator's", () => {
    const idle = rawSnapshot('qemu-linux/k73-strict/idle')
    const events = idle.json.queries.filter(({ event }) => event !== undefined).length
    const change = (at: number, digits: string): RawSnapshot =>
      withQueries(idle, ({ event }) =>
        typeof event === 'string'
          ? { event: event.slice(0, at) + digits + event.slice(at + digits.length) }
          : {},
      )
    expect(replayRaw(change(0, 'ff')).mismatches).toHaveLength(events)
    expect(replayRaw(change(14, '1')).mismatches).toHaveLength(events)
    expect(replayRaw(change(16, 'ffff')).mismatches).toEqual([])
  })

  it("every bit of a model's event", () => {
    const refused = segments.json.queries.filter(({ event }) => typeof event === 'string')
    for (let digit = 0; digit < 32; digit += 1) {
      const wrong = withQueries(segments, ({ event }) => {
        if (typeof event !== 'string') return {}
        const other = (parseInt(event[digit]!, 16) ^ 1).toString(16)
        return { event: event.slice(0, digit) + other + event.slice(digit + 1) }
      })
      expect(replayRaw(wrong).mismatches, `digit ${digit}`).toHaveLength(refused.length)
    }
  })

  it('an event that should have been suppressed', () => {
    const wrong = withQueries(segments, ({ pa }) => (pa === null ? { event: null } : {}))
    const logged = segments.json.queries.filter(({ event }) => event !== null)
    expect(replayRaw(wrong).mismatches).toHaveLength(logged.length)
  })

  it('a page of another size', () => {
    const sized = segments.json.queries.filter(({ size }) => size !== undefined)
    const wrong = withQueries(segments, ({ size }) => (size === undefined ? {} : { size: Number(size) * 2 }))
    expect(replayRaw(wrong).mismatches).toHaveLength(sized.length)
  })

  it('a store too many, one too few, and one with another value', () => {
    const storing = marking.json.queries.filter(({ stores }) => Array.isArray(stores) && stores.length > 0)
    expect(storing.length).toBeGreaterThan(30)
    const change = (edit: (stores: string[][]) => string[][]): number =>
      replayRaw(
        withQueries(marking, ({ stores }) =>
          Array.isArray(stores) && stores.length > 0 ? { stores: edit(stores as string[][]) } : {},
        ),
      ).mismatches.length
    expect(change((stores) => stores.slice(1))).toBe(storing.length)
    expect(change((stores) => [...stores, ['0xffffffffff000', '0x0', '0x1']])).toBe(storing.length)
    expect(change((stores) => stores.map(([at, old]) => [at!, old!, '0x0']))).toBe(storing.length)
  })

  it('a page that is missing, unless it read as nothing anyway', () => {
    const noticed = segments.json.pages.filter(
      (_, index) => replayRaw(withoutPage(segments, index)).mismatches.length > 0,
    )
    expect(noticed.length).toBeGreaterThan(segments.json.pages.length * 0.85)
  })

  it('a present bit that is cleared in any table entry on the way', () => {
    const storing = marking.json.queries.filter(({ stores }) => Array.isArray(stores) && stores.length > 5)
    for (const query of storing.slice(0, 2)) {
      const alone = { ...marking, json: { ...marking.json, queries: [query] } }
      for (const [address] of query['stores'] as string[][]) {
        const page = `0x${(BigInt(address!) & ~0xfffn).toString(16)}`
        const byte = marking.json.pages.indexOf(page) * 4096 + Number(BigInt(address!) & 0xfffn)
        expect(replayRaw(withFlippedBit(alone, byte, 0)).mismatches, address).toHaveLength(1)
      }
    }
  })

  it('and tells the request, both answers and the place', () => {
    const wrong = withQueries(segments, ({ pa }) => (pa === null ? {} : { pa: shifted(pa) }))
    expect(replayRaw(wrong).mismatches[0]).toMatchInlineSnapshot(`
      {
        "asked": "00:00.0 reads 0x7fffc0201000",
        "expected": "0x3219a000",
        "got": "0x32199000 in a page of 4096 bytes",
        "query": 1,
        "src": "model",
      }
    `)
  })
})

describe('without a device table', () => {
  it('there is nothing to compare', () => {
    const raw = rawSnapshot('synthetic/segments/s00')
    const { '0x0': _base, ...regs } = raw.json.regs
    const result = replayRaw({ ...raw, json: { ...raw.json, regs } })
    expect(result).toMatchObject({
      queries: 100,
      compared: 0,
      skipped: { 'no-device-table': 100 },
      requests: 0,
    })
  })
})
