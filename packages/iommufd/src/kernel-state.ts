/**
 * What the contexts of one kernel share.
 *
 * @packageDocumentation
 */
import type { IommuBackend } from './backend.js'
import type { Context } from './context.js'
import type { PinEnvironment } from './io-pagetable/pin-environment.js'
import type { ObjectId } from './object/object.js'

/** How the members of a group move. */
export type GroupRule =
  /** As Linux: all members of a group are attached alike, and move together (gap U16). */
  | 'whole-group'
  /** Each member may be attached to a domain of its own, as a guest sees them. */
  | 'per-member'

/** Who owns a group's DMA. */
interface GroupOwner {
  /** Number of the context. */
  readonly context: number
  /** The DEVICEs of the group there, in the order in which they were bound. */
  readonly devices: readonly ObjectId[]
}

/** See the file's comment. */
export interface KernelState extends PinEnvironment {
  readonly backend: IommuBackend
  readonly groupRule: GroupRule
  /** By group. */
  readonly owners: Map<number, GroupOwner>
  /** Open contexts by number. */
  readonly contexts: Map<number, Context>
}
