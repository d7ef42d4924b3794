/**
 * Little-endian numbers and texts as bytes, checked: what the records of the IVRS table are put together from.
 *
 * @packageDocumentation
 */

function inRange(field: string, value: number, last: number): number {
  if (!Number.isInteger(value) || value < 0 || value > last) {
    throw new RangeError(`${field} cannot be ${value}: it takes 0 to 0x${last.toString(16)}`)
  }
  return value
}

/** @throws RangeError naming the field and its limits */
export const u8Field = (field: string, value: number): number => inRange(field, value, 0xff)

/** @throws RangeError naming the field and its limits */
export function u16Field(field: string, value: number): [number, number] {
  inRange(field, value, 0xffff)
  return [value & 0xff, value >>> 8]
}

/** @throws RangeError naming the field and its limits */
export function u32Field(field: string, value: number, last: number): [number, number, number, number] {
  inRange(field, value, last)
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24]
}

/** A character a byte; the zero bytes at the end go. */
export const textOf = (bytes: Uint8Array): string =>
  String.fromCharCode(...bytes.subarray(0, bytes.findLastIndex((byte) => byte !== 0) + 1))

/**
 * The reverse of {@link textOf}.
 *
 * @throws RangeError if the text has more characters than there are bytes, or one that is no byte
 */
export function textField(field: string, text: string, byteLength: number): Uint8Array {
  const bytes = new Uint8Array(byteLength)
  if (text.length > byteLength) {
    throw new RangeError(`${field} cannot have ${text.length} characters: it takes up to ${byteLength}`)
  }
  for (let i = 0; i < text.length; i++) bytes[i] = u8Field(`${field}[${i}]`, text.charCodeAt(i))
  return bytes
}
