/**
 * `/dev/iommu` for unmodified programs: a server, and the library that sends their calls to it.
 *
 * @packageDocumentation
 */
export type { RefusedCall } from './client.js'
export { serveIommufd } from './server.js'
export type { IommufdServer, IommufdServerOptions } from './server.js'
export { buildShim, shimEnvironment } from './shim.js'
export type { ShimOptions } from './shim.js'
