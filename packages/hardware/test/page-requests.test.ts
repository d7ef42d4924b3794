/** Page requests of devices: the PPR log, automatic answers, refusals, and the answers of software. */
import { parseHex } from '@nestwalk/bits'
import { describe, expect, it } from 'vitest'
import vectors from '../vectors/ppr.json' with { type: 'json' }
import { nestingFeatures } from '../src/index.js'
import type { PageRequest } from '../src/index.js'
import { Chip, event, quietControl, register } from './chip.js'
import type { ChipOptions } from './chip.js'

const device = 0x600
const at = {
  pprBase: 0x38,
  pprBBase: 0xf0,
  pprHead: 0x2030,
  pprTail: 0x2038,
  pprBHead: 0x2050,
  pprBTail: 0x2058,
  autoResponse: 0x2080,
  early: 0x2088,
  earlyB: 0x2090,
} as const
const on = {
  pprLog: 1n << 13n,
  pprInterrupt: 1n << 14n,
  ppr: 1n << 15n,
  logB: 1n << 30n,
  autoSwap: 2n << 30n,
  autoResponse: 1n << 39n,
  blockStopMarkers: 1n << 41n,
  autoAlways: 1n << 42n,
  enhanced: 1n << 45n,
} as const
const status = {
  overflow: 1n << 5n,
  interrupt: 1n << 6n,
  running: 1n << 7n,
  overflowB: 1n << 11n,
  inB: 1n << 12n,
  earlyB: 1n << 17n,
  early: 1n << 18n,
} as const

const logAt = 0x5200000n
const logBAt = 0x5300000n
const taking = quietControl | on.pprLog | on.ppr
const bit = {
  pageRequests: 1n << 1n,
  dualLog: 3n << 24n,
  early: 1n << 40n,
  autoResponse: 1n << 41n,
  blockStopMarkers: 1n << 44n,
  enhanced: 1n << 50n,
} as const
const without = (bits: bigint): ChipOptions => ({
  features: { ...nestingFeatures, efr: nestingFeatures.efr & ~bits },
})

/** V, TV, GV, IR, IW; PASIDs through a guest table that no request here needs. */
const guestQ0 = 0x6080000000000003n
const iotlb = 1n << 32n
const guestDte = [guestQ0, iotlb | 0x42n, 0n, 0n]

function pprChip(control = taking, words: readonly bigint[] = guestDte, options: ChipOptions = {}): Chip {
  const chip = Chip.create({ ...options, control: 0n })
  chip.setDte(device, words)
  chip.write(at.pprBase, logAt | (8n << 56n))
  chip.write(at.pprBBase, logBAt | (8n << 56n))
  // MSI is on.
  chip.iommu.writeConfig(0x64, 4, 0x10000)
  chip.write(register.control, control)
  return chip
}

const asked: PageRequest = {
  deviceId: device,
  pasid: 5,
  address: 0x7f0000003abcn,
  read: true,
  group: 0x23,
  last: true,
}

/** Takes the entries out of a log, as software does. */
function takeEntries(chip: Chip, ring: 'a' | 'b' = 'a'): (readonly [bigint, bigint])[] {
  const [base, head, tail] =
    ring === 'a' ? [logAt, at.pprHead, at.pprTail] : [logBAt, at.pprBHead, at.pprBTail]
  const entries: (readonly [bigint, bigint])[] = []
  let next = chip.read(head)
  for (; next !== chip.read(tail); next = (next + 16n) & 0xfffn) {
    entries.push([chip.load(base + next)!, chip.load(base + next + 8n)!])
  }
  chip.write(head, next)
  return entries
}

/** Fills the log in use up to the last place, which stays free. */
function fillLog(chip: Chip, entries = 255): void {
  for (let n = 0; n < entries; n++) expect(chip.iommu.pageRequest(asked)).toBe('logged')
}

const ownInterrupts = (chip: Chip): (string | undefined)[] => {
  const causes: string[] = []
  for (
    let message = chip.iommu.takeInterrupt();
    message !== undefined;
    message = chip.iommu.takeInterrupt()
  ) {
    causes.push(message.cause)
  }
  return causes
}

