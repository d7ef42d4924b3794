/**
 * A QEMU that can be run.
 *
 * @packageDocumentation
 */

/** How to start it: `program`, then `leadingArgs`, then QEMU's own arguments, in an environment with `env` added. */
export interface QemuBinary {
  readonly program: string
  readonly leadingArgs: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** As `--version` says, such as "11.1.3". */
  readonly version: string
}
