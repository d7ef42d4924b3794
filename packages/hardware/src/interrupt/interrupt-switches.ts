/**
 * What the manual leaves open about interrupts, as named choices.
 *
 * AMD 48882 rev 3.10, interrupt remapping. Each default is the reading that public drivers, emulators and logs
 * support best.
 *
 * @packageDocumentation
 */

/** Every choice by name; the first of each list is the default. */
export const interruptSwitchChoices = {
  /**
   * An interrupt table entry, or a guest's backing page, at an address that no memory answers for: which event. A part
   * that met a table address with the encryption bit in it logged ILLEGAL_DEV_TABLE_ENTRY.
   */
  interruptEntryUnreadable: ['dev-tab-hardware-error', 'page-tab-hardware-error', 'illegal-dev-table-entry'],
  /** Addresses of the HyperTransport range in events: bit 39 repeated, as parts log them, or as the request had them. */
  hyperTransportAddress: ['sign-extended', 'as-requested'],
  /** DTE.IntCtl 3: RZ of the ILLEGAL_DEV_TABLE_ENTRY. */
  interruptControlReserved: ['rz-1', 'rz-0'],
  /** DTE.IntTabLen above 11: RZ of the ILLEGAL_DEV_TABLE_ENTRY. */
  interruptTableTooLong: ['rz-0', 'rz-1'],
  /** DTE.IntCtl 0 in the MSI range: whether INVALID_DEVICE_REQUEST is logged, as it is in the HyperTransport range. */
  interruptAbort: ['no-event', 'invalid-device-request'],
  /** DTE.vImuEn while Control.vIommuEn is clear. */
  virtualImuOff: ['reserved', 'ignored'],
  /** DTE.IG: which page faults of interrupts it keeps out of the log. `not-present` are those with PR=0. */
  ignoreUnmapped: ['not-present', 'remap-disabled', 'every-fault'],
  /** IRTE.SupIOPF: which page faults of its interrupts it keeps out of the log. */
  suppressEntryFaults: ['every-fault', 'remap-disabled'],
  /** IRTE.GuestMode while Control.GAMEn does not say guest virtual APIC. `remap` takes the entry as a remapping one. */
  guestModeOff: ['io-page-fault', 'remap'],
  /** IRTE.GAPPIDis, no physical processor interrupt: whether a running guest processor gets its doorbell. */
  physicalInterruptDisabled: ['ignored', 'no-doorbell'],
  /** Destination bits above the lowest eight in a 128-bit entry while Control.XTEn is clear. */
  xapicHighDestination: ['ignored', 'reserved'],
  /** An SMI with a logical destination; kinds with a pass bit in the DTE are aborted then. */
  logicalSmi: ['forward', 'abort'],
  /** DomainID in the event of an interrupt while DTE.V=0, which makes the field count for nothing. */
  domainWithoutValid: ['zero', 'as-stored'],
  /** Whether an entry with RemapEn=0 is cached, so that setting the bit needs an invalidation. */
  disabledEntry: ['cached', 'not-cached'],
} as const

type Lists = typeof interruptSwitchChoices

/** One choice for each name. */
export type InterruptSwitches = { readonly [Name in keyof Lists]: Lists[Name][number] }

export const defaultInterruptSwitches = Object.fromEntries(
  Object.entries(interruptSwitchChoices).map(([name, list]) => [name, list[0]]),
) as InterruptSwitches
