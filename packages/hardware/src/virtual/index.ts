/**
 * The hardware vIOMMU.
 *
 * Rests on AMD's posted kernel series for the hardware vIOMMU, not on shipped software.
 *
 * @packageDocumentation
 */
export { VirtualIommus } from './virtual-iommus.js'
export type { GuestInterrupt, VirtualIommuParts } from './virtual-iommus.js'
export * from './virtual-layouts.js'
export { VirtualState } from './virtual-state.js'
export type { VirtualOptions } from './virtual-state.js'
export { defaultVirtualSwitches, virtualSwitchChoices } from './virtual-switches.js'
export type { VirtualSwitches } from './virtual-switches.js'
