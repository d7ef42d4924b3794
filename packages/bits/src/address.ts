/**
 * The four address spaces of nested translation, as types that cannot be mixed up.
 *
 * @packageDocumentation
 */

declare const brand: unique symbol

/** A `T` that only a checked constructor makes, so that one kind is never taken for another. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name }

/** I/O virtual address: what a device puts in its request. 64 bits. */
export type Iova = Brand<bigint, 'Iova'>

/** Guest virtual address: what the guest's tables translate. 64 bits. */
export type Gva = Brand<bigint, 'Gva'>

/** Guest physical address: what the host's tables translate. 52 bits. */
export type Gpa = Brand<bigint, 'Gpa'>

/** System physical address: what DRAM answers to. 52 bits. */
export type Spa = Brand<bigint, 'Spa'>

function checked(kind: string, value: bigint, widthBits: number): bigint {
  if (value < 0n || value >> BigInt(widthBits) !== 0n) {
    const shown = value < 0n ? String(value) : `0x${value.toString(16)}`
    const limit = ((1n << BigInt(widthBits)) - 1n).toString(16)
    throw new RangeError(`${shown} is no ${kind}: it has ${widthBits} bits, 0 to 0x${limit}`)
  }
  return value
}

/** @throws RangeError beyond 64 bits */
export const iova = (value: bigint): Iova => checked('IOVA', value, 64) as Iova

/** @throws RangeError beyond 64 bits */
export const gva = (value: bigint): Gva => checked('GVA', value, 64) as Gva

/** @throws RangeError beyond 52 bits */
export const gpa = (value: bigint): Gpa => checked('GPA', value, 52) as Gpa

/** @throws RangeError beyond 52 bits */
export const spa = (value: bigint): Spa => checked('SPA', value, 52) as Spa
