/** What the IOMMU answers to translation requests (ATS) and to requests by translated addresses. */
import { describe, expect, it } from 'vitest'
import { nestingFeatures } from '../src/index.js'
import type { AtsAnswer, SwitchChoices } from '../src/index.js'
import { Chip, controlBit, event, quietControl, register } from './chip.js'
import type { ChipOptions } from './chip.js'
import {
  guestDirectoryAt,
  guestEntryAt,
  guestPages,
  hostEntryAt,
  hostPages,
  mapHost,
  nestedChip,
  nestedDte,
  pagesFrom,
} from './tables.js'

const device = 0x600
const dte = {
  valid: 1n,
  translates: 2n,
  read: 1n << 61n,
  write: 1n << 62n,
  giov: 1n << 54n,
  hostMarks: 3n << 7n,
  iotlb: 1n << 32n,
  suppressAfterFirst: 1n << 33n,
  suppressAll: 1n << 34n,
  translatedPorts: 2n << 35n,
  noSnoop: 1n << 38n,
  excluded: 1n << 39n,
  translatedManagement: 3n << 40n,
} as const
const leaf = { read: 1n << 61n, write: 1n << 62n, untranslated: 1n << 59n, coherent: 1n << 60n } as const
const readWrite = leaf.read | leaf.write

/** A page of the host table in Mode 3, where it lies, and where the entries on the way to it are. */
const page = 0x40201000n
const spa = 0x300005000n
const entryAt = { level3: 0x100000008n, level2: 0x100001008n, level1: 0x100002008n } as const
const modeThree = 0x100000603n
const hostQ0 = modeThree | dte.read | dte.write

const hostDte = (moreQ1 = 0n, q0 = hostQ0): bigint[] => [q0, 0x42n | dte.iotlb | moreQ1, 0n, 0n]

/** A device with one page in its host table. */
function hostChip(words = hostDte(), options: ChipOptions = {}): Chip {
  const chip = Chip.create(options)
  chip.setDte(device, words)
  mapHost(chip, { root: 0x100000000n, mode: 3 }, pagesFrom(0x100001000n), page, spa)
  return chip
}

/** Device 5 with nested tables for PASIDs 0, 5 and 0x200. */
const nested = 5
function guestChip(moreQ0 = 0n, moreQ1 = 0n, options: ChipOptions = {}): Chip {
  const chip = nestedChip([nested], options)
  const [q0 = 0n, q1 = 0n] = nestedDte(nested)
  chip.setDte(nested, [q0 | moreQ0, q1 | dte.iotlb | moreQ1, 0n, 0n])
  return chip
}
const guestSpa = 0x200000000n + hostPages

const withSwitches = (switches: Partial<SwitchChoices>): ChipOptions => ({ switches })

function expectNothing(chip: Chip, answer: AtsAnswer): void {
  expect(answer).toMatchObject({ kind: 'completed', readable: false, writable: false, executable: false })
  expect(chip.takeEvents()).toEqual([])
}

function expectLogged(chip: Chip, answer: AtsAnswer, kind: AtsAnswer['kind'], words: string): void {
  expect(answer).toEqual({ kind, event: event(words), logged: true })
  expect(chip.takeEvents()).toEqual([event(words)])
}

