/**
 * What the manual leaves open, as named choices.
 *
 * Each default is the reading that public drivers and emulators support best; a policy or a driver is right only if
 * it is right under every choice.
 *
 * @packageDocumentation
 */
import { virtualSwitchChoices } from './virtual/virtual-switches.js'
import { interruptSwitchChoices } from './interrupt/interrupt-switches.js'
import {
  badEncoding,
  illegalDeviceEntryLevel,
  illegalDeviceEntryBits,
  notPresent,
  ofAddress,
  reservedBitSet,
} from './walk/fault.js'
import type { Fault } from './walk/fault.js'

/** Every choice by name; the first of each list is the default. */
export const switchChoices = {
  /** DTE.Mode 7, or deeper than EFR.HATS: which event. */
  modeReserved: ['illegal-dev-table-entry', 'io-page-fault'],
  /** GLX 3, or above EFR.GLXSup: RZ of the ILLEGAL_DEV_TABLE_ENTRY. */
  glxReserved: ['rz-0', 'rz-1'],
  /** GuestPagingMode reserved, or not in EFR.GATS: RZ of the ILLEGAL_DEV_TABLE_ENTRY. */
  guestPagingModeReserved: ['rz-0', 'rz-1'],
  /** DTE.HAD=10: RZ of the ILLEGAL_DEV_TABLE_ENTRY, or taken for "no update". */
  hadReserved: ['rz-1', 'rz-0', 'accepted'],
  /** Reserved bits of DTE 255:128 on a memory request. */
  upperHalfOnMemory: ['ignored', 'illegal-dev-table-entry'],
  /** A PASID above what the GCR3 table covers: PR of the IO_PAGE_FAULT, or its upper bits do not count. */
  pasidBeyondGlx: ['pr-0', 'pr-1', 'ignored'],
  /** A request with PASID where DTE.GV=0. */
  pasidWithoutGuestTables: ['fault', 'ignore-pasid'],
  /** A request with PASID where DTE.V=0. */
  pasidWithoutValid: ['forward', 'fault'],
  /** An address above the width of DTE.Mode: PR of the IO_PAGE_FAULT. */
  aboveWidth: ['pr-0', 'pr-1'],
  /** A guest address that is not canonical: PR of the IO_PAGE_FAULT. */
  nonCanonical: ['pr-0', 'pr-1'],
  /** A DeviceID beyond the device table: which event. */
  deviceIdBeyondTable: ['io-page-fault', 'illegal-dev-table-entry'],
  /** A fault in the host table on behalf of a guest walk: what the event names. */
  nestedHostFault: ['gva', 'gpa'],
  /** Pointers inside the GCR3 table with GCR3TRPMode=0. */
  gcr3NextPointer: ['spa', 'gpa'],
  /** GN and US of a guest-table fault of a request without PASID. */
  giovEvent: ['gn-1-us-1', 'gn-1-us-0', 'gn-0'],
  /** GN where DTE.IR or IW refuses a request without PASID under GIoV. */
  giovDteDenied: ['gn-0', 'gn-1'],
  /** Privilege of a request without PASID under GIoV. */
  giovPrivilege: ['user', 'supervisor'],
  /** Supervisor writes to guest pages with R/W=0. */
  supervisorWrite: ['honours-rw', 'ignores-rw'],
  /** Addresses of requests that bring PASID 0. */
  pasid0Tagged: ['zero-extended', 'sign-extended'],
  /** DomainID in the event for TV=0. */
  tv0Domain: ['stored', 'zero'],
  /** DTE.IR and IW for reads of guest and GCR3 tables, and for guest A and D. */
  impliedDteRights: ['with-host-table', 'never', 'always'],
  /** When rights are checked: in each entry, in the leaf, or after the last host walk. */
  rightsOrder: ['each-level', 'leaf', 'last-host-walk'],
  /** Size codes 2^52 and 2^53 in a level-5 host entry. */
  sizeAbove2p51: ['invalid', 'accepted'],
  /** NextLevel 0 at level 4 of a host table: shipped parts get this size wrong. */
  leaf512G: ['page', 'refused'],
  /** Address bits below the size of a large host leaf with NextLevel 0. */
  leafLowBits: ['ignored', 'reserved'],
  /** A host directory whose NextLevel is deeper than EFR.HATS: RZ of the IO_PAGE_FAULT. */
  nextLevelBeyondHats: ['rz-1', 'rz-0'],
  /** When setting guest A and D needs the host's leave to write. */
  guestMarkRights: ['when-changing', 'always', 'never'],
  /** A in host directory entries. */
  hostDirectoryAccessed: ['set', 'leaf-only'],
  /** Requests with PASID to the interrupt range that fault as such: all, or writes. */
  interruptWithPasid: ['all', 'writes'],
  /** Whether the exclusion range is looked at before DTE.TV. */
  exclusionBeforeTv: ['no', 'yes'],
  /** Requests with PASID and the exclusion range. */
  exclusionWithPasid: ['applies', 'ignored'],
  /** An IOTLB hit that lacks the rights: walked again, or a fault from the cached rights. */
  hitWithoutRights: ['rewalk', 'fault'],
  /** GN=1 PDE=1 and the page-walk cache entries of the domain's other PASIDs. */
  directoriesOfOtherPasids: ['kept', 'flushed'],
  /** What GN=0 with an address range drops of a domain's nested entries. */
  hostFlushOfNested: ['all-of-domain', 'by-remembered-gpa'],
  /** A COMPLETION_WAIT store outside the SNP window: which event. */
  storeOutsideWindow: ['command-hardware-error', 'illegal-command-error'],
  /** A PASID in an invalidation with GN=0. */
  strayPasid: ['illegal', 'ignored'],
  /** INVALIDATE_IOTLB_PAGES for a device whose entry has I=0. */
  iotlbInvalidationWithoutAts: ['sent', 'dropped'],
  /** PREFETCH_IOMMU_PAGES. */
  prefetch: ['performed', 'ignored'],
  /** Page faults that a prefetch meets. */
  prefetchFaults: ['silent', 'logged'],
  /** DTE.IR and IW for translated requests. */
  translatedRights: ['checked', 'ignored'],
  /** Whether an ATS answer that allows writing sets D: the IOMMU will not see the writes. */
  atsDirty: ['set', 'left'],
  /** A malformed table met by a translation request. */
  atsMalformed: ['logged', 'silent'],
  /** Address-less HyperTransport ranges (configuration, extended messages): refused without an event, or with one. */
  hyperTransportRest: ['silent', 'logged'],
  ...interruptSwitchChoices,
  ...virtualSwitchChoices,
} as const

