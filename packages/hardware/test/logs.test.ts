import { describe, expect, it } from 'vitest'
import { place, register } from './chip.js'
import {
  ats,
  at,
  bit,
  blocked,
  entriesAt,
  efr,
  fault,
  faultEvent,
  full,
  fullChip,
  interrupts,
  is,
  logPlace,
  on,
  passing,
  quietControl,
  without,
} from './rig-chip.js'
import type { Chip, Entry } from './rig-chip.js'

/** A log of entries that a device makes one by one, as each of the three kinds and their second copies is. */
interface Log {
  readonly name: string
  readonly control: bigint
  /** The bit that, going from 0 to 1, restarts it. */
  readonly enable: bigint
  readonly interruptEnable: bigint
  readonly cause: 'general' | 'ppr' | 'ga'
  readonly base: number
  readonly head: number
  readonly tail: number
  readonly place: bigint
  /** At length code 8. */
  readonly entries: number
  readonly entryBytes: number
  readonly run: bigint
  readonly overflow: bigint
  readonly interrupt: bigint
  /** Makes one entry; tells whether it was logged. */
  readonly make: (chip: Chip) => boolean
  /** The first quad-word of each. */
  readonly entry: bigint
}

const device = 0x600
const tableAt = 0x117840000n
const backingPage = 0x123456000n
const guestVector = 0x51n

/** A page request without PASID. */
function askPage(chip: Chip, last = false): boolean {
  chip.setDte(device, [passing, 0x42n | ats])
  const outcome = chip.iommu.pageRequest({ deviceId: device, address: 0x5000n, read: true, group: 1, last })
  return outcome === 'logged'
}

/** An interrupt of a guest that does not run. */
function interruptGuest(chip: Chip): boolean {
  chip.setDte(device, [0n, 0x42n, 0x2000000117840013n, 0n])
  // RemapEn, GALogIntr, GuestMode, GATag 2345; vector and backing page.
  chip.put([tableAt, 0x0000234500000085n], [tableAt + 8n, backingPage | guestVector])
  const answer = chip.iommu.requestInterrupt({ deviceId: device, address: 0xfee00000n, data: 0 })
  return answer.kind === 'posted' && answer.notice === 'ga-log'
}

const eventLog: Log = {
  name: 'event log',
  control: quietControl,
  enable: on.eventLogEn,
  interruptEnable: on.eventIntEn,
  cause: 'general',
  base: at.eventBase,
  head: at.eventHead,
  tail: at.eventTail,
  place: place.eventLog,
  entries: 256,
  entryBytes: 16,
  run: is.eventLogRun,
  overflow: is.eventOverflow,
  interrupt: is.eventLogInt,
  make: (chip) => fault(chip).every(Boolean),
  entry: faultEvent[0],
}

const pprLog: Log = {
  name: 'PPR log',
  control: quietControl | on.pprLogEn | on.pprEn,
  enable: on.pprLogEn,
  interruptEnable: on.pprIntEn,
  cause: 'ppr',
  base: at.pprBase,
  head: at.pprHead,
  tail: at.pprTail,
  place: logPlace.ppr,
  entries: 256,
  entryBytes: 16,
  run: is.pprLogRun,
  overflow: is.pprOverflow,
  interrupt: is.pprInt,
  make: askPage,
  entry: 0x1004000100000600n,
}

const logs: readonly Log[] = [
  eventLog,
  {
    ...eventLog,
    name: 'event log B',
    control: eventLog.control | on.eventLogB,
    base: at.eventBaseB,
    head: at.eventHeadB,
    tail: at.eventTailB,
    place: logPlace.eventB,
    overflow: is.eventOverflowB,
  },
  pprLog,
  {
    ...pprLog,
    name: 'PPR log B',
    control: pprLog.control | on.pprLogB,
    base: at.pprBaseB,
    head: at.pprHeadB,
    tail: at.pprTailB,
    place: logPlace.pprB,
    overflow: is.pprOverflowB,
  },
  {
    name: 'GA log',
    control: quietControl | on.gaEn | on.guestApicMode | on.gaLogEn,
    enable: on.gaLogEn,
    interruptEnable: on.gaIntEn,
    cause: 'ga',
    base: at.gaBase,
    head: at.gaHead,
    tail: at.gaTail,
    place: logPlace.ga,
    entries: 512,
    entryBytes: 8,
    run: is.gaLogRun,
    overflow: is.gaOverflow,
    interrupt: is.gaInt,
    make: interruptGuest,
    entry: 0x1000060000002345n,
  },
]