describe('the answer to a translation request', () => {
  it('tells the page and its rights, from the tables and from the IOTLB alike', () => {
    const chip = hostChip()
    const expected = {
      kind: 'completed',
      ...{ spa: spa + 0x123n, sizeLog2: 12, readable: true, writable: true, executable: false },
      ...{ noSnoop: false, untranslatedOnly: false },
    }
    const asked = { deviceId: device, iova: page + 0x123n }
    expect(chip.iommu.translationRequest(asked)).toEqual({ ...expected, from: 'walk', reads: 3 })
    expect(chip.iommu.translationRequest(asked)).toEqual({ ...expected, from: 'iotlb', reads: 0 })
    expect(chip.iommu.request(asked)).toMatchObject({ from: 'iotlb', spa: spa + 0x123n })
    expect(chip.takeEvents()).toEqual([])
  })

  it('is given from what an ordinary request has filed, too', () => {
    const chip = hostChip()
    chip.iommu.request({ deviceId: device, iova: page })
    expect(chip.iommu.translationRequest({ deviceId: device, iova: page })).toMatchObject({
      ...{ from: 'iotlb', spa, readable: true, writable: true },
    })
  })

  it('is walked for again when what is filed lacks the right to write that the device wants', () => {
    const chip = hostChip()
    chip.put([entryAt.level1, leaf.read | spa | 1n])
    const asked = { deviceId: device, iova: page, write: true }
    expect(chip.iommu.translationRequest(asked)).toMatchObject({ readable: true, writable: false })
    chip.put([entryAt.level1, readWrite | spa | 1n])
    expect(chip.iommu.translationRequest(asked)).toMatchObject({ readable: true, writable: true })
  })

  it.each([
    ['2 MiB', entryAt.level2, readWrite | 0x300000001n, 21, 0x300001000n],
    ['64 KiB, in the size code of the leaf', entryAt.level1, readWrite | 0x300007e01n, 16, 0x300001000n],
    ['1 GiB', entryAt.level3, readWrite | 0x340000001n, 30, 0x340201000n],
  ])('tells the size: %s', (_, at, entry, sizeLog2, expected) => {
    const chip = hostChip()
    chip.put([at, entry])
    for (let times = 0; times < 2; times++) {
      const answer = chip.iommu.translationRequest({ deviceId: device, iova: page })
      expect(answer).toMatchObject({ sizeLog2, spa: expected })
    }
  })

  it('grants the rights that the entry of the device and every level grant', () => {
    for (const right of [leaf.read, leaf.write]) {
      const rights = { readable: right === leaf.write, writable: right === leaf.read }
      const withoutIt = hostChip(hostDte(0n, hostQ0 & ~right))
      expect(withoutIt.iommu.translationRequest({ deviceId: device, iova: page })).toMatchObject(rights)
      for (const at of Object.values(entryAt)) {
        const chip = hostChip()
        chip.put([at, chip.load(at)! & ~right])
        for (const write of [false, true]) {
          const answer = chip.iommu.translationRequest({ deviceId: device, iova: page, write })
          expect(answer).toMatchObject({ kind: 'completed', ...rights })
        }
        expect(chip.takeEvents()).toEqual([])
      }
    }
  })

  it.each([
    [0n, 0n, false],
    [0n, leaf.coherent, false],
    [dte.noSnoop, 0n, true],
    [dte.noSnoop, leaf.coherent, false],
  ])('has N where the entry has SD and the leaf no FC: SD %s, FC %s', (sd, fc, noSnoop) => {
    const chip = hostChip(hostDte(sd))
    chip.put([entryAt.level1, readWrite | spa | fc | 1n])
    for (let times = 0; times < 2; times++) {
      const answer = chip.iommu.translationRequest({ deviceId: device, iova: page })
      expect(answer).toMatchObject({ noSnoop })
    }
  })

  it('has U where the leaf has it', () => {
    const chip = hostChip()
    chip.put([entryAt.level1, readWrite | spa | leaf.untranslated | 1n])
    for (let times = 0; times < 2; times++) {
      const answer = chip.iommu.translationRequest({ deviceId: device, iova: page })
      expect(answer).toMatchObject({
        untranslatedOnly: true,
        readable: true,
        writable: true,
        noSnoop: false,
      })
    }
  })

  it.each([
    [dte.read | dte.write, true, true],
    [dte.read, true, false],
    [dte.write, false, true],
    [0n, false, false],
  ])('with Mode 0 is the address itself, with the rights of the entry: %s', (rights, readable, writable) => {
    const chip = Chip.create()
    chip.setDte(device, hostDte(0n, dte.valid | dte.translates | rights))
    const answer = chip.iommu.translationRequest({ deviceId: device, iova: 0x123456789abcn })
    const expected = { kind: 'completed', spa: 0x123456789abcn, readable, writable, from: 'identity' }
    expect(answer).toMatchObject({ ...expected, untranslatedOnly: false, executable: false, reads: 0 })
    expect(chip.takeEvents()).toEqual([])
  })

  it.each([
    [0n, true],
    [1n, true],
    [2n, true],
    [3n, false],
  ])('with Mode 0 has N but for AttrV with Mode0FC: %s', (attributes, noSnoop) => {
    for (const moreQ0 of [0n, 1n << 55n]) {
      // In the second case PASID 5 has a guest table, and a GPA is an SPA.
      const chip = Chip.create()
      const q0 = dte.valid | dte.translates | dte.read | dte.write | moreQ0
      const gcr3Root = moreQ0 === 0n ? 0n : 0x20000n
      chip.setDte(device, [q0, 0x42n | dte.iotlb | dte.noSnoop | gcr3Root, 0n, attributes << 54n])
      chip.put([0x10028n, 0x20001n], [0x20000n, 0x21007n], [0x21008n, 0x22007n], [0x22008n, 0x23007n])
      chip.put([0x23008n, 0x30007n])
      const pasid = moreQ0 === 0n ? undefined : 5
      const answer = chip.iommu.translationRequest({ deviceId: device, pasid, iova: page })
      expect(answer).toMatchObject({ kind: 'completed', readable: true, noSnoop })
    }
  })

  it('with the IOMMU off is the address itself, and no entry counts', () => {
    const chip = hostChip(hostDte(dte.noSnoop))
    chip.iommu.translationRequest({ deviceId: device, iova: page })
    chip.write(register.control, 0n)
    const answer = chip.iommu.translationRequest({ deviceId: device, iova: page })
    const expected = { spa: page, sizeLog2: 64, readable: true, writable: true, from: 'identity' }
    expect(answer).toMatchObject({ kind: 'completed', ...expected, noSnoop: false, untranslatedOnly: false })
  })
})

