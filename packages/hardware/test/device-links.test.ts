/** INVALIDATE_IOTLB_PAGES and COMPLETE_PPR_REQUEST: what reaches devices, and how commands wait for them. */
import { parseHex } from '@nestwalk/bits'
import { describe, expect, it } from 'vitest'
import commands from '../vectors/commands.json' with { type: 'json' }
import sizeCodes from '../vectors/size-codes.json' with { type: 'json' }
import { nestingFeatures } from '../src/index.js'
import type { DeviceMessage } from '../src/index.js'
import { Chip, event, place, quietControl, register, statusBit } from './chip.js'
import type { ChipOptions } from './chip.js'

type Command = readonly [lo: bigint, hi: bigint]

const device = 0x600
const everything = 0x7ffffffffffff001n

/** INVALIDATE_IOTLB_PAGES of everything without PASID. */
const invalidate = (deviceId = device, maxPending = 0, queue = deviceId): Command => [
  0x4000000000000000n | BigInt(deviceId) | (BigInt(maxPending) << 24n) | (BigInt(queue) << 32n),
  everything,
]
const complete = (group: number, pasid = 5): Command => [
  0x7000000000000000n | (BigInt(pasid) << 32n) | BigInt(device),
  (BigInt(group) << 32n) | 4n,
]
const mark = 0x1000n
const wait = (value = 1n): Command => [0x1000000000000001n | mark, value]

/** Control.InvTimeOut. */
const timeout = (code: number): bigint => quietControl | (BigInt(code) << 5n)

function linkChip(options: ChipOptions = {}): Chip {
  const chip = Chip.create(options)
  for (const deviceId of [device, 7]) chip.setDte(deviceId, [0x6000000000000003n, 1n << 32n, 0n, 0n])
  return chip
}

function takeAll(chip: Chip): DeviceMessage[] {
  const messages: DeviceMessage[] = []
  for (let next = chip.iommu.takeDeviceMessage(); next !== undefined; next = chip.iommu.takeDeviceMessage()) {
    messages.push(next)
  }
  return messages
}

const tagsOf = (messages: readonly DeviceMessage[]): number[] =>
  messages.flatMap((message) => (message.kind === 'invalidate' ? [message.tag] : []))

const wordsOf = (kind: string): Command[] =>
  commands.vectors
    .filter((vector) => vector.kind === kind)
    .map(({ words }) => [parseHex(words[0] ?? ''), parseHex(words[1] ?? '')])

/** Where the command at an index of the ring lies. */
const commandAt = (index: number): bigint => place.commandRing + BigInt(index * 16)

