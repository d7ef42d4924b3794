/**
 * What makes an IVRS table unreadable.
 *
 * @packageDocumentation
 */

/** A table that cannot be read. The message says where, what, and what to try. */
export class IvrsError extends Error {
  override readonly name = 'IvrsError'

  /** @param offset - in bytes from the start of the table */
  constructor(
    readonly offset: number,
    problem: string,
    advice: string,
  ) {
    super(`byte ${offset}: ${problem}; ${advice}`)
  }
}
