/**
 * An interrupt remapping table entry as raw words: the short form of 32 bits, the long one of 128.
 *
 * AMD 48882 rev 3.10, interrupt remapping tables. All functions take the entry's four words; of the short form only the
 * first counts.
 *
 * @packageDocumentation
 */
import type { InterruptSwitches } from './interrupt-switches.js'

/** Bits of the first word. */
export const remapEnabled = 1 << 0
export const suppressFaults = 1 << 1
/** In guest mode; elsewhere the bit belongs to IntType. */
export const gaLogInterrupt = 1 << 2
/** RqEoi, or GAPPIDis in guest mode. */
export const requestEoi = 1 << 5
export const physicalInterruptDisabled = 1 << 5
/** DM, or IsRun in guest mode. */
export const logicalDestination = 1 << 6
export const isRunning = 1 << 6
export const guestMode = 1 << 7

/** What of a guest-mode entry is never cached: Destination and IsRun, as masks of the first and the last word. */
export const uncachedFirst = 0xffffff40 | 0
export const uncachedLast = 0xff000000 | 0

/** What an entry means, or that there is none. */
export const meaning = {
  /** The index is beyond the table. */
  beyond: 0,
  /** RemapEn=0. */
  disabled: 1,
  /** A reserved bit, a reserved IntType, or a mode that is not on. */
  malformed: 2,
  /** The interrupt is remapped. */
  remaps: 3,
  /** The interrupt is posted to a guest's virtual APIC. */
  posts: 4,
} as const

/** How entries are to be read. */
export interface EntryForm {
  /** 128 bits. */
  isLong: boolean
  /** Destinations have 32 bits. */
  isX2apic: boolean
  /** Guest mode is on. */
  postsToGuests: boolean
}

/** What an entry means: one of {@link meaning} but `beyond`. */
export function meaningOf(entry: Int32Array, form: EntryForm, switches: InterruptSwitches): number {
  const first = entry[0]!
  if ((first & remapEnabled) === 0) return meaning.disabled
  const isHigh = form.isLong && !form.isX2apic && hasHighDestination(entry)
  if (isHigh && switches.xapicHighDestination === 'reserved') return meaning.malformed
  if ((first & guestMode) !== 0) {
    if (form.postsToGuests) return isGuestMalformed(entry) ? meaning.malformed : meaning.posts
    if (switches.guestModeOff === 'io-page-fault') return meaning.malformed
  }
  return isRemapMalformed(entry, form.isLong) ? meaning.malformed : meaning.remaps
}

/** IntType of fixed interrupts is 0, of arbitrated ones 1; the others are reserved. */
export const interruptType = (entry: Int32Array): number => (entry[0]! >>> 2) & 7

export const vectorOf = (entry: Int32Array, { isLong }: EntryForm): number =>
  isLong ? entry[2]! & 0xff : (entry[0]! >>> 16) & 0xff

/** Destination: 32 bits with x2APIC destinations, otherwise 8. */
export const destinationOf = (entry: Int32Array, { isX2apic }: EntryForm): number =>
  isX2apic ? (entry[0]! >>> 8) | (entry[3]! & uncachedLast) : (entry[0]! >>> 8) & 0xff

const hasHighDestination = (entry: Int32Array): boolean =>
  (entry[0]! & 0xffff0000) !== 0 || (entry[3]! & uncachedLast) !== 0

function isRemapMalformed(entry: Int32Array, isLong: boolean): boolean {
  if (interruptType(entry) > 1) return true
  if (!isLong) return (entry[0]! & 0xff000000) !== 0
  return (entry[2]! & 0xffffff00) !== 0 || (entry[3]! & 0x00ffffff) !== 0
}

const isGuestMalformed = (entry: Int32Array): boolean =>
  (entry[0]! & 0x18) !== 0 || (entry[2]! & 0xf00) !== 0 || (entry[3]! & 0x00f00000) !== 0

/** Interrupt request register of a virtual APIC's backing page: 256 bits, 32 at each multiple of 16 bytes. */
const interruptRequestOffset = 0x200

/** SPA of the request word for a guest-mode entry's vector, low word. */
export const requestWordLo = (entry: Int32Array): number =>
  (entry[2]! & 0xfffff000) | (interruptRequestOffset + ((entry[2]! & 0xe0) >>> 1))

export const requestWordHi = (entry: Int32Array): number => entry[3]! & 0xfffff