describe('the answer to a translation request with PASID', () => {
  it('tells the final page and what guest and host tables grant', () => {
    const chip = guestChip()
    const asked = { deviceId: nested, pasid: 5, iova: guestPages + 0x1010n }
    const expected = { spa: guestSpa + 0x1010n, sizeLog2: 12, readable: true, writable: true }
    for (let times = 0; times < 2; times++) {
      const answer = chip.iommu.translationRequest(asked)
      expect(answer).toMatchObject({ kind: 'completed', ...expected, executable: false })
    }
  })

  it.each([
    ['read-only in the guest', (chip: Chip) => [guestEntryAt(1, 0n), chip.load(guestEntryAt(1, 0n))! & ~2n]],
    [
      'read-only in the host',
      (chip: Chip) => [hostEntryAt(hostPages), chip.load(hostEntryAt(hostPages))! & ~leaf.write],
    ],
  ] as const)('has W=0 for a page that is %s', (_, change) => {
    const chip = guestChip()
    chip.put(change(chip) as unknown as readonly [bigint, bigint])
    const answer = chip.iommu.translationRequest({
      deviceId: nested,
      pasid: 5,
      iova: guestPages,
      write: true,
    })
    expect(answer).toMatchObject({ kind: 'completed', readable: true, writable: false, spa: guestSpa })
    expect(chip.takeEvents()).toEqual([])
  })

  it('has the size of the smaller page', () => {
    const chip = guestChip()
    chip.put([guestDirectoryAt(1), 0x87n])
    chip.put([hostEntryAt(0x1000n), readWrite | 0x200001001n])
    const answer = chip.iommu.translationRequest({ deviceId: nested, pasid: 5, iova: guestPages + 0x1000n })
    expect(answer).toMatchObject({ sizeLog2: 12, spa: 0x200001000n })
  })

  it('has Exe where it was asked for, NX is clear, and reading is granted', () => {
    const asked = { deviceId: nested, pasid: 5, iova: guestPages }
    const chip = guestChip()
    expect(chip.iommu.translationRequest(asked)).toMatchObject({ executable: false })
    expect(chip.iommu.translationRequest({ ...asked, execute: true })).toMatchObject({ executable: true })
    const closed = guestChip()
    closed.put([guestEntryAt(1, 0n), closed.load(guestEntryAt(1, 0n))! | (1n << 63n)])
    const answer = closed.iommu.translationRequest({ ...asked, execute: true })
    expect(answer).toMatchObject({ executable: false, readable: true, writable: true })
    const writeOnly = guestChip()
    const entry = hostEntryAt(hostPages)
    writeOnly.put([entry, writeOnly.load(entry)! & ~leaf.read])
    expect(writeOnly.iommu.translationRequest({ ...asked, execute: true })).toMatchObject({
      ...{ executable: false, readable: false, writable: true },
    })
  })

  it('gives a page of the supervisor to privileged requests alone', () => {
    const chip = guestChip()
    chip.put([guestEntryAt(1, 0n), chip.load(guestEntryAt(1, 0n))! & ~4n])
    const asked = { deviceId: nested, pasid: 5, iova: guestPages }
    const privileged = chip.iommu.translationRequest({ ...asked, supervisor: true })
    expect(privileged).toMatchObject({ readable: true, writable: true })
    expectNothing(chip, chip.iommu.translationRequest(asked))
  })

  it('gives a user page to privileged requests too', () => {
    const asked = { deviceId: nested, pasid: 5, iova: guestPages, supervisor: true }
    expect(guestChip().iommu.translationRequest(asked)).toMatchObject({ readable: true, writable: true })
  })
})

describe('the answer to a translation request without PASID under GIoV', () => {
  const asked = { deviceId: nested, iova: guestPages }

  it('comes from the guest table of PASID 0', () => {
    const answer = guestChip(dte.giov).iommu.translationRequest(asked)
    expect(answer).toMatchObject({ kind: 'completed', spa: guestSpa, readable: true, writable: true })
  })

  it('has user privilege and never Exe, whatever the request says', () => {
    const flags = { supervisor: true, execute: true }
    const chip = guestChip(dte.giov)
    expect(chip.iommu.translationRequest({ ...asked, ...flags })).toMatchObject({
      readable: true,
      executable: false,
    })
    const closed = guestChip(dte.giov)
    closed.put([guestEntryAt(0, 0n), closed.load(guestEntryAt(0, 0n))! & ~4n])
    expectNothing(closed, closed.iommu.translationRequest({ ...asked, ...flags }))
    const other = guestChip(dte.giov, 0n, withSwitches({ giovPrivilege: 'supervisor' }))
    other.put([guestEntryAt(0, 0n), other.load(guestEntryAt(0, 0n))! & ~4n])
    expect(other.iommu.translationRequest(asked)).toMatchObject({ readable: true, writable: true })
  })

  it('tells of malformed tables with GN=1, PASID 0 and US=1, whatever privilege the request claims', () => {
    for (const supervisor of [false, true]) {
      const chip = guestChip(dte.giov)
      chip.put([guestDirectoryAt(0), chip.load(guestDirectoryAt(0))! | 0x2080n])
      const answer = chip.iommu.translationRequest({ ...asked, supervisor })
      expectLogged(chip, answer, 'completer-abort', '00000005 21950000 40200000 00000000')
    }
  })
})

