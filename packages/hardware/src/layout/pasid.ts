/**
 * PASID: which address space of a device a request belongs to.
 *
 * @packageDocumentation
 */
import type { Brand } from '@nestwalk/bits'

/** A 20-bit process address space identifier. */
export type Pasid = Brand<number, 'Pasid'>

/** @throws RangeError for anything but a 20-bit unsigned integer */
export function pasid(value: number): Pasid {
  if (!Number.isInteger(value) || value < 0 || value > 0xf_ffff) {
    throw new RangeError(`${value} is no PASID: it has 20 bits, 0 to 0xfffff`)
  }
  return value as Pasid
}

/** What requests without a PASID are translated with when the device table entry sets GIoV. */
export const pasidZero: Pasid = pasid(0)
