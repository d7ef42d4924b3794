/**
 * What is wrong with a recording.
 *
 * @packageDocumentation
 */

/**
 * A recording that cannot be read. The message is one sentence: where, what, why, and what to try.
 *
 * It does not name the file: a snapshot does not know where it came from.
 */
export class RecordingError extends Error {
  override readonly name = 'RecordingError'

  /** @param where - the place in the recording, such as `queries[3].pa` */
  constructor(
    readonly where: string,
    problem: string,
    options?: ErrorOptions,
  ) {
    super(`${where} ${problem}`, options)
  }
}
