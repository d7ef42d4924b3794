/** The places of invalidations that are put off: sixteen, taken again one after the other, with all words kept. */
import { describe, expect, it } from 'vitest'
import type { DeviceMessage } from '../src/index.js'
import { Words } from '../src/memory/words.js'
import { CommandOutcome } from '../src/queue/command-outcome.js'
import { DeferredCommands } from '../src/queue/deferred-commands.js'
import { Chip, controlBit, place, quietControl, register, statusBit } from './chip.js'
import type { ChipOptions } from './chip.js'
import { nestedChip } from './tables.js'

type Command = readonly [lo: bigint, hi: bigint]

const device = 0x600
const putsOff: ChipOptions = { microArchitecture: { invalidations: 'at-completion-wait' } }
const wait: Command = [0x1000000000000002n, 0n]
const everything = 0x7ffffffffffff001n

/** INVALIDATE_IOTLB_PAGES whose every field tells its number; its queue may have `maxPending` under way, 0 for all. */
const numbered = (n: number, maxPending = 0): Command => {
  const pasid = (BigInt(n) << 48n) | 0x0e00000000ab0000n
  return [
    0x4000000000000000n | pasid | (7n << 32n) | (BigInt(maxPending) << 24n) | BigInt(device),
    (BigInt(n) << 40n) | (BigInt(n) << 12n) | 4n,
  ]
}

/** What the device is told by {@link numbered}. */
const told = (n: number): object => ({
  pasid: 0xeab00 | n,
  address: (BigInt(n) << 40n) | (BigInt(n) << 12n),
})

function deviceChip(control = quietControl): Chip {
  const chip = Chip.create({ ...putsOff, control })
  chip.setDte(device, [0x6000000000000003n, 1n << 32n, 0n, 0n])
  return chip
}

function takeAll(chip: Chip): DeviceMessage[] {
  const messages: DeviceMessage[] = []
  for (let next = chip.iommu.takeDeviceMessage(); next !== undefined; next = chip.iommu.takeDeviceMessage()) {
    messages.push(next)
  }
  return messages
}

const upTo = (count: number, from = 0): number[] => Array.from({ length: count }, (_, n) => from + n)

describe('invalidations that are put off', () => {
  it('are carried out in their order and as they were written, however often places are taken again', () => {
    const chip = deviceChip()
    chip.command(...upTo(30).map((n) => numbered(n)))
    // The oldest makes room for the one that is too many.
    expect(takeAll(chip)).toMatchObject(upTo(14).map(told))
    chip.command(wait)
    expect(takeAll(chip)).toMatchObject(upTo(16, 14).map(told))
    chip.iommu.elapse(1)
    expect(chip.hasStatus(statusBit.comWaitInt)).toBe(false)
  })

  it('name the place of their own command when a device does not answer', () => {
    const chip = deviceChip(quietControl | (1n << 5n))
    chip.command([0x2000000000000001n, 0n], numbered(1), numbered(2), wait)
    takeAll(chip)
    chip.iommu.elapse(1)
    expect(chip.takeEvents()).toEqual([
      [0x7000000000000000n | BigInt(device), place.commandRing + 16n],
      [0x7000000000000000n | BigInt(device), place.commandRing + 32n],
    ])
  })

  it('hold up the queue when no place is left and the oldest has to wait for a device', () => {
    const chip = deviceChip()
    chip.enqueue(...upTo(19).map((n) => numbered(n, 1)))
    // The first went to the device to make room; the second has to wait until that one is answered.
    expect(chip.run()).toBe(17)
    expect(chip.read(register.commandHead)).toBe(17n * 16n)
    expect(takeAll(chip)).toMatchObject([told(0)])
    expect(chip.run()).toBe(0)
    expect(chip.iommu.completeInvalidation(device, 0)).toBe(true)
    expect(chip.run()).toBe(1)
    expect(takeAll(chip)).toMatchObject([told(1)])
    expect(chip.takeEvents()).toEqual([])
  })

  it('hold up a COMPLETION_WAIT that finds one which has to wait; it tries again, and none is lost', () => {
    const chip = deviceChip()
    chip.enqueue(numbered(0, 1), numbered(1, 1), numbered(2, 1), wait)
    expect(chip.run()).toBe(3)
    for (const n of upTo(3)) {
      expect(chip.read(register.commandHead)).toBe(48n)
      expect(chip.hasStatus(statusBit.comWaitInt)).toBe(false)
      const [message, ...more] = takeAll(chip)
      expect(message).toMatchObject(told(n))
      expect(more).toEqual([])
      expect(chip.run()).toBe(0)
      if (message?.kind === 'invalidate') chip.iommu.completeInvalidation(device, message.tag)
      chip.run()
    }
    expect(chip.hasStatus(statusBit.comWaitInt)).toBe(true)
    expect(chip.read(register.commandHead)).toBe(64n)
  })

  it('are carried out for a COMPLETION_WAIT, and for no command that is no invalidation', () => {
    const chip = nestedChip([1], putsOff)
    const iova = 0x100000n
    chip.iommu.request({ deviceId: 1, iova })
    chip.command([0x3000000100000000n, everything], [0x7000000000000001n, 0n])
    expect(takeAll(chip)).toMatchObject([{ kind: 'page-response' }])
    expect(chip.iommu.iotlbEntries()).toHaveLength(1)
    chip.command(wait)
    expect(chip.iommu.iotlbEntries()).toEqual([])
  })

  it('do nothing while they are only looked at: a changed interrupt entry does not count yet', () => {
    const chip = Chip.create({ ...putsOff, control: quietControl | (1n << 17n) })
    chip.setDte(1, [0n, 0n, 0x2000000117840013n])
    chip.put([0x117840000n, 0x501n], [0x117840008n, 0x31n])
    const ask = (): object => chip.iommu.requestInterrupt({ deviceId: 1, address: 0xfee00000n, data: 0 })
    expect(ask()).toMatchObject({ vector: 0x31 })
    chip.put([0x117840008n, 0x41n])
    chip.command([0x5000000000000001n, 0n])
    expect(ask()).toMatchObject({ vector: 0x31 })
    chip.command(wait)
    expect(ask()).toMatchObject({ vector: 0x41 })
  })

  it('are put off in a fork too', () => {
    const chip = nestedChip([1], putsOff)
    chip.iommu.request({ deviceId: 1, iova: 0x100000n })
    const fork = chip.fork()
    fork.command([0x3000000100000000n, everything])
    expect(fork.iommu.iotlbEntries()).toHaveLength(1)
    fork.command(wait)
    expect(fork.iommu.iotlbEntries()).toEqual([])
    expect(chip.iommu.iotlbEntries()).toHaveLength(1)
  })

  it('wait for the queue to run again after it was halted', () => {
    const chip = nestedChip([1], putsOff)
    chip.iommu.request({ deviceId: 1, iova: 0x100000n })
    chip.command([0x3000000100000000n, everything], [0n, 0n])
    chip.write(register.control, quietControl & ~controlBit.cmdBufEn)
    chip.write(register.commandHead, 32n)
    chip.write(register.control, quietControl)
    expect(chip.iommu.iotlbEntries()).toHaveLength(1)
    chip.command(wait)
    expect(chip.iommu.iotlbEntries()).toEqual([])
  })
})

