/**
 * The accesses to an IO address space, as it sees them.
 *
 * @packageDocumentation
 */
import type { PinEnvironment } from './pin-environment.js'

export interface AttachedAccess {
  /** What all areas must be aligned to. */
  readonly alignment: bigint
  /** Of the kernel's own: its areas are locked, and it is not told of an unmapping. */
  readonly isInternal: boolean
  /** An area is to be unmapped: it must let go. */
  unmapped(env: PinEnvironment, first: bigint, length: bigint): void
  fork(memo: Map<object, object>): AttachedAccess
}

/** See the file's comment. */
export class AttachedAccesses {
  /** In the order of coming. */
  readonly #accesses: Set<AttachedAccess>

  private constructor(accesses: Iterable<AttachedAccess>) {
    this.#accesses = new Set(accesses)
  }

  static create(): AttachedAccesses {
    return new AttachedAccesses([])
  }

  fork(memo: Map<object, object>): AttachedAccesses {
    return new AttachedAccesses(Array.from(this.#accesses, (access) => access.fork(memo)))
  }

  add(access: AttachedAccess): void {
    this.#accesses.add(access)
  }

  remove(access: AttachedAccess): void {
    this.#accesses.delete(access)
  }

  /** What the strictest needs; 1 with none. */
  get alignment(): bigint {
    let alignment = 1n
    for (const access of this.#accesses) if (access.alignment > alignment) alignment = access.alignment
    return alignment
  }

  /** Tells all that can let go. They may leave meanwhile. */
  tellUnmapped(env: PinEnvironment, first: bigint, length: bigint): void {
    for (const access of [...this.#accesses]) {
      if (!access.isInternal) access.unmapped(env, first, length)
    }
  }
}
