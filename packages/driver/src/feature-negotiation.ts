/**
 * What all IOMMUs of a driver can do together: a domain may be given to devices behind any of them.
 *
 * Linux drivers/iommu/amd/init.c, `get_global_efr` and `iommu_init_pci`.
 *
 * @packageDocumentation
 */
import { decodeEfr, decodeEfr2 } from '@nestwalk/hardware'
import type { FeatureRegisters } from '@nestwalk/hardware'

/** What one IOMMU has to say. */
export interface OfferedFeatures {
  readonly features: FeatureRegisters
  /** Firmware says that there are no host tables (IVHD attribute HATDis), whatever EFR.HATS has. */
  readonly hostTablesOff: boolean
  /** Entries that are not present may be cached. */
  readonly npCache: boolean
}

/** See the file's comment. */
export interface Abilities {
  /** Levels of the deepest host (v1) table, 4 to 6; 0: none. */
  readonly hostLevels: number
  /** There are guest-format (v2) tables. */
  readonly guestTables: boolean
  /** Levels of the deepest of them. */
  readonly guestLevels: 4 | 5
  /** Levels of the deepest GCR3 table, 1 to 3; 0 without guest-format tables. */
  readonly gcr3Levels: number
  /** PASIDs as Linux counts them, 2^(PASmax+1) - 1 and at most 16 bits; 0: none, so no processes either. */
  readonly maxPasids: number
  /** Guests' tables may be on top of a host table. */
  readonly nesting: boolean
  /** IOMMUs may cache that nothing is mapped, as emulated ones do (NpCache): flushes are strict, and exact. */
  readonly npCache: boolean
  /** The IOMMUs that can mark in host tables what is written (EFR.HASup and HDSup). */
  readonly dirtyIommus: ReadonlySet<number>
}

const widestPasid = 0xffff

/** The features that serve behind every one of the IOMMUs. */
export function negotiate(iommus: readonly OfferedFeatures[]): Abilities {
  const efrs = iommus.map(({ features }) => decodeEfr(features.efr))
  const least = (of: (efr: (typeof efrs)[number]) => number): number => Math.min(...efrs.map(of))
  const isOffered = iommus.length > 0
  const hostTables = isOffered && !iommus.some(({ hostTablesOff }) => hostTablesOff)
  const guestTables = isOffered && efrs.every(({ gtSup, gIoSup }) => gtSup && gIoSup)
  const pasids = guestTables && efrs.every(({ pprSup, ephSup }) => pprSup && ephSup)
  return {
    hostLevels: hostTables ? least(({ hats }) => (hats === 3 ? 0 : 4 + hats)) : 0,
    guestTables,
    guestLevels: efrs.every(({ gats }) => gats === 1) ? 5 : 4,
    // Value 3 is reserved; three levels hold every PASID.
    gcr3Levels: guestTables ? least(({ glxSup }) => Math.min(glxSup, 2) + 1) : 0,
    maxPasids: pasids ? least(({ pasMax }) => Math.min(2 ** (pasMax + 1) - 1, widestPasid)) : 0,
    nesting: guestTables && iommus.every(({ features }) => decodeEfr2(features.efr2).gcr3TrpModeSup),
    npCache: iommus.some(({ npCache }) => npCache),
    dirtyIommus: new Set(efrs.flatMap(({ haSup, hdSup }, iommu) => (haSup && hdSup ? [iommu] : []))),
  }
}