const entryOf = (n: number): readonly [bigint, bigint] => {
  const words = vectors.vectors[n]?.words ?? []
  return [parseHex(words[0] ?? ''), parseHex(words[1] ?? '')]
}

describe('an entry of the PPR log', () => {
  const reads = { deviceId: device, address: 0x7f0000003abcn, read: true, group: 0x23 }

  it.each<[string, PageRequest, number]>([
    ['PASID 5, last, reads and writes, user', { ...reads, pasid: 5, write: true, last: true }, 0],
    ['PASID 12345, not last, supervisor', { ...reads, pasid: 0x12345, supervisor: true }, 1],
    ['without PASID, last', { ...reads, address: 0x5fffn, group: 1, last: true }, 2],
    [
      'without PASID: neither privilege nor execution counts',
      { ...reads, address: 0x5000n, group: 1, last: true, execute: true, supervisor: true },
      2,
    ],
  ])('says what is asked for: %s', (_, request, vector) => {
    const chip = pprChip()
    expect(chip.iommu.pageRequest(request)).toBe('logged')
    expect(takeEntries(chip)).toEqual([entryOf(vector)])
    expect(chip.takeEvents()).toEqual([])
  })

  it('has bit 49 for execution, all groups, and addresses of 64 bits', () => {
    const chip = pprChip()
    const request = { ...reads, pasid: 0xfffff, address: (1n << 64n) - 1n, group: 0x1ff, execute: true }
    expect(chip.iommu.pageRequest(request)).toBe('logged')
    expect(takeEntries(chip)).toEqual([[0x11463dffffff0600n, 0xfffffffffffff000n]])
  })

  it('is followed by the tail, and told of by PprInt', () => {
    const chip = pprChip()
    chip.iommu.pageRequest(asked)
    expect(chip.read(at.pprTail)).toBe(16n)
    expect(chip.hasStatus(status.interrupt)).toBe(true)
    expect(chip.hasStatus(status.running)).toBe(true)
    expect(ownInterrupts(chip)).toEqual([])
    const interrupting = pprChip(taking | on.pprInterrupt)
    interrupting.iommu.pageRequest(asked)
    expect(ownInterrupts(interrupting)).toEqual(['ppr'])
  })

  it('finds its place again after a lap', () => {
    const chip = pprChip()
    for (let n = 0; n < 600; n++) {
      chip.iommu.pageRequest({ ...asked, address: BigInt(n) << 12n })
      expect(takeEntries(chip).map(([, hi]) => hi)).toEqual([BigInt(n) << 12n])
    }
  })
})

describe('a page request is accepted', () => {
  it.each<[string, bigint, ChipOptions]>([
    ['IommuEn', taking & ~1n, {}],
    ['PPREn', taking & ~on.ppr, {}],
    ['PPRLogEn', taking & ~on.pprLog, {}],
    ['PPRSup', taking, without(bit.pageRequests)],
  ])('with %s alone', (_, control, options) => {
    const chip = pprChip(control, guestDte, options)
    expect(chip.iommu.pageRequest(asked)).toBe('dropped')
    expect([chip.read(at.pprTail), chip.hasStatus(status.interrupt)]).toEqual([0n, false])
    expect(chip.takeEvents()).toEqual([])
    expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
  })

  it('with DTE.PPR under enhanced handling, and without it otherwise', () => {
    expect(pprChip().iommu.pageRequest(asked)).toBe('logged')
    expect(pprChip(taking | on.enhanced).iommu.pageRequest(asked)).toBe('refused')
    const able = [guestQ0 | (1n << 52n), iotlb, 0n, 0n]
    expect(pprChip(taking | on.enhanced, able).iommu.pageRequest(asked)).toBe('logged')
    // Without the feature the control bit says nothing.
    const plain = pprChip(taking | on.enhanced, guestDte, without(bit.enhanced))
    expect(plain.iommu.pageRequest(asked)).toBe('logged')
  })

  it('without guest tables, if it has no PASID', () => {
    const host = [0x6000000000000003n, iotlb, 0n, 0n]
    expect(pprChip(taking, host).iommu.pageRequest({ ...asked, pasid: undefined })).toBe('logged')
    expect(pprChip(taking, host).iommu.pageRequest(asked)).toBe('refused')
  })

  it('whatever SE and SA say', () => {
    const words = [guestQ0, iotlb | (3n << 33n), 0n, 0n]
    expect(pprChip(taking, words).iommu.pageRequest(asked)).toBe('logged')
  })
})