describe('INVALIDATE_IOTLB_PAGES', () => {
  it('the printed examples: device, PASID from its three pieces, and range', () => {
    const expected = [
      { pasid: undefined, address: 0n, sizeLog2: 64 },
      { pasid: 0x12345, address: 0x7f0000003000n, sizeLog2: 12 },
    ]
    const found: readonly Command[] = [
      [0x4000060020000600n, everything],
      [0x4145060020230600n, 0x00007f0000003004n],
    ]
    found.forEach((command, n) => {
      const chip = linkChip()
      expect(chip.command(command)).toBe(1)
      expect(takeAll(chip)).toEqual([{ kind: 'invalidate', deviceId: device, tag: 0, ...expected[n] }])
    })
    for (const command of wordsOf('InvalidateIotlbPages')) expect(linkChip().command(command)).toBe(1)
  })

  it.each([
    [0x00, 0x00, 0x0, 0],
    [0x01, 0x00, 0x0, 0x100],
    [0x00, 0x01, 0x0, 0x1],
    [0x00, 0x00, 0x1, 0x10000],
    [0xff, 0xff, 0xf, 0xfffff],
    [0xab, 0xcd, 0xe, 0xeabcd],
  ])('has the middle byte of the PASID first: %d %d %d', (middle, low, high, pasid) => {
    const chip = linkChip()
    const lo = (BigInt(middle) << 16n) | (BigInt(low) << 48n) | (BigInt(high) << 56n)
    chip.command([invalidate()[0] | lo, 0x3004n])
    expect(takeAll(chip)).toMatchObject([{ pasid, address: 0x3000n, sizeLog2: 12 }])
  })

  it.each([...sizeCodes.encoding, ...sizeCodes.decoding])(
    'names the range from $base on, 2^$sizeLog2 bytes: $hiWord',
    ({ base, sizeLog2, hiWord }) => {
      if ((parseHex(hiWord) & 0xffen) !== 0n) return
      const chip = linkChip()
      chip.command([invalidate()[0], parseHex(hiWord)])
      expect(takeAll(chip)).toMatchObject([{ address: parseHex(base), sizeLog2 }])
    },
  )

  it('is legal with a type where the part knows types', () => {
    for (const type of [0n, 1n, 2n, 3n]) {
      const command: Command = [invalidate()[0], everything | (type << 4n)]
      const able = linkChip()
      able.command(command)
      expect(takeAll(able)).toHaveLength(1)
      const efr = nestingFeatures.efr & ~(1n << 54n)
      const unable = linkChip({ features: { ...nestingFeatures, efr } })
      unable.command(command)
      expect(unable.hasStatus(statusBit.cmdBufRun)).toBe(type === 0n)
    }
  })

  it.each<[string, Command, ChipOptions]>([
    ['without IotlbSup', invalidate(), { pci: { iotlbSup: false } }],
    [
      'with GN=1 without GTSup',
      [invalidate()[0], 4n],
      { features: { ...nestingFeatures, efr: nestingFeatures.efr & ~16n } },
    ],
    ['with PDE', [invalidate()[0], 2n], {}],
    ['with bit 3 of the high word', [invalidate()[0], 8n], {}],
    ['with bit 6 of the high word', [invalidate()[0], 0x40n], {}],
    ['with bit 11 of the high word', [invalidate()[0], 0x800n], {}],
    ['with a PASID and GN=0', [invalidate()[0] | 0x10000n, 0n], {}],
  ])('is illegal %s', (_, command, options) => {
    const chip = linkChip(options)
    chip.command(command)
    expect(chip.takeEvents()).toEqual([[0x5000000000000000n, commandAt(0)]])
    expect(takeAll(chip)).toEqual([])
  })

  it('by choice may have a PASID that does not count', () => {
    const chip = linkChip({ switches: { strayPasid: 'ignored' } })
    chip.command([invalidate()[0] | 0x10000n, 0n])
    expect(takeAll(chip)).toMatchObject([{ pasid: undefined }])
  })

  it('goes to a device without ATS too, or is dropped by choice', () => {
    const words = [0x6000000000000003n, 0n, 0n, 0n]
    const sent = linkChip()
    sent.setDte(device, words)
    sent.command(invalidate(), wait())
    expect(takeAll(sent)).toHaveLength(1)
    expect(sent.load(mark)).toBe(0n)
    const dropped = linkChip({ switches: { iotlbInvalidationWithoutAts: 'dropped' } })
    dropped.setDte(device, words)
    dropped.command(invalidate(), invalidate(7), wait())
    expect(takeAll(dropped)).toMatchObject([{ deviceId: 7 }])
    const beyond = linkChip({ switches: { iotlbInvalidationWithoutAts: 'dropped' } })
    beyond.write(register.deviceTableBase, place.deviceTable)
    beyond.command(invalidate())
    expect(takeAll(beyond)).toEqual([])
  })

  it('does not wait itself: the head moves on, and other commands are carried out', () => {
    const chip = linkChip()
    expect(chip.command(invalidate(), [0x2000000000000001n, 0n])).toBe(2)
    expect(chip.read(register.commandHead)).toBe(32n)
  })

  it('is not part of INVALIDATE_IOMMU_ALL', () => {
    const chip = linkChip()
    chip.command([0x8000000000000000n, 0n])
    expect(takeAll(chip)).toEqual([])
  })
})

