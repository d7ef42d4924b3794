/**
 * Where QEMU 11.1's amd-iommu is known not to do what the manual says: the agreed differences.
 *
 * Each was found by running QEMU and by reading hw/i386/amd_iommu.c. They are facts about QEMU, carried out by
 * `reading/known-qemu.ts`: a difference counts as agreed only if our chip does exactly what the manual says, and QEMU
 * exactly what is written here.
 *
 * @packageDocumentation
 */

/** What hardware does, and what QEMU does instead. One sentence each. */
export interface AgreedDifference {
  readonly hardware: string
  readonly qemu: string
}

export const agreedDifferences = {
  // Device table.
  'table-size-ignored': {
    hardware: 'A DeviceID beyond the table is refused.',
    qemu: 'The entry is read wherever it would lie.',
  },
  'gated-bits-ignored': {
    hardware: 'Bits of absent or disabled features, and HAD=10, are reserved.',
    qemu: 'They are not looked at.',
  },
  'guest-levels-ignored': {
    hardware: 'GLX and GuestPagingMode beyond the features are illegal with GV=1.',
    qemu: 'They are not looked at.',
  },
  'more-bits-reserved': {
    hardware: 'Reserved bits count in DTE 127:0 with V=1; 255:128 is for interrupts.',
    qemu: 'They count in all of the entry, and with V=0 too.',
  },
  'tv-0-silent': {
    hardware: 'TV=0 is refused with an event.',
    qemu: 'It is refused without one.',
  },
  'mode-7-silent': {
    hardware: 'Mode 7 is ILLEGAL_DEV_TABLE_ENTRY.',
    qemu: 'It is refused without an event.',
  },
  'mode-0-without-checks': {
    hardware: 'Mode 0 honours IR and IW, and logs.',
    qemu: 'DMA passes unchecked once the entry is invalidated; else no event tells.',
  },
  'suppression-ignored': {
    hardware: 'SA and SE suppress page fault events.',
    qemu: 'They are not looked at.',
  },
  'exclusion-ignored': {
    hardware: 'Addresses in the exclusion range pass.',
    qemu: 'There is no range; the base register is not even stored.',
  },
  'passes-until-invalidated': {
    hardware: 'The device table entry in memory decides from the first request on.',
    qemu: 'Whether a device translates is decided by INVALIDATE_DEVTAB_ENTRY.',
  },
  // Walks.
  'skipped-bits-unchecked': {
    hardware: 'Address bits of a skipped level have to be 0.',
    qemu: 'They are not looked at.',
  },
  'rights-of-last-entry': {
    hardware: 'Rights are ANDed from the DTE to the leaf, and checked at each level.',
    qemu: 'Those of the last entry count; it stops where neither right is left.',
  },
  'reserved-entry-bits': {
    hardware: 'Reserved bits of a table entry refuse.',
    qemu: 'They are not looked at.',
  },
  'leaf-sizes-unchecked': {
    hardware: 'A leaf has to be of a size of its level; level 6 has none.',
    qemu: 'Any size is taken at any level.',
  },
  'unreadable-entry-twice': {
    hardware: 'A table entry that cannot be read is a PAGE_TAB_HARDWARE_ERROR.',
    qemu: 'A page fault is logged after it.',
  },
  // Cached translations.
  'hit-refuses-silently': {
    hardware: 'A right that a cached page lacks leads to a walk, and an event.',
    qemu: 'It refuses without a walk or an event.',
  },
  'not-invalidated': {
    hardware: 'After an edit without full invalidation old and new may answer.',
    qemu: 'It keeps translations by DeviceID, and no device table entries.',
  },
  'domain-of-two-tables': {
    hardware: 'Devices with one DomainID and different tables share what is cached.',
    qemu: 'Translations are kept by DeviceID.',
  },
  'unequal-copies': {
    hardware: 'Unequal entries of one large page: any of them may answer for all.',
    qemu: 'The entry of the address answers.',
  },
  'kept-by-device': {
    hardware: 'A device table entry read anew, with another DomainID, has no old pages.',
    qemu: 'The device’s pages stay until their DomainID is invalidated.',
  },
  // Events.
  'event-operands': {
    hardware: 'Events have the address, the DomainID and the flags of the request.',
    qemu: 'The address is 0, there is no DomainID, and the flags are its own.',
  },
  'event-without-bus': {
    hardware: 'Events name the bus.',
    qemu: 'Page faults and unreadable table entries are logged with bus 0.',
  },
  'event-for-each-word': {
    hardware: 'A refused request is one event.',
    qemu: 'It is one for each 4 bytes.',
  },
  'invalidation-reads-entry': {
    hardware: 'INVALIDATE_DEVTAB_ENTRY does not read the entry.',
    qemu: 'It does, and logs what is wrong with it.',
  },
  'log-status-by-interrupt': {
    hardware: 'EventLogInt and EventOverflow are set whatever EventIntEn is.',
    qemu: 'They are set with EventIntEn only.',
  },
  'log-runs-when-full': {
    hardware: 'A log that overflows stops: EventLogRun is 0, and nothing is logged.',
    qemu: 'EventLogRun stays 1; without EventIntEn it goes on as there is room.',
  },
  // Commands.
  'illegal-command-continues': {
    hardware: 'An illegal command halts the queue with the head on it.',
    qemu: 'It is logged, carried out where it can be, and passed.',
  },
  'command-bits-unchecked': {
    hardware: 'PASID without GN, Type without its feature, tag bits 11:9: illegal.',
    qemu: 'They are not looked at.',
  },
  'store-failure-ignored': {
    hardware: 'A completion store that fails is a COMMAND_HARDWARE_ERROR.',
    qemu: 'Nothing tells of it.',
  },
  'fetch-failure-continues': {
    hardware: 'A command that cannot be fetched halts the queue.',
    qemu: 'It is logged and passed.',
  },
  // Registers.
  'reserved-register-bits': {
    hardware: 'Reserved bits of registers read as 0.',
    qemu: 'They keep what was written.',
  },
  'bases-keep-pointers': {
    hardware: 'A write to a ring’s base clears its head and tail.',
    qemu: 'Those of the command buffer and the PPR log still read as before.',
  },
} as const satisfies Record<string, AgreedDifference>

export type Departure = keyof typeof agreedDifferences

/** What cases do not have, and why: nothing can be compared there. */
export const notGenerated: readonly string[] = [
  'The interrupt range FEEx_xxxx: no processor runs to take interrupts.',
  'The HyperTransport hole: QEMU takes it for memory.',
  'Requests with PASID, ATS, PRI: QEMU has no device that makes them.',
  'Guest tables: QEMU announces GTSup and walks host tables only.',
  'Base registers written while their queue runs: undefined.',
  'Ring lengths below 8: reserved.',
  'DMA to tables, rings and QEMU’s other devices; tables in firmware.',
]
