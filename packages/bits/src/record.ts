/**
 * Declarative bit records: name a structure's fields once, then read and write them anywhere.
 *
 * Bits are numbered as the AMD manual numbers them: bit 0 is the least significant bit of the
 * first quad-word, bit 64 that of the second. Quad-words are little-endian in memory.
 *
 * @packageDocumentation
 */

/** Bits `hi..lo` (inclusive) of a record, within one quad-word. */
export interface BitRange {
  readonly hi: number
  readonly lo: number
}

/** Where bits `hi..lo` of a record go in the value: `lo` supplies value bit `valueLo`. */
export interface Span extends BitRange {
  readonly valueLo: number
}

/** How one field is stored (`spans`) and what callers see (`T`). */
export interface Field<T> {
  readonly spans: readonly Span[]
  fromBits(bits: bigint): T
  toBits(value: T): bigint
}

/** A structure's name, where it is defined, its size in quad-words, and its fields at absolute positions. */
export interface RecordLayout {
  readonly name: string
  readonly source: string
  readonly wordCount: number
  readonly fields: Readonly<Record<string, Field<unknown>>>
}

/** What callers see of a record: one property a field. Reserved bits are not part of it. */
export type Decoded<L extends RecordLayout> = {
  readonly [K in keyof L['fields']]: L['fields'][K] extends Field<infer T> ? T : never
}

/** A stretch of reserved bits that is not zero, with its value shifted down to bit 0. */
export interface ReservedBits extends BitRange {
  readonly value: bigint
}

function span(hi: number, lo: number, valueLo: number): Span {
  if (!Number.isInteger(hi) || !Number.isInteger(lo) || lo < 0 || hi < lo || hi >> 6 !== lo >> 6) {
    throw new RangeError(`bits ${hi}:${lo} are not an ascending range within one quad-word`)
  }
  return { hi, lo, valueLo }
}

/** One bit, seen as a boolean. */
export const flag = (bit: number): Field<boolean> => ({
  spans: [span(bit, bit, 0)],
  fromBits: (bits) => bits === 1n,
  toBits: (on) => (on ? 1n : 0n),
})

/** Bits `hi..lo` seen as an unsigned integer; at most 32 of them. */
export function uint(hi: number, lo: number): Field<number> {
  if (hi - lo >= 32) throw new RangeError(`bits ${hi}:${lo} are more than 32: use uint64`)
  return { spans: [span(hi, lo, 0)], fromBits: Number, toBits: BigInt }
}

/** Bits `hi..lo` seen as an unsigned bigint; up to a whole quad-word. */
export const uint64 = (hi: number, lo: number): Field<bigint> => ({
  spans: [span(hi, lo, 0)],
  fromBits: (bits) => bits,
  toBits: (value) => value,
})

/** One part of a scattered address: record bits `hi..lo` supply address bits from `addressLo` up. */
export type AddressPart = readonly [hi: number, lo: number, addressLo: number]

/** An address gathered from its parts; address bits that no part supplies read as zero. */
export const address = (...parts: readonly AddressPart[]): Field<bigint> => ({
  spans: parts.map(([hi, lo, addressLo]) => span(hi, lo, addressLo)),
  fromBits: (bits) => bits,
  toBits: (value) => value,
})

/** A mask of `hi..lo`, in place. */
const mask = (hi: number, lo: number): bigint => ((1n << BigInt(hi - lo + 1)) - 1n) << BigInt(lo)

function gather(words: BigUint64Array, spans: readonly Span[]): bigint {
  let value = 0n
  for (const { hi, lo, valueLo } of spans) {
    const word = words[lo >> 6] ?? 0n
    value |= BigInt.asUintN(hi - lo + 1, word >> BigInt(lo & 63)) << BigInt(valueLo)
  }
  return value
}

function scatter(words: BigUint64Array, spans: readonly Span[], value: bigint): void {
  for (const { hi, lo, valueLo } of spans) {
    const index = lo >> 6
    const kept = (words[index] ?? 0n) & ~mask(hi & 63, lo & 63)
    words[index] = kept | (BigInt.asUintN(hi - lo + 1, value >> BigInt(valueLo)) << BigInt(lo & 63))
  }
}

/** The value bits that a field can store. */
const storedMask = (field: Field<unknown>): bigint =>
  field.spans.reduce((bits, { hi, lo, valueLo }) => bits | mask(hi - lo + valueLo, valueLo), 0n)

function limitsOf(field: Field<unknown>): string {
  const [only, ...others] = field.spans
  if (only?.valueLo === 0 && others.length === 0) {
    return `0 to 0x${mask(only.hi - only.lo, 0).toString(16)} (bits ${only.hi}:${only.lo})`
  }
  const stored = field.spans.map(({ hi, lo, valueLo }) => `${hi - lo + valueLo}:${valueLo}`)
  return `values with no other bits than ${stored.join(', ')}`
}

