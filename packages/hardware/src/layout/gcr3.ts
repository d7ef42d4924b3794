/**
 * GCR3 table entry: where the guest tables of one PASID, or of a range of PASIDs, are.
 *
 * @packageDocumentation
 */
import { address, flag } from '@nestwalk/bits'
import type { Decoded, RecordLayout } from '@nestwalk/bits'

/** One entry, at any level of the GCR3 table. */
export const gcr3EntryLayout = {
  name: 'GCR3 entry',
  source: 'AMD 48882 rev 3.10, section 2.2.6',
  wordCount: 1,
  fields: {
    /** V: valid. */
    valid: flag(0),
    /**
     * At the last level the guest's top page table, always a guest physical address. Above it the
     * next GCR3 table: guest physical if Control.GCR3TRPMode is set, else system physical
     * (unverified for that case).
     */
    table: address([51, 12, 12]),
  },
} as const satisfies RecordLayout

export type Gcr3Entry = Decoded<typeof gcr3EntryLayout>
