/**
 * Interrupt Remapping Table Entry (IRTE): where one interrupt message of a device goes.
 *
 * 32 bits while Control.GAEn is clear, 128 bits for every device once it is set; the long form
 * means one thing for a remapped interrupt and another for one posted to a guest's virtual APIC.
 *
 * @packageDocumentation
 */
import { flag, uint } from '@nestwalk/bits'
import type { Decoded, RecordLayout } from '@nestwalk/bits'
import { gathered, spa } from './fields.js'

const source = 'AMD 48882 rev 3.10, section 2.2.5'

/** RemapEn: the entry is valid. */
const remapEnabled = flag(0)

/** SupIOPF: page faults of this interrupt are not reported. */
const suppressFaults = flag(1)

const remapped = {
  remapEnabled,
  suppressFaults,
  /** IntType: 0 fixed, 1 arbitrated; others are reserved. */
  interruptType: uint(4, 2),
  /** RqEoi: an EOI is wanted. */
  requestEoi: flag(5),
  /** DM: the destination is logical. */
  logicalDestination: flag(6),
  /** GuestMode: clear, the interrupt is remapped; set, it is for a guest's virtual APIC. */
  guestMode: flag(7),
}

/** The short entry. It is 32 bits: bits 63:32 of its quad-word are not part of it. */
export const irte32Layout = {
  name: 'IRTE (32 bits)',
  source,
  wordCount: 1,
  fields: {
    ...remapped,
    /** Destination: an 8-bit APIC identifier. */
    destination: uint(15, 8),
    vector: uint(23, 16),
  },
} as const satisfies RecordLayout

/** The long entry with GuestMode clear. */
export const irte128Layout = {
  name: 'IRTE (128 bits)',
  source,
  wordCount: 2,
  fields: {
    ...remapped,
    /** Destination: its upper 8 bits count with Control.XTEn. Without it only the lowest 8 do. */
    destination: gathered([31, 8, 0], [127, 120, 24]),
    /** For software; Linux keeps the GATag here. */
    softwareAvailable: uint(63, 32),
    vector: uint(71, 64),
  },
} as const satisfies RecordLayout

/** The long entry with GuestMode set. */
export const irteGuestLayout = {
  name: 'IRTE (128 bits, guest mode)',
  source,
  wordCount: 2,
  fields: {
    remapEnabled,
    suppressFaults,
    /** GALogIntr: write a GA log entry if the guest processor is not running. */
    gaLogInterrupt: flag(2),
    /** GAPPIDis: no physical processor interrupt. */
    gaPhysicalInterruptDisabled: flag(5),
    /** IsRun: the guest processor is running at the destination. Never cached. */
    isRunning: flag(6),
    /** GuestMode: set. */
    guestMode: flag(7),
    /** Destination: the physical APIC that runs the guest processor. Never cached. */
    destination: gathered([31, 8, 0], [127, 120, 24]),
    /** GATag: what the GA log shows. */
    gaTag: uint(63, 32),
    vector: uint(71, 64),
    /** Guest virtual APIC table root pointer: the backing page. */
    backingPage: spa([115, 76, 12]),
  },
} as const satisfies RecordLayout

export type Irte32 = Decoded<typeof irte32Layout>
export type Irte128 = Decoded<typeof irte128Layout>
export type IrteGuest = Decoded<typeof irteGuestLayout>
