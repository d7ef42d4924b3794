/** What the event of a refused request tells, field by field: each kind of event has fields of its own. */
import { describe, expect, it } from 'vitest'
import type { Request } from '../src/index.js'
import { Chip, event } from './chip.js'
import type { ChipOptions } from './chip.js'
import { nestedDte } from './tables.js'

const device = 5
/** One that GLX covers, and for which there is no guest table. */
const pasid = 0x12345
/** Above what the host table covers, and not a multiple of four. */
const iova = 0x7f0000001abdn

const beyondMemory = 0xfffffffe00000n

/** A device with nested tables in which nothing is present, or with the DTE given. */
function chipOf(dte: readonly bigint[] = nestedDte(device), options: ChipOptions = {}): Chip {
  const chip = Chip.create(options)
  chip.setDte(device, dte)
  return chip
}

const [q0 = 0n, q1 = 0n] = nestedDte(device)
function eventOf(chip: Chip, asked: Partial<Request>): readonly [bigint, bigint] {
  const answer = chip.iommu.request({ deviceId: device, iova, ...asked })
  if (answer.kind !== 'fault') throw new Error(`expected a fault, not ${answer.kind}`)
  expect(chip.takeEvents()).toEqual([answer.event])
  return answer.event
}

const privileges: readonly [Partial<Request>, bigint, bigint][] = [
  [{}, 1n, 0n],
  [{ supervisor: true }, 0n, 0n],
  [{ execute: true }, 1n, 1n],
  [{ supervisor: true, execute: true }, 0n, 1n],
]

describe('IO_PAGE_FAULT', () => {
  it.each(privileges)('with PASID tells GN, PASID, US and NX: %o', (asked, us, nx) => {
    const [lo, hi] = event('00010005 20012345 00001abd 00007f00')
    expect(eventOf(chipOf(), { pasid, ...asked })).toEqual([lo | (us << 50n) | (nx << 49n), hi])
  })

  it('without PASID tells the DomainID, and neither US nor NX, whatever the request says', () => {
    for (const [asked] of privileges) {
      const expected = event('00000005 20000005 00001abd 00007f00')
      expect(eventOf(chipOf(), asked)).toEqual(expected)
    }
  })

  it('for TV=0 tells the DomainID of the entry, by choice 0', () => {
    for (const [tv0Domain, domain] of [
      ['stored', 5n],
      ['zero', 0n],
    ] as const) {
      const chip = chipOf([1n, 5n], { switches: { tv0Domain } })
      expect(eventOf(chip, {})).toEqual([0x2000000000000005n | (domain << 32n), iova])
      // Others tell it whatever the choice.
      chip.setDte(6, [3n, 6n])
      const other = event('00000006 20500006 00001abd 00007f00')
      expect(eventOf(chip, { deviceId: 6 })).toEqual(other)
    }
  })

  it('tells RW of writes', () => {
    expect(eventOf(chipOf(), { pasid, write: true })).toEqual(event('00010005 20252345 00001abd 00007f00'))
    expect(eventOf(chipOf(), { write: true })).toEqual(event('00000005 20200005 00001abd 00007f00'))
  })
})

describe('ILLEGAL_DEV_TABLE_ENTRY', () => {
  const illegal = [q0 | 4n, q1, 0n, 0n]

  it('tells GN and PASID, neither US nor NX, and no DomainID', () => {
    for (const [asked] of privileges) {
      expect(eventOf(chipOf(illegal), { pasid, ...asked })).toEqual(
        event('00010005 10812345 00001abc 00007f00'),
      )
      expect(eventOf(chipOf(illegal), asked)).toEqual(event('00000005 10800000 00001abc 00007f00'))
    }
    expect(eventOf(chipOf(illegal), { write: true })).toEqual(event('00000005 10a00000 00001abc 00007f00'))
  })
})

describe('DEV_TAB_HARDWARE_ERROR', () => {
  it('tells the entry, and no PASID', () => {
    const chip = chipOf()
    chip.write(0, beyondMemory | 0x1ffn)
    expect(eventOf(chip, { pasid })).toEqual(event('00000005 32000000 ffe000a0 000fffff'))
    expect(eventOf(chip, { pasid, write: true })).toEqual(event('00000005 32200000 ffe000a0 000fffff'))
    expect(eventOf(chip, {})).toEqual(event('00000005 32000000 ffe000a0 000fffff'))
  })
})

describe('PAGE_TAB_HARDWARE_ERROR', () => {
  /** A host table that no memory answers for. */
  const unreadable = [(q0 & ~0xffffffffff000n) | beyondMemory, q1, 0n, 0n]

  it('tells the entry; GN and PASID, or the DomainID; and neither US nor NX', () => {
    for (const [asked] of privileges) {
      // Mode 3: the GCR3 table's GPA is that of the first entry, and the address above its width without PASID.
      expect(eventOf(chipOf(unreadable), { pasid, ...asked })).toEqual(
        event('00010005 42012345 ffe00000 000fffff'),
      )
      expect(eventOf(chipOf(unreadable), { iova: 0x40001000n, ...asked })).toEqual(
        event('00000005 42000005 ffe00008 000fffff'),
      )
    }
  })
})

describe('INVALID_DEVICE_REQUEST', () => {
  it('tells GN, PASID and US at a place of its own, and neither NX nor RW', () => {
    const chip = (): Chip => chipOf(undefined, { switches: { interruptWithPasid: 'writes' } })
    for (const [asked, us] of privileges) {
      const [lo, hi] = event('00010005 80012345 fee00000 00000000')
      expect(eventOf(chip(), { pasid, iova: 0xfee00000n, ...asked })).toEqual([lo | (us << 49n), hi])
      const untagged = event('00000005 80000000 fee00000 00000000')
      expect(eventOf(chip(), { iova: 0xfee00000n, ...asked })).toEqual(untagged)
    }
    const posted = eventOf(chip(), { iova: 0xfdfa000000n, pasid, write: true })
    expect(posted).toEqual(event('00010005 8c032345 fa000000 fffffffd'))
  })
})

describe('a request that is aborted in silence', () => {
  it('has no event, nor that of an earlier one', () => {
    const chip = chipOf()
    eventOf(chip, {})
    const answer = chip.iommu.request({ deviceId: device, iova: 0xfe00001000n, pasid, write: true })
    expect(answer).toMatchObject({ kind: 'fault', event: [0n, 0n], logged: false })
    expect(chip.takeEvents()).toEqual([])
  })
})
