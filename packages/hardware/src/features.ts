/**
 * What an IOMMU can do, read off its feature registers.
 *
 * AMD 48882 rev 3.10, Extended Feature Register (MMIO 30h) and Extended Feature 2 (MMIO 1A0h).
 *
 * @packageDocumentation
 */

/** The two feature registers, raw. */
export interface FeatureRegisters {
  readonly efr: bigint
  readonly efr2: bigint
}

/**
 * A server part with what nesting needs: host access and dirty bits, five-level guest tables, GCR3TRPMode.
 *
 * The value is that of a shipping part with HASup, HDSup, GATS=01b and EFR2.GCR3TRPModeSup added.
 */
export const nestingFeatures: FeatureRegisters = { efr: 0x247777efa2255afan, efr2: 0x8n }

/** The features that behaviour follows from. */
export interface Features extends FeatureRegisters {
  readonly prefetch: boolean
  readonly pageRequests: boolean
  readonly x2Apic: boolean
  readonly noExecute: boolean
  readonly guestTables: boolean
  readonly invalidateAll: boolean
  readonly guestApic: boolean
  /** Guest APIC modes: guest virtual APIC beside remapping alone. */
  readonly guestApicMode: boolean
  readonly hardwareErrors: boolean
  readonly performanceCounters: boolean
  /** Deepest host table: 4 to 6 levels; 0 without host translation. */
  readonly hostLevels: number
  /** Deepest guest table: 4 or 5 levels. */
  readonly guestLevels: number
  /** Deepest GCR3 table: 1 to 3 levels. */
  readonly gcr3Levels: number
  /** SMI filter registers: 0 to 16. */
  readonly smiFilters: number
  readonly dualPprLog: boolean
  readonly dualEventLog: boolean
  readonly secureAts: boolean
  readonly userPages: boolean
  /** log2 of the device-table segments: 0 to 3. */
  readonly segmentsLog2: number
  readonly pprEarlyWarning: boolean
  readonly pprAutoResponse: boolean
  readonly marc: boolean
  readonly stopMarkersBlocked: boolean
  readonly performanceOptimization: boolean
  /** The MSI capability is shadowed in MMIO. */
  readonly msiInMmio: boolean
  readonly guestIoProtection: boolean
  readonly hostAccessed: boolean
  readonly enhancedPageRequests: boolean
  readonly hostDirty: boolean
  /** The Type field of INVALIDATE_IOTLB_PAGES. */
  readonly iotlbTypes: boolean
  /** Hardware vIOMMU. */
  readonly viommu: boolean
  readonly pageMigration: boolean
  readonly gcr3TrpMode: boolean
  /** 2048 interrupts a function. */
  readonly manyInterrupts: boolean
  /** The HyperTransport hole is ordinary memory. */
  readonly hyperTransportIgnored: boolean
  /** DTE.Mode 0 is legal with SNP. */
  readonly snpModeZero: boolean
}

/** Reads the features off the registers. */
export function featuresOf({ efr, efr2 }: FeatureRegisters): Features {
  const bit = (value: bigint, at: number): boolean => ((value >> BigInt(at)) & 1n) === 1n
  const field = (hi: number, lo: number): number => Number(BigInt.asUintN(hi - lo + 1, efr >> BigInt(lo)))
  const hats = field(11, 10)
  return {
    efr: BigInt.asUintN(64, efr),
    efr2: BigInt.asUintN(64, efr2),
    prefetch: bit(efr, 0),
    pageRequests: bit(efr, 1),
    x2Apic: bit(efr, 2),
    noExecute: bit(efr, 3),
    guestTables: bit(efr, 4),
    invalidateAll: bit(efr, 6),
    guestApic: bit(efr, 7),
    guestApicMode: bit(efr, 21),
    hardwareErrors: bit(efr, 8),
    performanceCounters: bit(efr, 9),
    hostLevels: hats === 3 ? 0 : 4 + hats,
    guestLevels: field(13, 12) === 1 ? 5 : 4,
    gcr3Levels: Math.min(field(15, 14), 2) + 1,
    smiFilters: field(17, 16) === 0 ? 0 : Math.min(1 << field(20, 18), 16),
    dualPprLog: field(25, 24) !== 0,
    dualEventLog: field(29, 28) !== 0,
    secureAts: bit(efr, 31),
    userPages: bit(efr, 37),
    segmentsLog2: field(39, 38),
    pprEarlyWarning: bit(efr, 40),
    pprAutoResponse: bit(efr, 41),
    marc: field(43, 42) !== 0,
    stopMarkersBlocked: bit(efr, 44),
    performanceOptimization: bit(efr, 45),
    msiInMmio: bit(efr, 46),
    guestIoProtection: bit(efr, 48),
    hostAccessed: bit(efr, 49),
    enhancedPageRequests: bit(efr, 50),
    hostDirty: bit(efr, 52),
    iotlbTypes: bit(efr, 54),
    viommu: bit(efr, 55),
    pageMigration: bit(efr2, 2),
    gcr3TrpMode: bit(efr2, 3),
    manyInterrupts: ((efr2 >> 8n) & 3n) === 1n,
    hyperTransportIgnored: bit(efr2, 11),
    snpModeZero: bit(efr2, 13),
  }
}
