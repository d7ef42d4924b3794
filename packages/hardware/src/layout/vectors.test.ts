import {
  hexDwordsOfWords,
  overlaps,
  parseHex,
  parseHexNumber,
  reservedBits,
  reservedSpans,
} from '@nestwalk/bits'
import { decode, encode, wordsFromHex } from '@nestwalk/bits'
import type { RecordLayout } from '@nestwalk/bits'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import commands from '../../vectors/commands.json' with { type: 'json' }
import dtes from '../../vectors/dte.json' with { type: 'json' }
import efrs from '../../vectors/efr.json' with { type: 'json' }
import events from '../../vectors/events.json' with { type: 'json' }
import pprs from '../../vectors/ppr.json' with { type: 'json' }
import realDtes from '../../vectors/real-dte.json' with { type: 'json' }
import sizeCodes from '../../vectors/size-codes.json' with { type: 'json' }
import entries from '../../vectors/table-entries.json' with { type: 'json' }
import {
  allLayouts,
  controlLayout,
  decodeCommand,
  decodeDte,
  decodeEvent,
  decodeLeafFrame,
  decodeSizeCode,
  domainId,
  encodeCommand,
  encodeDte,
  encodeEvent,
  encodeLeafFrame,
  encodeSizeCode,
  eventFlags,
  parseDeviceId,
} from './index.js'
import type { CommandFields, EventFields } from './index.js'
import { slice, slices, withoutSlices } from './slices.js'

type Value = boolean | number | bigint

interface Vector {
  readonly name: string
  readonly layout: string
  readonly words: readonly string[]
  readonly fields: Readonly<Record<string, boolean | string>>
}

const named = (layout: string) => (vector: Omit<Vector, 'layout'>) => ({ ...vector, layout })

/** A vector of a command or event: its opcode or code, the first digit, is said by the kind. */
const withHead = (head: 'opcode' | 'code') => (vector: Omit<Vector, 'layout'> & { kind: string }) => {
  const digit = vector.words[0]?.slice(0, 1) ?? ''
  return { ...vector, layout: vector.kind, fields: { ...vector.fields, [head]: `0x${digit}` } }
}

const vectors: readonly Vector[] = [
  ...dtes.vectors.map(named('dte')),
  ...realDtes.vectors.map(named('dte')),
  ...commands.vectors.map(withHead('opcode')),
  ...events.vectors.map(withHead('code')),
  ...pprs.vectors,
  ...entries.vectors,
  ...efrs.vectors,
]

function layoutOf(name: string): RecordLayout {
  const layout = allLayouts[name]
  if (layout === undefined) throw new RangeError(`no layout ${name}`)
  return layout
}

function valueOf(field: string | boolean, like: unknown): Value {
  if (typeof field === 'boolean') return field
  return typeof like === 'bigint' ? parseHex(field) : parseHexNumber(field)
}

/** What a vector says every field of its record holds: what it does not name is zero. */
function expectedFields({ layout, fields }: Vector): Record<string, unknown> {
  const record = layoutOf(layout)
  const expected: Record<string, unknown> = decode(record, new BigUint64Array(record.wordCount))
  const given = Object.entries(fields).map(([name, value]) => [name, valueOf(value, expected[name])] as const)
  return { ...expected, ...Object.fromEntries<Value>(given) }
}

const labelled = vectors.map((vector) => ({ ...vector, label: `${vector.layout}: ${vector.name}` }))

describe.each(labelled)('$label', (vector) => {
  const layout = layoutOf(vector.layout)
  const words = wordsFromHex(vector.words)

  it('decodes to the expected fields, with no reserved bit set', () => {
    expect(decode(layout, words)).toEqual(expectedFields(vector))
    expect(reservedBits(layout, words)).toEqual([])
  })

  it('is what the expected fields encode to', () => {
    expect(encode(layout, expectedFields(vector))).toEqual(words)
  })

  it('agrees with the second decoder, which finds no other bit', () => {
    const positions: Readonly<Record<string, string>> = {
      ...{ opcode: '63:60', code: '63:60' },
      ...slices[vector.layout],
    }
    const ranges = Object.entries(vector.fields).map(([name, value]) => {
      const range = positions[name] ?? `no position of ${name}`
      expect(slice(vector.words, range), name).toBe(BigInt(value))
      return range
    })
    expect(withoutSlices(vector.words, ranges)).toBe(0n)
  })
})

describe('commands and events by kind', () => {
  it.each(commands.vectors)('$kind: $name', (vector) => {
    const words = wordsFromHex(vector.words)
    expect(hexDwordsOfWords(words)).toEqual(vector.dwords)
    const decoded = decodeCommand(words)
    expect(decoded.kind).toBe(vector.kind)
    const { opcode: _, ...fields } = decoded
    expect(encodeCommand(fields as CommandFields)).toEqual(words)
  })

  it.each(events.vectors)('$kind: $name', (vector) => {
    const words = wordsFromHex(vector.words)
    expect(hexDwordsOfWords(words)).toEqual(vector.dwords)
    expect(eventFlags(words)).toBe(parseHexNumber(vector.flags))
    const decoded = decodeEvent(words)
    expect(decoded.kind).toBe(vector.kind)
    const { code: _, ...fields } = decoded
    expect(encodeEvent(fields as EventFields)).toEqual(words)
  })

  it.each(commands.illegal)('illegal: $name', (vector) => {
    const words = wordsFromHex(vector.words)
    const { kind } = decodeCommand(words)
    expect(kind).toBe(vector.kind)
    const reserved = kind === 'Unknown' ? [] : reservedBits(layoutOf(kind), words)
    expect(reserved).toEqual(vector.reserved.map((each) => ({ ...each, value: parseHex(each.value) })))
  })
})

