/**
 * Steps of a process' calls that fail on purpose: the kernel's `fail-nth`.
 *
 * @packageDocumentation
 */

/** See the file's comment. */
export class FailureInjection {
  private readonly armed = new Map<number, number>()
  private process = -1

  /** Whose call is being carried out. */
  enter(process: number): void {
    this.process = process
  }

  /** Lets the `count`-th step from now fail; 0: none. */
  arm(process: number, count: number): void {
    if (count > 0) this.armed.set(process, count)
    else this.armed.delete(process)
  }

  /** How many steps are left up to the one that fails; 0: it has failed, or none is to. */
  left(process: number): number {
    return this.armed.get(process) ?? 0
  }

  /** Asked at each step that may fail. */
  shouldFail(): boolean {
    const left = this.armed.get(this.process)
    if (left === undefined) return false
    this.arm(this.process, left - 1)
    return left === 1
  }
}
