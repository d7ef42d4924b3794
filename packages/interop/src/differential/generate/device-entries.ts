/**
 * Random device table entries: most translate, some are of another kind, some have bits that they should not have.
 *
 * @packageDocumentation
 */
import type { DeviceEntry } from '../reading/manual-walk.js'
import type { SeededRandom } from '../seeded-random.js'

const bothRights = 3n << 61n
const validAndTranslating = 3n

/** Bits of the four quad-words that not every chip takes, or that make a difference. */
const oddBits: readonly (readonly [word: number, bits: readonly bigint[]])[] = [
  // Reserved; HAD; PPR, GPRP, GIoV; GV; GLX; GCR3.
  [0, [4n, 8n, 0x40n, 1n << 63n, 1n << 7n, 1n << 8n, 3n << 7n]],
  [0, [1n << 52n, 1n << 53n, 1n << 54n, 1n << 55n, 3n << 55n, 5n << 55n, 3n << 56n, 1n << 58n]],
  // I, SE, SA, IoCtl, Cache, SD, EX, SysMgt, SATS, GCR3.
  [1, [1n << 32n, 1n << 33n, 1n << 34n, 3n << 35n, 1n << 37n, 1n << 38n, 1n << 39n]],
  [1, [1n << 33n, 1n << 34n, 3n << 40n, 1n << 42n, 1n << 16n, 1n << 43n]],
  // Interrupts, reserved, GuestPagingMode.
  [2, [1n << 4n, 1n << 52n, 1n << 53n, 1n << 54n, 1n << 56n]],
  [3, [1n, 1n << 14n, 1n << 16n, 1n << 48n, 1n << 54n]],
]

/** What an entry is to name. */
export interface EntryWish {
  readonly root: bigint
  readonly mode: number
  readonly domainId: number
}

export function randomEntry(random: SeededRandom, { root, mode, domainId }: EntryWish): DeviceEntry {
  const rights = random.percent(85) ? bothRights : BigInt(random.below(4)) << 61n
  const entry: [bigint, bigint, bigint, bigint] = [
    validAndTranslating | (BigInt(randomMode(random, mode)) << 9n) | root | rights,
    BigInt(domainId),
    0n,
    0n,
  ]
  if (random.percent(4)) entry[0] &= ~1n
  if (random.percent(4)) entry[0] &= ~2n
  if (random.percent(20)) {
    const [word, bits] = random.pick(oddBits)
    entry[word as 0 | 1 | 2 | 3] |= random.pick(bits)
  }
  return entry
}

/** The tables' own depth, or none, or one that there is not. */
function randomMode(random: SeededRandom, mode: number): number {
  if (random.percent(5)) return 0
  return random.percent(2) ? 7 : mode
}

/** Table depths, the usual ones more often. */
export const tableModes = [1, 2, 3, 3, 3, 4, 4, 4, 5, 6] as const
