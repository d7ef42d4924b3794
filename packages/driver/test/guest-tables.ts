/** A guest's tables, written where its nest parent maps guest physical memory to. */
import { store64 } from '@nestwalk/hardware'
import type { Memory } from '@nestwalk/hardware'

/** Guest physical address of the GCR3 table that `guestEntry` names; the tables lie right behind it. */
const gcr3Table = 0x10000n
const [directory, leaf] = [0x27n, 0x67n]

/**
 * Maps one page in tables of four levels, which all PASIDs have in common.
 *
 * @param base - system physical address of guest physical address 0
 */
export function mapForGuest(memory: Memory, base: bigint, from: bigint, to: bigint, pasid = 0): void {
  const store = (at: bigint, word: bigint): void => {
    if (!store64(memory, base + at, word)) throw new Error('there is no memory for a guest table')
  }
  store(gcr3Table + BigInt(pasid * 8), (gcr3Table + 0x1000n) | 1n)
  for (let level = 4n; level > 0n; level--) {
    const table = gcr3Table + (5n - level) * 0x1000n
    const at = table + ((from >> (3n + 9n * level)) & 511n) * 8n
    store(at, level === 1n ? to | leaf : (table + 0x1000n) | directory)
  }
}
