/**
 * All calls of `/dev/iommu` by number.
 *
 * Linux drivers/iommu/iommufd/main.c, `iommufd_ioctl_ops`.
 *
 * @packageDocumentation
 */
import { hwptCalls } from './hwpt-calls.js'
import { ioasCalls } from './ioas-calls.js'
import type { Ioctl } from './ioctl.js'
import { objectCalls } from './object-calls.js'
import { viommuCalls } from './viommu-calls.js'

/** Command words: `_IO(';', number)`. */
export const commandBase = 0x3b00

export const firstNumber = 0x80

/** The calls that every kernel has. */
export const ioctls: readonly Ioctl[] = [...objectCalls, ...ioasCalls, ...hwptCalls, ...viommuCalls].sort(
  (a, b) => a.number - b.number,
)
