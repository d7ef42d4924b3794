/**
 * A context that lives as long as any of the files that use it.
 *
 * @packageDocumentation
 */
import type { Context } from '../context.js'
import type { Kernel } from './kernel.js'

/** See the file's comment. */
export class SharedContext {
  private files = 0

  constructor(
    readonly kernel: Kernel,
    readonly context: Context,
  ) {}

  /** One file more. */
  opened(): void {
    this.files += 1
  }

  /** One file less; with the last one the context goes. */
  closed(): void {
    this.files -= 1
    if (this.files === 0) this.kernel.settle(this.context.close())
  }
}
