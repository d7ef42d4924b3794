/**
 * Memory that is given by its physical address: what a model maps that has no processes.
 *
 * @packageDocumentation
 */
import type { Spa } from '@nestwalk/bits'
import { pageBytes } from './process.js'
import type { PageSource } from './process.js'

/** Physically contiguous memory from an address on. It can be mapped, but not read or written through an access. */
export const physicalMemory = (first: Spa): PageSource => {
  const start = first & ~BigInt(pageBytes - 1)
  return {
    pin: (page, pages) => [{ first: start + BigInt(page) * BigInt(pageBytes), pages }],
    unpin: () => undefined,
    read: () => false,
    write: () => false,
  }
}
