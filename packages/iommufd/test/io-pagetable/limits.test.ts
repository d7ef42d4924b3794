/** What keeps an IO address space from growing without end. */
import { expect, it } from 'vitest'
import { IoPagetable } from '../../src/io-pagetable/io-pagetable.js'

it('keeps 65536 reserved ranges of an owner, and those of others beside', () => {
  const table = IoPagetable.create()
  const range = { first: 0x1000n, last: 0x1fffn }
  for (let i = 0; i < 65536; i++) expect(table.reserve(undefined, range)).toBeUndefined()
  expect(table.reserve(undefined, range)).toMatchObject({ errno: 'ENOMEM', rule: 'reserve-limit' })
  expect(table.reserve(7, range)).toBeUndefined()
  table.releaseReserved(7)
  expect(table.ranges().length).toBe(2)
})
