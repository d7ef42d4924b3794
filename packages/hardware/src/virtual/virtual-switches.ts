/**
 * What is left open about the hardware vIOMMU, as named choices.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software: the series shows what a driver
 * does, and leaves much of what the hardware does to be guessed.
 *
 * @packageDocumentation
 */

/** Every choice by name; the first of each list is the default. */
export const virtualSwitchChoices = {
  /**
   * A guest's command that names a DeviceID or DomainID without a mapping: once the host's log tells of it, whether the
   * guest's queue halts, or goes on without the command.
   */
  unmappedGuestId: ['halts', 'skipped'],
  /** DomainID in the events of a guest: the lowest of the guest's that is mapped to the host's, or 0. */
  guestEventDomain: ['looked-up', 'zero'],
  /** Events of a guest's devices that go to the guest: those without an SPA in them, or all. */
  guestEvents: ['without-spa', 'every'],
  /**
   * INVALIDATE_INTERRUPT_TABLE and PREFETCH_IOMMU_PAGES of a guest: carried out for the device that the guest's is
   * mapped to, or not legal.
   */
  guestInterruptAndPrefetch: ['mapped', 'illegal'],
  /** INVALIDATE_IOMMU_ALL of a guest: its domains and the entries of its devices, or its domains alone. */
  guestInvalidateAll: ['domains-and-devices', 'domains'],
} as const

type Lists = typeof virtualSwitchChoices

/** One choice for each name. */
export type VirtualSwitches = { readonly [Name in keyof Lists]: Lists[Name][number] }

export const defaultVirtualSwitches = Object.fromEntries(
  Object.entries(virtualSwitchChoices).map(([name, list]) => [name, list[0]]),
) as VirtualSwitches