describe.each(logs)('the $name', (log) => {
  const chipOf = (more = 0n): Chip => {
    const chip = fullChip()
    chip.write(at.control, log.control | more)
    return chip
  }
  const bytes = BigInt(log.entries * log.entryBytes)
  const slot = (n: number): bigint => log.place + BigInt(n * log.entryBytes)
  const fill = (chip: Chip, count: number): boolean[] => Array.from({ length: count }, () => log.make(chip))

  it('gets the entry; then the tail moves and the status bit is set', () => {
    const chip = chipOf()
    expect(chip.hasStatus(log.run)).toBe(true)
    expect(log.make(chip)).toBe(true)
    expect(chip.load(slot(0))).toBe(log.entry)
    expect(chip.read(log.tail)).toBe(BigInt(log.entryBytes))
    expect(chip.read(log.head)).toBe(0n)
    expect(chip.hasStatus(log.interrupt)).toBe(true)
    const others = is.eventLogInt | is.comWaitInt | is.pprInt | is.gaInt
    expect(chip.hasStatus(others & ~log.interrupt)).toBe(false)
    expect(interrupts(chip)).toEqual([])
    log.make(chip)
    expect(chip.load(slot(1))).toBe(log.entry)
    expect(chip.load(slot(2))).toBe(0n)
  })

  it('raises an interrupt of its kind when that is enabled', () => {
    const chip = chipOf(log.interruptEnable)
    expect(interrupts(chip)).toEqual([])
    log.make(chip)
    expect(interrupts(chip)).toMatchObject([{ kind: 'msi', cause: log.cause }])
    chip.write(at.status, log.interrupt)
    log.make(chip)
    expect(interrupts(chip)).toMatchObject([{ kind: 'msi', cause: log.cause }])
  })

  it('gets nothing while it is off', () => {
    const chip = chipOf(log.interruptEnable)
    chip.write(at.control, (log.control | log.interruptEnable) & ~log.enable)
    expect(chip.hasStatus(log.run)).toBe(false)
    fill(chip, 3)
    expect(chip.read(log.tail)).toBe(0n)
    expect(chip.load(slot(0))).toBe(0n)
    expect(chip.hasStatus(log.interrupt | log.overflow)).toBe(false)
    expect(interrupts(chip)).toEqual([])
  })

  it('is full at one entry less than its size: the next is lost, and the log stops', () => {
    const chip = chipOf(log.interruptEnable)
    expect(fill(chip, log.entries - 1).every(Boolean)).toBe(true)
    expect(chip.read(log.tail)).toBe(bytes - BigInt(log.entryBytes))
    expect(chip.hasStatus(log.overflow)).toBe(false)
    interrupts(chip)
    chip.write(at.status, log.interrupt)
    log.make(chip)
    expect(chip.hasStatus(log.overflow)).toBe(true)
    expect(chip.hasStatus(log.run)).toBe(false)
    expect(chip.read(log.tail)).toBe(bytes - BigInt(log.entryBytes))
    expect(chip.load(slot(log.entries - 1))).toBe(0n)
    expect(interrupts(chip)).toMatchObject([{ cause: log.cause }])
    // Room does not start it again, and neither does clearing the bit.
    chip.write(log.head, bytes - BigInt(log.entryBytes))
    log.make(chip)
    chip.write(at.status, log.overflow)
    log.make(chip)
    expect(chip.read(log.tail)).toBe(bytes - BigInt(log.entryBytes))
    expect(chip.hasStatus(log.run)).toBe(false)
  })

  it.each([true, false])(
    'goes on where it was after a restart; overflow cleared by software: %s',
    (clears) => {
      const chip = chipOf()
      fill(chip, log.entries)
      expect(chip.hasStatus(log.overflow)).toBe(true)
      chip.write(log.head, chip.read(log.tail))
      chip.write(at.control, log.control & ~log.enable)
      if (clears) chip.write(at.status, log.overflow)
      chip.write(at.control, log.control)
      expect(chip.hasStatus(log.overflow)).toBe(false)
      expect(chip.hasStatus(log.run)).toBe(true)
      expect(fill(chip, 2)).toEqual([true, true])
      expect(chip.load(slot(log.entries - 1))).toBe(log.entry)
      expect(chip.read(log.tail)).toBe(BigInt(log.entryBytes))
    },
  )

  it('wraps, and loses nothing as long as software reads', () => {
    const chip = chipOf()
    for (let n = 0; n < log.entries * 3; n++) {
      expect(log.make(chip)).toBe(true)
      const tail = chip.read(log.tail)
      const at = (tail - BigInt(log.entryBytes) + bytes) % bytes
      expect(chip.load(log.place + at)).toBe(log.entry)
      chip.put([log.place + at, 0n])
      chip.write(log.head, tail)
    }
    expect(chip.read(log.tail)).toBe(0n)
    expect(chip.hasStatus(log.overflow)).toBe(false)
  })

  it('has 2^length entries of 16 bytes, whatever the size of its own', () => {
    const chip = chipOf()
    chip.write(at.control, 0n)
    chip.write(log.base, log.place | (9n << 56n))
    chip.write(at.control, log.control)
    const twice = log.entries * 2
    expect(fill(chip, twice - 1).every(Boolean)).toBe(true)
    expect(chip.hasStatus(log.overflow)).toBe(false)
    log.make(chip)
    expect(chip.hasStatus(log.overflow)).toBe(true)
  })

  it('is a log of its own in each fork', () => {
    const chip = chipOf()
    log.make(chip)
    const fork = chip.fork()
    log.make(fork)
    expect([chip.read(log.tail), fork.read(log.tail)]).toEqual([
      BigInt(log.entryBytes),
      BigInt(2 * log.entryBytes),
    ])
    expect(chip.load(slot(1))).toBe(0n)
  })

  it('that lies where no memory is does not stop the machine', () => {
    const chip = chipOf()
    chip.write(at.control, 0n)
    chip.write(log.base, 0xffffffffff000n | (8n << 56n))
    chip.write(at.control, log.control)
    expect(() => fill(chip, log.entries * 2)).not.toThrow()
  })
})

