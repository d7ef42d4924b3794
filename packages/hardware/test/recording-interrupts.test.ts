import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { readSnapshot, RecordingError } from '../src/index.js'
import type { Snapshot } from '../src/index.js'
import { readInterruptRecords } from '../src/recording/interrupt-records.js'
import type { RecordedInterrupt } from '../src/recording/interrupt-records.js'
import { replayInterrupts } from '../src/recording/interrupt-replay.js'
import type { InterruptReplay } from '../src/recording/interrupt-replay.js'
import { rawSnapshot } from './corpus-files.js'

const folder = 'qemu-linux/k612-ir'
const path = fileURLToPath(new URL(`../corpus/${folder}/trace.jsonl.gz`, import.meta.url))
const trace = gunzipSync(readFileSync(path)).toString('utf8')
const recorded = readInterruptRecords(trace)

const snapshotOf = (name: string): Snapshot => {
  const { json, pageBytes } = rawSnapshot(`${folder}/${name}`)
  return readSnapshot(json, pageBytes)
}
const snapshots = ['idle', 'netup', 'busy1'].map(snapshotOf)
const idle = snapshotOf('idle')

const line = (fields: object): string => JSON.stringify(fields)
const msi = line({ k: 'msi', addr: '0xfee00000', data: '0x4', devid: 160, n: 0 })
const irte = line({ k: 'irte', table: '0x1200000', offset: 64, n: 1 })
const irteGa = line({ k: 'irte-ga', hi: '0x25', lo: '0x1', n: 2 })
const out = line({ k: 'msi-out', addr: '0xfee00000', data: '0x4025', n: 3 })
const whole = [msi, irte, irteGa, out]

describe('a trace', () => {
  it('has as many interrupts as it has lines that say so', () => {
    const kinds = trace.split('\n').filter((text) => text.includes('"k":"msi",'))
    expect(kinds).toHaveLength(927)
    expect(recorded).toHaveLength(kinds.length)
    expect(recorded.filter(({ entry }) => entry?.words !== undefined)).toHaveLength(926)
    expect(recorded.filter((each) => each.out === undefined)).toEqual([])
  })

  it('tells of each interrupt what came, what was used and what went', () => {
    expect(readInterruptRecords(whole.join('\n'))).toEqual([
      {
        line: 1,
        deviceId: 0xa0,
        message: { address: 0xfee00000n, data: 4 },
        entry: { table: 0x1200000n, offset: 64, words: [1n, 0x25n] },
        out: { address: 0xfee00000n, data: 0x4025 },
        isEnabled: false,
      },
    ])
  })

  it('tells whether the IOMMU was on, as far as it is known', () => {
    const write = (off: number, size: number, val: string): string =>
      line({ k: 'mmio-write', off, size, val })
    const enabled = (...lines: string[]): (boolean | undefined)[] =>
      readInterruptRecords(lines.join('\n')).map(({ isEnabled }) => isEnabled)
    expect(enabled(msi)).toEqual([false])
    expect(enabled(write(24, 8, '0x3148f'), msi, write(24, 8, '0x3148e'), msi)).toEqual([true, false])
    expect(enabled(write(24, 4, '0x1'), msi, write(28, 4, '0x0'), msi)).toEqual([true, true])
    expect(enabled(write(0x18, 8, '0x1'), line({ k: 'gap', records: 5 }), msi)).toEqual([undefined])
    expect(enabled(write(16, 8, '0x1'), msi)).toEqual([false])
  })

  it.each<[string, string[], number, string]>([
    ['no JSON', [msi, '{'], 2, 'line 2 is no JSON'],
    ['no object', ['[]'], 1, 'line 1 is a list, where a JSON object belongs'],
    ['no kind', [msi, '', '{}'], 3, 'line 3.k is missing'],
    ['no device', ['{"k":"msi","addr":0,"data":0}'], 1, 'line 1.devid is missing'],
    ['wide data', ['{"k":"msi","addr":0,"data":"0x100000000","devid":0}'], 1, 'line 1.data is "0x100000000"'],
    ['an entry alone', [irte], 1, 'line 1 is of kind irte, but no msi record stands before it'],
    ['two entries', [msi, irte, irte], 3, 'line 3 is of kind irte, but no msi record'],
    ['words alone', [msi, irteGa], 2, 'line 2 is of kind irte-ga, but no irte record stands before it'],
    ['words twice', [msi, irte, irteGa, irteGa], 4, 'line 4 is of kind irte-ga, but no irte'],
    ['a message alone', [msi, out, out], 3, 'line 3 is of kind msi-out, but no msi record'],
    ['a message after others', [msi, '{"k":"fault"}', out], 3, 'line 3 is of kind msi-out'],
    [
      'an offset beyond any table',
      [msi, '{"k":"irte","table":0,"offset":32768}'],
      2,
      'line 2.offset is 32768',
    ],
    ['a write without value', ['{"k":"mmio-write","off":24,"size":8}'], 1, 'line 1.val is missing'],
  ])('that is damaged is refused with the line: %s', (_, lines, at, message) => {
    const read = (): unknown => readInterruptRecords(lines.join('\n'))
    expect(read).toThrow(RecordingError)
    expect(read).toThrow(message)
    expect(read).toThrow(new RegExp(`^line ${at}[ .]`))
    expect(read).toThrow(/^[^\n]+: [^\n]+$/)
  })
})

