import { describe, expect, it } from 'vitest'
import { Chip, controlBit, event, quietControl, register, statusBit } from './chip.js'

const device = 0x600
/** V alone: every request faults with DomainID 13, PR=0. */
const blocked = [1n, 0x13n]
const fault = event('00000600 20000013 00001000 00000000')
const logControl = quietControl | controlBit.eventIntEn
const suppressFirst = 1n << 33n
const suppressAll = 1n << 34n
const invalidateEntry = [0x2000000000000000n | BigInt(device), 0n] as const

function faultingChip(control = logControl, dte: readonly bigint[] = blocked): Chip {
  const chip = Chip.create({ control })
  chip.setDte(device, dte)
  return chip
}

function fail(chip: Chip, times = 1): boolean[] {
  return Array.from({ length: times }, () => {
    const answer = chip.iommu.request({ deviceId: device, iova: 0x1000n })
    if (answer.kind !== 'fault') throw new Error(`expected a fault, not ${answer.kind}`)
    return answer.logged
  })
}

describe('the event log', () => {
  it('gets the entry, then the tail moves, EventLogInt is set and the interrupt raised', () => {
    const chip = faultingChip()
    expect(fail(chip)).toEqual([true])
    expect(chip.read(register.eventTail)).toBe(16n)
    expect(chip.takeEvents()).toEqual([fault])
    expect(chip.hasStatus(statusBit.eventLogInt)).toBe(true)
    expect(chip.hasStatus(statusBit.comWaitInt)).toBe(false)
    expect([chip.iommu.takeInterrupt()?.cause, chip.iommu.takeInterrupt()]).toEqual(['general', undefined])
  })

  it('raises no interrupt with EventIntEn off, though EventLogInt is set', () => {
    const chip = faultingChip(quietControl)
    fail(chip)
    expect(chip.hasStatus(statusBit.eventLogInt)).toBe(true)
    expect(chip.iommu.takeInterrupt()).toBeUndefined()
  })

  it('gets nothing while it is off', () => {
    const chip = faultingChip(logControl & ~controlBit.eventLogEn)
    expect(fail(chip)).toEqual([false])
    expect(chip.read(register.eventTail)).toBe(0n)
    expect(chip.iommu.takeInterrupt()).toBeUndefined()
  })

  it('is full when one slot is left: then events are lost, EventOverflow is set and the log stops', () => {
    const chip = faultingChip()
    expect(fail(chip, 255).every((logged) => logged)).toBe(true)
    chip.iommu.takeInterrupt()
    chip.write(register.status, statusBit.eventLogInt)
    expect(fail(chip, 2)).toEqual([false, false])
    expect(chip.read(register.status)).toBe(statusBit.eventOverflow | statusBit.cmdBufRun)
    expect(chip.iommu.takeInterrupt()).toBeDefined()
    expect(chip.read(register.eventTail)).toBe(255n * 16n)
    // Translation goes on, and so do commands.
    chip.setDte(1, [0x6000000000000003n])
    expect(chip.iommu.request({ deviceId: 1, iova: 0x1000n })).toMatchObject({ kind: 'translated' })
    expect(chip.command([0x1000000000000002n, 0n])).toBe(1)
    // Room alone does not restart it, nor does clearing the bit.
    chip.takeEvents()
    chip.write(register.status, statusBit.eventOverflow)
    expect(fail(chip)).toEqual([false])
    expect(chip.hasStatus(statusBit.eventLogRun)).toBe(false)
  })

  it.each([true, false])(
    'is restarted by EventLogEn from 0 to 1, EventOverflow cleared before: %s',
    (clears) => {
      const chip = faultingChip()
      fail(chip, 256)
      chip.takeEvents()
      chip.write(register.control, logControl & ~controlBit.eventLogEn)
      if (clears) chip.write(register.status, statusBit.eventOverflow)
      chip.write(register.control, logControl)
      expect(chip.hasStatus(statusBit.eventOverflow)).toBe(false)
      expect(chip.hasStatus(statusBit.eventLogRun)).toBe(true)
      expect(fail(chip)).toEqual([true])
      // Head and tail went on from where they were.
      expect(chip.read(register.eventTail)).toBe(0n)
      expect(chip.takeEvents()).toEqual([fault])
    },
  )

  it('wraps: a thousand events arrive in a log of 256 that is read now and then', () => {
    const chip = faultingChip()
    let taken = 0
    for (let n = 1; n <= 1000; n++) {
      fail(chip)
      if (n % 100 === 0)
        taken += chip.takeEvents().filter(([lo, hi]) => lo === fault[0] && hi === fault[1]).length
    }
    expect(taken).toBe(1000)
    expect(chip.hasStatus(statusBit.eventOverflow)).toBe(false)
  })

  it('that lies outside memory swallows its entries', () => {
    const chip = faultingChip(0n)
    chip.write(register.eventBase, 0xffffffffff000n | (8n << 56n))
    chip.write(register.control, logControl)
    expect(fail(chip)).toEqual([false])
    expect(chip.read(register.eventTail)).toBe(16n)
  })

  it('may lie across a 4 GiB border', () => {
    const chip = faultingChip(0n)
    chip.write(register.eventBase, 0xfffff000n | (9n << 56n))
    chip.write(register.control, logControl)
    fail(chip, 300)
    expect(chip.takeEvents()).toHaveLength(300)
    expect(chip.load(0x100000000n)).toBe(fault[0])
  })
})

