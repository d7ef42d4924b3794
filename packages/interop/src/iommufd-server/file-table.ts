/**
 * Open files by handle, and who holds them.
 *
 * @packageDocumentation
 */
import type { OpenFile } from '@nestwalk/iommufd'

interface Entry {
  readonly file: OpenFile
  /** Connections that stand for it. */
  connections: number
}

/** See the file's comment. */
export class FileTable {
  private readonly entries = new Map<bigint, Entry>()
  private nextHandle = 1n

  /** Enters a file, which nothing stands for yet. */
  add(file: OpenFile): bigint {
    const handle = this.nextHandle++
    this.entries.set(handle, { file, connections: 0 })
    return handle
  }

  find(handle: bigint): OpenFile | undefined {
    return this.entries.get(handle)?.file
  }

  /** A connection stands for the file from now on. False: there is no such file. */
  attach(handle: bigint): boolean {
    const entry = this.entries.get(handle)
    if (entry === undefined) return false
    entry.connections++
    return true
  }

  /** A connection has ended; with the last one the file is closed. */
  detach(handle: bigint): void {
    const entry = this.entries.get(handle)
    if (entry === undefined) return
    entry.connections--
    if (entry.connections === 0) this.close(handle, entry)
  }

  /** Closes a file that nothing came to stand for. */
  dropUnattached(handle: bigint): void {
    const entry = this.entries.get(handle)
    if (entry?.connections === 0) this.close(handle, entry)
  }

  closeAll(): void {
    for (const [handle, entry] of this.entries) this.close(handle, entry)
  }

  private close(handle: bigint, { file }: Entry): void {
    this.entries.delete(handle)
    file.close()
  }
}
