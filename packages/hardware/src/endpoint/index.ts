/**
 * Devices below an IOMMU, for whom it translates: well-behaved ones and others.
 *
 * @packageDocumentation
 */
export type { AtcEntry, AtcOwner } from './atc.js'
export { decodeCompletion, encodeCompletion } from './completion.js'
export type { Completion } from './completion.js'
export type { DmaAnswer, DmaRequest, Upstream } from './dma.js'
export { Endpoint } from './endpoint.js'
export type { PageRequestStatus } from './endpoint.js'
export { deliver } from './fabric.js'
export type { Delivery } from './fabric.js'
export { misbehaviours, untaggedInvalidations } from './options.js'
export type { EndpointOptions, Misbehaviour } from './options.js'
