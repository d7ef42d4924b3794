/** The registers of a chip as software sets them up before it does harm, and puts them right again at times. */
import type { Iommu } from '../../src/index.js'
import { controlBit, register } from '../chip.js'
import type { Random } from '../slow/random.js'
import { groundPage } from './ground.js'

const page = (number: number): bigint => BigInt(number) << 12n

/** What software turns on: queues, logs, interrupts, guest tables, A and D, guests. */
export function controlOf(random: Random): bigint {
  const bits = [0, 2, 3, 4, 12, 13, 14, 15, 16, 28, 29, 46, 47, 52, 53, 58]
  const { guestAccessedOff, guestDirtyOff, ephEn } = controlBit
  const maybe = [guestAccessedOff, guestDirtyOff, ephEn, 1n << 17n, 1n << 22n, 1n << 50n]
  return (
    bits.reduce(
      (sum, bit) => sum | (1n << BigInt(bit)),
      random.chance(0.5) ? 0n : (1n << 17n) | (1n << 25n),
    ) |
    maybe.reduce((sum, bit) => sum | random.flag(0.3, bit), 0n) |
    (random.bits(3) << 5n)
  )
}

/** Has counters count anything, for some devices, domains and PASIDs only. */
export function startCounters(iommu: Iommu, random: Random): void {
  for (let counter = 0; counter < 4; counter++) {
    const at = 0x40000 + counter * 0x100
    iommu.writeMmio(at + 0x08, 8, BigInt(1 + random.below(0x18)))
    const filter = [0x10, 0x18, 0x20][random.below(4)]
    if (filter !== undefined) iommu.writeMmio(at + filter, 8, 0x100000000n | 0x80000000n | random.bits(1))
    // Wraps soon, and tells so.
    if (random.chance(0.3)) iommu.writeMmio(at, 8, 0xfffffffff000n)
    iommu.writeMmio(at + 0x28, 8, (1n << 63n) | random.bits(32))
  }
}

/** Gives each queue its ring, and turns on what `control` says; the guests' queues too. */
export function setUp(iommu: Iommu, control: bigint): void {
  iommu.writeConfig(0x66, 2, 1)
  iommu.writeMmio(register.deviceTableBase, 8, page(groundPage.deviceTable) | 3n)
  const rings = [
    [register.commandBase, groundPage.commands],
    [register.eventBase, groundPage.eventLog],
    [0x38, groundPage.pprLog],
    [0xe0, groundPage.gaLog],
    [0xf0, groundPage.pprLogB],
    [0xf8, groundPage.eventLogB],
  ] as const
  for (const [offset, number] of rings) iommu.writeMmio(offset, 8, page(number) | (8n << 56n))
  iommu.writeMmio(register.control, 8, control)
  const { virtual } = iommu
  if (virtual === null) return
  for (let guestId = 0; guestId < 4; guestId++) {
    virtual.writeVfControl(guestId * 64 + 0x10, 8, 1n << 16n)
    for (const queue of [0x20, 0x28, 0x30]) virtual.writeVfControl(guestId * 64 + queue, 8, 0x708n)
  }
}