describe('two event logs', () => {
  const swap = quietControl | on.eventIntEn | on.eventAutoSwap

  it('in swap mode begin with A', () => {
    const chip = fullChip(on.eventAutoSwap)
    fault(chip)
    expect(chip.hasStatus(is.eventLogActive)).toBe(false)
    expect(chip.read(at.eventTail)).toBe(16n)
    expect(chip.read(at.eventTailB)).toBe(0n)
  })

  it('in swap mode go over to B when A overflows, and go on', () => {
    const chip = fullChip(swap)
    fault(chip, 255)
    expect(chip.hasStatus(is.eventLogActive)).toBe(false)
    fault(chip, 2)
    expect(chip.hasStatus(is.eventLogActive)).toBe(true)
    expect(chip.hasStatus(is.eventLogRun)).toBe(true)
    expect(chip.read(at.eventTail)).toBe(255n * 16n)
    expect(chip.read(at.eventTailB)).toBeGreaterThan(0n)
    expect(entriesAt(chip, logPlace.eventB, 1)).toEqual([faultEvent])
    expect(interrupts(chip).length).toBeGreaterThan(0)
  })

  it('in swap mode stop when B overflows too while A has not been read', () => {
    const chip = fullChip(swap)
    fault(chip, 255 + 255)
    const tails = [chip.read(at.eventTail), chip.read(at.eventTailB)]
    fault(chip, 10)
    expect(chip.read(at.eventTail)).toBe(tails[0])
    expect(chip.read(at.eventTailB)).toBe(255n * 16n)
    expect(chip.hasStatus(is.eventOverflowB)).toBe(true)
    expect(chip.hasStatus(is.eventLogRun)).toBe(false)
  })

  it('in swap mode stop when the other log has overflowed before and was not read', () => {
    const chip = fullChip(swap)
    fault(chip, 255 + 255)
    chip.write(at.eventHead, chip.read(at.eventTail))
    chip.write(register.status, is.eventOverflow)
    // From B, which overflows, over to A; then software acknowledges the overflow, but leaves B full.
    expect(fault(chip)).toEqual([true])
    chip.write(register.status, is.eventOverflowB)
    expect(fault(chip, 255)).toEqual([...Array.from({ length: 254 }, () => true), false])
    expect(chip.hasStatus(is.eventOverflow)).toBe(true)
    expect(chip.hasStatus(is.eventOverflowB)).toBe(true)
    expect(chip.hasStatus(is.eventLogRun)).toBe(false)
    expect(chip.read(at.eventTailB)).toBe(255n * 16n)
  })

  it('need DualEventLogSup: without it there is log A alone', () => {
    for (const mode of [on.eventLogB, on.eventAutoSwap]) {
      const chip = fullChip(mode, { features: without(efr.dualEventLogSup) })
      fault(chip, 257)
      expect(chip.read(at.eventTail)).toBe(255n * 16n)
      expect(chip.hasStatus(is.eventOverflow)).toBe(true)
      expect(chip.hasStatus(is.eventLogActive | is.eventOverflowB | is.eventLogRun)).toBe(false)
    }
  })
})

