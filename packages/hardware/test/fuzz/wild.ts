/** Values such as hostile software writes: pointers into a small memory, entries of tables, few bits, noise. */
import type { Random } from '../slow/random.js'

/** Bytes of the memory that all is squeezed into: pointers with more bits lead out of it. */
export const memoryBytes = 1 << 20

export const pagePointer = (random: Random): bigint =>
  random.chance(0.9) ? BigInt(random.below(memoryBytes >> 12)) << 12n : random.bits(52) & ~0xfffn

export function wildWord(random: Random): bigint {
  const pointer = pagePointer(random)
  switch (random.below(9)) {
    case 0:
      return random.bits(64)
    case 1:
      return 1n << BigInt(random.below(64))
    case 2:
      // An entry of a host table.
      return pointer | 0x6000000000000001n | (random.bits(3) << 9n)
    case 3:
      return pointer | random.bits(8)
    case 4:
      return pointer | (random.bits(12) << 52n) | random.bits(12)
    case 5:
      // An entry of a guest table, or of a GCR3 table.
      return pointer | random.pick([1n, 7n, 0x67n, 0x87n])
    case 6:
      // A page of some size by trailing ones.
      return pointer | ((1n << BigInt(random.below(52))) - 1n) | 0x6000000000000e01n
    case 7:
      return 0n
    default:
      return (random.bits(4) << 60n) | (random.bits(3) << 32n) | random.bits(4)
  }
}

/** An address such as a device asks for. */
export function wildAddress(random: Random): bigint {
  const special = [0xfee00000n, 0xfdf8000000n, 0xfdf9100000n, 0xfdfb000000n, 0xfdfc000000n, 0xfdfe000000n]
  if (random.chance(0.06)) return random.pick(special) + random.bits(18)
  return random.bits(random.pick([14, 20, 20, 20, 30, 48, 57, 64]))
}

/** Flips none, one or a few bits of a legal value. */
export function nearly(random: Random, value: bigint, bits: number): bigint {
  let near = value
  while (random.chance(0.3)) near ^= 1n << BigInt(random.below(bits))
  return near
}

export const deviceIdOf = (random: Random): number => Number(random.bits(random.pick([3, 3, 3, 9, 16])))

export const pasidOf = (random: Random): number | undefined =>
  random.chance(0.4) ? undefined : Number(random.bits(random.pick([0, 3, 9, 20])))
