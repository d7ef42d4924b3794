/**
 * Guest (v2) page-table entries: the long-mode format of AMD64 processors.
 *
 * A directory entry and a 4 KiB leaf share one layout; the two large leaves differ in bit 12 and
 * in how many low address bits are reserved.
 *
 * @packageDocumentation
 */
import { flag, uint } from '@nestwalk/bits'
import type { Decoded, RecordLayout } from '@nestwalk/bits'
import { gpa } from './fields.js'

const flags = {
  /** P: present. */
  present: flag(0),
  /** R/W: writable. */
  writable: flag(1),
  /** U/S: accessible to user requests. */
  user: flag(2),
  /** PWT: memory type, no part in translation. */
  writeThrough: flag(3),
  /** PCD: memory type, no part in translation. */
  cacheDisabled: flag(4),
  /** A: accessed. */
  accessed: flag(5),
  /** D: dirty, in a leaf. */
  dirty: flag(6),
  /** G: global; the IOMMU ignores it. */
  global: flag(8),
  /** AVL: for software. */
  availableLow: uint(11, 9),
  /** AVL: for software. */
  availableHigh: uint(62, 52),
  /** NX: no execute. Reserved unless EFR.NXSup. */
  noExecute: flag(63),
}

const source = 'AMD 48882 rev 3.10, section 2.2.6; AMD64 long-mode paging'

/** A directory entry with PS clear, or the leaf of a 4 KiB page. */
export const guestEntryLayout = {
  name: 'guest entry',
  source,
  wordCount: 1,
  fields: {
    ...flags,
    /** PS above level 1, where it is clear in a directory entry; PAT at level 1. */
    pageSizeOrPat: flag(7),
    /** The next table, or the page frame. */
    frame: gpa([51, 12, 12]),
  },
} as const satisfies RecordLayout

/** The leaf of a 2 MiB page: level 2 with PS set. */
export const guestLeaf2MLayout = {
  name: 'guest 2 MiB leaf',
  source,
  wordCount: 1,
  fields: {
    ...flags,
    /** PS: set, this is a leaf. */
    pageSize: flag(7),
    /** PAT: memory type. */
    pat: flag(12),
    /** The page frame. */
    frame: gpa([51, 21, 21]),
  },
} as const satisfies RecordLayout

/** The leaf of a 1 GiB page: level 3 with PS set. */
export const guestLeaf1GLayout = {
  name: 'guest 1 GiB leaf',
  source,
  wordCount: 1,
  fields: {
    ...flags,
    /** PS: set, this is a leaf. */
    pageSize: flag(7),
    /** PAT: memory type. */
    pat: flag(12),
    /** The page frame. */
    frame: gpa([51, 30, 30]),
  },
} as const satisfies RecordLayout

export type GuestEntry = Decoded<typeof guestEntryLayout>
export type GuestLeaf2M = Decoded<typeof guestLeaf2MLayout>
export type GuestLeaf1G = Decoded<typeof guestLeaf1GLayout>
