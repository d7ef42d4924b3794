/**
 * Control and Status: what is switched on, and what is running. Fields have the manual's names.
 *
 * @packageDocumentation
 */
import { flag, uint } from '@nestwalk/bits'
import type { Decoded, RecordLayout } from '@nestwalk/bits'

/** Control register, MMIO 0x18. Bits 49 and 57 are reserved. */
export const controlLayout = {
  name: 'Control',
  source: 'AMD 48882 rev 3.10, chapter 3, MMIO 0x18',
  wordCount: 1,
  fields: {
    /** Everything: if clear, requests pass untranslated, interrupts unmapped, queues stand still. */
    iommuEn: flag(0),
    /** HyperTransport tunnel translation. */
    htTunEn: flag(1),
    /** Event log; setting it restarts the log after an overflow. */
    eventLogEn: flag(2),
    /** Interrupt on an event or an overflow of their log. */
    eventIntEn: flag(3),
    /** Interrupt on a COMPLETION_WAIT with i set. */
    comWaitIntEn: flag(4),
    /** How long a device may take for an IOTLB invalidation: 0 for ever, else 1 ms times 10^(n-1). */
    invTimeOut: uint(7, 5),
    /** HyperTransport: pass posted writes. */
    passPW: flag(8),
    /** HyperTransport: responses pass posted writes. */
    resPassPW: flag(9),
    /** Table reads by the IOMMU are snooped; set at reset. */
    coherent: flag(10),
    /** Table reads use the isochronous channel. */
    isoc: flag(11),
    /** Command fetch; setting it restarts fetching after an error. */
    cmdBufEn: flag(12),
    /** PPR log. */
    pprLogEn: flag(13),
    /** Interrupt on a page request or an overflow of their log. */
    pprIntEn: flag(14),
    /** Page requests are accepted at all. */
    pprEn: flag(15),
    /** Guest translation; while clear, DTE.GV must be too. */
    gtEn: flag(16),
    /** Guest virtual APIC; interrupt table entries grow from 4 to 16 bytes. */
    gaEn: flag(17),
    /** Reserved for future use; write 0. */
    crw: uint(21, 18),
    /** SMI filter. */
    smiFEn: flag(22),
    /** Self write-back is disabled. */
    slfWBDis: flag(23),
    /** SMI filter log. */
    smiFLogEn: flag(24),
    /** Guest APIC mode: 0 remap only, 1 guest virtual APIC. */
    gamEn: uint(27, 25),
    /** GA log. */
    gaLogEn: flag(28),
    /** Interrupt on a GA log entry. */
    gaIntEn: flag(29),
    /** Which PPR log: 0 A, 1 B, 2 swap automatically. */
    dualPprLogEn: uint(31, 30),
    /** Which event log: 0 A, 1 B, 2 swap automatically. */
    dualEventLogEn: uint(33, 32),
    /** log2 of the number of device table segments, 0 to 3. */
    devTblSegEn: uint(36, 34),
    /** Privilege abort. */
    privAbrtEn: uint(38, 37),
    /** Automatic responses when the PPR log cannot accept. */
    pprAutoRspEn: flag(39),
    /** Memory access routing and control. */
    marcEn: flag(40),
    /** Stop markers are dropped instead of logged. */
    blkStopMrkEn: flag(41),
    /** Automatic responses always. One early driver has it at bit 48, wrongly. */
    pprAutoRspAon: flag(42),
    /** Interrupts a function may have: 0 for 512, 1 for 2048. Bit 43 was DomainIDPNE in older text. */
    numIntRemapMode: uint(44, 43),
    /** Enhanced PPR handling; DTE.PPR and DTE.GPRP are reserved while it is clear. */
    ephEn: flag(45),
    /** Hardware updates in host tables: 0 none, 1 Access, 3 Access and Dirty. */
    hadUpdate: uint(47, 46),
    /** Hardware does not set D in guest tables. */
    gdUpdateDis: flag(48),
    /** x2APIC: 32-bit destinations in interrupt table entries. */
    xtEn: flag(50),
    /** The IOMMU's own interrupts come from 0x170 to 0x180 instead of MSI. */
    intCapXTEn: flag(51),
    /** Guest command buffers of the hardware vIOMMU. */
    vCmdEn: flag(52),
    /** Hardware vIOMMU. */
    vIommuEn: flag(53),
    /** Hardware does not set A in guest tables. */
    gaUpdateDis: flag(54),
    /** Guest APIC physical processor interrupts. */
    gappiEn: flag(55),
    /** Tiered memory page migration. */
    tmpmEn: flag(56),
    /** The GCR3 root of a DTE is a guest physical address, for every device. */
    gcr3TrpMode: flag(58),
    /** Interrupt table entries are not cached. */
    irtCacheDis: flag(59),
    /** Guest buffers of the hardware vIOMMU are guest physical addresses. */
    gstBufferTrpMode: flag(60),
    /** Guest virtual APIC under SNP. */
    snpAvicEn: uint(63, 61),
  },
} as const satisfies RecordLayout

export type Control = Decoded<typeof controlLayout>

/**
 * Status register, MMIO 0x2020. One public header orders the three GA log bits differently; this is
 * the order of shipping drivers.
 */
export const statusLayout = {
  name: 'Status',
  source: 'AMD 48882 rev 3.10, chapter 3, MMIO 0x2020',
  wordCount: 1,
  fields: {
    /** Events were lost; write 1 to clear. */
    eventOverflow: flag(0),
    /** An event was written, or lost; write 1 to clear. */
    eventLogInt: flag(1),
    /** A COMPLETION_WAIT with i set was completed; write 1 to clear. */
    comWaitInt: flag(2),
    /** Events are being logged. */
    eventLogRun: flag(3),
    /** Commands are being fetched. */
    cmdBufRun: flag(4),
    /** Page requests were lost; write 1 to clear. */
    pprOverflow: flag(5),
    /** A page request was written; write 1 to clear. */
    pprInt: flag(6),
    /** Page requests are being logged. */
    pprLogRun: flag(7),
    /** The GA log is running. */
    gaLogRun: flag(8),
    /** GA log entries were lost; write 1 to clear. */
    gaLOverflow: flag(9),
    /** A GA log entry was written; write 1 to clear. */
    gaInt: flag(10),
    /** PPR log B overflowed; write 1 to clear. */
    pprOvrflwB: flag(11),
    /** PPR log B is the one in use. */
    pprLogActive: flag(12),
    /** Event log B overflowed; write 1 to clear. */
    eventOvrflwB: flag(15),
    /** Event log B is the one in use. */
    eventLogActive: flag(16),
    /** PPR log B reached its threshold; write 1 to clear. */
    pprOvrflwEarlyB: flag(17),
    /** The PPR log reached its threshold; write 1 to clear. */
    pprOvrflwEarly: flag(18),
  },
} as const satisfies RecordLayout

export type Status = Decoded<typeof statusLayout>

/** The bits of Status that software clears by writing 1. */
export const statusWriteOneToClear = 0x68e67n
