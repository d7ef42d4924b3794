/**
 * How an operation of the driver ends: with effects to carry out, or refused with the kernel's errno.
 *
 * @packageDocumentation
 */
import type { Effect } from './effect.js'

/** The errnos that the kernel's IOMMU code answers with. */
export type Errno =
  | 'EPERM'
  | 'ENOENT'
  | 'EIO'
  | 'E2BIG'
  | 'ENOMEM'
  | 'EFAULT'
  | 'EBUSY'
  | 'EEXIST'
  | 'ENODEV'
  | 'EINVAL'
  | 'ENOSPC'
  | 'EOVERFLOW'
  | 'EOPNOTSUPP'
  | 'EADDRINUSE'

/** An operation that was refused. Nothing has changed. */
export interface Refusal {
  readonly ok: false
  readonly errno: Errno
  /** The rule that was broken, in kebab case; the same for every call that has it. */
  readonly rule: string
  /** One sentence for a person. */
  readonly why: string
}

/**
 * An operation that was accepted. The driver's books are already up to date; memory and the chip follow when the
 * effects are carried out, in order.
 */
export interface Accepted<T> {
  readonly ok: true
  readonly value: T
  readonly effects: readonly Effect[]
}

export type Outcome<T> = Accepted<T> | Refusal

/** An accepted operation. */
export const accept = <T>(value: T, effects: readonly Effect[] = []): Accepted<T> => ({
  ok: true,
  value,
  effects,
})

/** A refused operation. */
export const refuse = (errno: Errno, rule: string, why: string): Refusal => ({ ok: false, errno, rule, why })

/** A promise of ours was broken: a bug in nestwalk, never in its caller. */
export class InternalError extends Error {
  override readonly name = 'InternalError'
}
