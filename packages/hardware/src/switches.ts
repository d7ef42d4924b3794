/**
 * What the manual leaves open, as named choices.
 *
 * Each default is the reading that public drivers and emulators support best; a policy or a driver is right only if
 * it is right under every choice.
 *
 * @packageDocumentation
 */
import { badEncoding, illegalDeviceEntryLevel, illegalDeviceEntryBits, notPresent } from './walk/fault.js'
import type { Fault } from './walk/fault.js'

/** The choices by name. */
export interface SwitchChoices {
  /** DTE.Mode 7, or deeper than EFR.HATS: which event. */
  readonly modeReserved: 'illegal-dev-table-entry' | 'io-page-fault'
  /** GLX 3, or above EFR.GLXSup: RZ of the ILLEGAL_DEV_TABLE_ENTRY. */
  readonly glxReserved: 'rz-0' | 'rz-1'
  /** GuestPagingMode reserved, or not in EFR.GATS: RZ of the ILLEGAL_DEV_TABLE_ENTRY. */
  readonly guestPagingModeReserved: 'rz-0' | 'rz-1'
  /** A PASID above what the GCR3 table covers: PR of the IO_PAGE_FAULT. */
  readonly pasidBeyondGlx: 'pr-0' | 'pr-1'
  /** A request with PASID where DTE.GV=0. */
  readonly pasidWithoutGuestTables: 'fault' | 'ignore-pasid'
  /** A request with PASID where DTE.V=0. */
  readonly pasidWithoutValid: 'forward' | 'fault'
  /** An address above the width of DTE.Mode: PR of the IO_PAGE_FAULT. */
  readonly aboveWidth: 'pr-0' | 'pr-1'
  /** A guest address that is not canonical: PR of the IO_PAGE_FAULT. */
  readonly nonCanonical: 'pr-0' | 'pr-1'
  /** A DeviceID beyond the device table: which event. */
  readonly deviceIdBeyondTable: 'io-page-fault' | 'illegal-dev-table-entry'
}

export const defaultSwitches: SwitchChoices = {
  modeReserved: 'illegal-dev-table-entry',
  glxReserved: 'rz-0',
  guestPagingModeReserved: 'rz-0',
  pasidBeyondGlx: 'pr-0',
  pasidWithoutGuestTables: 'fault',
  pasidWithoutValid: 'forward',
  aboveWidth: 'pr-0',
  nonCanonical: 'pr-0',
  deviceIdBeyondTable: 'io-page-fault',
}

/** The choices as the walks use them: each the fault that it stands for. */
export interface Switches {
  readonly choices: SwitchChoices
  readonly modeReserved: Fault
  readonly glxReserved: Fault
  readonly guestPagingModeReserved: Fault
  readonly pasidBeyondGlx: Fault
  readonly aboveWidth: Fault
  readonly nonCanonical: Fault
  readonly deviceIdBeyondTable: Fault
}

/** Completes a choice with the defaults. */
export function switches(chosen: Partial<SwitchChoices> = {}): Switches {
  const choices = { ...defaultSwitches, ...chosen }
  const present = (choice: 'pr-0' | 'pr-1'): Fault => (choice === 'pr-0' ? notPresent : badEncoding)
  const reserved = (choice: 'rz-0' | 'rz-1'): Fault =>
    choice === 'rz-0' ? illegalDeviceEntryLevel : illegalDeviceEntryBits
  return {
    choices,
    modeReserved: choices.modeReserved === 'io-page-fault' ? badEncoding : illegalDeviceEntryLevel,
    glxReserved: reserved(choices.glxReserved),
    guestPagingModeReserved: reserved(choices.guestPagingModeReserved),
    pasidBeyondGlx: present(choices.pasidBeyondGlx),
    aboveWidth: present(choices.aboveWidth),
    nonCanonical: present(choices.nonCanonical),
    deviceIdBeyondTable:
      choices.deviceIdBeyondTable === 'io-page-fault' ? notPresent : illegalDeviceEntryLevel,
  }
}
