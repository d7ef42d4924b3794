/**
 * Which modes of interrupt remapping are on: what the control register asks for, as far as the features go.
 *
 * AMD 48882 rev 3.10, Control (MMIO 18h), Extended Feature Register and Extended Feature 2.
 *
 * @packageDocumentation
 */
import type { Features } from '../features.js'
import { controlHi, controlLo } from '../mmio.js'

const guestModeShift = 25 // GAMEn, bits 27:25
const manyShift = 11 // NumIntRemapMode, bits 44:43

/** See the file's comment. All methods take a word of the control register, the low or the high one. */
export class InterruptGates {
  constructor(private readonly features: Features) {}

  /** GAEn: table entries have 128 bits. */
  hasLongEntries(lo: number): boolean {
    return this.features.guestApic && (lo & controlLo.gaEn) !== 0
  }

  /** GAMEn=1, guest virtual APIC mode; only long entries have it. */
  postsToGuests(lo: number): boolean {
    return this.features.guestApicMode && this.hasLongEntries(lo) && ((lo >>> guestModeShift) & 7) === 1
  }

  /** SmiFEn. */
  filtersSmis(lo: number): boolean {
    return this.features.smiFilters !== 0 && (lo & controlLo.smiFilterEn) !== 0
  }

  /** NumIntRemapMode=1: up to 2048 interrupts for each function. */
  hasManyInterrupts(hi: number): boolean {
    return this.features.manyInterrupts && ((hi >>> manyShift) & 3) === 1
  }

  /** XTEn: destinations have 32 bits. */
  hasX2apicDestinations(hi: number): boolean {
    return this.features.x2Apic && (hi & controlHi.xtEn) !== 0
  }

  /** VIommuEn: DTE.vImuEn may be set. */
  takesVirtualImu(hi: number): boolean {
    return this.features.viommu && (hi & controlHi.viommuEn) !== 0
  }

  /** Not IRTCacheDis. */
  caches(hi: number): boolean {
    return (hi & controlHi.interruptCacheOff) === 0
  }
}