describe('the dirty bit', () => {
  const marking = quietControl | controlBit.hostDirty
  const entry = hostDte(0n, hostQ0 | dte.hostMarks)
  const marks = (chip: Chip): bigint => chip.load(entryAt.level1)! & 0x60n
  const asked = { deviceId: device, iova: page }

  it('is set when an answer allows writing, as the writes come unseen', () => {
    for (const write of [false, true]) {
      const chip = hostChip(entry, { control: marking })
      expect(chip.iommu.translationRequest({ ...asked, write })).toMatchObject({ writable: true })
      expect(marks(chip)).toBe(0x60n)
    }
  })

  it('stays clear for a request with NW, which is not allowed to write', () => {
    const chip = hostChip(entry, { control: marking })
    const answer = chip.iommu.translationRequest({ ...asked, noWrite: true })
    expect(answer).toMatchObject({ readable: true, writable: false })
    expect(marks(chip)).toBe(0x20n)
  })

  it('is set though the translation was filed by a read', () => {
    for (const first of ['ordinary', 'nw']) {
      const chip = hostChip(entry, { control: marking })
      if (first === 'nw') chip.iommu.translationRequest({ ...asked, noWrite: true })
      else chip.iommu.request(asked)
      expect(marks(chip)).toBe(0x20n)
      expect(chip.iommu.translationRequest(asked)).toMatchObject({ writable: true })
      expect(marks(chip)).toBe(0x60n)
    }
  })

  it('stays clear where the page may not be written', () => {
    const chip = hostChip(entry, { control: marking })
    chip.put([entryAt.level1, leaf.read | spa | 1n])
    expect(chip.iommu.translationRequest({ ...asked, write: true })).toMatchObject({ writable: false })
    expect(marks(chip)).toBe(0x20n)
  })

  it('is left to software by choice', () => {
    const chip = hostChip(entry, { control: marking, switches: { atsDirty: 'left' } })
    expect(chip.iommu.translationRequest({ ...asked, write: true })).toMatchObject({ writable: true })
    expect(marks(chip)).toBe(0x20n)
  })

  it('is set in the guest leaf; where it cannot be, writing is not allowed, and no event tells of it', () => {
    const control = quietControl & ~(controlBit.guestDirtyOff | controlBit.guestAccessedOff)
    const guestAsked = { deviceId: nested, pasid: 5, iova: guestPages }
    const chip = guestChip(0n, 0n, { control })
    expect(chip.iommu.translationRequest({ ...guestAsked, noWrite: true })).toMatchObject({ writable: false })
    expect(chip.load(guestEntryAt(1, 0n))! & 0x60n).toBe(0x20n)
    // The guest's page table is read-only from now on.
    const tableGpa = (guestEntryAt(1, 0n) & ~0xfffn) - 0x200000000n
    chip.put([hostEntryAt(tableGpa), chip.load(hostEntryAt(tableGpa))! & ~leaf.write])
    const answer = chip.iommu.translationRequest({ ...guestAsked, write: true })
    expect(answer).toMatchObject({ kind: 'completed', readable: true, writable: false })
    expect(chip.takeEvents()).toEqual([])
    chip.put([hostEntryAt(tableGpa), chip.load(hostEntryAt(tableGpa))! | leaf.write])
    expect(chip.iommu.translationRequest(guestAsked)).toMatchObject({ writable: true })
    expect(chip.load(guestEntryAt(1, 0n))! & 0x60n).toBe(0x60n)
  })
})

