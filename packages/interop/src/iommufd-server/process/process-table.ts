/**
 * The processes that use the server, and what they share.
 *
 * @packageDocumentation
 */
import { statSync } from 'node:fs'
import { ForeignFiles } from './foreign-file.js'
import { PhysicalPages } from './physical-pages.js'
import { ProcessMemory } from './process-memory.js'
import type { Machine } from './process-memory.js'
import { SharedObjects } from './shared-objects.js'

/** See the file's comment. */
export class ProcessTable implements Machine {
  readonly pages = new PhysicalPages()
  readonly objects = new SharedObjects(this.pages)
  readonly files = new ForeignFiles(this.pages)
  moment = 0
  /** By process number: the last that had it. */
  private readonly memories = new Map<number, ProcessMemory>()
  private nextKey = 1

  /**
   * The memory of a process; of the program that it runs now.
   *
   * @returns `undefined` where there is no such process, or it may not be looked at
   */
  memoryOf(pid: number): ProcessMemory | undefined {
    const known = this.memories.get(pid)
    if (known?.look() === true) return known
    this.memories.delete(pid)
    try {
      const memory = new ProcessMemory(pid, this.nextKey, this)
      this.nextKey++
      this.memories.set(pid, memory)
      return memory
    } catch {
      return undefined
    }
  }

  /** The memory of a process that has used the server, if it lives. */
  knownMemoryOf(pid: number): ProcessMemory | undefined {
    const known = this.memories.get(pid)
    return known?.look() === true ? known : undefined
  }

  /** Who owns a process; `undefined`: there is none. */
  ownerOf(pid: number): number | undefined {
    try {
      return statSync(`/proc/${pid}`).uid
    } catch {
      return undefined
    }
  }

  /** A connection of a process has ended: lets go of what has ended with it. */
  forgetEnded(): void {
    this.moment++
    for (const [pid, memory] of this.memories) if (!memory.look()) this.memories.delete(pid)
    this.objects.closeIdle()
  }

  whereMapped(
    object: string,
    page: number,
  ): { readonly memory: ProcessMemory; readonly address: number } | undefined {
    for (const memory of this.memories.values()) {
      const address = memory.addressOf(object, page)
      if (address !== undefined) return { memory, address }
    }
    return undefined
  }

  /** Closes all that is open. */
  close(): void {
    for (const memory of this.memories.values()) if (memory.look()) memory.close()
    this.memories.clear()
    this.objects.close()
  }
}
