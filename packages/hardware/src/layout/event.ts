/**
 * Events: what the IOMMU reports in its event log. 128 bits each.
 *
 * The code is bits 63:60; bits 59:48 are the flags that the Linux kernel prints as `flags=0x...`.
 *
 * @packageDocumentation
 */
import { decode, encode, flag, uint } from '@nestwalk/bits'
import type { Decoded, RecordLayout } from '@nestwalk/bits'
import { eventLayouts, eventWordCount } from './event-layouts.js'

export type EventKind = keyof typeof eventLayouts

/** The code of each kind. The counter event is decimal ten, whatever older listings print. */
export const eventCodes: Readonly<Record<EventKind, number>> = {
  IllegalDevTableEntry: 0x1,
  IoPageFault: 0x2,
  GuestIoPageFault: 0x2,
  DevTabHardwareError: 0x3,
  PageTabHardwareError: 0x4,
  GuestPageTabHardwareError: 0x4,
  IllegalCommandError: 0x5,
  CommandHardwareError: 0x6,
  IotlbInvTimeout: 0x7,
  InvalidDeviceRequest: 0x8,
  InvalidPprRequest: 0x9,
  EventCounterZero: 0xa,
  GuestEventFault: 0xb,
  ViommuHardwareError: 0xc,
  RmpPageFault: 0xd,
  RmpHardwareError: 0xe,
}

/** A decoded event of kind `K`, or of any kind. */
export type Event<K extends EventKind = EventKind> = {
  [Each in K]: { readonly kind: Each } & Decoded<(typeof eventLayouts)[Each]>
}[K]

/** A code that the manual does not assign; 0 is what an entry not yet written holds. */
export interface UnknownEvent {
  readonly kind: 'Unknown'
  readonly code: number
}

/** An event to encode: its kind and whichever fields are not zero. */
export type EventFields<K extends EventKind = EventKind> = {
  [Each in K]: { readonly kind: Each } & Partial<Omit<Decoded<(typeof eventLayouts)[Each]>, 'code'>>
}[K]

const headLayout = {
  name: 'event',
  source: 'AMD 48882 rev 3.10, section 2.5',
  wordCount: eventWordCount,
  fields: { code: uint(63, 60), flags: uint(59, 48), guestNested: flag(48) },
} as const satisfies RecordLayout

const guestKinds = new Map<EventKind, EventKind>([
  ['IoPageFault', 'GuestIoPageFault'],
  ['PageTabHardwareError', 'GuestPageTabHardwareError'],
])

const guestKindsOnly = new Set(guestKinds.values())

const hostKindByCode = new Map(
  (Object.keys(eventCodes) as EventKind[])
    .filter((kind) => !guestKindsOnly.has(kind))
    .map((kind) => [eventCodes[kind], kind]),
)

/** The kind of an event, or undefined for a code that the manual does not assign. */
export function eventKindOf(words: BigUint64Array): EventKind | undefined {
  const { code, guestNested } = decode(headLayout, words)
  const kind = hostKindByCode.get(code)
  return (guestNested && kind !== undefined ? guestKinds.get(kind) : undefined) ?? kind
}

/** Bits 59:48, as the Linux kernel prints them. Their meaning depends on the kind. */
export const eventFlags = (words: BigUint64Array): number => decode(headLayout, words).flags

/**
 * Decodes an event from its two quad-words. Reserved bits are not looked at: see `reservedBits`
 * with the layout of the kind.
 *
 * @throws RangeError if `words` is not an event's size
 */
export function decodeEvent(words: BigUint64Array): Event | UnknownEvent {
  const kind = eventKindOf(words)
  if (kind === undefined) return { kind: 'Unknown', code: decode(headLayout, words).code }
  const layout: RecordLayout = eventLayouts[kind]
  return { kind, ...decode(layout, words) } as Event
}

/**
 * Encodes an event; the code, and GN where the kind decides it, are filled in.
 *
 * @throws RangeError for a value that does not fit its field
 */
export function encodeEvent({ kind, ...fields }: EventFields): BigUint64Array {
  const layout: RecordLayout = eventLayouts[kind]
  const gn = guestKindsOnly.has(kind) ? { guestNested: true } : {}
  return encode(layout, { ...fields, ...gn, code: eventCodes[kind] })
}