/** Ordinary reasons for which there is nothing to grant. */
const nothings: [string, () => Chip, { deviceId: number; pasid?: number; iova: bigint }][] = [
  ['a host entry is not present', hostChip, { deviceId: device, iova: page + 0x1000n }],
  ['a host directory is not present', hostChip, { deviceId: device, iova: 0x80000000n >> 1n }],
  ['the address is above the width of Mode', hostChip, { deviceId: device, iova: 1n << 40n }],
  [
    'the leaf grants nothing',
    () => {
      const chip = hostChip()
      chip.put([entryAt.level1, spa | 1n])
      return chip
    },
    { deviceId: device, iova: page },
  ],
  ['the entry grants nothing', () => hostChip(hostDte(0n, modeThree)), { deviceId: device, iova: page }],
  [
    'the entry of a nested device grants nothing',
    () => {
      const chip = guestChip()
      const [q0 = 0n, q1 = 0n] = nestedDte(nested)
      chip.setDte(nested, [q0 & ~(dte.read | dte.write), q1 | dte.iotlb, 0n, 0n])
      return chip
    },
    { deviceId: nested, pasid: 5, iova: guestPages },
  ],
  ['there are no guest tables for a PASID', hostChip, { deviceId: device, pasid: 5, iova: page }],
  ['the PASID has no guest table', guestChip, { deviceId: nested, pasid: 6, iova: guestPages }],
  ['the PASID is above what GLX covers', guestChip, { deviceId: nested, pasid: 0x40000, iova: guestPages }],
  ['the guest page is not present', guestChip, { deviceId: nested, pasid: 5, iova: guestPages + 0x10000n }],
  ['the address is not canonical', guestChip, { deviceId: nested, pasid: 5, iova: 1n << 47n }],
  [
    'the host page of a guest page is not present',
    () => {
      const chip = guestChip()
      chip.put([hostEntryAt(hostPages), 0n])
      return chip
    },
    { deviceId: nested, pasid: 5, iova: guestPages },
  ],
]

describe('a translation request with nothing to grant is answered with R=W=0 and no event', () => {
  it.each(nothings)('%s', (_, make, asked) => {
    for (const write of [false, true]) {
      const chip = make()
      for (let times = 0; times < 2; times++) {
        const answer = chip.iommu.translationRequest({ ...asked, write })
        expectNothing(chip, answer)
        expect(answer).toMatchObject({ untranslatedOnly: false })
      }
    }
  })

  it('whatever SE and SA say; and SE has its first event still to come', () => {
    const chip = hostChip(hostDte(dte.suppressAfterFirst))
    const absent = { deviceId: device, iova: page + 0x1000n }
    expectNothing(chip, chip.iommu.translationRequest(absent))
    expect(chip.iommu.request(absent)).toMatchObject({ kind: 'fault', logged: true })
    expect(chip.iommu.request(absent)).toMatchObject({ kind: 'fault', logged: false })
    expect(chip.takeEvents()).toEqual([event('00000600 20000042 40202000 00000000')])
    const silent = hostChip(hostDte(dte.suppressAll))
    expectNothing(silent, silent.iommu.translationRequest(absent))
  })

  it.each([
    [
      'aboveWidth',
      () => hostChip(hostDte(), withSwitches({ aboveWidth: 'pr-1' })),
      device,
      undefined,
      1n << 40n,
    ],
    ['nonCanonical', () => guestChip(0n, 0n, withSwitches({ nonCanonical: 'pr-1' })), nested, 5, 1n << 47n],
    [
      'pasidBeyondGlx',
      () => guestChip(0n, 0n, withSwitches({ pasidBeyondGlx: 'pr-1' })),
      nested,
      0x40000,
      guestPages,
    ],
  ] as const)(
    'whatever PR the event of an ordinary request would have: %s',
    (_, make, deviceId, pasid, iova) => {
      const chip = make()
      expectNothing(chip, chip.iommu.translationRequest({ deviceId, pasid, iova }))
    },
  )
})

describe('a translation request that the device may not make is unsupported', () => {
  it.each([
    ['V=0', [0n, dte.iotlb, 0n, 0n]],
    ['V=0, and all else as if valid', [hostQ0 & ~1n, 0x42n | dte.iotlb, 0n, 0n]],
    ['I=0', [hostQ0, 0x42n, 0n, 0n]],
    ['TV=0', [hostQ0 & ~2n, 0x42n | dte.iotlb, 0n, 0n]],
    ['TV=0, I=0', [dte.valid, 0n, 0n, 0n]],
    ['I=0 with Mode 0', [dte.valid | dte.translates | dte.read | dte.write, 0n, 0n, 0n]],
    ['I=0, SA and SE', [hostQ0, 0x42n | dte.suppressAll | dte.suppressAfterFirst, 0n, 0n]],
  ])('%s: INVALID_DEVICE_REQUEST with TR=1, type 0, each time', (_, words) => {
    const chip = hostChip(words)
    for (const write of [false, true]) {
      const answer = chip.iommu.translationRequest({ deviceId: device, iova: page, write })
      expectLogged(chip, answer, 'unsupported-request', '00000600 81000000 40201000 00000000')
    }
  })

  it.each([
    [false, '00010600 81032345 0000cabc 00007f00'],
    [true, '00010600 81012345 0000cabc 00007f00'],
  ])('the event names the PASID and the privilege: supervisor %s', (supervisor, words) => {
    const chip = hostChip([hostQ0, 0x42n, 0n, 0n])
    const asked = { deviceId: device, pasid: 0x12345, iova: 0x7f000000cabcn, supervisor }
    expectLogged(chip, chip.iommu.translationRequest(asked), 'unsupported-request', words)
  })

  it.each([
    ['interrupts', 0xfee00000n, 'fee00000 00000000'],
    ['the last of them', 0xfeefffffn, 'feefffff 00000000'],
    ['HyperTransport interrupts', 0xfdf8000000n, 'f8000000 fffffffd'],
    ['system management', 0xfdf9100000n, 'f9100000 fffffffd'],
    ['port I/O', 0xfdfc000000n, 'fc000000 fffffffd'],
    ['the last of them', 0xfdfdffffffn, 'fdffffff fffffffd'],
  ])('the range of %s: TR=1, type 1', (_, iova, address) => {
    const moreQ1s = [0n, dte.translatedPorts | dte.translatedManagement]
    for (const moreQ1 of moreQ1s) {
      for (const write of [false, true]) {
        const chip = hostChip(hostDte(moreQ1))
        const answer = chip.iommu.translationRequest({ deviceId: device, iova, write })
        const words = `00000600 83000000 ${address}`
        expect(answer.kind).toBe('unsupported-request')
        const [[lo, hi] = [0n, 0n], ...rest] = chip.takeEvents()
        // Only some parts of the manual say whose request it was.
        expect([lo, hi]).toEqual(event(words))
        expect(rest).toEqual([])
      }
    }
  })

  it('those ranges are memory where the part says so', () => {
    const features = { ...nestingFeatures, efr2: nestingFeatures.efr2 | 0x800n }
    const chip = Chip.create({ features })
    chip.setDte(device, hostDte(0n, dte.valid | dte.translates | dte.read | dte.write))
    for (const iova of [0xfdf8000000n, 0xfdfc000000n]) {
      expect(chip.iommu.translationRequest({ deviceId: device, iova })).toMatchObject({
        kind: 'completed',
        spa: iova,
      })
    }
  })

  it('the DeviceID is beyond the table: an event with TR=1 tells', () => {
    const chip = hostChip()
    chip.write(register.deviceTableBase, 0x4000000n)
    const answer = chip.iommu.translationRequest({ deviceId: device, iova: page })
    expectLogged(chip, answer, 'unsupported-request', '00000600 21000000 40201000 00000000')
  })
})

