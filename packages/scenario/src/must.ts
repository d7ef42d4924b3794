/**
 * For operations that a scenario cannot go on without.
 *
 * @packageDocumentation
 */
import type { Outcome } from '@nestwalk/iommufd'

/** A scenario asked for something that the kernel refuses. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError'
}

/** The value of an accepted operation. RefusedError with errno and rule for a refused one. */
export function must<T>(outcome: Outcome<T>): T {
  if (outcome.ok) return outcome.value
  throw new RefusedError(`${outcome.errno} (${outcome.rule}): ${outcome.why}`)
}
