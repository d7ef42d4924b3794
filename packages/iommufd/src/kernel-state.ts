/**
 * What the contexts of one kernel share.
 *
 * @packageDocumentation
 */
import type { IommuBackend } from './backend.js'
import type { Context } from './context.js'
import type { PinEnvironment } from './io-pagetable/pin-environment.js'

/** How the members of a group move. */
export type GroupRule =
  /** As Linux: all members of a group are attached alike, and move together (gap U16). */
  | 'whole-group'
  /** Each member may be attached to a domain of its own, as a guest sees them. */
  | 'per-member'

/** See the file's comment. */
export interface KernelState extends PinEnvironment {
  readonly backend: IommuBackend
  readonly groupRule: GroupRule
  /** Number of the context that owns a group's DMA, by group. */
  readonly owners: Map<number, number>
  /** Open contexts by number. */
  readonly contexts: Map<number, Context>
}