function bitsOf(layout: RecordLayout, name: string, value: unknown): bigint {
  const field = Object.hasOwn(layout.fields, name) ? layout.fields[name] : undefined
  if (field === undefined) throw new RangeError(`${layout.name} has no field ${name}`)
  const isWhole = typeof value !== 'number' || Number.isSafeInteger(value)
  const bits = isWhole ? field.toBits(value) : -1n
  if (bits < 0n || (bits & ~storedMask(field)) !== 0n) {
    const shown = typeof value === 'bigint' && value >= 0n ? `0x${value.toString(16)}` : String(value)
    throw new RangeError(`${layout.name}.${name} cannot hold ${shown}: it takes ${limitsOf(field)}`)
  }
  return bits
}

function checkLength(layout: RecordLayout, words: BigUint64Array): void {
  if (words.length !== layout.wordCount) {
    throw new RangeError(`${layout.name} has ${layout.wordCount} quad-words, not ${words.length}`)
  }
}

/**
 * Reads every field of a record. Reserved bits are never an error here: see {@link reservedBits}.
 *
 * @throws RangeError if `words` is not exactly the record
 */
export function decode<const L extends RecordLayout>(layout: L, words: BigUint64Array): Decoded<L> {
  checkLength(layout, words)
  const entries = Object.entries(layout.fields).map(([name, field]) => [
    name,
    field.fromBits(gather(words, field.spans)),
  ])
  return Object.fromEntries(entries) as Decoded<L>
}

/**
 * Writes fields into a record. Bits of fields that are not named, and reserved bits, stay as they
 * are in `base`, or are zero without one; `base` itself is not changed.
 *
 * @throws RangeError if a value does not fit its field, or `base` is not exactly a record
 */
export function encode<const L extends RecordLayout>(
  layout: L,
  values: Partial<Decoded<L>>,
  base: BigUint64Array = new BigUint64Array(layout.wordCount),
): BigUint64Array {
  checkLength(layout, base)
  const words = base.slice()
  for (const [name, value] of Object.entries(values)) {
    const bits = bitsOf(layout, name, value)
    scatter(words, layout.fields[name]?.spans ?? [], bits)
  }
  return words
}

/** Two fields of a layout that claim the same bit: always a mistake in the layout. */
export interface Overlap {
  readonly bit: number
  readonly fields: readonly [string, string]
}

function ownersOf(layout: RecordLayout): string[][] {
  const owners = Array.from({ length: layout.wordCount * 64 }, (): string[] => [])
  for (const [name, field] of Object.entries(layout.fields)) {
    for (const { hi, lo } of field.spans) {
      if (hi >= owners.length)
        throw new RangeError(`${layout.name}.${name} lies beyond the record: bit ${hi}`)
      for (let bit = lo; bit <= hi; bit++) owners[bit]?.push(name)
    }
  }
  return owners
}

/**
 * Every bit that more than one field claims; empty for a sound layout.
 *
 * @throws RangeError if a field lies beyond the record
 */
export const overlaps = (layout: RecordLayout): Overlap[] =>
  ownersOf(layout).flatMap(([first, second], bit) =>
    first === undefined || second === undefined ? [] : [{ bit, fields: [first, second] as const }],
  )

/** The bits that no field covers, from low to high, cut at quad-word boundaries. */
export function reservedSpans(layout: RecordLayout): BitRange[] {
  const ranges: { hi: number; lo: number }[] = []
  ownersOf(layout).forEach((owners, bit) => {
    if (owners.length > 0) return
    const last = ranges.at(-1)
    if (last?.hi === bit - 1 && bit % 64 !== 0) last.hi = bit
    else ranges.push({ hi: bit, lo: bit })
  })
  return ranges
}

const reservedSpansOf = new WeakMap<RecordLayout, readonly Span[]>()

function cachedReservedSpans(layout: RecordLayout): readonly Span[] {
  const known = reservedSpansOf.get(layout)
  if (known !== undefined) return known
  const spans = reservedSpans(layout).map(({ hi, lo }) => span(hi, lo, 0))
  reservedSpansOf.set(layout, spans)
  return spans
}

/**
 * The reserved stretches of a record that are not zero: what a decoder reports instead of rejecting.
 *
 * @throws RangeError if `words` is not exactly the record
 */
export function reservedBits(layout: RecordLayout, words: BigUint64Array): ReservedBits[] {
  checkLength(layout, words)
  return cachedReservedSpans(layout)
    .map((reserved) => ({ hi: reserved.hi, lo: reserved.lo, value: gather(words, [reserved]) }))
    .filter(({ value }) => value !== 0n)
}
