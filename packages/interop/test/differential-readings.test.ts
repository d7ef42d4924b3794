/** The readings are checked against examples worked out by hand, as what checks others has to be right itself. */
import { describe, expect, test } from 'vitest'
import { isLegalByManual, isLegalByQemu, rangeOf } from '../src/differential/reading/command-rules.js'
import { askManual, entryOf, walkManual } from '../src/differential/reading/manual-walk.js'
import type { DeviceEntry, Load, Settings } from '../src/differential/reading/manual-walk.js'
import { walkQemu } from '../src/differential/reading/qemu-walk.js'
import { Remembered } from '../src/differential/reading/remembered.js'

const memory = (words: Readonly<Record<string, bigint>>): Load => {
  const byAddress = new Map(Object.entries(words).map(([address, value]) => [BigInt(address), value]))
  return (address) => (address < 1n << 40n ? (byAddress.get(address) ?? 0n) : undefined)
}

/** A table of four levels whose first entry leads to level 1, past levels 3 and 2. */
const skipping = memory({
  '0x300000000': 0x6000000300001201n,
  '0x300001028': 0x6000000000777001n,
  '0x300001040': 0x6000000876545e01n,
  '0x300001048': 0x6000000876545e01n,
  '0x300001050': 0x6000000876545e01n,
  '0x300001058': 0x6000000876545e01n,
  '0x300001080': 0x60000004000ffe01n,
  '0x300001088': 0x6000000300005401n,
  '0x300001090': 0x2000000000999001n,
})
const entry = 0x6000000300000803n

describe('the manual’s walk', () => {
  test.each<[string, bigint, boolean, bigint | undefined]>([
    ['a page of 4 KiB', 0x5abcn, true, 0x777abcn],
    ['a bit of a skipped level', 0x205abcn, false, undefined],
    ['a bit above the table', 1n << 48n, false, undefined],
    ['a page of 16 KiB', 0x8123n, true, 0x876544123n],
    ['the same, further on', 0xb123n, true, 0x876547123n],
    ['a size that the level does not have', 0x10000n, false, undefined],
    ['a level that does not descend', 0x11000n, false, undefined],
    ['a page that may be read', 0x12000n, false, 0x999000n],
    ['and not written', 0x12000n, true, undefined],
  ])('%s', (_, iova, write, address) => {
    const outcome = walkManual(skipping, entry, { deviceId: 0, iova, write })
    expect(outcome.address).toBe(address)
    expect(outcome.eventCode).toBe(address === undefined ? 2 : 0)
  })

  test('a table that is not there is a PAGE_TAB_HARDWARE_ERROR', () => {
    const far = memory({ '0x1000': (1n << 41n) | 0x6000000000000201n })
    expect(walkManual(far, 0x6000000000001403n, { deviceId: 0, iova: 0n, write: false }).eventCode).toBe(4)
  })
})

