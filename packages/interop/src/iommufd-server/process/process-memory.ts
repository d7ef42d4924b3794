/**
 * The memory of a real process, through `/proc/PID/mem` and `/proc/PID/maps`.
 *
 * Linux proc(5). Reading it needs what ptrace(2) needs: the same user, or root.
 *
 * @packageDocumentation
 */
import { closeSync, openSync } from 'node:fs'
import { pageBytes } from '@nestwalk/iommufd'
import type { AddressSpace, PageSource } from '@nestwalk/iommufd'
import { LockableBytes } from './lockable-bytes.js'
import { MemoryMap } from './memory-map.js'
import type { Mapping } from './memory-map.js'
import { readAll, writeAll } from './move-bytes.js'
import type { PhysicalPages } from './physical-pages.js'
import { ProcessPages } from './process-pages.js'
import type { SharedObjects } from './shared-objects.js'

/** Above all addresses of user memory. */
const userEnd = 1n << 47n

/** What processes share. */
export interface Machine {
  readonly pages: PhysicalPages
  readonly objects: SharedObjects
  /** Number of the request that is served: memory is looked at once for each. */
  readonly moment: number
  /** A process that lives and maps a page of an object, and where. */
  whereMapped(
    object: string,
    page: number,
  ): { readonly memory: ProcessMemory; readonly address: number } | undefined
}

/** See the file's comment. */
export class ProcessMemory implements AddressSpace {
  /** Name of the pages that nobody else has. */
  readonly ownPages: string
  private readonly map: MemoryMap
  private readonly bytes: number
  private readonly limit: LockableBytes
  private lookedAt = -1
  private isAlive = true

  /**
   * @param key - a number that no other memory has or had
   * @throws Error of node:fs where there is no such process, or it may not be looked at
   */
  constructor(
    readonly pid: number,
    readonly key: number,
    readonly machine: Machine,
  ) {
    this.ownPages = `memory ${key}`
    this.limit = new LockableBytes(pid)
    this.map = new MemoryMap(pid)
    try {
      this.bytes = openSync(`/proc/${pid}/mem`, 'r+')
    } catch (error) {
      this.map.close()
      throw error
    }
  }

  /** The process has ended, and this is not asked any more but for pages that are pinned. */
  close(): void {
    this.isAlive = false
    this.map.close()
    this.limit.close()
    closeSync(this.bytes)
  }

  /** Looks at what is mapped now. False: the process has gone, or runs another program. */
  look(): boolean {
    if (this.isAlive && this.lookedAt !== this.machine.moment) {
      this.lookedAt = this.machine.moment
      if (!this.map.refresh()) this.close()
    }
    return this.isAlive
  }

  /** RLIMIT_MEMLOCK. */
  lockableBytes(): bigint {
    return this.limit.soft
  }

  /** The mapping at an address, as of the last look. */
  mappingAt(address: number): Mapping | undefined {
    return this.map.at(address)
  }

  /** Where a page of an object is mapped, as of now. */
  addressOf(object: string, page: number): number | undefined {
    return this.look() ? this.map.addressOf(object, page) : undefined
  }

  read(address: bigint, into: Uint8Array): boolean {
    return (
      into.length === 0 ||
      (this.seemsToAllow(address, into.length, false) && readAll(this.bytes, into, Number(address)))
    )
  }

  write(address: bigint, from: Uint8Array): boolean {
    return (
      from.length === 0 ||
      (this.allows(address, from.length, true) && writeAll(this.bytes, from, Number(address)))
    )
  }

  /** Whether all of a range may be read, or written, now: `/proc/PID/mem` does not care. */
  allows(address: bigint, bytes: number, writes: boolean): boolean {
    return address < userEnd && this.look() && this.map.allows(Number(address), bytes, writes)
  }

  /** Whether it could be at the last look, or can now: for what is harmless if rights were taken away since. */
  seemsToAllow(address: bigint, bytes: number, writes: boolean): boolean {
    if (address >= userEnd) return false
    return (
      (this.isAlive && this.map.allows(Number(address), bytes, writes)) || this.allows(address, bytes, writes)
    )
  }

  /** Reads what lies at an address, whoever may. */
  readAt(address: number, into: Uint8Array): boolean {
    return this.isAlive && readAll(this.bytes, into, address)
  }

  /** Writes to an address, whoever may. */
  writeAt(address: number, from: Uint8Array): boolean {
    return this.isAlive && writeAll(this.bytes, from, address)
  }

  source(address: bigint, pages: number): PageSource {
    const first = address - (address % BigInt(pageBytes))
    // Nothing is mapped at infinity either.
    return new ProcessPages(this, first < userEnd ? Number(first) : Infinity, pages)
  }

  lookUp(address: bigint): { readonly physical: bigint; readonly isHugePage: boolean } | undefined {
    if (address >= userEnd || !this.look()) return undefined
    const at = Number(address)
    const mapping = this.map.at(at)
    if (mapping === undefined) return undefined
    const page = mapping.firstPage + Math.floor((at - mapping.start) / pageBytes)
    const number = this.machine.pages.numberOf(mapping.object ?? this.ownPages, page)
    const physical = BigInt(number) * BigInt(pageBytes) + BigInt(at % pageBytes)
    return { physical, isHugePage: mapping.isHugePage }
  }
}
