/**
 * Device Table Entry (DTE): what the IOMMU does with one device's DMA and interrupts.
 *
 * 256 bits, 32-byte aligned, found at 32 times the DeviceID. Hardware reads it as one piece;
 * software can store at most 128 bits at once.
 *
 * @packageDocumentation
 */
import { address, decode, encode, flag, uint } from '@nestwalk/bits'
import type { Decoded, RecordLayout } from '@nestwalk/bits'
import { deviceId, domainId, spa } from './fields.js'

/** Quad-words of a DTE. */
export const dteWordCount = 4

/**
 * Absolute bit positions of a DTE. Bits that a feature gates count as reserved while the feature is
 * absent or its control bit is off; that is a rule of behaviour, so they are fields here.
 */
export const dteLayout = {
  name: 'DTE',
  source: 'AMD 48882 rev 3.10, section 2.2.2',
  wordCount: dteWordCount,
  fields: {
    /** V: bits 127:1 are valid. If clear, requests pass untranslated. */
    valid: flag(0),
    /** TV: the translation fields are valid. If clear with V set, DMA is blocked. */
    translationValid: flag(1),
    /** HAD: hardware updates in host tables. 0 none, 1 Accessed, 3 Accessed and Dirty; 2 reserved. */
    hostAccessDirty: uint(8, 7),
    /** Mode: levels of the host table, 1 to 6; 0 no host translation; 7 reserved. */
    mode: uint(11, 9),
    /** HostPageTableRootPtr: the top host table. */
    hostRoot: spa([51, 12, 12]),
    /** PPR: page requests of this device are accepted. Needs EPHSup and Control.EPHEn. */
    pageRequestsAllowed: flag(52),
    /** GPRP: the response to a guest page request carries the PASID. Gated as PPR is. */
    pageResponseHasPasid: flag(53),
    /** GIoV: requests without PASID use the guest tables of PASID 0. Needs GIoSup. */
    guestIoValid: flag(54),
    /** GV: guest translation is on. Needs GTSup and Control.GTEn. */
    guestValid: flag(55),
    /** GLX: levels of the GCR3 table less one; 3 is reserved. */
    gcr3Levels: uint(57, 56),
    /** GCR3 TRP: the top GCR3 table. Its first part is address bits 14:12. */
    gcr3Root: address([60, 58, 12], [95, 80, 15], [127, 107, 31]),
    /** IR: the device may read. */
    readAllowed: flag(61),
    /** IW: the device may write. */
    writeAllowed: flag(62),
    /** DomainID: the tag of cached translations. */
    domainId: domainId(79, 64),
    /** I: the device may ask for translations (ATS) and use translated addresses. */
    iotlbEnabled: flag(96),
    /** SE: report only the first page fault, until the entry is read anew. */
    suppressFurtherFaults: flag(97),
    /** SA: report no page fault. */
    suppressAllFaults: flag(98),
    /** IoCtl: port I/O. 0 abort, 1 forward, 2 translate as memory, 3 reserved. */
    portIoControl: uint(100, 99),
    /** Cache: if set, translations asked for by the device's own TLB are not cached (a hint). */
    cacheDisabled: flag(101),
    /** SD: completions of translation requests may say "no snoop", subject to FC. */
    snoopDisabled: flag(102),
    /** EX: the device may use the exclusion range. */
    exclusionAllowed: flag(103),
    /** SysMgt: system management messages. 0 abort, 1 forward posted writes, 2 forward INTx, 3 translate. */
    systemManagement: uint(105, 104),
    /** SATS: secure ATS. Needs SATSSup. */
    secureAts: flag(106),
    /** IV: the interrupt fields are valid. Independent of V; if clear, interrupts pass unmapped. */
    interruptValid: flag(128),
    /** IntTabLen: log2 of the number of interrupt table entries, 0 to 11. */
    interruptTableLengthLog2: uint(132, 129),
    /** IG: unmapped interrupts are not reported. */
    ignoreUnmappedInterrupts: flag(133),
    /** IntTabRoot: the interrupt remapping table. Bit 6 is stored, though software aligns to 128 bytes. */
    interruptTableRoot: spa([179, 134, 6]),
    /** GuestPagingMode: 0 for four levels of guest tables, 1 for five; 2 and 3 reserved. */
    guestPagingMode: uint(183, 182),
    /** InitPass: INIT messages pass. */
    initPass: flag(184),
    /** EIntPass: ExtInt messages pass. */
    externalInterruptPass: flag(185),
    /** NMIPass: NMI messages pass. */
    nmiPass: flag(186),
    /** HPTMode: host page table mode under SNP. Its meaning is unverified; kept 0. */
    hostPageTableMode: flag(187),
    /** IntCtl: fixed and arbitrated interrupts. 0 abort, 1 forward, 2 remap, 3 reserved. */
    interruptControl: uint(189, 188),
    /** Lint0Pass. */
    lint0Pass: flag(190),
    /** Lint1Pass. */
    lint1Pass: flag(191),
    /** vImuEn: the device belongs to a guest of the hardware vIOMMU. */
    virtualIommuEnabled: flag(207),
    /** GDeviceID: the device as its guest names it. */
    guestDeviceId: deviceId(223, 208),
    /** GuestID: which guest, for the hardware vIOMMU's mapping tables. */
    guestId: uint(239, 224),
    /** AttrV: SnoopAttribute and Mode0FC override. */
    attributesValid: flag(246),
    /** Mode0FC: force coherent when Mode is 0. */
    mode0ForceCoherent: flag(247),
    /** SnoopAttribute: snoop override per traffic class. */
    snoopAttribute: uint(255, 248),
  },
} as const satisfies RecordLayout

/**
 * A decoded DTE. `gcr3Root` is a guest physical address when Control.GCR3TRPMode is set (with
 * Mode 0 that is numerically the system physical one), a system physical address otherwise.
 */
export type Dte = Decoded<typeof dteLayout>

/** Decodes a DTE from its four quad-words, lowest first. */
export const decodeDte = (words: BigUint64Array): Dte => decode(dteLayout, words)

/** Encodes a DTE; fields that are not named stay as in `base`, or are zero. */
export const encodeDte = (values: Partial<Dte>, base?: BigUint64Array): BigUint64Array =>
  encode(dteLayout, values, base)