describe('two PPR logs', () => {
  const logging = on.pprEn | on.pprLogEn

  it('in swap mode go over to B when A overflows', () => {
    const chip = fullChip(logging | on.pprAutoSwap)
    for (let n = 0; n < 255; n++) expect(askPage(chip)).toBe(true)
    expect(chip.hasStatus(is.pprLogActive)).toBe(false)
    for (let n = 0; n < 2; n++) askPage(chip)
    expect(chip.hasStatus(is.pprLogActive)).toBe(true)
    expect(chip.hasStatus(is.pprLogRun)).toBe(true)
    expect(chip.read(at.pprTailB)).toBeGreaterThan(0n)
    expect(chip.load(logPlace.pprB)).toBe(pprLog.entry)
  })

  it('need DualPprLogSup', () => {
    const chip = fullChip(logging | on.pprLogB, { features: without(efr.dualPprLogSup) })
    expect(askPage(chip)).toBe(true)
    expect(chip.read(at.pprTail)).toBe(16n)
    expect(chip.hasStatus(is.pprLogActive)).toBe(false)
  })
})

describe('a PPR log entry', () => {
  const guestDte = [passing | bit(55) | bit(53) | bit(52), 0x42n | ats]
  const control = on.pprEn | on.pprLogEn | on.ephEn
  const first = (chip: Chip): Entry => entriesAt(chip, logPlace.ppr, 1)[0]!

  it.each([
    [
      'PASID 5, last, read and write, user',
      { pasid: 5, read: true, write: true, last: true, address: 0x7f0000003000n },
      [0x1164022300050600n, 0x00007f0000003000n],
    ],
    [
      'PASID 12345, not last, read',
      { pasid: 0x12345, read: true, supervisor: true, address: 0x7f0000003abcn },
      [0x1104042323450600n, 0x00007f0000003000n],
    ],
  ] as const)('has the fields of the request where the manual puts them: %s', (_, asked, expected) => {
    // PASmax 19: PASIDs of 20 bits.
    const chip = fullChip(control, { features: { ...full, efr: full.efr | (19n << 32n) } })
    chip.setDte(device, guestDte)
    expect(chip.iommu.pageRequest({ deviceId: device, group: 0x23, ...asked })).toBe('logged')
    expect(first(chip)).toEqual(expected)
  })

  it('without PASID has neither PASID, GN, US nor execute', () => {
    const chip = fullChip(control)
    chip.setDte(device, [passing | bit(52), 0x42n | ats])
    const asked = { deviceId: device, read: true, last: true, group: 1, address: 0x5000n, execute: true }
    expect(chip.iommu.pageRequest(asked)).toBe('logged')
    expect(first(chip)).toEqual([0x1004020100000600n, 0x5000n])
  })

  it.each([
    ['read', { read: true }, bit(50)],
    ['write', { write: true }, bit(53)],
    ['execute', { read: true, execute: true }, bit(50) | bit(49)],
    ['supervisor', { read: true, supervisor: true }, bit(50)],
    ['user', { read: true }, bit(50) | bit(54)],
    ['last', { read: true, last: true }, bit(50) | bit(41)],
  ] as const)('has a bit for %s', (name, asked, bits) => {
    const chip = fullChip(control)
    chip.setDte(device, guestDte)
    chip.iommu.pageRequest({ deviceId: device, pasid: 9, address: 0n, group: 0x1ff, ...asked })
    const user = name === 'supervisor' ? 0n : bit(54)
    expect(first(chip)[0]).toBe(0x110001ff00090600n | bits | user)
  })
})