describe('device table entries', () => {
  it.each(dtes.checks)('$name', (vector) => {
    const reserved = vector.reserved.map((each) => ({ ...each, value: parseHex(each.value) }))
    expect(reservedBits(layoutOf('dte'), wordsFromHex(vector.words))).toEqual(reserved)
  })

  it(dtes.nested.name, () => {
    const wordsOf = (name: string) =>
      wordsFromHex(dtes.vectors.find((vector) => vector.name === name)?.words ?? [])
    const { hostRoot, mode } = decodeDte(wordsOf('D3'))
    const hostDomainId = domainId(parseHexNumber(dtes.nested.hostDomainId))
    const host = { hostRoot, mode, domainId: hostDomainId, iotlbEnabled: dtes.nested.iotlbEnabled }
    expect(encodeDte(host, wordsOf(dtes.nested.guest))).toEqual(wordsOf(dtes.nested.result))
  })

  it('real Control values name the bits that are set', () => {
    const { control, controlBits } = realDtes.vectors.find(({ name }) => name === 'e') ?? {}
    const value = parseHex(control ?? '')
    const digits = Array.from(value.toString(2)).reverse()
    expect(digits.flatMap((bit, i) => (bit === '1' ? [i] : []))).toEqual(controlBits)
    expect(decode(controlLayout, BigUint64Array.of(value))).toMatchObject({
      ...{ iommuEn: true, eventLogEn: true, eventIntEn: true, invTimeOut: 4, coherent: true, cmdBufEn: true },
      ...{ gaEn: true, smiFEn: true, smiFLogEn: true, blkStopMrkEn: true, ephEn: true, xtEn: true },
      ...{ intCapXTEn: true, gtEn: false, gcr3TrpMode: false },
    })
  })

  it.each(realDtes.vectors)('real entry $name comes from a device whose name reads back', ({ message }) => {
    expect(parseDeviceId(message.deviceId)).toBeLessThan(0x10000)
  })
})

describe('size codes', () => {
  it.each(sizeCodes.encoding)('$base, 2^$sizeLog2 bytes', ({ base, sizeLog2, hiWord }) => {
    expect(encodeSizeCode(parseHex(base), sizeLog2)).toBe(parseHex(hiWord))
    expect(decodeSizeCode(parseHex(hiWord))).toEqual({ base: parseHex(base), sizeLog2 })
  })

  it.each(sizeCodes.decoding)('$hiWord: $why', ({ base, sizeLog2, hiWord }) => {
    expect(decodeSizeCode(parseHex(hiWord))).toEqual({ base: parseHex(base), sizeLog2 })
  })

  it.each(sizeCodes.rangeCoding)('range: $name', ({ first, last, base, sizeLog2, hiWord }) => {
    expect((parseHex(first) ^ parseHex(last)).toString(2).length).toBe(sizeLog2)
    expect(parseHex(base)).toBe((parseHex(first) >> BigInt(sizeLog2)) << BigInt(sizeLog2))
    expect(encodeSizeCode(parseHex(base), sizeLog2)).toBe(parseHex(hiWord))
  })

  it('host leaves with NextLevel 7', () => {
    for (const { fields, block } of entries.vectors.filter((vector) => 'block' in vector)) {
      if (block === undefined) continue
      const expected = { base: parseHex(block.base), sizeLog2: block.sizeLog2 }
      expect(decodeLeafFrame(parseHex(fields.frame))).toEqual(expected)
      expect(encodeLeafFrame(expected.base, expected.sizeLog2)).toBe(parseHex(fields.frame))
    }
  })
})

describe('addresses of entries', () => {
  it.each(entries.addresses)('$name', ({ table, index, entryBytes, address }) => {
    expect(parseHex(table) + parseHex(index) * BigInt(entryBytes)).toBe(parseHex(address))
  })

  it.each(entries.indices)('$name', ({ value, lowestBit, indices }) => {
    const actual = indices.map((_, i) => (parseHex(value) >> BigInt(lowestBit + 9 * i)) & 0x1ffn)
    expect(actual).toEqual(indices.map(parseHex))
  })
})

describe.each(Object.entries(allLayouts))('every layout: %s', (_, layout) => {
  const record = fc.bigUint64Array({ minLength: layout.wordCount, maxLength: layout.wordCount })

  it('has no overlap; fields and reserved ranges cover the record', () => {
    expect(overlaps(layout)).toEqual([])
    const ranges = [...reservedSpans(layout), ...Object.values(layout.fields).flatMap(({ spans }) => spans)]
    expect(ranges.reduce((bits, { hi, lo }) => bits + hi - lo + 1, 0)).toBe(64 * layout.wordCount)
  })

  it('encodes what it decodes, over the same record, to the same words', () => {
    fc.assert(
      fc.property(record, (words) => {
        expect(encode(layout, decode(layout, words), words)).toEqual(words)
      }),
    )
  })

  it('decodes what it encodes, from zero, to the same values', () => {
    fc.assert(
      fc.property(record, (words) => {
        const values = decode(layout, words)
        const encoded = encode(layout, values)
        expect(decode(layout, encoded)).toEqual(values)
        expect(reservedBits(layout, encoded)).toEqual([])
      }),
    )
  })
})
