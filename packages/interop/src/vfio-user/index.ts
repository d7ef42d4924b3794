/**
 * vfio-user: PCI functions served to a VMM over a unix socket.
 *
 * @packageDocumentation
 */
export { vfioRegion, vfioRegionCount } from './function.js'
export type { DmaRegion, VfioRegion, VfioUserClient, VfioUserFunction } from './function.js'
export { serveVfioUser } from './server.js'
export type { VfioUserServer, VfioUserServerOptions } from './server.js'