describe('page requests', () => {
  const logging = on.pprEn | on.pprLogEn
  const events = (chip: Chip): Entry[] => [...chip.takeEvents()]
  const ask = (chip: Chip, more: object = {}): string =>
    chip.iommu.pageRequest({ deviceId: device, address: 0x5000n, read: true, group: 1, last: true, ...more })

  it.each([
    ['PPREn', on.pprLogEn],
    ['PPRLogEn', on.pprEn],
  ])('need %s', (_, control) => {
    const chip = fullChip(control)
    chip.setDte(device, [passing, 0x42n | ats])
    expect(ask(chip)).not.toBe('logged')
    expect(chip.read(at.pprTail)).toBe(0n)
  })

  it('need PPRSup', () => {
    const chip = fullChip(logging, { features: without(efr.pprSup) })
    chip.setDte(device, [passing, 0x42n | ats])
    expect(ask(chip)).not.toBe('logged')
    expect(chip.hasStatus(is.pprLogRun)).toBe(false)
  })

  it('of a device with I=0 are refused with INVALID_PPR_REQUEST', () => {
    const chip = fullChip(logging)
    chip.setDte(device, [passing | bit(55), 0x42n])
    const asked = { pasid: 5, group: 0x123, last: false, address: 0x7f0000003000n }
    expect(ask(chip, asked)).toBe('refused')
    expect(events(chip)).toEqual([[0x9201012300050600n, 0x7f0000003000n]])
    expect(chip.read(at.pprTail)).toBe(0n)
  })

  it('with a PASID are refused where guest translation is off', () => {
    for (const [dte, control] of [
      [[passing, 0x42n | ats], logging],
      [[0n, ats], logging],
    ] as const) {
      const chip = fullChip(control)
      chip.setDte(device, dte)
      expect(ask(chip, { pasid: 5 })).toBe('refused')
      const [logged] = events(chip)
      expect(logged![0] >> 60n).toBe(9n)
      expect(logged![0] & 0xffffn).toBe(BigInt(device))
    }
  })

  it('need DTE.PPR with enhanced handling', () => {
    for (const [dte, outcome] of [
      [passing, 'refused'],
      [passing | bit(52), 'logged'],
    ] as const) {
      const chip = fullChip(logging | on.ephEn)
      chip.setDte(device, [dte, 0x42n | ats])
      expect(ask(chip)).toBe(outcome)
    }
  })

  it('with V=0 fail', () => {
    const chip = fullChip(logging)
    chip.setDte(device, [0n, ats])
    expect(ask(chip)).toBe('refused')
  })

  describe('before the log overflows', () => {
    it.each([
      ['A', 0n, at.pprEarly, is.pprEarly],
      ['B', on.pprLogB, at.pprEarlyB, is.pprEarlyB],
    ])('software is warned at the threshold: log %s', (_, which, offset, status) => {
      const chip = fullChip(logging | which)
      chip.write(offset, bit(31) | bit(30) | 4n)
      for (let n = 0; n < 3; n++) askPage(chip)
      expect(chip.hasStatus(status)).toBe(false)
      expect(interrupts(chip)).toEqual([])
      for (let n = 0; n < 2; n++) askPage(chip)
      expect(chip.hasStatus(status)).toBe(true)
      expect(chip.hasStatus(is.pprOverflow | is.pprOverflowB)).toBe(false)
      expect(interrupts(chip)).toMatchObject([{ cause: 'ppr' }])
      chip.write(at.status, status)
      expect(chip.hasStatus(status)).toBe(false)
    })

    it('no interrupt comes without IntEn, nothing at all without En', () => {
      const quiet = fullChip(logging)
      quiet.write(at.pprEarly, bit(31) | 2n)
      for (let n = 0; n < 4; n++) askPage(quiet)
      expect(quiet.hasStatus(is.pprEarly)).toBe(true)
      expect(interrupts(quiet)).toEqual([])
      const off = fullChip(logging)
      off.write(at.pprEarly, bit(30) | 2n)
      for (let n = 0; n < 4; n++) askPage(off)
      expect(off.hasStatus(is.pprEarly)).toBe(false)
      expect(interrupts(off)).toEqual([])
    })
  })

  describe('are answered by hardware when the log cannot take them', () => {
    const auto = logging | on.pprAutoRspEn
    const fullLog = (control: bigint): Chip => {
      const chip = fullChip(control)
      for (let n = 0; n < 256; n++) askPage(chip)
      expect(chip.hasStatus(is.pprOverflow)).toBe(true)
      while (chip.iommu.takeDeviceMessage() !== undefined);
      return chip
    }

    it('if they are the last of their group, with the code that software chose', () => {
      const chip = fullLog(auto)
      expect(ask(chip, { group: 7 })).toBe('answered')
      expect(chip.iommu.takeDeviceMessage()).toMatchObject({
        kind: 'page-response',
        deviceId: device,
        pasid: undefined,
        group: 7,
        response: 0,
      })
      chip.write(at.autoResponse, 0xfn)
      expect(ask(chip, { group: 8 })).toBe('answered')
      expect(chip.iommu.takeDeviceMessage()).toMatchObject({ group: 8, response: 15 })
    })

    it('others are dropped', () => {
      const chip = fullLog(auto)
      expect(ask(chip, { last: false })).toBe('dropped')
      expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
    })

    it('not without PprAutoRspEn', () => {
      const chip = fullLog(logging)
      expect(ask(chip)).toBe('dropped')
      expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
    })

    it('not without PprAutoRspSup', () => {
      const chip = fullChip(auto, { features: without(efr.pprAutoRspSup) })
      for (let n = 0; n < 256; n++) askPage(chip)
      expect(ask(chip)).toBe('dropped')
    })

    it('not while the logs swap', () => {
      const chip = fullChip(auto | on.pprAutoSwap)
      for (let n = 0; n < 600; n++) askPage(chip)
      expect(ask(chip)).toBe('dropped')
      expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
    })

    it('always with PprAutoRspAon, which needs PprAutoRspEn', () => {
      const always = fullChip(auto | on.pprAutoRspAon)
      always.setDte(device, [passing, 0x42n | ats])
      expect(ask(always)).toBe('answered')
      expect(always.read(at.pprTail)).toBe(0n)
      const alone = fullChip(logging | on.pprAutoRspAon)
      alone.setDte(device, [passing, 0x42n | ats])
      expect(ask(alone)).toBe('logged')
    })

    it('with the PASID or without it, as PprAutoRespMaskGn says', () => {
      const pasids = [0n, bit(4)].map((mask) => {
        const chip = fullChip(auto | on.pprAutoRspAon)
        chip.setDte(device, [passing | bit(55), 0x42n | ats])
        chip.write(at.autoResponse, mask)
        ask(chip, { pasid: 5 })
        const message = chip.iommu.takeDeviceMessage()
        return message?.kind === 'page-response' ? message.pasid : 'no response'
      })
      expect(pasids[0]).not.toEqual(pasids[1])
    })
  })

  describe('that are stop markers', () => {
    const marker = { read: false, write: false, last: true, pasid: 5 }

    it('are logged', () => {
      const chip = fullChip(logging)
      chip.setDte(device, [passing | bit(55), 0x42n | ats])
      expect(ask(chip, marker)).toBe('logged')
      expect(chip.read(at.pprTail)).toBe(16n)
    })

    it('are dropped with BlkStopMrkEn, others are not', () => {
      const chip = fullChip(logging | on.blkStopMrkEn)
      chip.setDte(device, [passing | bit(55), 0x42n | ats])
      expect(ask(chip, marker)).toBe('dropped')
      expect(chip.read(at.pprTail)).toBe(0n)
      expect(ask(chip, { pasid: 5 })).toBe('logged')
    })

    it('are logged in spite of BlkStopMrkEn where that is not supported', () => {
      const chip = fullChip(logging | on.blkStopMrkEn, { features: without(efr.blkStopMrkSup) })
      chip.setDte(device, [passing | bit(55), 0x42n | ats])
      expect(ask(chip, marker)).toBe('logged')
    })
  })
})

