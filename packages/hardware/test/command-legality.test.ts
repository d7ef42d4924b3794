/** Commands for guests of a hardware vIOMMU, the window of COMPLETION_WAIT, and what a cached device table entry decides. */
import { describe, expect, it } from 'vitest'
import { CommandOutcome } from '../src/queue/command-outcome.js'
import { ats, at, bit, Chip, fullChip, is } from './rig-chip.js'
import { vfc, VirtualRig } from './virtual-rig.js'

type Command = readonly [lo: bigint, hi: bigint]

const device = 0x600

/** Carries a command of the host out in a chip that has guests. */
function outcomeOf(rig: VirtualRig, [lo, hi]: Command): CommandOutcome {
  const wordOf = (value: bigint, n: bigint): number => Number(BigInt.asIntN(32, value >> (32n * n)))
  rig.memory.words.activate()
  return rig.commands.carryOut(wordOf(lo, 0n), wordOf(lo, 1n), wordOf(hi, 0n), wordOf(hi, 1n), 0, 0)
}

/** Bits from `lo` to `hi`. */
const span = (hi: number, lo = hi): number[] => Array.from({ length: hi - lo + 1 }, (_, n) => lo + n)
const opcode = span(63, 60)

describe.each([
  { name: 'INSERT_GUEST_EVENT', base: 0x9000000000000000n, guestAt: 32n, fields: span(47, 32) },
  { name: 'RESET_VMMIO', base: 0xa000000000000000n, guestAt: 0n, fields: [...span(15, 0), 28, 31] },
])('$name', ({ base, guestAt, fields }) => {
  it('is legal with any bit of its fields set', () => {
    const rig = VirtualRig.create()
    for (const field of fields) expect(outcomeOf(rig, [base | bit(field), 0n])).toBe(CommandOutcome.done)
  })

  it('is not legal with any other bit set', () => {
    const rig = VirtualRig.create()
    const command = base | (3n << guestAt)
    for (const n of span(127, 0)) {
      if (fields.includes(n) || opcode.includes(n)) continue
      const flipped: Command = n < 64 ? [command | bit(n), 0n] : [command, bit(n - 64)]
      expect(outcomeOf(rig, flipped), `bit ${n}`).toBe(CommandOutcome.illegal)
    }
  })

  it('is not legal in a chip without guests', () => {
    const chip = Chip.create()
    chip.command([base | (3n << guestAt), 0n])
    expect(chip.hasStatus(is.cmdBufRun)).toBe(false)
  })
})

describe('RESET_VMMIO without vCmd', () => {
  it.each([0, 3])('keeps the registers of the command queue of guest %d', (guestId) => {
    const rig = VirtualRig.create()
    rig.addGuest(guestId)
    const before = rig.readControl(guestId, vfc.command)
    expect(before).not.toBe(0n)
    outcomeOf(rig, [0xa000000000000000n | BigInt(guestId), 0n])
    expect(rig.readControl(guestId, vfc.command)).toBe(before)
    expect(rig.readControl(guestId, vfc.event)).toBe(0n)
  })
})

describe('COMPLETION_WAIT with SNP', () => {
  it('may store between the ends of a window that lie in other 4 GiB each', () => {
    const chip = fullChip(0n, { snp: true })
    chip.write(at.exclusionBase, 0x1_ffff_f000n)
    chip.write(at.exclusionLimit, 0x3_0000_1000n)
    const store = (address: bigint): Command => [0x1000000000000001n | address, 0x77n]
    for (const address of [0x1_ffff_f000n, 0x2_f000_0000n, 0x3_0000_1ff8n]) {
      chip.command(store(address))
      expect(chip.load(address)).toBe(0x77n)
    }
    chip.command(store(0x3_0000_2000n))
    expect(chip.load(0x3_0000_2000n)).toBe(0n)
    expect(chip.hasStatus(is.cmdBufRun)).toBe(false)
  })
})

describe('INVALIDATE_IOTLB_PAGES to devices that may use ATS alone', () => {
  const dropping = { switches: { iotlbInvalidationWithoutAts: 'dropped' } } as const
  const invalidate: Command = [0x4000000000000000n | BigInt(device), 0x7ffffffffffff001n]
  const dte = (second: bigint): bigint[] => [0x6000000000000003n, 0x42n | second]

  it('goes by the cached device table entry, until that is invalidated', () => {
    const chip = fullChip(0n, dropping)
    chip.setDte(device, dte(ats))
    chip.iommu.request({ deviceId: device, iova: 0n })
    chip.setDte(device, dte(0n))
    chip.command(invalidate)
    expect(chip.iommu.takeDeviceMessage()).toMatchObject({ kind: 'invalidate', deviceId: device })
    chip.command([0x2000000000000000n | BigInt(device), 0n], invalidate)
    expect(chip.iommu.takeDeviceMessage()).toBeUndefined()
    expect(chip.hasStatus(is.cmdBufRun)).toBe(true)
  })
})