describe('the answer of a device to an invalidation', () => {
  it('is what COMPLETION_WAIT waits for', () => {
    const chip = linkChip()
    chip.enqueue(invalidate(), invalidate(7), wait(), wait(2n))
    expect(chip.run()).toBe(2)
    expect(chip.iommu.step()).toBe(false)
    const [first, second] = takeAll(chip)
    expect(first).toMatchObject({ deviceId: device, tag: 0 })
    expect(second).toMatchObject({ deviceId: 7, tag: 1 })
    expect(chip.run()).toBe(0)
    expect(chip.iommu.completeInvalidation(7, 1)).toBe(true)
    expect(chip.run()).toBe(0)
    expect(chip.load(mark)).toBe(0n)
    expect(chip.iommu.completeInvalidation(device, 0)).toBe(true)
    expect(chip.iommu.step()).toBe(true)
    expect(chip.load(mark)).toBe(1n)
    expect(chip.run()).toBe(1)
    expect(chip.takeEvents()).toEqual([])
  })

  it('is waited for though the message was not even taken', () => {
    const chip = linkChip()
    expect(chip.command(invalidate(), wait())).toBe(1)
  })

  it('counts under its own tag from its own device alone, once, after it was asked', () => {
    const chip = linkChip()
    chip.command(invalidate(), wait())
    const { iommu } = chip
    expect(iommu.completeInvalidation(device, 0)).toBe(false)
    takeAll(chip)
    const before = chip.fingerprint()
    const wrong: [number, number][] = [
      [7, 0],
      [device, 1],
      [device, 31],
      [device, 32],
      [device, -1],
      [device, 0.5],
    ]
    for (const [deviceId, tag] of [...wrong, [-1, 0], [device + 0x10000, 0]] as const) {
      expect(iommu.completeInvalidation(deviceId, tag)).toBe(false)
    }
    expect(chip.fingerprint()).toBe(before)
    expect(chip.run()).toBe(0)
    expect(iommu.completeInvalidation(device, 0)).toBe(true)
    expect(iommu.completeInvalidation(device, 0)).toBe(false)
    expect(chip.run()).toBe(1)
  })
})

describe('places for invalidations', () => {
  it('are 32: a command that finds none waits, and later ones with it', () => {
    const chip = linkChip()
    chip.enqueue(...Array.from({ length: 33 }, () => invalidate()), [0x2000000000000001n, 0n])
    expect(chip.run()).toBe(32)
    expect(chip.read(register.commandHead)).toBe(32n * 16n)
    expect(chip.hasStatus(statusBit.cmdBufRun)).toBe(true)
    expect(tagsOf(takeAll(chip))).toEqual(Array.from({ length: 32 }, (_, n) => n))
    expect(chip.run()).toBe(0)
    chip.iommu.completeInvalidation(device, 13)
    expect(chip.run()).toBe(2)
    expect(tagsOf(takeAll(chip))).toEqual([13])
    expect(chip.takeEvents()).toEqual([])
  })

  it('are as many for a queue as MaxPend says', () => {
    const chip = linkChip()
    chip.enqueue(invalidate(device, 2), invalidate(device, 2), invalidate(device, 2))
    expect(chip.run()).toBe(2)
    expect(tagsOf(takeAll(chip))).toEqual([0, 1])
    expect(chip.run()).toBe(0)
    chip.iommu.completeInvalidation(device, 1)
    expect(chip.run()).toBe(1)
    expect(tagsOf(takeAll(chip))).toEqual([1])
  })

  it('are counted by QueueID, not by device', () => {
    const chip = linkChip()
    chip.enqueue(invalidate(device, 1, 3), invalidate(7, 1, 4), invalidate(7, 1, 3))
    expect(chip.run()).toBe(2)
    takeAll(chip)
    chip.iommu.completeInvalidation(7, 1)
    expect(chip.run()).toBe(0)
    chip.iommu.completeInvalidation(device, 0)
    expect(chip.run()).toBe(1)
  })

  it('are not limited by MaxPend 0, nor by what other commands of the queue said', () => {
    const chip = linkChip()
    chip.enqueue(invalidate(device, 1), invalidate(device, 0), invalidate(device, 3), invalidate(device, 255))
    expect(chip.run()).toBe(4)
  })
})