type Lists = typeof switchChoices

/** One choice for each name. */
export type SwitchChoices = { readonly [Name in keyof Lists]: Lists[Name][number] }

export const defaultSwitches = Object.fromEntries(
  Object.entries(switchChoices).map(([name, list]) => [name, list[0]]),
) as SwitchChoices

/** The choices as the walks use them: faults and flags rather than words. */
export interface Switches {
  readonly choices: SwitchChoices
  readonly modeReserved: Fault
  readonly glxReserved: Fault
  readonly guestPagingModeReserved: Fault
  readonly hadReserved: Fault
  readonly pasidBeyondGlx: Fault
  readonly aboveWidth: Fault
  readonly nonCanonical: Fault
  readonly deviceIdBeyondTable: Fault
  readonly nextLevelBeyondHats: Fault
}

/**
 * Completes a choice with the defaults.
 *
 * @throws RangeError for a name or a choice that does not exist
 */
export function switches(chosen: Partial<SwitchChoices> = {}): Switches {
  for (const [name, choice] of Object.entries(chosen)) checkChoice(name, choice)
  const choices = { ...defaultSwitches, ...chosen }
  const present = (choice: 'pr-0' | 'pr-1'): Fault =>
    choice === 'pr-0' ? notPresent : badEncoding | ofAddress
  const reserved = (choice: 'rz-0' | 'rz-1'): Fault =>
    choice === 'rz-0' ? illegalDeviceEntryLevel : illegalDeviceEntryBits
  return {
    choices,
    modeReserved: choices.modeReserved === 'io-page-fault' ? badEncoding : illegalDeviceEntryLevel,
    glxReserved: reserved(choices.glxReserved),
    guestPagingModeReserved: reserved(choices.guestPagingModeReserved),
    hadReserved: choices.hadReserved === 'accepted' ? 0 : reserved(choices.hadReserved),
    pasidBeyondGlx: choices.pasidBeyondGlx === 'ignored' ? 0 : present(choices.pasidBeyondGlx),
    aboveWidth: present(choices.aboveWidth),
    nonCanonical: present(choices.nonCanonical),
    deviceIdBeyondTable:
      choices.deviceIdBeyondTable === 'io-page-fault' ? notPresent : illegalDeviceEntryLevel,
    nextLevelBeyondHats: choices.nextLevelBeyondHats === 'rz-1' ? reservedBitSet : badEncoding,
  }
}

function checkChoice(name: string, choice: string): void {
  const lists: Readonly<Record<string, readonly string[]>> = switchChoices
  const list = Object.hasOwn(lists, name) ? lists[name] : undefined
  if (list === undefined) throw new RangeError(`there is no switch ${name}`)
  if (!list.includes(choice))
    throw new RangeError(`switch ${name} is ${choice}: it must be ${list.join(' or ')}`)
}
