/** Choices that the manual leaves for walks of guest tables, one by one: what each of them refuses, sets and names. */
import { describe, expect, it } from 'vitest'
import { switchChoices } from '../src/index.js'
import type { Request, SwitchChoices } from '../src/index.js'
import { controlBit, quietControl } from './chip.js'
import type { Chip, ChipOptions } from './chip.js'
import { guestDirectoryAt, guestEntryAt, guestPages } from './tables.js'
import { hostEntryAt, hostPages, nestedChip, nestedDte } from './tables.js'

const device = 5
const pasid = 5
const spaOf = (gpa: bigint): bigint => 0x200000000n + gpa
const dte = { read: 1n << 61n, write: 1n << 62n, mode: 0xe00n } as const
const hostRight = { read: 1n << 61n, write: 1n << 62n } as const
/** GPAs of the guest's last table and of its GCR3 table. */
const lastTable = guestEntryAt(1, 0n) - 0x200000000n
const lastTablePage = lastTable & ~0xfffn

interface Options {
  readonly switches?: Partial<SwitchChoices>
  readonly control?: bigint
  /** Bits of the device's entry, quad-word 0, that are not set. */
  readonly without?: bigint
}

function chipOf({ switches = {}, control = quietControl, without = 0n }: Options = {}): Chip {
  const options: ChipOptions = { switches, control }
  const chip = nestedChip([device], options)
  const [q0 = 0n, ...rest] = nestedDte(device)
  chip.setDte(device, [q0 & ~without, ...rest])
  // Without a host table the guest's tables lie at their GPAs.
  if ((without & dte.mode) !== 0n) {
    for (let gpa = 0x10000n; gpa < 0x30000n; gpa += 8n) chip.put([gpa, chip.load(spaOf(gpa)) ?? 0n])
  }
  return chip
}

const change = (chip: Chip, at: bigint, set: bigint, cleared = 0n): void => {
  chip.put([at, ((chip.load(at) ?? 0n) & ~cleared) | set])
}

/** What comes of a request: the word of a translation, or the flags of an IO_PAGE_FAULT. */
function ask(chip: Chip, asked: Partial<Request> = {}): unknown {
  const answer = chip.iommu.request({ deviceId: device, pasid, iova: guestPages, ...asked })
  if (answer.kind !== 'fault') return answer.kind
  expect(answer.event[0] >> 60n).toBe(2n)
  return Number((answer.event[0] >> 48n) & 0xfffn)
}

/** GN and US; and PR, PE, and RW of a write. */
const denied = { read: 0x055, write: 0x075 } as const

describe.each(switchChoices.rightsOrder)('with rights checked %s', (rightsOrder) => {
  it.each([
    ['with a host table', 0n],
    ['without one', dte.mode],
  ])('what a guest table does not grant is refused %s', (_, without) => {
    const options = { switches: { rightsOrder }, without }
    const at = (without === 0n ? 0n : -0x200000000n) + guestEntryAt(1, 0n)
    const chip = chipOf(options)
    change(chip, at, 0n, 2n)
    expect(ask(chip, { write: true })).toBe(denied.write)
    expect(ask(chip)).toBe('translated')
    expect(ask(chip, { write: true })).toBe(denied.write)
    const supervisors = chipOf(options)
    change(supervisors, at, 0n, 4n)
    expect(ask(supervisors)).toBe(denied.read)
    expect(ask(supervisors, { supervisor: true })).toBe('translated')
    const closed = chipOf(options)
    change(closed, at, 1n << 63n)
    expect(ask(closed, { execute: true })).toBe(denied.read | 2)
  })

  it('what a host table does not grant is refused', () => {
    for (const [right, write] of [
      [hostRight.read, false],
      [hostRight.write, true],
    ] as const) {
      const chip = chipOf({ switches: { rightsOrder } })
      change(chip, hostEntryAt(hostPages), 0n, right)
      expect(ask(chip, { write })).toBe(write ? denied.write : denied.read)
      expect(ask(chip, { write: !write })).toBe('translated')
      expect(ask(chip, { pasid: undefined, iova: hostPages, write })).toBe(write ? 0x070 : 0x050)
    }
  })
})