describe('the places', () => {
  /** Words around the places, and who carries commands out: it takes note of them. */
  function bench(): {
    words: Words
    deferred: DeferredCommands
    carriedOut: number[][]
    commands: Parameters<DeferredCommands['drain']>[0]
  } {
    const words = Words.create()
    const before = words.allocate(8)
    const deferred = DeferredCommands.create(words)
    const after = words.allocate(8)
    words
      .activate()
      .fill(-1, before, before + 8)
      .fill(-1, after, after + 8)
    const carriedOut: number[][] = []
    const commands = {
      carryOut: (...command: number[]) => {
        carriedOut.push(command)
        return CommandOutcome.done
      },
    }
    return { words, deferred, carriedOut, commands }
  }
  const command = (n: number): [number, number, number, number, number, number] => [
    n,
    n + 100,
    n + 200,
    n + 300,
    n + 400,
    n + 500,
  ]

  it('keep all six words of each, and take none of their neighbours', () => {
    const { words, deferred, carriedOut, commands } = bench()
    for (const n of upTo(40)) expect(deferred.put(commands, ...command(n))).toBe(true)
    expect(deferred.drain(commands)).toBe(true)
    expect(carriedOut).toEqual(upTo(40).map(command))
    const untouched = words.array.filter((word) => word === -1)
    expect(untouched).toHaveLength(16)
    expect(words.allocate(0)).toBeGreaterThanOrEqual(16 + 16 * 6)
  })

  it('keep what has to wait: neither a seventeenth nor the end of all comes before it', () => {
    const { words, deferred, carriedOut, commands } = bench()
    const waiting = { carryOut: () => CommandOutcome.waits }
    for (const n of upTo(16)) expect(deferred.put(waiting, ...command(n))).toBe(true)
    const before = words.fingerprint()
    expect(deferred.put(waiting, ...command(16))).toBe(false)
    expect(deferred.drain(waiting)).toBe(false)
    expect(words.fingerprint()).toEqual(before)
    expect(deferred.drain(commands)).toBe(true)
    expect(carriedOut).toEqual(upTo(16).map(command))
    expect(deferred.drain(waiting)).toBe(true)
  })

  it('leave no trace once all is carried out', () => {
    const { words, deferred, commands } = bench()
    const before = words.fingerprint()
    for (const count of [1, 5, 16, 23]) {
      for (const n of upTo(count)) deferred.put(commands, ...command(n))
      expect(words.fingerprint()).not.toEqual(before)
      deferred.drain(commands)
      expect(words.fingerprint()).toEqual(before)
    }
  })

  it('tell in the fingerprint what is left', () => {
    const prints = upTo(4).map((carried) => {
      const { words, deferred, commands } = bench()
      // Twenty put sixteen off; each one more takes one away.
      for (const n of upTo(16 + carried)) deferred.put(commands, ...command(n))
      return words.fingerprint().join()
    })
    expect(new Set(prints).size).toBe(4)
  })
})
