/**
 * A bound device as its driver knows it.
 *
 * @packageDocumentation
 */
import { InternalError } from '@nestwalk/driver'
import type { BackendDevice } from '../backend.js'
import type { KernelState } from '../kernel-state.js'
import type { BoundDevice } from '../object/object.js'

/** What the backend says of a bound device. */
export function backendDevice({ backend }: KernelState, { deviceId }: BoundDevice): BackendDevice {
  const device = backend.device(deviceId)
  if (device === undefined) throw new InternalError(`device ${deviceId} is bound, but the driver lost it`)
  return device
}