describe('a page request that the device may not make', () => {
  const request = { ...asked, address: 0x7f0000003abcn, group: 0x123 }

  it.each<[string, readonly bigint[]]>([
    ['V=0', [guestQ0 & ~1n, iotlb, 0n, 0n]],
    ['I=0', [guestQ0, 0n, 0n, 0n]],
    ['I=0, SA and SE', [guestQ0, 3n << 33n, 0n, 0n]],
    ['a PASID and GV=0', [0x6000000000000003n, iotlb, 0n, 0n]],
    ['a PASID and TV=0, so that GV does not count', [guestQ0 & ~2n, iotlb, 0n, 0n]],
    ['an illegal entry', [guestQ0 | 4n, iotlb, 0n, 0n]],
    ['DTE.PPR while it is reserved', [guestQ0 | (1n << 52n), iotlb, 0n, 0n]],
  ])('leaves INVALID_PPR_REQUEST, each time, and no entry: %s', (_, words) => {
    const chip = pprChip(taking, words)
    for (let times = 0; times < 2; times++) {
      expect(chip.iommu.pageRequest({ ...request, last: false })).toBe('refused')
      expect(chip.takeEvents()).toEqual([event('00050600 92010123 00003000 00007f00')])
    }
    expect([chip.read(at.pprTail), chip.hasStatus(status.interrupt)]).toEqual([0n, false])
  })

  it.each<[string, Partial<PageRequest>, string]>([
    ['RX=0 for the last of a group, which wants an answer', {}, '00050600 92000323 00003000 00007f00'],
    ['a PASID of 20 bits', { pasid: 0x12345 }, '23450600 92000723 00003000 00007f00'],
    ['all bits of PASID and tag', { pasid: 0xfffff, group: 0x1ff }, 'ffff0600 92003fff 00003000 00007f00'],
    ['GN=0 without PASID', { pasid: undefined }, '00000600 90000323 00003000 00007f00'],
    [
      'neither privilege nor rights',
      { write: true, supervisor: true, execute: true },
      '00050600 92000323 00003000 00007f00',
    ],
    ['an address of 64 bits', { address: (1n << 64n) - 1n }, '00050600 92000323 fffff000 ffffffff'],
  ])('is told of with %s', (_, more, words) => {
    const chip = pprChip(taking, [guestQ0, 0n, 0n, 0n])
    expect(chip.iommu.pageRequest({ ...request, ...more })).toBe('refused')
    expect(chip.takeEvents()).toEqual([event(words)])
  })

  it('is one of a device beyond the table', () => {
    const chip = pprChip()
    chip.write(register.deviceTableBase, 0x4000000n)
    expect(chip.iommu.pageRequest(request)).toBe('refused')
    expect(chip.takeEvents()).toEqual([event('00050600 92000323 00003000 00007f00')])
  })

  it('is not answered by hardware, whatever software has turned on', () => {
    const always = taking | on.autoResponse | on.autoAlways
    const chip = pprChip(always, [guestQ0, 0n, 0n, 0n])
    expect(chip.iommu.pageRequest(request)).toBe('refused')
    expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
  })
})