describe('a translation request under an illegal entry', () => {
  it('is unsupported: ILLEGAL_DEV_TABLE_ENTRY with TR=1, as real parts log it', () => {
    const chip = Chip.create()
    // DTE.PPR while Control.EPHEn is clear.
    chip.setDte(0x200, [hostQ0 | (1n << 52n), dte.iotlb, 0n, 0n])
    const answer = chip.iommu.translationRequest({ deviceId: 0x200, iova: 0x131400000n })
    expectLogged(chip, answer, 'unsupported-request', '00000200 11800000 31400000 00000001')
  })

  it.each([
    ['a reserved bit, whatever TV and I are', [dte.valid | 4n, 0n, 0n, 0n], 0x80n],
    ['HAD=10', [hostQ0 | (2n << 7n), dte.iotlb, 0n, 0n], 0x80n],
    ['Mode 7', [hostQ0 | 0xe00n, dte.iotlb, 0n, 0n], 0n],
    ['GLX 3', [hostQ0 | (7n << 55n), dte.iotlb, 0n, 0n], 0n],
    ['Mode 7, and SA', [hostQ0 | 0xe00n, dte.iotlb | dte.suppressAll, 0n, 0n], 0n],
  ])('%s', (_, words, flags) => {
    const chip = Chip.create()
    chip.setDte(device, words)
    const answer = chip.iommu.translationRequest({ deviceId: device, iova: page, write: true })
    const word = (0x11200000n | (flags << 16n)).toString(16)
    expectLogged(chip, answer, 'unsupported-request', `00000600 ${word} 40201000 00000000`)
  })
})

