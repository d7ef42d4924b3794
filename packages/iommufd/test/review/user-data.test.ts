/** Arrays of requests: what is kept of them while they are carried out. */
import { expect, it } from 'vitest'
import { userDataArray } from '../../src/user-data.js'

it('keeps no more of an array than the driver knows, however long its entries are', () => {
  const [known, entryLength, count] = [16, 4096, 64]
  const memory = {
    read: (address: bigint, into: Uint8Array) => {
      const at = Number(address) % entryLength
      if (at < known) into.fill(Number(address) / entryLength, 0, known - at)
      return true
    },
    write: () => false,
  }
  const entries = userDataArray(memory, { type: 1, address: 0n, entryLength, count }).copyAll(1, known)
  if (!Array.isArray(entries)) throw new Error('refused')
  const all = entries as readonly Uint8Array[]
  expect(all.map((entry) => [entry.length, entry[0]])).toEqual(all.map((_, i) => [known, i]))
  const buffers = new Set(all.map(({ buffer }) => buffer))
  expect([...buffers].reduce((sum, { byteLength }) => sum + byteLength, 0)).toBe(count * known)
})
