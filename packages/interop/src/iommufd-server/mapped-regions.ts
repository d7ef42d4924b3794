/**
 * Which regions of the kernel's memory programs have mapped.
 *
 * @packageDocumentation
 */
import type { OpenFile, Region } from '@nestwalk/iommufd'
import type { FileTable } from './file-table.js'
import { RegionFile } from './region-file.js'

interface Mapping {
  readonly file: OpenFile
  readonly handle: bigint
  readonly memory: RegionFile
}

/** See the file's comment. */
export class MappedRegions {
  private readonly memories = new Map<Region, RegionFile>()
  private readonly mappings = new Map<bigint, Mapping>()
  private nextNumber = 1n

  constructor(private readonly files: FileTable) {}

  /** A region is mapped through a file, which stays open as long; returns the mapping's number and what to map. */
  map(handle: bigint, file: OpenFile, region: Region): { readonly number: bigint; readonly path: string } {
    let memory = this.memories.get(region)
    if (memory === undefined) {
      memory = new RegionFile(region)
      this.memories.set(region, memory)
    }
    memory.mappings++
    this.files.attach(handle)
    const number = this.nextNumber++
    this.mappings.set(number, { file, handle, memory })
    return { number, path: memory.path }
  }

  /** A mapping is gone. False: there was none of that number. */
  unmap(number: bigint): boolean {
    const mapping = this.mappings.get(number)
    if (mapping === undefined) return false
    this.mappings.delete(number)
    const { file, handle, memory } = mapping
    memory.mappings--
    if (memory.mappings === 0) {
      memory.fetch()
      memory.close()
      this.memories.delete(memory.region)
    }
    file.munmap(memory.region)
    this.files.detach(handle)
    return true
  }

  /** Before a request: what programs have written is taken over. */
  fetch(): void {
    for (const memory of this.memories.values()) memory.fetch()
  }

  /** After a request: what the kernel has written is shown. */
  show(): void {
    for (const memory of this.memories.values()) memory.show()
  }
}