describe('an invalidation that no device answers', () => {
  it.each([
    [1, 1],
    [2, 10],
    [3, 100],
    [4, 1000],
    [5, 10_000],
    [6, 100_000],
  ])(
    'is given up with InvTimeOut %d after %d ms: IOTLB_INV_TIMEOUT, and the queue goes on',
    (code, limit) => {
      const chip = linkChip({ control: timeout(code) })
      chip.enqueue([0x2000000000000001n, 0n], invalidate(), wait())
      expect(chip.run()).toBe(2)
      takeAll(chip)
      chip.iommu.elapse(0)
      chip.iommu.elapse(limit - 1)
      expect([chip.takeEvents(), chip.run()]).toEqual([[], 0])
      chip.iommu.elapse(1)
      expect(chip.takeEvents()).toEqual([[0x7000000000000600n, commandAt(1)]])
      expect(chip.run()).toBe(1)
      expect(chip.load(mark)).toBe(1n)
      expect(chip.hasStatus(statusBit.cmdBufRun)).toBe(true)
      expect(chip.iommu.completeInvalidation(device, 0)).toBe(false)
      chip.iommu.elapse(2 ** 30)
      expect(chip.takeEvents()).toEqual([])
    },
  )

  it.each([0, 7])('is waited for without end with InvTimeOut %d', (code) => {
    const chip = linkChip({ control: timeout(code) })
    chip.enqueue(invalidate(), wait())
    chip.run()
    chip.iommu.elapse(2 ** 30)
    expect([chip.takeEvents(), chip.run()]).toEqual([[], 0])
    takeAll(chip)
    expect(chip.iommu.completeInvalidation(device, 0)).toBe(true)
  })

  it('is given up though its message was never taken, and then no device hears of it', () => {
    const chip = linkChip({ control: timeout(1) })
    chip.command(invalidate())
    chip.iommu.elapse(1)
    expect(chip.takeEvents()).toHaveLength(1)
    expect(takeAll(chip)).toEqual([])
  })

  it('keeps the time that its command began with', () => {
    const chip = linkChip({ control: timeout(2) })
    chip.command(invalidate())
    chip.write(register.control, timeout(1))
    chip.command(invalidate(7))
    chip.iommu.elapse(1)
    expect(chip.takeEvents()).toEqual([[0x7000000000000007n, commandAt(1)]])
    chip.iommu.elapse(9)
    expect(chip.takeEvents()).toEqual([[0x7000000000000600n, commandAt(0)]])
  })

  it('leaves the printed event', () => {
    const chip = linkChip({ control: timeout(1) & ~(1n << 12n) })
    chip.write(register.commandBase, 0x100040000n | (8n << 56n))
    chip.write(register.control, timeout(1))
    chip.command([0x2000000000000001n, 0n], [0x2000000000000001n, 0n], invalidate())
    chip.iommu.elapse(5)
    expect(chip.takeEvents()).toEqual([event('00000600 70000000 00040020 00000001')])
  })

  it('frees its place: all 32 at once, one event for each', () => {
    const chip = linkChip({ control: timeout(1) })
    chip.enqueue(...Array.from({ length: 40 }, () => invalidate()))
    expect(chip.run()).toBe(32)
    chip.iommu.elapse(1)
    expect(chip.takeEvents()).toHaveLength(32)
    expect(chip.run()).toBe(8)
  })

  it.each([-1, 0.5, Number.NaN, 2 ** 30 + 1])('time is a whole number from 0 on: %d', (milliseconds) => {
    const { iommu } = linkChip()
    expect(() => iommu.elapse(milliseconds)).toThrow(RangeError)
    expect(() => iommu.elapse(milliseconds)).toThrow('milliseconds')
  })
})

