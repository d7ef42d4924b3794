/**
 * Random commands, legal and not.
 *
 * @packageDocumentation
 */
import { encodeSizeCode } from '@nestwalk/hardware'
import { absentAddresses, arena, arenaDevices } from '../arena.js'
import type { CommandWords } from '../differential-case.js'
import type { SeededRandom } from '../seeded-random.js'

const withOpcode = (code: number, lo: bigint, hi: bigint): CommandWords => [(BigInt(code) << 60n) | lo, hi]

/** Stores data, raises its status bit, or both. */
export function completionWait(random: SeededRandom): CommandWords {
  const isAbsent = random.percent(1)
  const inPage = BigInt(random.below(512) * 8)
  const address = isAbsent ? absentAddresses[0] | inPage : BigInt(arena.stores) + inPage
  const flags = BigInt(random.percent(85) ? 1 | (random.below(4) << 1) : random.below(8))
  return withOpcode(1, address | flags, random.bits(64))
}

export const invalidateEntry = (deviceId: number): CommandWords => withOpcode(2, BigInt(deviceId), 0n)

/** Everything of a domain, tables too. */
const invalidateDomain = (domainId: number): CommandWords =>
  withOpcode(3, BigInt(domainId) << 32n, 0x7fff_ffff_ffff_f003n)

const invalidateAll: CommandWords = withOpcode(8, 0n, 0n)

/** Every device's entry, and every domain. */
export function invalidateEverything(random: SeededRandom, domains: readonly number[]): CommandWords[] {
  if (random.percent(30)) {
    return [invalidateAll, ...arenaDevices.map(({ deviceId }) => invalidateEntry(deviceId))]
  }
  const entries = random.shuffled(arenaDevices).map(({ deviceId }) => invalidateEntry(deviceId))
  return [...entries, ...[...new Set(domains)].map((domainId) => invalidateDomain(domainId))]
}

/** Some of an address space: a page, or a block coded by its size. */
function somePages(random: SeededRandom): bigint {
  const sizeLog2 = random.percent(50) ? 12 : 13 + random.below(40)
  const base = random.bits(52) & ~((1n << BigInt(sizeLog2)) - 1n)
  return encodeSizeCode(base, sizeLog2) | BigInt(random.below(4) << 1)
}

/** One that is nobody's duty here; legal unless bits say otherwise. */
export function otherCommand(random: SeededRandom, domains: readonly number[]): CommandWords {
  const device = BigInt(random.percent(80) ? random.pick(arenaDevices).deviceId : random.below(65536))
  const domain = BigInt(random.percent(80) ? random.pick(domains) : random.below(65536))
  const pasid = random.percent(20) ? random.bits(20) : 0n
  switch (random.below(8)) {
    case 0:
      return completionWait(random)
    case 1:
      return invalidateEntry(Number(device))
    case 2:
    case 3:
      return withOpcode(3, (domain << 32n) | pasid, somePages(random))
    case 4: {
      const pieces = ((pasid & 0xffn) << 48n) | (((pasid >> 8n) & 0xffn) << 16n) | ((pasid >> 16n) << 56n)
      const type = random.percent(5) ? BigInt(1 + random.below(3)) << 4n : 0n
      return withOpcode(4, device | pieces | (device << 32n) | (8n << 24n), (somePages(random) & ~2n) | type)
    }
    case 5:
      return withOpcode(5, device, 0n)
    case 6: {
      const count = BigInt(random.below(4)) << 24n
      const options = random.percent(20) ? 0x10n : 0n
      return withOpcode(6, device | count | (pasid << 32n), (somePages(random) & ~2n) | options)
    }
    default: {
      const tag = (random.percent(3) ? 0xfffn : random.bits(9)) << 32n
      return withOpcode(7, device | (pasid << 32n), tag | (pasid === 0n ? 0n : 4n))
    }
  }
}

/** A command with a bit that it should not have, or no command at all. */
export function illegalCommand(random: SeededRandom, domains: readonly number[]): CommandWords {
  if (random.percent(30))
    return withOpcode(random.pick([0, 9, 10, 11, 12, 13, 14, 15]), random.bits(52), random.bits(64))
  const [lo, hi] = random.percent(50) ? completionWait(random) : otherCommand(random, domains)
  return random.percent(50)
    ? [lo | (1n << BigInt(16 + random.below(44))), hi]
    : [lo, hi | (1n << BigInt(random.below(12)))]
}
