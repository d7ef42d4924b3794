/**
 * The machine's memory in this process, and which pages of it are not as they were at the beginning.
 *
 * @packageDocumentation
 */
import type { OutsideMemory } from '@nestwalk/hardware'
import { pageBytes, ramBytes, ramHole } from './arena.js'

/** See the file's comment. */
export class MemoryImage implements OutsideMemory {
  readonly sizeBytes = 2 ** 52
  readonly bytes: Buffer
  readonly changedPages = new Set<number>()

  /** @param background - what memory goes back to */
  constructor(private readonly background: Buffer) {
    this.bytes = Buffer.from(background)
  }

  /** Takes every change back. */
  restore(): void {
    for (const page of this.changedPages) {
      const at = page * pageBytes
      this.background.copy(this.bytes, at, at, at + pageBytes)
    }
    this.changedPages.clear()
  }

  readPage(address: number, into: Uint8Array): boolean {
    if (!isRam(address, into.length)) return false
    into.set(this.bytes.subarray(address, address + into.length))
    return true
  }

  write(address: number, bytes: Uint8Array): boolean {
    if (!isRam(address, bytes.length)) return false
    this.bytes.set(bytes, address)
    this.changedPages.add(Math.floor(address / pageBytes))
    return true
  }

  /** Bytes in RAM, or undefined. */
  read(address: bigint, length: number): Buffer | undefined {
    const at = Number(address)
    return isRam(at, length) ? this.bytes.subarray(at, at + length) : undefined
  }

  load64(address: bigint): bigint | undefined {
    const at = Number(address)
    return isRam(at, 8) ? this.bytes.readBigUInt64LE(at) : undefined
  }

  /** False where there is no RAM. */
  store64(address: bigint, value: bigint): boolean {
    const at = Number(address)
    if (!isRam(at, 8)) return false
    this.bytes.writeBigUInt64LE(BigInt.asUintN(64, value), at)
    this.changedPages.add(Math.floor(at / pageBytes))
    return true
  }
}

const isRam = (address: number, length: number): boolean =>
  address >= 0 &&
  address + length <= ramBytes &&
  (address >= ramHole.end || address + length <= ramHole.start)
