/** Software that writes anything anywhere: no exception, and no more work than a walk can have. */
import { describe, expect, it } from 'vitest'
import { Iommu, SparseMemory } from '../src/index.js'
import { register } from './chip.js'
import { Random } from './slow/random.js'

const sizeBytes = 1 << 20
/** Three GCR3 levels and five guest levels, each through six host levels, then the last host walk. */
const longestWalk = (3 + 5) * (6 + 1) + 6
const offsets = [
  ...Object.values(register),
  0x20,
  0x28,
  0x38,
  0x108,
  0x110,
  0x118,
  0x120,
  0x128,
  0x130,
  0x1ff8,
]

/** Values of the size of pointers into the memory, values of few bits, and noise. */
function wild(random: Random): bigint {
  const pointer = random.bits(20) & ~0xfffn
  switch (random.below(6)) {
    case 0:
      return random.bits(64)
    case 1:
      return 1n << BigInt(random.below(64))
    case 2:
      return pointer | 0x6000000000000001n | (random.bits(3) << 9n)
    case 3:
      return pointer | random.bits(8)
    case 4:
      return pointer | (random.bits(12) << 52n) | random.bits(12)
    default:
      return (random.bits(4) << 60n) | (random.bits(3) << 32n) | random.bits(4)
  }
}

function disturb(iommu: Iommu, random: Random): void {
  const offset = random.chance(0.9) ? random.pick(offsets) : random.below(0x100000)
  const bytes = random.chance(0.5) ? 4 : 8
  let value = wild(random)
  // Mostly on, or nothing would happen.
  if (offset === 0x18 && random.chance(0.8)) value |= 0x11005n
  iommu.writeMmio(random.chance(0.9) ? offset : offset + random.below(8), bytes, value)
  iommu.readMmio(offset + random.below(2) * 4, bytes)
}

function ask(iommu: Iommu, random: Random): void {
  const pasid = random.chance(0.5) ? undefined : Number(random.bits(random.pick([0, 3, 9, 20])))
  const answer = iommu.request({
    ...{
      deviceId: Number(random.bits(random.pick([3, 8, 16]))),
      pasid,
      iova: random.bits(random.pick([14, 30, 48, 64])),
    },
    ...{ write: random.chance(0.5), execute: random.chance(0.2), supervisor: random.chance(0.3) },
  })
  if ('reads' in answer) expect(answer.reads).toBeLessThanOrEqual(longestWalk)
}

function fill(memory: SparseMemory, random: Random): void {
  const at = random.below(sizeBytes / 8) * 8
  const value = wild(random)
  memory.store64(at, 0, Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)))
}

describe('a chip under hostile software', () => {
  it.each([1, 2, 3, 4])(
    'goes on: registers, rings and tables at random, seed %d',
    { timeout: 60_000 },
    (seed) => {
      const random = new Random(seed)
      const memory = SparseMemory.create(sizeBytes)
      const features = { efr: random.bits(64) | (1n << 4n), efr2: random.bits(64) }
      let iommu = Iommu.create(seed === 1 ? { memory } : { memory, features })
      for (let n = 0; n < 30_000; n++) fill(memory, random)
      const outcomes = new Set<string>()
      for (let n = 0; n < 60_000; n++) {
        const what = random.below(100)
        if (what < 3) disturb(iommu, random)
        else if (what < 30) fill(memory, random)
        else if (what < 80) ask(iommu, random)
        else if (what < 99) outcomes.add(String(iommu.step()))
        else {
          iommu.iotlbEntries()
          if (random.chance(0.1)) iommu = iommu.forkOnto(memory)
        }
      }
      expect(outcomes).toEqual(new Set(['true', 'false']))
    },
  )
})
