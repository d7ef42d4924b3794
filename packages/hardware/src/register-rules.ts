/**
 * What each kept register lets software write, and which of them a chip has.
 *
 * AMD 48882 rev 3.10, MMIO registers. A register whose feature is absent reads as zero and ignores writes. Bits not
 * named writable are reserved or read-only.
 *
 * @packageDocumentation
 */
import type { Features } from './features.js'
import { mmio } from './mmio.js'

/** One kept register. */
export interface RegisterRule {
  readonly offset: number
  /** Bits that software may write, low and high word. */
  readonly lo: number
  readonly hi: number
  /** Value at reset: the length of a ring, and Control.Coherent. */
  readonly resetLo: number
  readonly resetHi: number
  /** Whether a chip with these features has it. */
  readonly isThere: (features: Features) => boolean
}

const always = (): boolean => true

const rule = (
  offset: number,
  lo: number,
  hi: number,
  isThere: (features: Features) => boolean = always,
  resetHi = 0,
  resetLo = 0,
): RegisterRule => ({ offset, lo, hi, isThere, resetLo, resetHi })

const pageLo = 0xfffff000 | 0
const addressHi = 0x000fffff
/** Control.Coherent: reads of the device table are snooped. */
const coherent = 1 << 10
/** Length code of a base register after reset: 256 entries. */
const resetLength = 8 << 24

const ring = (offset: number, isThere?: (features: Features) => boolean): RegisterRule =>
  rule(offset, pageLo, 0x0f000000 | addressHi, isThere, resetLength)

const pointer = (offset: number, isThere?: (features: Features) => boolean): RegisterRule =>
  rule(offset, 0x0007fff0, 0, isThere)

const deviceTable = (offset: number, isThere?: (features: Features) => boolean): RegisterRule =>
  rule(offset, pageLo | 0x1ff, addressHi, isThere)

const hasPpr = (features: Features): boolean => features.pageRequests
const hasPprB = (features: Features): boolean => features.pageRequests && features.dualPprLog
const hasEventB = (features: Features): boolean => features.dualEventLog
const hasGa = (features: Features): boolean => features.guestApic
const hasErrors = (features: Features): boolean => features.hardwareErrors
const hasX2Apic = (features: Features): boolean => features.x2Apic
const hasMarc = (features: Features): boolean => features.marc
const hasEarly = (features: Features): boolean => features.pageRequests && features.pprEarlyWarning

/** Every kept register, by offset. Status, Control and the feature registers have rules of their own besides. */
export const registerRules: readonly RegisterRule[] = [
  deviceTable(mmio.deviceTableBase),
  ring(mmio.commandBase),
  ring(mmio.eventBase),
  // Bits 49 and 57 are reserved.
  rule(mmio.control, -1, ~((1 << 17) | (1 << 25)), always, 0, coherent),
  rule(mmio.exclusionBase, pageLo | 3, addressHi),
  rule(mmio.exclusionLimit, pageLo, addressHi),
  ring(mmio.pprBase, hasPpr),
  rule(mmio.hardwareEventUpper, 0, 0, hasErrors),
  rule(mmio.hardwareEventLower, 0, 0, hasErrors),
  rule(mmio.hardwareEventStatus, 0, 0, hasErrors),
  ...Array.from({ length: 16 }, (_, n) =>
    rule(mmio.smiFilter0 + 8 * n, 0x3ffff, 0, (features) => n < features.smiFilters),
  ),
  ring(mmio.gaBase, hasGa),
  rule(mmio.gaTailAddress, ~7, addressHi, hasGa),
  ring(mmio.pprBBase, hasPprB),
  ring(mmio.eventBBase, hasEventB),
  ...[1, 2, 3, 4, 5, 6, 7].map((n) =>
    deviceTable(mmio.deviceTableSegment1 + 8 * (n - 1), (features) => n < 1 << features.segmentsLog2),
  ),
  rule(mmio.deviceSpecificControl, 0xffffff, 0),
  // The low half of this pair is the MSI mapping capability, which the PCI function keeps.
  rule(mmio.performanceOptimization & ~7, 0, 1 << 13, (features) => features.performanceOptimization),
  rule(mmio.x2ApicGeneral, 0xffffff04 | 0, 0xff0001ff | 0, hasX2Apic),
  rule(mmio.x2ApicPpr, 0xffffff04 | 0, 0xff0001ff | 0, hasX2Apic),
  rule(mmio.x2ApicGa, 0xffffff04 | 0, 0xff0001ff | 0, hasX2Apic),
  rule(mmio.viommuStatus, 0, 0, (features) => features.viommu),
  ...[0, 1, 2, 3].flatMap((n) => [
    rule(mmio.marc0 + 24 * n, pageLo, addressHi, hasMarc),
    rule(mmio.marc0 + 24 * n + 8, pageLo | 3, addressHi, hasMarc),
    rule(mmio.marc0 + 24 * n + 16, pageLo, addressHi, hasMarc),
  ]),
  pointer(mmio.commandHead),
  pointer(mmio.commandTail),
  pointer(mmio.eventHead),
  pointer(mmio.eventTail),
  rule(mmio.status, 0, 0),
  pointer(mmio.pprHead, hasPpr),
  pointer(mmio.pprTail, hasPpr),
  rule(mmio.gaHead, 0xfff8, 0, hasGa),
  rule(mmio.gaTail, 0xfff8, 0, hasGa),
  pointer(mmio.pprBHead, hasPprB),
  pointer(mmio.pprBTail, hasPprB),
  pointer(mmio.eventBHead, hasEventB),
  pointer(mmio.eventBTail, hasEventB),
  rule(mmio.pprAutoResponse, 0x1f, 0, (features) => features.pageRequests && features.pprAutoResponse),
  rule(mmio.pprEarly, 0xc0007fff | 0, 0, hasEarly),
  rule(mmio.pprBEarly, 0xc0007fff | 0, 0, (features) => hasEarly(features) && features.dualPprLog),
]

/** Place of a register among {@link registerRules}, by offset / 8; -1 where none is kept. */
export const registerPlaces = placesByOffset()

function placesByOffset(): Int16Array {
  const places = new Int16Array((mmio.pprBEarly >>> 3) + 1).fill(-1)
  registerRules.forEach(({ offset }, place) => {
    places[offset >>> 3] = place
  })
  return places
}

/** Ring bases with the pointers that a write to them clears. */
export const ringPointers: ReadonlyMap<number, readonly [head: number, tail: number]> = new Map([
  [mmio.commandBase, [mmio.commandHead, mmio.commandTail]],
  [mmio.eventBase, [mmio.eventHead, mmio.eventTail]],
  [mmio.eventBBase, [mmio.eventBHead, mmio.eventBTail]],
  [mmio.pprBase, [mmio.pprHead, mmio.pprTail]],
  [mmio.pprBBase, [mmio.pprBHead, mmio.pprBTail]],
  [mmio.gaBase, [mmio.gaHead, mmio.gaTail]],
])