describe('a translation request that meets malformed tables is aborted', () => {
  it.each([
    ['a reserved bit in the leaf', entryAt.level1, readWrite | spa | (1n << 52n) | 1n, '21900042'],
    ['a reserved bit in a directory', entryAt.level2, readWrite | 0x100002201n | (1n << 60n), '21900042'],
    ['a level that cannot be', entryAt.level2, readWrite | 0x100002601n, '21100042'],
    ['a size that cannot be', entryAt.level1, readWrite | 0x3000ffe01n, '21100042'],
  ])('%s: IO_PAGE_FAULT with TR=1', (_, at, entry, flags) => {
    for (const choice of ['logged', 'silent'] as const) {
      const chip = hostChip(hostDte(), withSwitches({ atsMalformed: choice }))
      chip.put([at, entry])
      const answer = chip.iommu.translationRequest({ deviceId: device, iova: page })
      if (choice === 'logged') {
        expectLogged(chip, answer, 'completer-abort', `00000600 ${flags} 40201000 00000000`)
      } else {
        expect(answer).toMatchObject({ kind: 'completer-abort', logged: false })
        expect(chip.takeEvents()).toEqual([])
      }
    }
  })

  it('a reserved bit in a guest table: the event names the PASID', () => {
    const chip = guestChip()
    chip.put([guestDirectoryAt(1), chip.load(guestDirectoryAt(1))! | 0x2080n])
    const asked = {
      deviceId: nested,
      pasid: 5,
      iova: guestPages,
      write: true,
      execute: true,
      supervisor: true,
    }
    expectLogged(
      chip,
      chip.iommu.translationRequest(asked),
      'completer-abort',
      '00000005 21b30005 40200000 00000000',
    )
  })

  it('a malformed host table below a guest table: the event names what the switch says', () => {
    for (const nestedHostFault of ['gva', 'gpa'] as const) {
      const chip = guestChip(0n, 0n, withSwitches({ nestedHostFault }))
      chip.put([hostEntryAt(hostPages), chip.load(hostEntryAt(hostPages))! | (1n << 52n)])
      const asked = { deviceId: nested, pasid: 5, iova: guestPages }
      const plain = chip.iommu.request(asked)
      const answer = chip.iommu.translationRequest(asked)
      const [[lo, hi] = [0n, 0n]] = chip.takeEvents()
      expect(plain).toMatchObject({ kind: 'fault', event: [lo, hi] })
      // As for an ordinary request, but for TR.
      expect(answer).toMatchObject({ kind: 'completer-abort', event: [lo | (1n << 56n), hi] })
    }
  })

  it('a table that no memory answers for: PAGE_TAB_HARDWARE_ERROR with TR=1', () => {
    for (const atsMalformed of ['logged', 'silent'] as const) {
      const chip = hostChip(hostDte(dte.suppressAll), withSwitches({ atsMalformed }))
      chip.put([entryAt.level2, readWrite | 0x20000000201n])
      const answer = chip.iommu.translationRequest({ deviceId: device, iova: page })
      expectLogged(chip, answer, 'completer-abort', '00000600 43000042 00000008 00000200')
    }
  })

  it('a device table that no memory answers for: DEV_TAB_HARDWARE_ERROR with TR=1', () => {
    const chip = hostChip()
    chip.write(register.deviceTableBase, 0x200000001ffn)
    const answer = chip.iommu.translationRequest({ deviceId: device, iova: page })
    expectLogged(chip, answer, 'completer-abort', '00000600 33000000 0000c000 00000200')
  })
})

describe('the exclusion range and translation requests', () => {
  const range = { base: 0x50000000n, limit: 0x50003000n }
  const inside = [0x50000000n, 0x50001abcn, 0x50003fffn]

  function excludingChip(moreQ1: bigint, flags: bigint, words?: bigint[]): Chip {
    const chip = hostChip(words ?? hostDte(moreQ1))
    chip.write(0x20, range.base | flags)
    chip.write(0x28, range.limit)
    return chip
  }

  it.each([
    ['Allow', 0n, 3n],
    ['EX', dte.excluded, 1n],
  ])('an address in the range is its own translation, to read and to write: %s', (_, moreQ1, flags) => {
    for (const iova of inside) {
      const answer = excludingChip(moreQ1, flags).iommu.translationRequest({ deviceId: device, iova })
      expect(answer).toMatchObject({ kind: 'completed', spa: iova, readable: true, writable: true })
    }
  })

  it('whatever rights the entry has', () => {
    const chip = excludingChip(0n, 3n, hostDte(0n, modeThree))
    const answer = chip.iommu.translationRequest({ deviceId: device, iova: 0x50000000n })
    expect(answer).toMatchObject({ kind: 'completed', readable: true, writable: true })
  })

  it('the answer speaks of addresses in the range alone', () => {
    for (const iova of inside) {
      const answer = excludingChip(0n, 3n).iommu.translationRequest({ deviceId: device, iova })
      const size = BigInt(answer.kind === 'completed' ? answer.sizeLog2 : 64)
      const first = (iova >> size) << size
      expect(first, `2^${size} bytes`).toBeGreaterThanOrEqual(range.base)
      expect(first + (1n << size)).toBeLessThanOrEqual(range.limit + 0x1000n)
    }
  })

  it.each([
    ['without EX or Allow', 0n, 1n, 0x50000000n],
    ['while it is off', dte.excluded, 2n, 0x50000000n],
    ['below it', dte.excluded, 3n, 0x4ffff000n],
    ['above it', dte.excluded, 3n, 0x50004000n],
  ])('an address is translated as any: %s', (_, moreQ1, flags, iova) => {
    const chip = excludingChip(moreQ1, flags)
    expectNothing(chip, chip.iommu.translationRequest({ deviceId: device, iova }))
  })

  it.each([
    ['I=0', [hostQ0, 0x42n, 0n, 0n]],
    ['TV=0', [hostQ0 & ~2n, 0x42n | dte.iotlb, 0n, 0n]],
    ['V=0', [0n, dte.iotlb, 0n, 0n]],
  ])('a device that may not ask gets no answer there either: %s', (_, words) => {
    const chip = excludingChip(0n, 3n, words)
    const answer = chip.iommu.translationRequest({ deviceId: device, iova: 0x50000000n })
    expectLogged(chip, answer, 'unsupported-request', '00000600 81000000 50000000 00000000')
  })
})

