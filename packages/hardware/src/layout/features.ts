/**
 * Extended Feature Registers: what an IOMMU can do. Fields have the manual's names.
 *
 * @packageDocumentation
 */
import { decode, flag, uint } from '@nestwalk/bits'
import type { Decoded, RecordLayout } from '@nestwalk/bits'

/** EFR, MMIO 0x30, read-only. */
export const efrLayout = {
  name: 'EFR',
  source: 'AMD 48882 rev 3.10, chapter 3, MMIO 0x30',
  wordCount: 1,
  fields: {
    /** PREFETCH_IOMMU_PAGES is supported. */
    preFSup: flag(0),
    /** The PPR log and COMPLETE_PPR_REQUEST are supported. */
    pprSup: flag(1),
    /** x2APIC destinations. */
    xtSup: flag(2),
    /** NX and privilege levels in guest tables. */
    nxSup: flag(3),
    /** Guest (v2) translation. */
    gtSup: flag(4),
    /** Physical processor interrupts of the guest APIC. */
    gappiSup: flag(5),
    /** INVALIDATE_IOMMU_ALL is supported. */
    iaSup: flag(6),
    /** Guest virtual APIC. */
    gaSup: flag(7),
    /** Hardware error registers. */
    heSup: flag(8),
    /** Performance counters. */
    pcSup: flag(9),
    /** Host table levels: 0 four, 1 five, 2 six, 3 no host translation. */
    hats: uint(11, 10),
    /** Guest table levels: 0 four, 1 five. */
    gats: uint(13, 12),
    /** GCR3 table levels: 0 one, 1 two, 2 three. */
    glxSup: uint(15, 14),
    /** SMI filter. */
    smiFSup: uint(17, 16),
    /** log2 of the number of SMI filter registers. */
    smiFRC: uint(20, 18),
    /** Guest APIC modes: 1 guest virtual APIC. */
    gamSup: uint(23, 21),
    /** Two PPR logs. */
    dualPprLogSup: uint(25, 24),
    /** Two event logs. */
    dualEventLogSup: uint(29, 28),
    /** Secure ATS. */
    satsSup: flag(31),
    /** PASID width less one. */
    pasMax: uint(36, 32),
    /** User and supervisor page protection. */
    usSup: flag(37),
    /** log2 of the most device table segments. */
    devTblSegSup: uint(39, 38),
    /** Early warning before the PPR log overflows. */
    pprOvrflwEarlySup: flag(40),
    /** Automatic responses to page requests. */
    pprAutoRspSup: flag(41),
    /** Memory access routing and control. */
    marcSup: uint(43, 42),
    /** Stop markers may be dropped. */
    blkStopMrkSup: flag(44),
    /** Performance optimization control. */
    perfOptSup: flag(45),
    /** The MSI capability in MMIO. */
    msiCapMmioSup: flag(46),
    /** Snoop attributes; named in rev 3.11 only. */
    snoopAttrSup: flag(47),
    /** DTE.GIoV. */
    gIoSup: flag(48),
    /** Hardware updates of the host Access bit. */
    haSup: flag(49),
    /** Enhanced PPR handling. */
    ephSup: flag(50),
    /** Attribute forwarding. */
    attrFWSup: flag(51),
    /** Hardware updates of the host Dirty bit. */
    hdSup: flag(52),
    /** The Dirty bit of guest tables can be disabled; named in rev 3.11 only. */
    v2HDDisSup: flag(53),
    /** The Type field of INVALIDATE_IOTLB_PAGES. */
    invIotlbTypeSup: flag(54),
    /** Hardware vIOMMU. */
    vIommuSup: flag(55),
    /** Guarded I/O of virtual machines. */
    vmGuardIOSup: flag(56),
    /** Its table size; one public source. */
    vmTableSize: uint(60, 57),
    /** Hardware updates in guest tables can be disabled. */
    gaUpdateDisSup: flag(61),
    /** Physical destination mode can be forced. */
    forcePhyDestSup: flag(62),
    /** Secure nested paging. */
    snpSup: flag(63),
  },
} as const satisfies RecordLayout

/** EFR2, MMIO 0x1A0, read-only. */
export const efr2Layout = {
  name: 'EFR2',
  source: 'AMD 48882 rev 3.10, chapter 3, MMIO 0x1A0',
  wordCount: 1,
  fields: {
    /** CXL I/O; one public source. */
    cxlIOSup: flag(0),
    /** SEV-SNP I/O. */
    sevSnpIoSup: flag(1),
    /** Tiered memory page migration; one public source. */
    tmpmSup: flag(2),
    /** Control.GCR3TRPMode: what software nesting stands on. */
    gcr3TrpModeSup: flag(3),
    /** One public source. */
    gappiDisSup: flag(4),
    /** Guest virtual APIC under SNP: 1 allowed. */
    snpAvicSup: uint(7, 5),
    /** Interrupts a function may have: 1 for 2048. */
    numIntRemapSup: uint(9, 8),
    /** The HyperTransport hole is ordinary memory. */
    htRangeIgnore: flag(11),
    /** DTE.Mode 0 is allowed under SNP. */
    snpPageMode0Sup: flag(13),
  },
} as const satisfies RecordLayout

export type Efr = Decoded<typeof efrLayout>
export type Efr2 = Decoded<typeof efr2Layout>

/** Decodes EFR from the register's value. */
export const decodeEfr = (value: bigint): Efr => decode(efrLayout, BigUint64Array.of(value))

/** Decodes EFR2 from the register's value. */
export const decodeEfr2 = (value: bigint): Efr2 => decode(efr2Layout, BigUint64Array.of(value))
