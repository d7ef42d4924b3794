/**
 * Shared memory that is kept open while an IOAS has pages of it pinned: it stays when the process that mapped it has gone.
 *
 * `/proc/PID/map_files` needs CAP_CHECKPOINT_RESTORE, which root has. Without it the memory lives as long as somebody else
 * maps it.
 *
 * @packageDocumentation
 */
import { closeSync, openSync } from 'node:fs'
import type { PhysicalPages } from './physical-pages.js'

/** Files that are open, but pinned by nobody: they are likely to be pinned again. */
const mostIdle = 64

/** See the file's comment. */
export class SharedObjects {
  /** Descriptors by object. */
  private readonly files = new Map<string, number>()

  constructor(private readonly pages: PhysicalPages) {}

  /** Pages of an object have been pinned; `path` leads to the object. */
  keep(object: string, path: string): void {
    if (this.files.has(object)) return
    const file = openOrNone(path)
    if (file === undefined) return
    this.files.set(object, file)
    if (this.files.size > mostIdle) this.closeIdle()
  }

  /** A descriptor of the object, if it is kept. */
  file(object: string): number | undefined {
    return this.files.get(object)
  }

  /** Closes what nobody has pinned. */
  closeIdle(): void {
    for (const [object, file] of this.files) {
      if (this.pages.isPinned(object)) continue
      closeSync(file)
      this.files.delete(object)
    }
  }

  /** Closes all. */
  close(): void {
    for (const file of this.files.values()) closeSync(file)
    this.files.clear()
  }
}

function openOrNone(path: string): number | undefined {
  for (const flags of ['r+', 'r']) {
    try {
      return openSync(path, flags)
    } catch {
      // Read-only memory opens for reading; and what cannot be opened at all is not kept.
    }
  }
  return undefined
}
