/**
 * The guest's RAM: a file that the VMM has mapped into the guest, and that we read and write at the same time.
 *
 * The VMM tells where the file's parts lie in the guest's address space. What it maps from elsewhere, such as firmware,
 * cannot be told from the file by its number, for Node drops the descriptors that come with a message; but RAM lies in
 * its file as it does in the guest up to 4 GiB, and nothing else does.
 *
 * @packageDocumentation
 */
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import type { OutsideMemory } from '@nestwalk/hardware'
import { InteropError } from '../interop-error.js'
import type { DmaRegion } from '../vfio-user/index.js'

interface Part {
  readonly start: number
  readonly end: number
  /** From an address to its place in the file. */
  readonly shift: number
}

const fourGibibytes = 2 ** 32

/** See the file's comment. */
export class GuestRam implements OutsideMemory {
  readonly sizeBytes = 2 ** 52
  private parts: readonly Part[] = []

  private constructor(
    private readonly file: number,
    private readonly fileBytes: number,
  ) {}

  /** @throws InteropError if the file cannot be opened */
  static open(path: string): GuestRam {
    try {
      const file = openSync(path, 'r+')
      return new GuestRam(file, fstatSync(file).size)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      throw new InteropError(`${path} cannot be opened (${why}): it has to be the VMM’s memory-backend-file`)
    }
  }

  close(): void {
    closeSync(this.file)
  }

  /** Takes a region that the VMM mapped; one that is no part of the file is left out. */
  map({ address, sizeBytes, fileOffset, readable, writable }: DmaRegion): void {
    const start = Number(address)
    const isRam = readable && writable && (fileOffset === address || start >= fourGibibytes)
    if (!isRam || fileOffset + sizeBytes > BigInt(this.fileBytes)) return
    const part = { start, end: start + Number(sizeBytes), shift: Number(fileOffset - address) }
    this.parts = [...this.parts, part].sort((a, b) => a.start - b.start)
  }

  unmap(address: bigint): void {
    this.parts = this.parts.filter(({ start }) => start !== Number(address))
  }

  unmapAll(): void {
    this.parts = []
  }

  readPage(address: number, into: Uint8Array): boolean {
    return this.read(address, into)
  }

  /** Reads bytes that lie in one part. False where there is no memory. */
  read(address: number, into: Uint8Array): boolean {
    const at = this.placeOf(address, into.length)
    return at >= 0 && readSync(this.file, into, 0, into.length, at) === into.length
  }

  write(address: number, bytes: Uint8Array): boolean {
    const at = this.placeOf(address, bytes.length)
    return at >= 0 && writeSync(this.file, bytes, 0, bytes.length, at) === bytes.length
  }

  /** Where bytes lie in the file; -1 where there are none. */
  private placeOf(address: number, length: number): number {
    const part = this.parts.find(({ start, end }) => address >= start && address + length <= end)
    return part === undefined ? -1 : address + part.shift
  }
}
