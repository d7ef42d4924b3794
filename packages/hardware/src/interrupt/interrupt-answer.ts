/**
 * The words in which an interrupt request is answered.
 *
 * @packageDocumentation
 */

/** What became of an interrupt request. */
export const interruptOutcome = {
  /** The message goes on as the device wrote it. */
  forwarded: 0,
  /** Another message goes on in its place. */
  remapped: 1,
  /** The interrupt stands in a guest's virtual APIC. */
  posted: 2,
  /** Nothing goes on. Without an event where the event's second word is 0. */
  aborted: 3,
} as const

/** How a posted interrupt is made known. */
export const notice = {
  none: 0,
  /** A doorbell to the physical APIC in `destination`. */
  doorbell: 1,
  /** An entry for the GA log. */
  gaLog: 2,
} as const

/** Where the table entry came from. */
export const entrySource = { none: 0, memory: 1, cache: 2 } as const

/** Words of {@link InterruptRemapper.result}; those that do not belong to the outcome are 0. */
export const interruptWord = {
  /**
   * The message that goes on, as x86 processors take it. Of a remapped one: address FEE00000h, destination bits 7:0 in
   * 19:12, redirection hint 3, destination mode 2; destination bits 31:8 in the address bits 63:40, as hypervisors pass
   * x2APIC destinations.
   */
  addressLo: 0,
  addressHi: 1,
  /** Vector 7:0, delivery mode 10:8, level 14, trigger mode 15. */
  data: 2,
  /** Of a remapped or posted interrupt. */
  vector: 3,
  /** 0 fixed, 1 arbitrated. */
  deliveryMode: 4,
  /** 1 for a logical destination. */
  destinationMode: 5,
  /** 32 bits; of a posted interrupt the APIC that gets the doorbell. */
  destination: 6,
  /** RqEoi of the entry. */
  requestEoi: 7,
  /** Of a posted interrupt, one of `notice`. */
  notice: 8,
  /** Index in the interrupt table. */
  index: 9,
  /** SPA of the table entry. */
  entryLo: 10,
  entryHi: 11,
  /** One of `entrySource`. */
  source: 12,
  /** Four words: the event. */
  event: 13,
  /** 1 if the event reached the log. */
  logged: 17,
  /** SPA of the word of the backing page that holds the interrupt's request bit. */
  requestLo: 18,
  requestHi: 19,
} as const

export const interruptWords = 20