describe('of a right that is missing and a page that is absent', () => {
  it.each([
    ['each-level', denied.write, denied.write],
    ['leaf', 0x025, denied.write],
    ['last-host-walk', 0x025, 0x025],
  ] as const)(
    '%s: %d is told, with the right missing in a directory, or %d, in the leaf',
    (order, upper, lower) => {
      const directory = chipOf({ switches: { rightsOrder: order } })
      change(directory, guestDirectoryAt(1), 0n, 2n)
      change(directory, guestEntryAt(1, 0n), 0n, 1n)
      expect(ask(directory, { write: true })).toBe(upper)
      const leaf = chipOf({ switches: { rightsOrder: order } })
      change(leaf, guestEntryAt(1, 0n), 0n, 2n)
      change(leaf, hostEntryAt(hostPages), 0n, 1n)
      expect(ask(leaf, { write: true })).toBe(lower)
    },
  )
})

describe('a device whose entry has V=0', () => {
  it('passes, and with PASID by choice not', () => {
    for (const [pasidWithoutValid, expected] of [
      ['forward', 'forwarded'],
      ['fault', 0x005],
    ] as const) {
      const chip = chipOf({ switches: { pasidWithoutValid } })
      chip.setDte(device, [0n, 0n, 0n, 0n])
      for (const named of [0, 5]) expect(ask(chip, { pasid: named })).toBe(expected)
      expect(ask(chip, { pasid: undefined })).toBe('forwarded')
    }
  })
})

describe('a supervisor’s write to a page with R/W=0', () => {
  it('is refused, or by choice not; a user’s always is', () => {
    for (const [supervisorWrite, expected] of [
      ['honours-rw', 0x071],
      ['ignores-rw', 'translated'],
    ] as const) {
      const chip = chipOf({ switches: { supervisorWrite } })
      change(chip, guestEntryAt(1, 0n), 0n, 2n)
      expect(ask(chip, { write: true, supervisor: true })).toBe(expected)
      expect(ask(chip, { write: true })).toBe(denied.write)
      expect(ask(chip, { supervisor: true })).toBe('translated')
    }
  })
})

describe('a fault in the host table on behalf of a guest', () => {
  const eventOf = (chip: Chip, asked: Partial<Request> = {}): readonly [bigint, bigint] => {
    const answer = chip.iommu.request({ deviceId: device, pasid, iova: guestPages + 0x123n, ...asked })
    if (answer.kind !== 'fault') throw new Error(`expected a fault, not ${answer.kind}`)
    return answer.event
  }
  /** GN, US and PASID with the GVA, or the DomainID with a GPA; which have one number here. */
  const ofGuest = [0x2005000500000005n, guestPages + 0x123n]
  const ofGpa = (gpa: bigint): readonly bigint[] => [0x2000000500000005n, gpa]
  const byGpa = { switches: { nestedHostFault: 'gpa' } } as const

  it.each([
    ['the page', hostEntryAt(hostPages), hostPages + 0x123n],
    ['its table', hostEntryAt(lastTablePage), lastTable],
    ['the GCR3 table', hostEntryAt(0x10000n), 0x10000n],
  ])('names GVA and PASID, by choice GPA and DomainID: %s', (_, at, gpa) => {
    const chip = chipOf()
    change(chip, at, 0n, 1n)
    expect(eventOf(chip)).toEqual(ofGuest)
    const other = chipOf(byGpa)
    change(other, at, 0n, 1n)
    expect(eventOf(other)).toEqual(ofGpa(gpa))
  })

  it('names what the switch says where the host table alone is walked', () => {
    for (const [nestedHostFault, expected] of [
      ['gva', [0x2075000500000005n, guestPages + 0x123n]],
      ['gpa', [0x2070000500000005n, hostPages + 0x123n]],
    ] as const) {
      const chip = nestedChip([device], {
        switches: { nestedHostFault },
        microArchitecture: { nestedEntries: 'split' },
      })
      change(chip, hostEntryAt(hostPages), 0n, hostRight.write)
      ask(chip)
      expect(eventOf(chip, { write: true })).toEqual(expected)
    }
  })

  it('is none where the guest’s table has no entry, or where a cached translation refuses', () => {
    const chip = chipOf(byGpa)
    change(chip, guestEntryAt(1, 0n), 0n, 1n)
    expect(eventOf(chip)).toEqual(ofGuest)
    // After one in the host table, too.
    const cached = chipOf({ switches: { ...byGpa.switches, hitWithoutRights: 'fault' } })
    change(cached, hostEntryAt(hostPages), 0n, hostRight.write)
    ask(cached)
    change(cached, hostEntryAt(hostPages + 0x1000n), 0n, 1n)
    expect(eventOf(cached, { iova: guestPages + 0x1000n })).toEqual(ofGpa(hostPages + 0x1000n))
    expect(eventOf(cached, { write: true })).toEqual([0x2075000500000005n, guestPages + 0x123n])
  })
})