describe('suppression', () => {
  it('by SA keeps every IO_PAGE_FAULT out of the log', () => {
    const chip = faultingChip(logControl, [1n, 0x13n | suppressAll])
    expect(fail(chip, 3)).toEqual([false, false, false])
    expect(chip.iommu.takeInterrupt()).toBeUndefined()
  })

  it('by SE lets the first one through, and again the first after the entry was read anew', () => {
    const chip = faultingChip(logControl, [1n, 0x13n | suppressFirst])
    expect(fail(chip, 3)).toEqual([true, false, false])
    chip.command(invalidateEntry)
    expect(fail(chip, 2)).toEqual([true, false])
  })

  it('by SE is not used up by a look that changes nothing', () => {
    const chip = faultingChip(logControl, [1n, 0x13n | suppressFirst])
    const before = chip.fingerprint()
    expect(chip.iommu.walkFresh({ deviceId: device, iova: 0x1000n })).toMatchObject({
      event: fault,
      logged: false,
    })
    expect(chip.fingerprint()).toBe(before)
    expect(fail(chip, 2)).toEqual([true, false])
  })

  it('says nothing in an entry with V=0, where no bit but V counts', () => {
    const chip = Chip.create({ control: logControl, switches: { pasidWithoutValid: 'fault' } })
    chip.setDte(device, [0n, suppressAll | suppressFirst])
    const ask = (): unknown => chip.iommu.request({ deviceId: device, iova: 0x1000n, pasid: 5 })
    for (let n = 0; n < 2; n++) expect(ask()).toMatchObject({ kind: 'fault', logged: true })
  })

  it('does not reach ILLEGAL_DEV_TABLE_ENTRY and hardware errors', () => {
    const illegal = faultingChip(logControl, [0x7n, suppressAll | suppressFirst])
    expect(fail(illegal, 2)).toEqual([true, true])
    // Mode 4 with a root beyond the memory.
    const unreadable = faultingChip(logControl, [0x600ffffffffff803n, 0x13n | suppressAll | suppressFirst])
    expect(fail(unreadable, 2)).toEqual([true, true])
    expect(unreadable.takeEvents()[0]).toEqual(event('00000600 42000013 fffff000 000fffff'))
  })
})

describe('the cache of device table entries', () => {
  const pass = [0x6000000000000003n]

  it('keeps an entry whatever its V bit says, until INVALIDATE_DEVTAB_ENTRY', () => {
    const chip = Chip.create()
    const ask = (): string => chip.iommu.request({ deviceId: device, iova: 0x1000n }).kind
    expect(ask()).toBe('forwarded')
    chip.setDte(device, blocked)
    expect(ask()).toBe('forwarded')
    chip.command(invalidateEntry)
    expect(ask()).toBe('fault')
    chip.setDte(device, pass)
    expect(ask()).toBe('fault')
    chip.command(invalidateEntry)
    expect(ask()).toBe('translated')
  })

  it('drops one entry at a time, or all by INVALIDATE_IOMMU_ALL', () => {
    const chip = Chip.create()
    for (const deviceId of [0, 1, 0x3f, 0x40, 0xffff]) chip.iommu.request({ deviceId, iova: 0n })
    expect(chip.iommu.cachedDeviceIds()).toEqual([0, 1, 0x3f, 0x40, 0xffff])
    chip.command([0x2000000000000040n, 0n])
    expect(chip.iommu.cachedDeviceIds()).toEqual([0, 1, 0x3f, 0xffff])
    chip.command([0x2000000000001234n, 0n])
    expect(chip.iommu.cachedDeviceIds()).toEqual([0, 1, 0x3f, 0xffff])
    chip.command([0x8000000000000000n, 0n])
    expect(chip.iommu.cachedDeviceIds()).toEqual([])
  })

  it('holds no entry that could not be read', () => {
    const chip = Chip.create()
    chip.write(register.deviceTableBase, 0xfffffffe00000n | 0x1ffn)
    expect(fail(chip)).toEqual([true])
    expect(chip.takeEvents()).toEqual([event('00000600 32000000 ffe0c000 000fffff')])
    expect(chip.iommu.cachedDeviceIds()).toEqual([])
  })
})
