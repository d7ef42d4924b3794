/**
 * What of the device table entry and the control register a guest walk needs.
 *
 * @packageDocumentation
 */

/** Yes and no, as bits of one word: a walk has them at hand without a load. */
export const enum RegimeFlag {
  /** GCR3 table pointers are GPAs: Control.GCR3TRPMode. */
  gcr3Nested = 1,
  /** The request brought no PASID: its addresses have no sign. */
  isUntagged = 2,
  /** EFR.NXSup and EFR.USSup. */
  checksNoExecute = 4,
  checksUser = 8,
  /** Hardware sets A and D in guest entries. */
  setsAccessed = 16,
  setsDirty = 32,
  /** Bits are stored; without it, only the right to store them is checked. */
  stores = 64,
}

/** See the file's comment; filled in for each walk. */
export class GuestRegime {
  /** Root of the GCR3 table: an SPA, or a GPA when `gcr3Nested`. */
  gcr3Lo = 0
  gcr3Hi = 0
  /** GLX + 1. */
  gcr3Levels = 1
  /** 4 or 5. */
  guestLevels = 4
  /** Mode and root of the host table; mode 0: a GPA is an SPA. */
  hostMode = 0
  hostRootLo = 0
  hostRootHi = 0
  /** DTE.IR and DTE.IW as rights. */
  granted = 0
  /** The same for accesses to tables on behalf of a request. */
  impliedGranted = 0
  /** Bits of {@link RegimeFlag}. */
  flags = 0
}