describe('the host’s leave to set A in a guest table', () => {
  const control = quietControl & ~(controlBit.guestAccessedOff | controlBit.guestDirtyOff)
  const isMarked = (chip: Chip, at = guestEntryAt(1, 0n)): boolean => ((chip.load(at) ?? 0n) & 0x20n) !== 0n

  it.each([
    ['when-changing', denied.read, 'translated'],
    ['always', denied.read, denied.read],
    ['never', 'translated', 'translated'],
  ] as const)('is needed %s: %s where A is clear, %s where it is set', (guestMarkRights, clear, set) => {
    for (const isSet of [false, true]) {
      const chip = chipOf({ switches: { guestMarkRights }, control })
      if (isSet) change(chip, guestEntryAt(1, 0n), 0x20n)
      change(chip, hostEntryAt(lastTablePage), 0n, hostRight.write)
      const expected = isSet ? set : clear
      expect(ask(chip)).toBe(expected)
      expect(isMarked(chip)).toBe(isSet || expected === 'translated')
    }
  })

  it('is not asked for where nothing is to be set', () => {
    for (const guestMarkRights of switchChoices.guestMarkRights) {
      const chip = chipOf({ switches: { guestMarkRights } })
      change(chip, hostEntryAt(lastTablePage), 0n, hostRight.write)
      expect(ask(chip)).toBe('translated')
      expect(isMarked(chip)).toBe(false)
    }
  })
})

describe('the rights of the device’s entry for tables', () => {
  const control = quietControl & ~(controlBit.guestAccessedOff | controlBit.guestDirtyOff)

  it.each([
    ['with-host-table', denied.write, 'translated'],
    ['never', 'translated', 'translated'],
    ['always', denied.write, denied.write],
  ] as const)(
    '%s: IR for reading them, with a host table %s, without %s',
    (impliedDteRights, nested, alone) => {
      for (const [without, expected] of [
        [dte.read, nested],
        [dte.read | dte.mode, alone],
      ] as const) {
        expect(ask(chipOf({ switches: { impliedDteRights }, without }), { write: true })).toBe(expected)
      }
    },
  )

  it.each([
    ['with-host-table', denied.read, 'translated'],
    ['never', 'translated', 'translated'],
    ['always', denied.read, denied.read],
  ] as const)('%s: IW for setting A, with a host table %s, without %s', (impliedDteRights, nested, alone) => {
    for (const [without, expected] of [
      [dte.write, nested],
      [dte.write | dte.mode, alone],
    ] as const) {
      expect(ask(chipOf({ switches: { impliedDteRights }, control, without }))).toBe(expected)
      // Nothing is set.
      expect(ask(chipOf({ switches: { impliedDteRights }, without }))).toBe('translated')
    }
  })
})
