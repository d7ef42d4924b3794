/**
 * DomainID: the tag under which the IOMMU caches translations.
 *
 * @packageDocumentation
 */
import type { Brand } from '@nestwalk/bits'

/** A 16-bit DomainID. Whether a guest or the host chose it is the business of whoever holds it. */
export type DomainId = Brand<number, 'DomainId'>

/** @throws RangeError for anything but a 16-bit unsigned integer */
export function domainId(value: number): DomainId {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff) {
    throw new RangeError(`${value} is no DomainID: it has 16 bits, 0 to 0xffff`)
  }
  return value as DomainId
}