describe('the GA log', () => {
  const control = quietControl | on.gaEn | on.guestApicMode | on.gaLogEn
  const guestChip = (entry: bigint): Chip => {
    const chip = fullChip()
    chip.write(at.control, control)
    chip.setDte(device, [0n, 0x42n, 0x2000000117840013n, 0n])
    chip.put([tableAt, entry], [tableAt + 8n, backingPage | guestVector])
    return chip
  }
  const interrupt = (chip: Chip): unknown =>
    chip.iommu.requestInterrupt({ deviceId: device, address: 0xfee00000n, data: 0 })

  it.each([
    ['GALogIntr and not IsRun', 0x0000234500000085n, 'ga-log', 8n],
    ['GALogIntr and IsRun', 0x00002345000005c5n, 'doorbell', 0n],
    ['neither', 0x0000234500000081n, 'none', 0n],
    ['IsRun alone', 0x00002345000005c1n, 'doorbell', 0n],
  ] as const)('gets an entry from an interrupt with %s', (_, entry, notice, tail) => {
    const chip = guestChip(entry)
    expect(interrupt(chip)).toMatchObject({ kind: 'posted', vector: Number(guestVector), notice })
    expect(chip.read(at.gaTail)).toBe(tail)
  })

  it('keeps a copy of its tail where GA Log Tail Address says', () => {
    const chip = guestChip(0x0000234500000085n)
    for (let n = 1; n < 600; n++) {
      interrupt(chip)
      expect(chip.load(logPlace.gaTail)).toBe(chip.read(at.gaTail))
      chip.write(at.gaHead, chip.read(at.gaTail))
    }
    expect(chip.read(at.gaTail)).toBe(BigInt((599 % 512) * 8))
  })

  it('names the device and the tag', () => {
    const chip = guestChip(0xdeadbeef00000085n)
    interrupt(chip)
    expect(chip.load(logPlace.ga)).toBe(0x10000600deadbeefn)
  })
})

describe('COMPLETION_WAIT and an event at once', () => {
  it('set each their own bit', () => {
    const chip = fullChip()
    chip.command([0x1000000000000002n, 0n])
    expect(chip.hasStatus(is.comWaitInt)).toBe(true)
    expect(chip.hasStatus(is.eventLogInt)).toBe(false)
    chip.write(at.status, is.comWaitInt)
    chip.setDte(1, blocked)
    chip.iommu.request({ deviceId: 1, iova: 0n })
    expect(chip.hasStatus(is.comWaitInt)).toBe(false)
    expect(chip.hasStatus(is.eventLogInt)).toBe(true)
    expect(chip.read(register.eventTail)).toBe(16n)
  })
})