describe('COMPLETE_PPR_REQUEST', () => {
  it('the printed examples: device, PASID, group and response code', () => {
    const chip = linkChip()
    chip.command(
      [0x7000000500000600n, 0x0000012300000004n],
      [0x7000000500000600n, 0x0000112300000004n],
      [0x7000000000000600n, 0x0000f1ff00000000n],
    )
    const message = { kind: 'page-response', deviceId: device }
    expect(takeAll(chip)).toEqual([
      { ...message, pasid: 5, group: 0x123, response: 0 },
      { ...message, pasid: 5, group: 0x123, response: 1 },
      { ...message, pasid: undefined, group: 0x1ff, response: 15 },
    ])
    for (const command of wordsOf('CompletePprRequest')) expect(linkChip().command(command)).toBe(1)
  })

  it('has PASIDs of 20 bits, and goes to devices that did not ask', () => {
    const chip = linkChip()
    chip.command(complete(0, 0xfffff))
    expect(takeAll(chip)).toMatchObject([{ pasid: 0xfffff, group: 0 }])
  })

  it.each([
    ['a bit of the tag above the group', 0x0000020000000000n],
    ['a bit of the tag below the code', 0x0000080000000000n],
    ['a bit above the tag', 0x0001000000000000n],
    ['an address', 0x1000n],
    ['S', 1n],
  ])('is illegal with %s', (_, hi) => {
    const chip = linkChip()
    chip.command([complete(0)[0], hi])
    expect(chip.hasStatus(statusBit.cmdBufRun)).toBe(false)
    expect(takeAll(chip)).toEqual([])
  })

  it('is nothing that COMPLETION_WAIT waits for', () => {
    const chip = linkChip()
    expect(chip.command(complete(1), wait())).toBe(2)
    expect(chip.load(mark)).toBe(1n)
  })

  it('waits when 64 answers wait already; they are taken in their order', () => {
    const chip = linkChip()
    chip.enqueue(...Array.from({ length: 65 }, (_, n) => complete(n)))
    expect(chip.run()).toBe(64)
    expect(chip.read(register.commandHead)).toBe(64n * 16n)
    expect(chip.iommu.takeDeviceMessage()).toMatchObject({ group: 0 })
    expect(chip.run()).toBe(1)
    const groups = takeAll(chip).map((message) => (message.kind === 'page-response' ? message.group : -1))
    expect(groups).toEqual(Array.from({ length: 64 }, (_, n) => n + 1))
  })
})

describe('a fork', () => {
  it('has messages, answers and time of its own', () => {
    const chip = linkChip({ control: timeout(2) })
    chip.command(invalidate(), complete(1))
    expect(chip.iommu.takeDeviceMessage()).toMatchObject({ kind: 'invalidate' })
    chip.iommu.elapse(5)
    const twin = chip.fork()
    expect(twin.fingerprint()).toBe(chip.fingerprint())
    expect(twin.iommu.completeInvalidation(device, 0)).toBe(true)
    expect(twin.fingerprint()).not.toBe(chip.fingerprint())
    expect(takeAll(twin)).toMatchObject([{ kind: 'page-response' }])
    chip.iommu.elapse(5)
    twin.iommu.elapse(5)
    expect([chip.takeEvents().length, twin.takeEvents().length]).toEqual([1, 0])
    expect(chip.iommu.completeInvalidation(device, 0)).toBe(false)
    expect(takeAll(chip)).toMatchObject([{ kind: 'page-response' }])
  })

  it('that did the same has the same fingerprint', () => {
    const chip = linkChip({ control: timeout(2) })
    const twin = chip.fork()
    for (const each of [chip, twin]) {
      each.command(invalidate(), complete(1), invalidate(7))
      expect(takeAll(each)).toHaveLength(3)
      each.iommu.completeInvalidation(7, 1)
      each.iommu.elapse(3)
    }
    expect(twin.fingerprint()).toBe(chip.fingerprint())
    twin.iommu.elapse(1)
    expect(twin.fingerprint()).not.toBe(chip.fingerprint())
  })
})
