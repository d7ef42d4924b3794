/**
 * The PCI function of an IOMMU.
 *
 * @packageDocumentation
 */
export type { PciIdentity, PciRange } from './config-space.js'
export { PciFunction } from './pci-function.js'
export type { ConfigBytes, PciFunctionOptions } from './pci-function.js'
