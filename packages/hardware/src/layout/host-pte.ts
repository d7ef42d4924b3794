/**
 * Host (v1) page-table entries: a leaf (PTE) or a pointer to the next table (PDE).
 *
 * NextLevel tells them apart: 0 a leaf of its level's own size, 7 a leaf whose size is coded in its
 * address, 1 to 6 a directory entry. If PR is clear no other bit means anything. Ignored bits are
 * fields, so that only bits that hardware checks are reported as reserved.
 *
 * @packageDocumentation
 */
import { flag, uint } from '@nestwalk/bits'
import type { Decoded, RecordLayout } from '@nestwalk/bits'
import { spa } from './fields.js'

/** A leaf: NextLevel 0 or 7. */
export const hostLeafLayout = {
  name: 'host PTE',
  source: 'AMD 48882 rev 3.10, section 2.2.3',
  wordCount: 1,
  fields: {
    /** PR: present. */
    present: flag(0),
    ignoredLow: uint(4, 1),
    /** A: accessed. */
    accessed: flag(5),
    /** D: dirty. */
    dirty: flag(6),
    ignoredMiddle: uint(8, 7),
    /** NextLevel: 0, or 7 for a size code in the address. */
    nextLevel: uint(11, 9),
    /** The page frame; its low bits are a size code if NextLevel is 7. */
    frame: spa([51, 12, 12]),
    /** U: a completion must tell the device to use untranslated accesses. */
    untranslatedOnly: flag(59),
    /** FC: force coherent, whatever snooping the request asks for. */
    forceCoherent: flag(60),
    /** IR: read permission. */
    readAllowed: flag(61),
    /** IW: write permission. */
    writeAllowed: flag(62),
    ignoredTop: flag(63),
  },
} as const satisfies RecordLayout

/** A directory entry: NextLevel 1 to 6. */
export const hostDirectoryLayout = {
  name: 'host PDE',
  source: 'AMD 48882 rev 3.10, section 2.2.3',
  wordCount: 1,
  fields: {
    /** PR: present. */
    present: flag(0),
    ignoredLow: uint(4, 1),
    /** A: accessed. */
    accessed: flag(5),
    ignoredMiddle: uint(8, 6),
    /** NextLevel: the level of the table pointed to. */
    nextLevel: uint(11, 9),
    /** The next table. */
    table: spa([51, 12, 12]),
    /** IR: read permission for everything below. */
    readAllowed: flag(61),
    /** IW: write permission for everything below. */
    writeAllowed: flag(62),
    ignoredTop: flag(63),
  },
} as const satisfies RecordLayout

export type HostLeaf = Decoded<typeof hostLeafLayout>

export type HostDirectory = Decoded<typeof hostDirectoryLayout>
