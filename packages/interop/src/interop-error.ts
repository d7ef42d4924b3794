/**
 * What keeps a run with real software from going on.
 *
 * @packageDocumentation
 */

/** One sentence: what is missing or went wrong, and the cure. To be shown to the user as it is. */
export class InteropError extends Error {
  override readonly name = 'InteropError'
}
