/** Where entries of the logs go: at the ends of rings, in the other ring of two, and the copy of the GA log's tail. */
import { describe, expect, it } from 'vitest'
import { Chip, register } from './chip.js'
import {
  at,
  entriesAt,
  fault,
  faultEvent,
  fullChip,
  interrupts,
  is,
  logPlace,
  on,
  quietControl,
} from './rig-chip.js'

const device = 0x600
const marker = 0x123456789abcdef0n

describe('the GA log', () => {
  const gaControl = quietControl | on.gaEn | on.guestApicMode | on.gaLogEn
  const entry = 0x1000060000002345n
  const size = 0x1000n

  /** A chip whose device interrupts a guest that does not run. */
  const guestChip = (control = gaControl): Chip => {
    const chip = fullChip()
    chip.write(at.control, control)
    chip.setDte(device, [0n, 0x42n, 0x2000000117840013n, 0n])
    chip.put([0x117840000n, 0x0000234500000085n], [0x117840008n, 0x123456051n])
    return chip
  }
  const interrupt = (chip: Chip): unknown =>
    chip.iommu.requestInterrupt({ deviceId: device, address: 0xfee00000n, data: 0 })

  it('has entries of eight bytes: what lies behind one is left alone, at the end of the ring too', () => {
    const chip = guestChip()
    chip.put([logPlace.ga + 8n, marker], [logPlace.ga + size, marker])
    interrupt(chip)
    expect([chip.load(logPlace.ga), chip.load(logPlace.ga + 8n)]).toEqual([entry, marker])
    for (let n = 1; n < 512; n++) {
      interrupt(chip)
      chip.write(at.gaHead, chip.read(at.gaTail))
    }
    expect(chip.load(logPlace.ga + size - 8n)).toBe(entry)
    expect(chip.load(logPlace.ga + size)).toBe(marker)
    expect(chip.read(at.gaTail)).toBe(0n)
  })

  it('has no copy of its tail where GA Log Tail Address is zero', () => {
    const chip = guestChip()
    chip.write(at.gaTailAddress, 0n)
    chip.put([0n, marker])
    interrupt(chip)
    expect(chip.read(at.gaTail)).toBe(8n)
    expect(chip.load(0n)).toBe(marker)
  })

  it.each([0x7_0000_0000n, 0x18n])('has the copy of its tail anywhere: %x', (address) => {
    const chip = guestChip()
    chip.write(at.gaTailAddress, address)
    interrupt(chip)
    interrupt(chip)
    expect(chip.load(address)).toBe(16n)
  })

  it('touches the copy only when its tail moves: not while it is off, and not when it is full', () => {
    const off = guestChip(gaControl & ~on.gaLogEn)
    off.put([logPlace.gaTail, marker])
    interrupt(off)
    expect(off.load(logPlace.gaTail)).toBe(marker)
    const full = guestChip()
    for (let n = 0; n < 511; n++) interrupt(full)
    full.put([logPlace.gaTail, marker])
    interrupt(full)
    expect(full.hasStatus(is.gaOverflow)).toBe(true)
    expect(full.load(logPlace.gaTail)).toBe(marker)
  })

  it('moves its tail, and the copy, though no memory takes the entry', () => {
    const chip = guestChip(quietControl)
    chip.write(at.gaBase, 0xffffffffff000n | (8n << 56n))
    chip.write(at.control, gaControl)
    interrupt(chip)
    expect(chip.read(at.gaTail)).toBe(8n)
    expect(chip.load(logPlace.gaTail)).toBe(8n)
    expect(chip.hasStatus(is.gaInt)).toBe(true)
  })
})

describe('two event logs in swap mode', () => {
  const swap = on.eventIntEn | on.eventAutoSwap

  it('lose nothing in going over: the event that finds A full is the first one of B', () => {
    const chip = fullChip(swap)
    expect(fault(chip, 256)).toEqual(new Array(256).fill(true))
    expect([chip.read(at.eventTail), chip.read(at.eventTailB)]).toEqual([255n * 16n, 16n])
    expect(entriesAt(chip, logPlace.eventB, 2)).toEqual([faultEvent, [0n, 0n]])
    expect(chip.hasStatus(is.eventOverflow)).toBe(true)
    expect(chip.hasStatus(is.eventOverflowB)).toBe(false)
  })

  it('go back to A when B is full and A has been dealt with', () => {
    const chip = fullChip(swap)
    fault(chip, 510)
    chip.write(at.eventHead, chip.read(at.eventTail))
    chip.write(at.status, is.eventOverflow)
    expect(fault(chip, 2)).toEqual([true, true])
    expect(chip.hasStatus(is.eventLogActive)).toBe(false)
    expect(chip.read(at.eventTail)).toBe(16n)
    expect(chip.hasStatus(is.eventOverflowB)).toBe(true)
  })

  it('stop when the other one is full as well, its overflow cleared but its entries not read', () => {
    const chip = fullChip(swap)
    fault(chip, 510)
    chip.write(at.status, is.eventOverflow)
    interrupts(chip)
    expect(fault(chip, 3)).toEqual([false, false, false])
    expect(chip.hasStatus(is.eventOverflow)).toBe(true)
    expect(chip.hasStatus(is.eventOverflowB)).toBe(true)
    expect(chip.hasStatus(is.eventLogRun)).toBe(false)
    expect([chip.read(at.eventTail), chip.read(at.eventTailB)]).toEqual([255n * 16n, 255n * 16n])
    expect(interrupts(chip)).not.toEqual([])
  })
})

describe('a ring', () => {
  it('ends at its length, wherever it begins: an event never goes beyond', () => {
    const chip = fullChip()
    chip.write(register.control, 0n)
    chip.write(register.eventBase, 0xfffff000n | (8n << 56n))
    chip.put([0x100000000n, marker])
    chip.write(register.control, quietControl)
    for (let n = 0; n < 300; n++) {
      fault(chip)
      chip.write(register.eventHead, chip.read(register.eventTail))
    }
    expect(chip.load(0x100000000n)).toBe(marker)
    expect(entriesAt(chip, 0xfffffff0n, 1)).toEqual([faultEvent])
  })

  it('of commands may lie across a 4 GiB border', () => {
    const chip = Chip.create({ control: 0n })
    chip.write(register.commandBase, 0xfffff000n | (9n << 56n))
    chip.write(register.control, quietControl)
    const store = (n: number): readonly [bigint, bigint] => [0x1000000000001001n, BigInt(n)]
    for (let n = 1; n <= 300; n++) {
      expect(chip.command(store(n))).toBe(1)
      expect(chip.load(0x1000n)).toBe(BigInt(n))
    }
    chip.command([0n, 0n])
    expect(chip.takeEvents()).toEqual([[0x5000000000000000n, 0x1000002c0n]])
  })
})
