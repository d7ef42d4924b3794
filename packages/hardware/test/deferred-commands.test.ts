/** A chip that puts invalidations off until a COMPLETION_WAIT: the head says what was fetched, and no more. */
import { describe, expect, it } from 'vitest'
import { Chip, place, register, statusBit } from './chip.js'
import { mapHost, pagesFrom } from './tables.js'

const invalidateAll = [0x3000000100000000n, 0x7ffffffffffff003n] as const
const wait = [0x1000000000000002n, 0n] as const
const iova = 0x5000n

/** A chip with one host translation in its IOTLB whose page has moved since. */
function staleChip(): Chip {
  const chip = Chip.create({ microArchitecture: { invalidations: 'at-completion-wait' } })
  chip.setDte(1, [0x6000000100000603n, 1n])
  mapHost(chip, { root: 0x100000000n, mode: 3 }, pagesFrom(0x100001000n), iova, 0x700000n)
  expect(chip.iommu.request({ deviceId: 1, iova })).toMatchObject({ spa: 0x700000n })
  mapHost(chip, { root: 0x100000000n, mode: 3 }, pagesFrom(0x200001000n), iova, 0x800000n)
  return chip
}

const asked = (chip: Chip): object => chip.iommu.request({ deviceId: 1, iova })

describe('an invalidation that is put off', () => {
  it('has been fetched, as the head shows, and has no effect before the next COMPLETION_WAIT', () => {
    const chip = staleChip()
    expect(chip.command(invalidateAll)).toBe(1)
    expect(chip.read(register.commandHead)).toBe(16n)
    expect(asked(chip)).toMatchObject({ spa: 0x700000n, from: 'iotlb' })
    expect(chip.command(wait)).toBe(1)
    expect(asked(chip)).toMatchObject({ spa: 0x800000n, from: 'walk' })
  })

  it.each([
    ['INVALIDATE_DEVTAB_ENTRY', 0x2000000000000001n],
    ['INVALIDATE_INTERRUPT_TABLE', 0x5000000000000001n],
    ['INVALIDATE_IOMMU_ALL', 0x8000000000000000n],
  ])('may be %s', (_, lo) => {
    const chip = staleChip()
    chip.command([lo, 0n])
    expect(chip.iommu.cachedDeviceIds()).toEqual([1])
    chip.command(wait)
    expect(chip.iommu.cachedDeviceIds()).toEqual(lo === 0x5000000000000001n ? [1] : [])
  })

  it('is looked at as it is fetched: one that is not legal halts the queue there', () => {
    const chip = staleChip()
    chip.command(invalidateAll, [invalidateAll[0] | (1n << 20n), 0n], wait)
    expect(chip.hasStatus(statusBit.cmdBufRun)).toBe(false)
    expect(chip.read(register.commandHead)).toBe(16n)
    expect(chip.takeEvents()).toEqual([[0x5000000000000000n, place.commandRing + 16n]])
    expect(asked(chip)).toMatchObject({ spa: 0x700000n })
  })

  it('waits for no more than fifteen others', () => {
    const chip = staleChip()
    const others = Array.from({ length: 15 }, () => [0x3000000200000000n, 0n] as const)
    chip.command(invalidateAll, ...others)
    expect(asked(chip)).toMatchObject({ spa: 0x700000n })
    chip.command([0x3000000200000000n, 0n])
    expect(asked(chip)).toMatchObject({ spa: 0x800000n })
  })

  it('of a device holds up the COMPLETION_WAIT until the device has answered', () => {
    const chip = staleChip()
    expect(chip.command([0x4000000120000001n, 0x7ffffffffffff001n], wait)).toBe(1)
    expect(chip.iommu.takeDeviceMessage()).toMatchObject({ kind: 'invalidate', deviceId: 1 })
    expect(chip.hasStatus(statusBit.comWaitInt)).toBe(false)
    expect(chip.iommu.completeInvalidation(1, 0)).toBe(true)
    expect(chip.run()).toBe(1)
    expect(chip.hasStatus(statusBit.comWaitInt)).toBe(true)
  })

  it('belongs to the machine: forks put off their own', () => {
    const chip = staleChip()
    const before = chip.fingerprint()
    const twin = chip.fork()
    twin.command(invalidateAll)
    expect(twin.fingerprint()).not.toBe(before)
    chip.command(wait)
    expect(asked(chip)).toMatchObject({ spa: 0x700000n })
    twin.command(wait)
    expect(asked(twin)).toMatchObject({ spa: 0x800000n })
  })
})
