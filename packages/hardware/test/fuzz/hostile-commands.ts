/** Commands as hostile software writes them: legal, nearly legal, and noise. */
import type { Random } from '../slow/random.js'
import { deviceIdOf, nearly, pagePointer, pasidOf, wildAddress, wildWord } from './wild.js'

export type CommandWords = readonly [lo: bigint, hi: bigint]

/** An address with a size code, its S bit and what else the low bits hold. */
function range(random: Random): bigint {
  const address = wildAddress(random) & ~0xfffn
  const size = random.pick([12, 12, 13, 16, 21, 30, 48, 63, 64])
  if (size === 12) return address
  const ones = ((1n << BigInt(size - 1)) - 1n) & ~0xfffn
  return ((address >> BigInt(size)) << BigInt(size)) | ones | 1n
}

function legal(random: Random): CommandWords {
  const deviceId = BigInt(deviceIdOf(random))
  const pasid = pasidOf(random)
  const domainId = random.bits(random.pick([3, 3, 3, 16]))
  const guest = pasid === undefined ? 0n : 4n
  const opcode = random.pick([1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 5, 6, 7, 8, 9, 10])
  const op = BigInt(opcode) << 60n
  const id = BigInt(pasid ?? 0)
  switch (opcode) {
    case 1:
      return [op | (pagePointer(random) & ~7n) | random.bits(3), random.bits(64)]
    case 2:
    case 5:
      return [op | deviceId, 0n]
    case 3:
      return [op | id | (domainId << 32n), range(random) | guest | random.flag(0.5, 2n)]
    case 4: {
      const split = ((id & 0xff00n) << 8n) | ((id & 0xffn) << 48n) | ((id >> 16n) << 56n)
      const queue = (random.pick([0n, 1n, 4n, 255n]) << 24n) | (domainId << 32n)
      return [op | deviceId | split | queue, range(random) | guest]
    }
    case 6: {
      const count = BigInt(random.pick([0, 1, 1, 2, 3, 3, 8, 8, 255])) << 24n
      return [op | deviceId | count | (id << 32n), range(random) | guest | random.flag(0.2, 0x10n)]
    }
    case 7:
      return [
        op | deviceId | (id << 32n),
        guest | (random.bits(9) << 32n) | (random.pick([0n, 1n, 15n]) << 44n),
      ]
    case 9:
      return [op | (random.bits(3) << 32n), 0n]
    case 10:
      return [op | random.bits(3) | random.flag(0.1, 1n << 28n) | random.flag(0.3, 1n << 31n), 0n]
    default:
      return [op, 0n]
  }
}

export function hostileCommand(random: Random): CommandWords {
  if (random.chance(0.04)) return [random.bits(64), random.bits(64)]
  if (random.chance(0.04)) return [wildWord(random), wildWord(random)]
  const [lo, hi] = legal(random)
  return random.chance(0.9) ? [lo, hi] : [nearly(random, lo, 64), nearly(random, hi, 64)]
}
