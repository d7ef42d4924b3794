/**
 * The device table entry of each kind of domain.
 *
 * Linux drivers/iommu/amd/iommu.c, `set_dte_entry`, and nested.c, `set_dte_nested`.
 *
 * @packageDocumentation
 */
import { dteWordCount, encodeDte, decodeDte } from '@nestwalk/hardware'
import type { Dte } from '@nestwalk/hardware'
import type { DomainId } from '@nestwalk/hardware'
import type { GuestTableDomain, HostTableDomain, NestedDomain } from './domain.js'

/** V=1, TV=0: every request is refused. */
export const blockedEntry = (): BigUint64Array => encodeDte({ valid: true })

/** Mode 0: addresses pass through, under a DomainID all the same. */
export const identityEntry = (tag: DomainId): BigUint64Array =>
  encodeDte({ valid: true, translationValid: true, readAllowed: true, writeAllowed: true, domainId: tag })

export const hostTableEntry = ({ mode, root }: HostTableDomain, tag: DomainId): BigUint64Array =>
  encodeDte({ mode, hostRoot: root }, identityEntry(tag))

/** Requests without PASID go through the guest table of PASID 0. */
export const guestTableEntry = ({ gcr3Root, levels }: GuestTableDomain, tag: DomainId): BigUint64Array =>
  encodeDte(
    { guestValid: true, guestIoValid: true, gcr3Levels: 0, gcr3Root, guestPagingMode: levels - 4 },
    identityEntry(tag),
  )

/**
 * A guest's entry on its nest parent. From the guest come GLX, the GCR3 root, GIoV, PPR and the paging mode and nothing
 * else: its IR, IW, I, SE, SA, EX, IoCtl, SysMgt and interrupt fields must not reach hardware.
 */
export function nestedEntry(nested: NestedDomain, parent: HostTableDomain, tag: DomainId): BigUint64Array {
  const guest = guestEntryOf(nested)
  return encodeDte(
    {
      guestValid: true,
      gcr3Levels: guest.gcr3Levels,
      gcr3Root: guest.gcr3Root,
      guestIoValid: guest.guestIoValid,
      pageRequestsAllowed: guest.pageRequestsAllowed,
      guestPagingMode: guest.guestPagingMode,
    },
    hostTableEntry(parent, tag),
  )
}

/** The guest's entry, decoded. */
export const guestEntryOf = ({ guestEntry }: Pick<NestedDomain, 'guestEntry'>): Dte =>
  decodeDte(BigUint64Array.from(guestEntry, (word) => BigInt.asUintN(64, word)).slice(0, dteWordCount))
