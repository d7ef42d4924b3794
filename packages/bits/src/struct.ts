/**
 * Declarative C structures: explicit byte offsets, little-endian fields, checked when defined.
 *
 * Made for kernel ABIs that avoid implicit padding: every field says where it lies, and a
 * definition whose fields overlap, are misaligned or leave the structure does not get past
 * {@link defineStruct}.
 *
 * @packageDocumentation
 */

/** How one field of a structure is stored and what callers see (`T`). */
export interface StructField<T> {
  readonly offset: number
  readonly byteLength: number
  readonly alignment: number
  read(view: DataView): T
  /** Throws RangeError if `value` does not fit. */
  write(view: DataView, value: T): void
}

/** A C structure: its tag, its size in bytes, its fields. */
export interface StructLayout {
  readonly name: string
  readonly byteLength: number
  readonly fields: Readonly<Record<string, StructField<unknown>>>
}

/** What callers see of a structure: numbers up to 32 bits, bigints for 64, typed arrays for arrays. */
export type StructValue<L extends StructLayout> = {
  readonly [K in keyof L['fields']]: L['fields'][K] extends StructField<infer T> ? T : never
}

const littleEndian = true

function inRange<T extends number | bigint>(value: T, low: T, high: T): T {
  const isWhole = typeof value === 'bigint' || Number.isInteger(value)
  if (!isWhole || value < low || value > high) throw new RangeError(`${value} is not in ${low}..${high}`)
  return value
}

function scalar<T>(
  offset: number,
  byteLength: number,
  accessors: Pick<StructField<T>, 'read' | 'write'>,
): StructField<T> {
  return { offset, byteLength, alignment: byteLength, ...accessors }
}

/** An unsigned byte at a byte offset. */
export const u8 = (offset: number): StructField<number> =>
  scalar(offset, 1, {
    read: (view) => view.getUint8(offset),
    write: (view, value) => {
      view.setUint8(offset, inRange(value, 0, 0xff))
    },
  })

/** An unsigned 16-bit integer at a byte offset. */
export const u16 = (offset: number): StructField<number> =>
  scalar(offset, 2, {
    read: (view) => view.getUint16(offset, littleEndian),
    write: (view, value) => {
      view.setUint16(offset, inRange(value, 0, 0xffff), littleEndian)
    },
  })

/** An unsigned 32-bit integer at a byte offset. */
export const u32 = (offset: number): StructField<number> =>
  scalar(offset, 4, {
    read: (view) => view.getUint32(offset, littleEndian),
    write: (view, value) => {
      view.setUint32(offset, inRange(value, 0, 0xffff_ffff), littleEndian)
    },
  })

/** A signed 32-bit integer (a file descriptor, an errno) at a byte offset. */
export const s32 = (offset: number): StructField<number> =>
  scalar(offset, 4, {
    read: (view) => view.getInt32(offset, littleEndian),
    write: (view, value) => {
      view.setInt32(offset, inRange(value, -0x8000_0000, 0x7fff_ffff), littleEndian)
    },
  })

/** An unsigned 64-bit integer at a byte offset. */
export const u64 = (offset: number): StructField<bigint> =>
  scalar(offset, 8, {
    read: (view) => view.getBigUint64(offset, littleEndian),
    write: (view, value) => {
      view.setBigUint64(offset, inRange(value, 0n, 0xffff_ffff_ffff_ffffn), littleEndian)
    },
  })

function checkCount(actual: number, expected: number): void {
  if (actual !== expected) throw new RangeError(`${actual} elements, not ${expected}`)
}

/** `count` bytes at a byte offset. */
export const u8Array = (offset: number, count: number): StructField<Uint8Array> => ({
  offset,
  byteLength: count,
  alignment: 1,
  read: (view) => Uint8Array.from({ length: count }, (_, i) => view.getUint8(offset + i)),
  write: (view, value) => {
    checkCount(value.length, count)
    value.forEach((byte, i) => {
      view.setUint8(offset + i, byte)
    })
  },
})

/** `count` unsigned 64-bit integers at a byte offset. */
export const u64Array = (offset: number, count: number): StructField<BigUint64Array> => ({
  offset,
  byteLength: 8 * count,
  alignment: 8,
  read: (view) =>
    BigUint64Array.from({ length: count }, (_, i) => view.getBigUint64(offset + 8 * i, littleEndian)),
  write: (view, value) => {
    checkCount(value.length, count)
    value.forEach((word, i) => {
      view.setBigUint64(offset + 8 * i, word, littleEndian)
    })
  },
})

