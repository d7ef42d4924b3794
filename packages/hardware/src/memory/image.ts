/**
 * Memory images: pages copied out of a machine, put back at their addresses.
 *
 * @packageDocumentation
 */
import type { Memory } from './memory.js'

const pageBytes = 4096

/**
 * Writes 4 KiB pages into memory.
 *
 * @param addresses - physical address of each page, a multiple of 4096
 * @param bytes - the pages, one after another, in the same order
 */
export function loadPages(memory: Memory, addresses: readonly bigint[], bytes: Uint8Array): void {
  if (bytes.length !== addresses.length * pageBytes) {
    throw new RangeError(`${bytes.length} bytes are not ${addresses.length} pages of ${pageBytes}`)
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  addresses.forEach((address, page) => {
    if ((address & 0xfffn) !== 0n || address < 0n || address >= 1n << 52n) {
      throw new RangeError(`page address 0x${address.toString(16)} is not a multiple of 4096 below 2^52`)
    }
    const lo = Number(BigInt.asIntN(32, address))
    const hi = Number(address >> 32n)
    for (let offset = 0; offset < pageBytes; offset += 4) {
      const value = view.getInt32(page * pageBytes + offset, true)
      const before = memory.load32(lo + offset, hi)
      if (before === undefined)
        throw new RangeError(`page address 0x${address.toString(16)} is beyond the memory`)
      if (before !== value) memory.store32(lo + offset, hi, value)
    }
  })
}
