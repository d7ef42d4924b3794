/**
 * The IOMMU that a guest sees: a port over guest memory, made of iommufd calls.
 *
 * @packageDocumentation
 */
export { guestFeatures } from './guest-features.js'
export { VirtualIommu } from './viommu.js'
export type { GuestDevice, ViommuOptions, ViommuStep } from './viommu.js'