describe('the PPR log when it is full', () => {
  it('stops: PprOverflow, and entries are lost until it is restarted', () => {
    const chip = pprChip()
    fillLog(chip)
    expect(chip.hasStatus(status.overflow)).toBe(false)
    for (let times = 0; times < 2; times++) {
      expect(chip.iommu.pageRequest(asked)).toBe('dropped')
      expect([status.overflow, status.running].map((each) => chip.hasStatus(each))).toEqual([true, false])
    }
    expect(takeEntries(chip)).toHaveLength(255)
    expect(chip.iommu.pageRequest(asked)).toBe('dropped')
    // The head moves, the bit is cleared: neither restarts it.
    chip.write(register.status, status.overflow)
    expect(chip.iommu.pageRequest(asked)).toBe('dropped')
    expect(chip.read(at.pprTail)).toBe(0xff0n)
    chip.write(register.control, taking & ~on.pprLog)
    chip.write(register.control, taking)
    expect([status.overflow, status.running].map((each) => chip.hasStatus(each))).toEqual([false, true])
    expect(chip.iommu.pageRequest(asked)).toBe('logged')
    expect(takeEntries(chip)).toHaveLength(1)
    expect(chip.read(at.pprTail)).toBe(0n)
  })

  it('is restarted with PprOverflow cleared, though software did not', () => {
    const chip = pprChip()
    fillLog(chip)
    chip.iommu.pageRequest(asked)
    chip.write(register.control, taking & ~on.pprLog)
    expect(chip.hasStatus(status.overflow)).toBe(true)
    chip.write(register.control, taking)
    expect(chip.hasStatus(status.overflow)).toBe(false)
  })

  it('tells by an interrupt with PPRIntEn', () => {
    const chip = pprChip(taking | on.pprInterrupt)
    fillLog(chip)
    expect(ownInterrupts(chip)).toEqual(['ppr'])
    chip.iommu.pageRequest(asked)
    expect(ownInterrupts(chip)).toEqual(['ppr'])
  })

  it('does not hinder translation, and refusals are still told of', () => {
    const chip = pprChip()
    fillLog(chip)
    chip.iommu.pageRequest(asked)
    expect(chip.iommu.request({ deviceId: device, iova: 0x1000n })).toMatchObject({ kind: 'translated' })
    chip.setDte(7, [guestQ0, 0n, 0n, 0n])
    expect(chip.iommu.pageRequest({ ...asked, deviceId: 7 })).toBe('refused')
    expect(chip.takeEvents()).toHaveLength(1)
  })
})

describe('the early warning', () => {
  const enable = 1n << 31n
  const interrupt = 1n << 30n

  it.each([
    ['En', enable | 4n, true],
    ['no En', interrupt | 4n, false],
  ])('sets PprOvrflwEarly at the threshold, with %s', (_, value, warns) => {
    const chip = pprChip()
    chip.write(at.early, value)
    fillLog(chip, 3)
    expect(chip.hasStatus(status.early)).toBe(false)
    fillLog(chip, 1)
    expect(chip.hasStatus(status.early)).toBe(warns)
    expect(chip.hasStatus(status.overflow | status.earlyB)).toBe(false)
    chip.write(register.status, status.early)
    expect(chip.hasStatus(status.early)).toBe(false)
    takeEntries(chip)
    fillLog(chip, 3)
    expect(chip.hasStatus(status.early)).toBe(false)
  })

  it('interrupts with IntEn', () => {
    const quiet = pprChip()
    quiet.write(at.early, enable | 2n)
    fillLog(quiet, 3)
    expect(ownInterrupts(quiet)).toEqual([])
    const chip = pprChip()
    chip.write(at.early, enable | interrupt | 2n)
    fillLog(chip, 1)
    expect(ownInterrupts(chip)).toEqual([])
    fillLog(chip, 1)
    expect(ownInterrupts(chip)).toEqual(['ppr'])
  })

  it('is told for the log in use', () => {
    const chip = pprChip(taking | on.logB)
    chip.write(at.early, enable | 1n)
    chip.write(at.earlyB, enable | 2n)
    fillLog(chip, 1)
    expect(chip.hasStatus(status.early | status.earlyB)).toBe(false)
    fillLog(chip, 1)
    expect([status.early, status.earlyB].map((each) => chip.hasStatus(each))).toEqual([false, true])
  })

  it('is not there without its feature', () => {
    const chip = pprChip(taking, guestDte, without(bit.early))
    chip.write(at.early, enable | 1n)
    fillLog(chip, 1)
    expect(chip.hasStatus(status.early)).toBe(false)
  })
})

