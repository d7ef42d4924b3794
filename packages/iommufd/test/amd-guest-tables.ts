/** A guest's tables, written where its nest parent leads guest physical memory to. */
import { store64 } from '@nestwalk/hardware'
import type { Memory } from '@nestwalk/hardware'

/** Guest physical address of the GCR3 table; the tables lie right behind it. */
export const guestGcr3 = 0x10000n
const [directory, leaf] = [0x27n, 0x67n]

/** Maps one page in tables of four levels, which all PASIDs have in common. `base`: where guest memory begins. */
export function mapForGuest(memory: Memory, base: bigint, from: bigint, to: bigint, pasid = 0): void {
  const store = (at: bigint, word: bigint): void => {
    if (!store64(memory, base + at, word)) throw new Error('there is no memory for a guest table')
  }
  store(guestGcr3 + BigInt(pasid * 8), (guestGcr3 + 0x1000n) | 1n)
  for (let level = 4n; level > 0n; level--) {
    const table = guestGcr3 + (5n - level) * 0x1000n
    const at = table + ((from >> (3n + 9n * level)) & 511n) * 8n
    store(at, level === 1n ? to | leaf : (table + 0x1000n) | directory)
  }
}
