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
import type { HostTableDomain, NestedDomain } from './domain.js'
import type { Gcr3Table } from './gcr3-table.js'

/** DTE.HAD: hardware marks accesses and writes. */
const marksAccessesAndWrites = 3

/** V=1, TV=0: every request is refused. */
export const blockedEntry = (): BigUint64Array => encodeDte({ valid: true })

/** Mode 0: addresses pass through, under a DomainID all the same. */
export const identityEntry = (tag: DomainId): BigUint64Array =>
  encodeDte({ valid: true, translationValid: true, readAllowed: true, writeAllowed: true, domainId: tag })

export const hostTableEntry = (
  { mode, root, dirtyTracking }: HostTableDomain,
  tag: DomainId,
): BigUint64Array =>
  encodeDte(
    { mode, hostRoot: root, hostAccessDirty: dirtyTracking ? marksAccessesAndWrites : 0 },
    identityEntry(tag),
  )

/** Requests go through the guest tables of their PASID; those without PASID as the table's shape says. */
export const gcr3Entry = ({ root, shape }: Gcr3Table, tag: DomainId): BigUint64Array =>
  encodeDte(
    {
      guestValid: true,
      guestIoValid: shape.usesPasidZero,
      gcr3Levels: shape.levelsLessOne,
      gcr3Root: root,
      guestPagingMode: shape.guestLevels - 4,
    },
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
