/**
 * How a call ends: with a value and the driver's effects, or refused with the kernel's errno and the rule behind it.
 *
 * @packageDocumentation
 */
import type { Effect } from '@nestwalk/driver'
import { rules } from './rules/rules.js'
import type { RuleName } from './rules/rules.js'

/** Linux's numbers of the errnos that `/dev/iommu` answers with (x86-64). */
export const errnoNumbers = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EMFILE: 24,
  ENOTTY: 25,
  ENOSPC: 28,
  ESPIPE: 29,
  ERANGE: 34,
  EDEADLK: 35,
  EBADE: 52,
  EOVERFLOW: 75,
  EBADFD: 77,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
} as const

export type Errno = keyof typeof errnoNumbers

/** A call that was refused. Nothing has changed, unless the rule says so. */
export interface Refusal {
  readonly ok: false
  readonly errno: Errno
  /** The rule that was broken: a name of the catalogue, or one of the driver's. */
  readonly rule: string
  /** One sentence for a person, with the numbers of this call. */
  readonly why: string
}

export interface Accepted<T> {
  readonly ok: true
  readonly value: T
  /** What the AMD driver's port and memory still have to be told, in order; empty for other backends. */
  readonly effects: readonly Effect[]
}

export type Outcome<T> = Accepted<T> | Refusal

/** A call that was accepted. */
export const accept = <T>(value: T, effects: readonly Effect[] = []): Accepted<T> => ({
  ok: true,
  value,
  effects,
})

/** A call that breaks a rule of the catalogue, which says the errno. */
export const refuse = (rule: RuleName, why: string): Refusal => ({
  ok: false,
  errno: rules[rule].errno,
  rule,
  why,
})

export const isRefusal = (value: unknown): value is Refusal =>
  typeof value === 'object' && value !== null && 'ok' in value && value.ok === false
