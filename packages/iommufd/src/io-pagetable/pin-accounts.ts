/**
 * Who pays for pinned pages: the counts that `/proc/PID/status` shows, and the limits on them.
 *
 * Linux drivers/iommu/iommufd/pages.c, `do_update_pinned`.
 *
 * @packageDocumentation
 */
import { refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'

/** Who is charged for the pages of one mapping. */
export interface PinCharge {
  /** Key of the address space: its VmPin goes up in any case. */
  readonly mm: number
  readonly uid: number
  /** Whose locked pages are limited: those of all processes of the user, or those of the address space (VmLck). */
  readonly mode: 'user' | 'mm'
  /** RLIMIT_MEMLOCK in pages; `undefined`: the mapping caller had CAP_IPC_LOCK, and nothing is counted as locked. */
  readonly limitPages: bigint | undefined
}

/** All that is pinned and locked on the machine, in pages. */
export class PinAccounts {
  readonly #pinned: Map<number, number>
  readonly #locked: Map<number, number>
  readonly #lockedByUser: Map<number, number>

  private constructor(
    pinned: Map<number, number>,
    locked: Map<number, number>,
    lockedByUser: Map<number, number>,
  ) {
    this.#pinned = pinned
    this.#locked = locked
    this.#lockedByUser = lockedByUser
  }

  static create(): PinAccounts {
    return new PinAccounts(new Map(), new Map(), new Map())
  }

  fork(): PinAccounts {
    return new PinAccounts(new Map(this.#pinned), new Map(this.#locked), new Map(this.#lockedByUser))
  }

  /** VmPin of an address space. */
  pinned(mm: number): number {
    return this.#pinned.get(mm) ?? 0
  }

  /** What iommufd adds to VmLck of an address space. */
  locked(mm: number): number {
    return this.#locked.get(mm) ?? 0
  }

  /** Pages locked by all processes of a user. */
  lockedByUser(uid: number): number {
    return this.#lockedByUser.get(uid) ?? 0
  }

  /** Plain values in a fixed order, for fingerprints. */
  snapshot(): unknown {
    return [this.#pinned, this.#locked, this.#lockedByUser].map((counts) =>
      [...counts].sort(([a], [b]) => a - b),
    )
  }

  /** Adds pages. ENOMEM: more than the limit. */
  charge(charge: PinCharge, pages: number): Refusal | undefined {
    const { mm, uid, mode, limitPages } = charge
    if (limitPages !== undefined) {
      const counts = mode === 'user' ? this.#lockedByUser : this.#locked
      const key = mode === 'user' ? uid : mm
      const locked = (counts.get(key) ?? 0) + pages
      if (BigInt(locked) > limitPages) {
        return refuse('pin-limit', `${locked} pages would be locked, ${limitPages.toString()} may be`)
      }
      put(counts, key, locked)
    }
    put(this.#pinned, mm, this.pinned(mm) + pages)
    return undefined
  }

  /** Takes off what {@link charge} added, all at once or in parts. */
  discharge(charge: PinCharge, pages: number): void {
    const { mm, uid, mode, limitPages } = charge
    if (limitPages !== undefined) {
      const counts = mode === 'user' ? this.#lockedByUser : this.#locked
      const key = mode === 'user' ? uid : mm
      put(counts, key, (counts.get(key) ?? 0) - pages)
    }
    put(this.#pinned, mm, this.pinned(mm) - pages)
  }
}

/** Keys that count nothing are left out, so that equal states look equal. */
function put(counts: Map<number, number>, key: number, pages: number): void {
  if (pages === 0) counts.delete(key)
  else counts.set(key, pages)
}
