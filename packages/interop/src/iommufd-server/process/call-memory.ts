/**
 * The caller's memory during one call.
 *
 * What lies at the call's argument came with the call. Small writes go back with the result: the caller puts them into its
 * memory itself, under its own rights. That saves most calls any look at the process.
 *
 * @packageDocumentation
 */
import type { AddressSpace, PageSource } from '@nestwalk/iommufd'
import type { MemoryWrite } from '../result.js'
import type { ProcessMemory } from './process-memory.js'

/** Writes up to this size go back with the result, as long as there are not too many. */
const mostBytes = 4096
const mostWrites = 64

/** See the file's comment. */
export class CallMemory implements AddressSpace {
  private pending: MemoryWrite[] = []

  /**
   * @param argument - the call's argument
   * @param bytes - what lies there, as far as it came
   */
  constructor(
    private readonly memory: ProcessMemory,
    private readonly argument: bigint,
    private readonly bytes: Uint8Array,
  ) {}

  get key(): number {
    return this.memory.key
  }

  /** What is to be written with the result. */
  get writes(): readonly MemoryWrite[] {
    return this.pending
  }

  read(address: bigint, into: Uint8Array): boolean {
    const offset = address - this.argument
    const { length } = this.bytes
    if (offset >= 0n && offset + BigInt(into.length) <= BigInt(length)) {
      into.set(this.bytes.subarray(Number(offset), Number(offset) + into.length))
    } else if (!this.memory.read(address, into)) {
      return false
    }
    for (const write of this.pending) overlay(into, address, write)
    return true
  }

  write(address: bigint, from: Uint8Array): boolean {
    if (!this.memory.seemsToAllow(address, from.length, true)) return false
    if (from.length <= mostBytes && this.pending.length < mostWrites) {
      this.pending.push({ address, bytes: from.slice() })
      return true
    }
    // Those before it first: they may be for the same place.
    const all = [...this.pending, { address, bytes: from }]
    this.pending = []
    return all.every((write) => this.memory.write(write.address, write.bytes))
  }

  source(address: bigint, pages: number): PageSource {
    return this.memory.source(address, pages)
  }

  lookUp(address: bigint): { readonly physical: bigint; readonly isHugePage: boolean } | undefined {
    return this.memory.lookUp(address)
  }
}

/** Puts what a write covers of `into`, which lies at `address`, over it. */
function overlay(into: Uint8Array, address: bigint, write: MemoryWrite): void {
  const distance = write.address - address
  if (distance >= BigInt(into.length) || distance + BigInt(write.bytes.length) <= 0n) return
  const offset = Number(distance)
  const bytes = write.bytes.subarray(Math.max(0, -offset), into.length - offset)
  into.set(bytes, Math.max(0, offset))
}
