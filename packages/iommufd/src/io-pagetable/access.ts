/**
 * The kernel's own use of an IO address space.
 *
 * @packageDocumentation
 */
import type { Outcome, Refusal } from '../outcome.js'
import type { PhysicalRun } from '../process.js'
import type { IoPagetable } from './io-pagetable.js'
import type { PinEnvironment } from './pin-environment.js'

/** Who holds an access. Forked along with it, if it can be. */
export interface AccessOwner {
  /** Must let go of all it has pinned in the range: {@link Access.unpin} with what was pinned. */
  unmapped(env: PinEnvironment, first: bigint, length: bigint): void
  fork?(memo: Map<object, object>): AccessOwner
}

export declare class Access {
  static create(request: { needsPages: boolean; isInternal?: boolean; owner?: AccessOwner }): Access
  fork(memo: Map<object, object>): Access
  get table(): IoPagetable | undefined
  attach(table: IoPagetable): Refusal | undefined
  replace(env: PinEnvironment, table: IoPagetable): Refusal | undefined
  detach(env: PinEnvironment): void
  pin(env: PinEnvironment, iova: bigint, length: bigint, writes: boolean): Outcome<readonly PhysicalRun[]>
  unpin(env: PinEnvironment, iova: bigint, length: bigint): void
  /** `process`: key of the caller's memory; `undefined` takes the way through pinned pages. */
  rw(
    env: PinEnvironment,
    process: number | undefined,
    iova: bigint,
    bytes: Uint8Array,
    writes: boolean,
  ): Outcome<undefined>
}