describe('the automatic response', () => {
  const answering = taking | on.autoResponse
  const answer = { kind: 'page-response', deviceId: device, pasid: 5, group: 0x23, response: 0 }

  it('is not used while the log takes entries', () => {
    const chip = pprChip(answering)
    expect(chip.iommu.pageRequest(asked)).toBe('logged')
    expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
  })

  it.each([0, 1, 2, 15])('answers the last of a group when the log is full, with code %d', (code) => {
    const chip = pprChip(answering)
    chip.write(at.autoResponse, BigInt(code))
    fillLog(chip)
    expect(chip.iommu.pageRequest({ ...asked, last: false })).toBe('dropped')
    expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
    expect(chip.iommu.pageRequest(asked)).toBe('answered')
    expect(chip.iommu.takeDeviceMessage()).toEqual({ ...answer, response: code })
    expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
    expect(chip.hasStatus(status.overflow)).toBe(true)
  })

  it('answers while the log is off', () => {
    const chip = pprChip(answering & ~on.pprLog)
    expect(chip.iommu.pageRequest(asked)).toBe('answered')
    expect(chip.iommu.takeDeviceMessage()).toEqual(answer)
  })

  it('names no PASID with MaskGn, or where the request had none', () => {
    const masked = pprChip(answering & ~on.pprLog)
    masked.write(at.autoResponse, 0x11n)
    masked.iommu.pageRequest(asked)
    expect(masked.iommu.takeDeviceMessage()).toEqual({ ...answer, pasid: undefined, response: 1 })
    const chip = pprChip(answering & ~on.pprLog)
    chip.iommu.pageRequest({ ...asked, pasid: undefined })
    expect(chip.iommu.takeDeviceMessage()).toEqual({ ...answer, pasid: undefined })
  })

  it('with PprAutoRspAon answers always; it needs PprAutoRspEn', () => {
    const chip = pprChip(answering | on.autoAlways)
    expect(chip.iommu.pageRequest(asked)).toBe('answered')
    expect(chip.iommu.pageRequest({ ...asked, last: false })).toBe('dropped')
    expect(chip.iommu.takeDeviceMessage()).toEqual(answer)
    expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
    const other = pprChip(taking | on.autoAlways)
    expect(other.iommu.pageRequest(asked)).toBe('logged')
  })

  it('is not there in auto-swap mode', () => {
    const chip = pprChip((answering & ~on.pprLog) | on.autoSwap | on.autoAlways)
    expect(chip.iommu.pageRequest(asked)).toBe('dropped')
    expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
  })

  it('is there where the part has one log, whatever DualPprLogEn says', () => {
    const chip = pprChip((answering & ~on.pprLog) | on.autoSwap, guestDte, without(bit.dualLog))
    expect(chip.iommu.pageRequest(asked)).toBe('answered')
  })

  it('is not there without its feature', () => {
    const chip = pprChip((answering & ~on.pprLog) | on.autoAlways, guestDte, without(bit.autoResponse))
    expect(chip.iommu.pageRequest(asked)).toBe('dropped')
  })

  it('is lost when the answers find no place', () => {
    const chip = pprChip(answering | on.autoAlways)
    for (let n = 0; n < 64; n++) expect(chip.iommu.pageRequest({ ...asked, group: n })).toBe('answered')
    expect(chip.iommu.pageRequest(asked)).toBe('dropped')
    for (let n = 0; n < 64; n++) expect(chip.iommu.takeDeviceMessage()).toEqual({ ...answer, group: n })
    expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
  })
})

