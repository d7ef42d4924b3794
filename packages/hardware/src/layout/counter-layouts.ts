/**
 * The bit positions of the performance counter registers.
 *
 * @packageDocumentation
 */
import { flag, uint, uint64 } from '@nestwalk/bits'
import type { RecordLayout } from '@nestwalk/bits'

const source = 'AMD 48882 rev 3.10, chapter 3'
const wordCount = 1

/** Counter Configuration. */
export const counterConfigurationLayout = {
  name: 'Counter Configuration',
  source,
  wordCount,
  fields: {
    /** NCounter: counters per bank. */
    counters: uint(10, 7),
    /** NCounterBanks. */
    banks: uint(17, 12),
  },
} as const satisfies RecordLayout

/** A counter's count. */
export const counterLayout = {
  name: 'Counter',
  source,
  wordCount,
  fields: { count: uint64(47, 0) },
} as const satisfies RecordLayout

/** What a counter counts. */
export const counterSourceLayout = {
  name: 'Counter Source',
  source,
  wordCount,
  fields: {
    /** CSource. */
    event: uint(7, 0),
    /** CAC: count all. */
    countAll: flag(31),
  },
} as const satisfies RecordLayout

/** Which PASID, DomainID or DeviceID a counter is limited to. The value's width depends on which. */
export const counterMatchLayout = {
  name: 'Counter Match',
  source,
  wordCount,
  fields: { value: uint(30, 0), enabled: flag(31), mask: uint(63, 32) },
} as const satisfies RecordLayout

/** What a counter reports when it wraps; CERE has one public source. */
export const counterReportLayout = {
  name: 'Counter Report',
  source,
  wordCount,
  fields: {
    /** EventNote. */
    eventNote: uint(31, 0),
    /** CERE: report with an event. */
    eventEnabled: flag(63),
  },
} as const satisfies RecordLayout

/** The registers of one counter and their offsets in its 256 bytes. */
export const counterRegisters = {
  count: { offset: 0x00, layout: counterLayout },
  source: { offset: 0x08, layout: counterSourceLayout },
  pasidMatch: { offset: 0x10, layout: counterMatchLayout },
  domainMatch: { offset: 0x18, layout: counterMatchLayout },
  deviceMatch: { offset: 0x20, layout: counterMatchLayout },
  report: { offset: 0x28, layout: counterReportLayout },
} as const

/** The MMIO offset of a counter's 256 bytes. */
export const counterOffset = (bank: number, counter: number): number =>
  0x40000 + (bank << 12) + (counter << 8)