describe('a request by a translated address', () => {
  const anywhere = 0x123456789abcn

  it.each([
    ['the whole entry', hostDte()],
    ['Mode 0', hostDte(0n, dte.valid | dte.translates | dte.read | dte.write)],
    ['a level that cannot be', hostDte(0n, hostQ0 | 0xe00n)],
  ])('passes as it is where I=1, though no table maps it: %s', (_, words) => {
    const chip = hostChip(words)
    for (const write of [false, true]) {
      const answer = chip.iommu.translatedRequest({ deviceId: device, iova: anywhere, write })
      expect(answer).toEqual({ kind: 'forwarded', address: anywhere })
    }
    expect(chip.takeEvents()).toEqual([])
    expect(chip.iommu.iotlbEntries()).toEqual([])
  })

  it.each([
    ['I=0', [hostQ0, 0x42n, 0n, 0n]],
    ['V=0', [hostQ0 & ~1n, dte.iotlb, 0n, 0n]],
    ['I=0, SA and SE', [hostQ0, 0x42n | dte.suppressAll | dte.suppressAfterFirst, 0n, 0n]],
  ])('is refused with INVALID_DEVICE_REQUEST, TR=0, type 1, each time: %s', (_, words) => {
    const chip = hostChip(words)
    for (const write of [false, true]) {
      const answer = chip.iommu.translatedRequest({ deviceId: device, iova: 0x40201000n, write })
      const expected = event('00000600 82000000 40201000 00000000')
      expect(answer).toMatchObject({ kind: 'fault', event: expected, logged: true })
      expect(chip.takeEvents()).toEqual([expected])
    }
  })

  it('is checked against IR and IW of the entry', () => {
    const readOnly = hostChip(hostDte(0n, modeThree | dte.read))
    expect(readOnly.iommu.translatedRequest({ deviceId: device, iova: anywhere })).toMatchObject({
      kind: 'forwarded',
    })
    const asked = { deviceId: device, iova: page, write: true }
    expect(readOnly.iommu.translatedRequest(asked)).toMatchObject({
      ...{ kind: 'fault', event: event('00000600 20700042 40201000 00000000'), logged: true },
    })
    const writeOnly = hostChip(hostDte(0n, modeThree | dte.write))
    expect(writeOnly.iommu.translatedRequest(asked)).toMatchObject({ kind: 'forwarded' })
    expect(writeOnly.iommu.translatedRequest({ ...asked, write: false })).toMatchObject({
      ...{ kind: 'fault', event: event('00000600 20500042 40201000 00000000') },
    })
  })

  it('is not checked by choice', () => {
    const chip = hostChip(hostDte(0n, modeThree), withSwitches({ translatedRights: 'ignored' }))
    const answer = chip.iommu.translatedRequest({ deviceId: device, iova: anywhere, write: true })
    expect(answer).toMatchObject({ kind: 'forwarded' })
  })

  it('is refused under an illegal entry, without TR', () => {
    const chip = hostChip(hostDte(0n, hostQ0 | (1n << 52n)))
    const answer = chip.iommu.translatedRequest({ deviceId: device, iova: page })
    expect(answer).toMatchObject({ kind: 'fault', event: event('00000600 10800000 40201000 00000000') })
  })

  it('to the interrupt range is an interrupt, if it is a posted write', () => {
    const chip = hostChip()
    const asked = { deviceId: device, iova: 0xfee00000n }
    expect(chip.iommu.translatedRequest({ ...asked, write: true })).toMatchObject({ kind: 'interrupt' })
    expect(chip.iommu.translatedRequest(asked)).toMatchObject({
      ...{ kind: 'fault', event: event('00000600 80000000 fee00000 00000000') },
    })
  })

  it('passes with the IOMMU off', () => {
    const chip = hostChip([0n, 0n, 0n, 0n], { control: 0n })
    const answer = chip.iommu.translatedRequest({ deviceId: device, iova: anywhere })
    expect(answer).toEqual({ kind: 'forwarded', address: anywhere })
  })
})

describe('values out of range', () => {
  it.each([
    [{ deviceId: 0x10000, iova: 0n }, 'deviceId'],
    [{ deviceId: -1, iova: 0n }, 'deviceId'],
    [{ deviceId: 0, iova: 1n << 64n }, 'iova'],
    [{ deviceId: 0, iova: -1n }, 'iova'],
    [{ deviceId: 0, iova: 0n, pasid: 1 << 20 }, 'pasid'],
    [{ deviceId: 0, iova: 0n, pasid: 0.5 }, 'pasid'],
  ])('are a RangeError: %o', (asked, field) => {
    const { iommu } = Chip.create()
    for (const ask of [() => iommu.translationRequest(asked), () => iommu.translatedRequest(asked)]) {
      expect(ask).toThrow(RangeError)
      expect(ask).toThrow(field)
    }
  })
})
