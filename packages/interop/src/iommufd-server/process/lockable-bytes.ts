/**
 * How much memory a process may lock: RLIMIT_MEMLOCK, of which nobody but the process is told when it changes.
 *
 * Linux proc(5), `/proc/PID/limits`.
 *
 * @packageDocumentation
 */
import { closeSync, openSync, readSync } from 'node:fs'

/** RLIM_INFINITY. */
const unlimited = (1n << 64n) - 1n

/** See the file's comment. */
export class LockableBytes {
  private file: number | undefined
  private readonly text = Buffer.alloc(4096)

  constructor(private readonly pid: number) {}

  /** The soft limit, as of now; 0 where the process is gone. */
  get soft(): bigint {
    try {
      this.file ??= openSync(`/proc/${this.pid}/limits`, 'r')
      const bytes = readSync(this.file, this.text, 0, this.text.length, 0)
      const text = this.text.toString('latin1', 0, bytes)
      const word = /^Max locked memory\s+(\d+|unlimited)/m.exec(text)?.[1] ?? '0'
      return word === 'unlimited' ? unlimited : BigInt(word)
    } catch {
      return 0n
    }
  }

  close(): void {
    if (this.file !== undefined) closeSync(this.file)
    this.file = undefined
  }
}
