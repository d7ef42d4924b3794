/** Device table entries and commands as guests write them. */
import { gva } from '@nestwalk/bits'
import { domainId, encodeCommand, encodeDte, pasid as asPasid } from '@nestwalk/hardware'
import type { CommandFields, Dte } from '@nestwalk/hardware'

/** A guest's entry with guest tables, under the guest's DomainID. */
export const guestEntry = (guestDomainId: number, fields: Partial<Dte> = {}): bigint[] => [
  ...encodeDte({
    ...{ valid: true, translationValid: true, readAllowed: true, writeAllowed: true },
    ...{ guestValid: true, guestIoValid: true, gcr3Root: 0x10000n, domainId: domainId(guestDomainId) },
    ...fields,
  }),
]

export const words = (command: CommandFields): readonly [bigint, bigint] => {
  const [lo, hi] = encodeCommand(command)
  return [lo!, hi!]
}

/** A guest's INVALIDATE_IOMMU_PAGES for one page of a PASID. */
export const invalidation = (
  guestDomainId: number,
  pasid = 0,
  address = 0x5000n,
): readonly [bigint, bigint] =>
  words({
    kind: 'InvalidateIommuPages',
    ...{ domainId: domainId(guestDomainId), pasid: asPasid(pasid), guestNested: true, address: gva(address) },
  })