describe('the manual’s device table entry', () => {
  const settings: Settings = {
    deviceTable: 0x100000n,
    exclusionBase: 0n,
    exclusionLimit: 0n,
    guestTables: false,
  }
  const ask = (words: DeviceEntry, write = false, more: Partial<Settings> = {}): string => {
    const asked = { deviceId: 0, iova: 0x5abcn, write }
    const outcome = askManual(skipping, words, { ...settings, ...more }, asked)
    return outcome.address === undefined ? `event ${outcome.eventCode}` : `0x${outcome.address.toString(16)}`
  }

  test.each<[string, DeviceEntry, string]>([
    ['V=0 passes, reserved bits and all', [4n, 0n, 0n, 0n], '0x5abc'],
    ['TV=0 is refused', [1n, 0n, 0n, 0n], 'event 2'],
    ['a table', [entry, 7n, 0n, 0n], '0x777abc'],
    ['Mode 0 passes', [0x6000000000000003n, 1n, 0n, 0n], '0x5abc'],
    ['Mode 0 without rights', [3n, 1n, 0n, 0n], 'event 2'],
    ['Mode 7', [0x6000000000000e03n, 1n, 0n, 0n], 'event 1'],
    ['Mode 7 without rights', [0xe03n, 1n, 0n, 0n], 'event 2'],
    ['bit 63', [0x8000000000000003n, 0n, 0n, 0n], 'event 1'],
    ['bit 2', [0x6000000000000007n, 0n, 0n, 0n], 'event 1'],
    ['PPR without its feature', [0x6010000000000003n, 0n, 0n, 0n], 'event 1'],
    ['GV while guest tables are off', [0x6080000000000003n, 0n, 0n, 0n], 'event 1'],
    ['HAD=10', [entry | (2n << 7n), 0n, 0n, 0n], 'event 1'],
    ['HAD=11', [entry | (3n << 7n), 0n, 0n, 0n], '0x777abc'],
    ['reserved bits of the interrupt half', [entry, 0n, 0x0030_0000_0000_0000n, 1n], '0x777abc'],
  ])('%s', (_, words, outcome) => {
    expect(ask(words)).toBe(outcome)
  })

  test('GV with guest tables on leaves requests without PASID to the host table', () => {
    expect(ask([entry | (1n << 55n), 7n, 0n, 0n], false, { guestTables: true })).toBe('0x777abc')
    expect(ask([entry | (3n << 55n), 7n, 0n, 0n], false, { guestTables: true })).toBe('event 1')
  })

  test('the exclusion range comes after TV and before the rights', () => {
    const range = { exclusionBase: 0x5001n, exclusionLimit: 0x5000n }
    expect(ask([3n, 0n, 0n, 0n], true, range)).toBe('event 2')
    expect(ask([3n, 1n << 39n, 0n, 0n], true, range)).toBe('0x5abc')
    expect(ask([1n, 1n << 39n, 0n, 0n], true, range)).toBe('event 2')
    expect(ask([3n, 0n, 0n, 0n], true, { ...range, exclusionBase: 0x5003n })).toBe('0x5abc')
    expect(ask([3n, 1n << 39n, 0n, 0n], true, { ...range, exclusionLimit: 0x4000n })).toBe('event 2')
  })

  test('a DeviceID beyond the table, and a table that is not there', () => {
    expect(entryOf(skipping, settings, 127)).toEqual([0n, 0n, 0n, 0n])
    expect(entryOf(skipping, settings, 128)).toEqual({ address: undefined, eventCode: 2 })
    expect(entryOf(skipping, { ...settings, deviceTable: 1n << 41n }, 0)).toEqual({
      address: undefined,
      eventCode: 3,
    })
  })
})

describe('QEMU’s walk', () => {
  const walk = (words: Readonly<Record<string, bigint>>, q0: bigint, write: boolean): string => {
    const names: string[] = []
    const { address } = walkQemu(memory(words), q0, { deviceId: 0, iova: 0x5008n, write }, (name) =>
      names.push(name),
    )
    return [address === undefined ? 'refused' : `0x${address.toString(16)}`, ...names].join(' ')
  }
  const table = { '0x1000': 0x6000000000002201n, '0x2028': 0x6000000000777001n }
  const root = 0x6000000000001403n

  test.each<[string, Readonly<Record<string, bigint>>, bigint, boolean, string]>([
    ['goes as the manual has it', table, root, true, '0x777008'],
    [
      'takes the leaf’s rights alone',
      { ...table, '0x1000': 0x2000000000002201n },
      root,
      true,
      '0x777008 rights-of-last-entry',
    ],
    [
      'stops at an entry that leaves no right, and takes it for a page',
      { ...table, '0x1000': 0x4000000000002201n },
      0x2000000000001403n,
      true,
      '0x5008 rights-of-last-entry',
    ],
    [
      'does not see reserved bits',
      { ...table, '0x2028': 0x6010000000777001n },
      root,
      true,
      '0x777008 reserved-entry-bits',
    ],
    [
      'takes any size at any level',
      { ...table, '0x2028': 0x60000000001ffe01n },
      root,
      true,
      '0x5008 leaf-sizes-unchecked',
    ],
    [
      'refuses a level that does not descend',
      { ...table, '0x1000': 0x6000000000002401n },
      root,
      true,
      'refused',
    ],
  ])('%s', (_, words, q0, write, result) => {
    expect(walk(words, q0, write)).toBe(result)
  })
})