describe('the chip agrees with every recorded interrupt', () => {
  it('of the whole machine', () => {
    const result = replayInterrupts(snapshots, recorded)
    expect(result.mismatches.slice(0, 3)).toEqual([])
    expect(result).toMatchInlineSnapshot(`
      {
        "asked": {
          "off": 1,
          "recordedEntry": 7,
          "snapshot": 919,
        },
        "compared": 927,
        "interrupts": 927,
        "mismatches": [],
        "skipped": {},
      }
    `)
  })

  it('with the entry as recorded, where the snapshots have another one or none', () => {
    const other = recorded.map((each) =>
      change(each, { entry: { words: [0x505n, 0x99n] }, out: { data: 0x4199 } }),
    )
    const moved = other.map((each) => change(each, { out: { address: 0xfee05000n } }))
    const { mismatches, asked } = replayInterrupts(snapshots, moved)
    expect(mismatches).toEqual([])
    expect(asked).toEqual({ snapshot: 0, recordedEntry: 926, off: 1 })
  })
})

type Change = { readonly [Part in 'message' | 'entry' | 'out']?: Partial<RecordedInterrupt[Part]> }

/** The same interrupt with some values changed; parts that it does not have stay away. */
function change(interrupt: RecordedInterrupt, { message, entry, out }: Change): RecordedInterrupt {
  return {
    ...interrupt,
    message: { ...interrupt.message, ...message },
    entry: interrupt.entry && { ...interrupt.entry, ...entry },
    // Without an entry nothing but the message itself can go out.
    out: interrupt.out && (interrupt.entry === undefined ? interrupt.out : { ...interrupt.out, ...out }),
  }
}

