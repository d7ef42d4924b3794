/**
 * Where a command writes, and how it ends.
 *
 * @packageDocumentation
 */

/** Results go to `stdout`, progress and complaints to `stderr`. */
export interface Output {
  stdout(text: string): void
  stderr(text: string): void
  /** Whether somebody watches stdout: only then there is colour. */
  readonly isStdoutTerminal?: boolean
  /** Whether somebody watches stderr: only then progress is shown there. */
  readonly isStderrTerminal?: boolean
}

/** Exit codes of every command. */
export const exitCode = {
  /** Yes, or done. */
  yes: 0,
  /** The answer is no: a violation, a mismatch. */
  no: 1,
  wrongUsage: 2,
  unreadableInput: 3,
} as const

/** What was asked for cannot be: one sentence that says what, and what can. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}