describe('two PPR logs', () => {
  it('log B alone', () => {
    const chip = pprChip(taking | on.logB)
    chip.iommu.pageRequest(asked)
    expect(chip.hasStatus(status.inB)).toBe(true)
    expect([takeEntries(chip), takeEntries(chip, 'b')].map((entries) => entries.length)).toEqual([0, 1])
    fillLog(chip)
    expect(chip.iommu.pageRequest(asked)).toBe('dropped')
    expect([status.overflow, status.overflowB].map((each) => chip.hasStatus(each))).toEqual([false, true])
  })

  it('in turn: the entry that finds one full goes into the other', () => {
    const chip = pprChip(taking | on.autoSwap)
    fillLog(chip)
    expect([status.overflow, status.inB].map((each) => chip.hasStatus(each))).toEqual([false, false])
    fillLog(chip, 1)
    expect([status.overflow, status.inB, status.running].map((each) => chip.hasStatus(each))).toEqual([
      true,
      true,
      true,
    ])
    expect(takeEntries(chip, 'b')).toHaveLength(1)
    expect(takeEntries(chip)).toHaveLength(255)
    chip.write(register.status, status.overflow)
    fillLog(chip, 255)
    expect(chip.hasStatus(status.inB)).toBe(true)
    fillLog(chip, 1)
    expect([status.overflowB, status.inB].map((each) => chip.hasStatus(each))).toEqual([true, false])
    expect([takeEntries(chip), takeEntries(chip, 'b')].map((entries) => entries.length)).toEqual([1, 255])
  })

  it('in turn: both stop when software keeps up with neither', () => {
    const chip = pprChip(taking | on.autoSwap)
    fillLog(chip, 510)
    expect(chip.iommu.pageRequest(asked)).toBe('dropped')
    expect([status.overflow, status.overflowB, status.running].map((each) => chip.hasStatus(each))).toEqual([
      ...[true, true, false],
    ])
  })

  it('are one where the part has one', () => {
    const chip = pprChip(taking | on.logB, guestDte, without(bit.dualLog))
    chip.iommu.pageRequest(asked)
    expect(chip.hasStatus(status.inB)).toBe(false)
    expect(takeEntries(chip)).toHaveLength(1)
  })
})

describe('a stop marker', () => {
  const marker: PageRequest = { deviceId: device, pasid: 5, address: 0n, group: 0, last: true }

  it('is written to the log', () => {
    const chip = pprChip()
    expect(chip.iommu.pageRequest(marker)).toBe('logged')
    expect(takeEntries(chip)).toEqual([[0x1140020000050600n, 0n]])
  })

  it('is dropped with BlkStopMrkEn, and nothing else is', () => {
    const chip = pprChip(taking | on.blockStopMarkers)
    expect(chip.iommu.pageRequest(marker)).toBe('dropped')
    for (const other of [{ read: true }, { write: true }, { last: false }, { pasid: undefined }]) {
      expect(chip.iommu.pageRequest({ ...marker, ...other })).toBe('logged')
    }
    const unable = pprChip(taking | on.blockStopMarkers, guestDte, without(bit.blockStopMarkers))
    expect(unable.iommu.pageRequest(marker)).toBe('logged')
  })

  it('gets no automatic response, as it wants none', () => {
    const chip = pprChip((taking & ~on.pprLog) | on.autoResponse)
    expect(chip.iommu.pageRequest(marker)).toBe('dropped')
    expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
  })

  it('of a device that may not ask is refused', () => {
    const chip = pprChip(taking | on.blockStopMarkers, [guestQ0, 0n, 0n, 0n])
    expect(chip.iommu.pageRequest(marker)).toBe('refused')
  })
})

describe('values out of range', () => {
  it.each<[Partial<PageRequest>, string]>([
    [{ deviceId: 0x10000 }, 'deviceId'],
    [{ pasid: 1 << 20 }, 'pasid'],
    [{ pasid: -1 }, 'pasid'],
    [{ group: 0x200 }, 'group'],
    [{ group: 1.5 }, 'group'],
    [{ address: -1n }, 'address'],
    [{ address: 1n << 64n }, 'address'],
  ])('are a RangeError: %o', (more, field) => {
    const { iommu } = pprChip()
    const ask = (): unknown => iommu.pageRequest({ ...asked, ...more })
    expect(ask).toThrow(RangeError)
    expect(ask).toThrow(field)
  })
})

describe('a fork', () => {
  it('has a PPR log of its own', () => {
    const chip = pprChip()
    chip.iommu.pageRequest(asked)
    const twin = chip.fork()
    expect(twin.fingerprint()).toBe(chip.fingerprint())
    twin.iommu.pageRequest(asked)
    expect(twin.fingerprint()).not.toBe(chip.fingerprint())
    expect([takeEntries(chip), takeEntries(twin)].map((entries) => entries.length)).toEqual([1, 2])
  })
})