/** A range of bytes that no field covers: implicit padding. */
export interface Gap {
  readonly offset: number
  readonly byteLength: number
}

/** The bytes of a structure that no field covers. A well-made ABI has none. */
export function gaps(layout: StructLayout): Gap[] {
  const fields = Object.values(layout.fields).sort((a, b) => a.offset - b.offset)
  const starts = [...fields.map(({ offset }) => offset), layout.byteLength]
  const ends = [0, ...fields.map(({ offset, byteLength }) => offset + byteLength)]
  return starts.flatMap((start, i) => {
    const end = ends[i] ?? start
    return start > end ? [{ offset: end, byteLength: start - end }] : []
  })
}

/**
 * Checks and returns a structure.
 *
 * @throws RangeError for overlapping or misaligned fields, or a field outside the structure
 */
export function defineStruct<const L extends StructLayout>(layout: L): L {
  const fields = Object.entries(layout.fields).sort(([, a], [, b]) => a.offset - b.offset)
  let previous = { name: '', end: 0 }
  for (const [name, { offset, byteLength, alignment }] of fields) {
    const where = `${layout.name}.${name} at byte ${offset}`
    if (!Number.isInteger(offset) || offset < 0 || offset % alignment !== 0) {
      throw new RangeError(`${where} is not aligned to ${alignment}`)
    }
    if (offset < previous.end) throw new RangeError(`${where} overlaps ${previous.name}`)
    const end = offset + byteLength
    if (end > layout.byteLength) throw new RangeError(`${where} ends beyond the ${layout.byteLength} bytes`)
    previous = { name, end }
  }
  const strictest = Math.max(1, ...fields.map(([, { alignment }]) => alignment))
  if (layout.byteLength % strictest !== 0) {
    throw new RangeError(`${layout.name} has ${layout.byteLength} bytes, not a multiple of ${strictest}`)
  }
  return layout
}

function viewOf(layout: StructLayout, bytes: Uint8Array): DataView {
  if (bytes.length < layout.byteLength) {
    throw new RangeError(`${layout.name} has ${layout.byteLength} bytes, only ${bytes.length} are given`)
  }
  return new DataView(bytes.buffer, bytes.byteOffset, layout.byteLength)
}

/**
 * Reads a structure from the start of `bytes`.
 *
 * @throws RangeError if there are fewer bytes than the structure has
 */
export function readStruct<const L extends StructLayout>(layout: L, bytes: Uint8Array): StructValue<L> {
  const view = viewOf(layout, bytes)
  const value: Record<string, unknown> = {}
  for (const [name, field] of fieldsOf(layout)) value[name] = field.read(view)
  return value as StructValue<L>
}

const listed = new WeakMap<StructLayout, readonly (readonly [string, StructField<unknown>])[]>()

/** The fields of a structure, listed once: structures are read more often than anything is listed. */
function fieldsOf(layout: StructLayout): readonly (readonly [string, StructField<unknown>])[] {
  const known = listed.get(layout)
  if (known !== undefined) return known
  const fields = Object.entries(layout.fields)
  listed.set(layout, fields)
  return fields
}

/**
 * Writes a structure to the start of `bytes`, or to fresh zeroed bytes. Fields that are not named
 * keep what `bytes` held.
 *
 * @returns `bytes`
 * @throws RangeError naming the field whose value does not fit
 */
export function writeStruct<const L extends StructLayout>(
  layout: L,
  value: Partial<StructValue<L>>,
  bytes: Uint8Array = new Uint8Array(layout.byteLength),
): Uint8Array {
  const view = viewOf(layout, bytes)
  for (const name of Object.keys(value)) {
    const fieldValue = value[name]
    const field = Object.hasOwn(layout.fields, name) ? layout.fields[name] : undefined
    if (field === undefined) throw new RangeError(`${layout.name} has no field ${name}`)
    try {
      field.write(view, fieldValue)
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw new RangeError(`${layout.name}.${name}: ${reason}`, { cause })
    }
  }
  return bytes
}