describe('a replay of interrupts notices', () => {
  const [first] = readInterruptRecords(whole.join('\n')) as [RecordedInterrupt]
  const replayOne = (interrupt: RecordedInterrupt): InterruptReplay => replayInterrupts([idle], [interrupt])
  const mismatch = (interrupt: RecordedInterrupt): unknown => {
    const { compared, mismatches } = replayOne(interrupt)
    expect([compared, mismatches.length]).toEqual([1, 1])
    return mismatches[0]
  }

  it('nothing where all is well', () => {
    expect(replayOne(first)).toMatchObject({ interrupts: 1, compared: 1, mismatches: [], skipped: {} })
  })

  it('another address, vector, mode or trigger mode', () => {
    expect(mismatch(change(first, { out: { address: 0xfee01000n } }))).toEqual({
      line: 1,
      asked: '00:14.0 writes 0x4 to 0xfee00000',
      expected: 'remapped, 0x4025 to 0xfee01000',
      got: 'remapped, 0x25 to 0xfee00000',
    })
    for (const data of [0x4024, 0x4125, 0xc025, 0x5025]) mismatch(change(first, { out: { data } }))
  })

  it('the level bit where the interrupt is level-triggered, and there alone', () => {
    const level = change(first, { message: { data: 0x8004 }, out: { data: 0x8025 } })
    expect(replayOne(level).mismatches).toEqual([])
    mismatch(change(level, { out: { data: 0xc025 } }))
    expect(replayOne(change(first, { out: { data: 0x25 } })).mismatches).toEqual([])
  })

  it('an entry at another place than the tables say', () => {
    expect(mismatch(change(first, { entry: { table: 0x1202000n } }))).toMatchObject({
      expected: 'the entry at 0x1202040',
      got: 'the entry at 0x1200040',
    })
    expect(mismatch(change(first, { entry: { table: 0x1200030n, offset: 16 } }))).toMatchObject({
      expected: 'the entry at 0x1200040',
    })
    // Linux lets no interrupt of 00:02.0 through.
    expect(mismatch({ ...first, deviceId: 16 })).toMatchObject({ got: 'no entry, aborted' })
  })

  it('an interrupt that goes on although it should not, and the reverse', () => {
    const plain = { ...first, entry: undefined, isEnabled: true }
    expect(mismatch(plain)).toMatchObject({ expected: 'forwarded, 0x4025 to 0xfee00000' })
    expect(mismatch(change(first, { entry: { words: [0n, 0x25n] } }))).toMatchObject({
      expected: 'remapped, 0x4025 to 0xfee00000',
      got: 'aborted',
    })
    const off = { ...first, entry: undefined }
    expect(mismatch(off)).toMatchObject({ got: 'forwarded, 0x4 to 0xfee00000' })
    // The upper half of the device's entry: IV=1, IntCtl=0.
    const at = idle.pages.indexOf(0x11f2000n) * 4096 + 16 * 32 + 16
    const pageBytes = Uint8Array.from(idle.pageBytes)
    expect(pageBytes[at]).toBe(1)
    pageBytes[at] = 0
    const passed = { ...plain, deviceId: 16, out: plain.message }
    expect(mismatch(passed)).toMatchObject({ got: 'aborted' })
    const asked = { snapshot: 1, recordedEntry: 0, off: 0 }
    expect(replayInterrupts([{ ...idle, pageBytes }], [passed])).toMatchObject({ asked, mismatches: [] })
  })
})

describe('an interrupt is not compared', () => {
  const [first] = readInterruptRecords(whole.join('\n')) as [RecordedInterrupt]
  const bare = { ...idle, registers: new Map<number, bigint>() }

  it.each<[string, RecordedInterrupt, Snapshot[]]>([
    ['no-message', { ...first, out: undefined }, [idle]],
    ['no-entry', { ...first, entry: { table: 0x1200000n, offset: 64, words: undefined } }, [idle]],
    ['no-snapshot', first, []],
    ['no-snapshot', first, [bare]],
    ['no-snapshot', { ...first, entry: undefined, isEnabled: true }, []],
    ['enable-unknown', { ...first, entry: undefined, isEnabled: undefined }, [idle]],
    ['no-place', change(first, { entry: { table: 0x18000000n } }), [idle]],
    ['no-place', change(first, { entry: { table: 1n << 60n } }), [idle]],
    ['no-place', change(first, { entry: { offset: 60 } }), [idle]],
  ])('%s', (reason, interrupt, served) => {
    expect(replayInterrupts(served, [interrupt])).toEqual({
      interrupts: 1,
      compared: 0,
      asked: { snapshot: 0, recordedEntry: 0, off: 0 },
      skipped: { [reason]: 1 },
      mismatches: [],
    })
  })
})
