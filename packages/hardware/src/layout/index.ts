/**
 * The bit layouts of every structure, command, event and register of the AMD IOMMU.
 *
 * @packageDocumentation
 */
export * from './all-layouts.js'
export * from './command.js'
export * from './control.js'
export * from './counter-layouts.js'
export * from './device-id.js'
export * from './domain-id.js'
export * from './dte.js'
export * from './event.js'
export * from './event-layouts.js'
export * from './features.js'
export * from './ga.js'
export * from './gcr3.js'
export * from './guest-pte.js'
export * from './host-pte.js'
export * from './irte.js'
export * from './pasid.js'
export * from './ppr.js'
export * from './register-layouts.js'
export * from './registers.js'
export * from './size-code.js'