describe('commands', () => {
  test.each<[string, bigint, bigint, boolean, boolean]>([
    ['COMPLETION_WAIT', 0x100000012345678fn, 0xa5n, true, true],
    ['COMPLETION_WAIT with bit 52', 0x1010000123456789n, 0n, false, false],
    ['INVALIDATE_DEVTAB_ENTRY', 0x2000000000000010n, 0n, true, true],
    ['INVALIDATE_DEVTAB_ENTRY with bit 16', 0x2000000000010010n, 0n, false, false],
    ['INVALIDATE_IOMMU_PAGES', 0x3000004200000000n, 0x7ffffffffffff003n, true, true],
    ['with bit 20', 0x3000004200100000n, 0n, false, false],
    ['with bit 67', 0x3000004200000000n, 8n, false, false],
    ['with a PASID and GN', 0x3000004200012345n, 0x00007f0000002005n, true, true],
    ['with a PASID and no GN', 0x3000004200012345n, 0x00007f0000002001n, false, true],
    ['INVALIDATE_IOTLB_PAGES', 0x4145060020230600n, 0x00007f0000003004n, true, true],
    ['with a type', 0x4000060020000600n, 0x7ffffffffffff011n, false, true],
    ['INVALIDATE_INTERRUPT_TABLE', 0x5000000000000010n, 0n, true, true],
    ['PREFETCH', 0x6000000504000600n, 0x0000000040000004n, true, true],
    ['COMPLETE_PPR', 0x7000000500000600n, 0x0000112300000004n, true, true],
    ['with tag bit 9', 0x7000000500000600n, 0x0000020000000004n, false, true],
    ['INVALIDATE_IOMMU_ALL', 0x8000000000000000n, 0n, true, true],
    ['opcode 0', 0n, 0n, false, false],
    ['opcode 9', 0x9000000300000000n, 0n, false, false],
    ['opcode 15', 0xf000000000000000n, 0n, false, false],
  ])('%s', (_, lo, hi, manual, qemu) => {
    expect([isLegalByManual(lo, hi), isLegalByQemu(lo, hi)]).toEqual([manual, qemu])
  })

  test.each<[bigint, bigint, number]>([
    [0x10000000n, 0x10000000n, 12],
    [0x10000001n, 0x10000000n, 13],
    [0x10001001n, 0x10000000n, 14],
    [0x100ff001n, 0x10000000n, 21],
    [0x3001n, 0n, 15],
    [0x5001n, 0x4000n, 14],
    [0x7fff_ffff_ffff_f001n, 0n, 64],
  ])('the range of %s', (hi, first, sizeLog2) => {
    expect(rangeOf(hi)).toEqual({ first, sizeLog2 })
  })
})

describe('what may be cached', () => {
  const page = { domainId: 5, deviceId: 1, iova: 0x20_5000n, address: 0x40_5000n, sizeLog2: 21, granted: 3n }

  test('answers for all of its page, its domain, and its rights', () => {
    const remembered = new Remembered()
    remembered.keepPage({ ...page, granted: 1n })
    const answer = { address: 0x40_0010n, reason: 'unequal-copies' }
    expect(remembered.answers(5, 1, 0x20_0010n, 1n)).toEqual([answer])
    expect(remembered.answers(5, 1, 0x20_0010n, 2n)).toEqual([])
    expect(remembered.answers(6, 1, 0x20_0010n, 1n)).toEqual([])
    expect(remembered.answers(5, 1, 0x40_0010n, 1n)).toEqual([])
  })

  test('goes with an invalidation that reaches it, and with no other', () => {
    const remembered = new Remembered()
    remembered.keepPage(page)
    remembered.forgetPages(6, { first: 0n, sizeLog2: 64 })
    remembered.forgetPages(5, { first: 0x40_0000n, sizeLog2: 21 })
    expect(remembered.answers(5, 1, 0x20_0000n, 1n)).toHaveLength(1)
    remembered.forgetPages(5, { first: 0x20_1000n, sizeLog2: 12 })
    expect(remembered.answers(5, 1, 0x20_0000n, 1n)).toHaveLength(0)
  })

  test('has a reason: an edit, another device', () => {
    const remembered = new Remembered()
    remembered.keepPage(page)
    expect(remembered.answers(5, 2, 0x20_0000n, 1n)[0]?.reason).toBe('domain-of-two-tables')
    remembered.edited()
    expect(remembered.answers(5, 2, 0x20_0000n, 1n)[0]?.reason).toBe('not-invalidated')
  })

  test('entries stay until their device is invalidated', () => {
    const remembered = new Remembered()
    remembered.keepEntry(1, [1n, 0n, 0n, 0n])
    remembered.keepEntry(1, [1n, 0n, 0n, 0n])
    remembered.keepEntry(1, [3n, 0n, 0n, 0n])
    expect(remembered.entriesOf(1)).toHaveLength(2)
    remembered.forgetEntry(2)
    expect(remembered.entriesOf(1)).toHaveLength(2)
    remembered.forgetEntry(1)
    expect(remembered.entriesOf(1)).toHaveLength(0)
  })
})
