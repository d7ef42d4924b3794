/**
 * What the calls of one context work on.
 *
 * @packageDocumentation
 */
import type { PageFault } from './backend.js'
import type { KernelState } from './kernel-state.js'
import type { ObjectTable } from './object/object-table.js'
import type { ObjectId } from './object/object.js'
import type { Regions } from './viommu/regions.js'

/** See the file's comment. */
export interface ContextState {
  /** Number of the context in its kernel. */
  readonly number: number
  readonly kernel: KernelState
  readonly objects: ObjectTable
  /** Memory that vIOMMUs offer to be mapped. */
  readonly regions: Regions
  /** Page requests of groups whose last one has not come, by DEVICE. */
  readonly partialFaults: Map<ObjectId, readonly PageFault[]>
}
