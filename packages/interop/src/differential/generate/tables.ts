/**
 * Random host tables: mostly such as software builds, some broken in one place.
 *
 * @packageDocumentation
 */
import { absentAddresses, arena, pageBytes } from '../arena.js'
import type { SeededRandom } from '../seeded-random.js'

const readWrite = 3n << 61n
const present = 1n
const frameMask = 0xf_ffff_ffff_f000n

const shiftOf = (level: number): bigint => BigInt(3 + 9 * level)
const indexOf = (iova: bigint, level: number): bigint => (iova >> shiftOf(level)) & 0x1ffn

/** log2 of the bytes of the targets, which are aligned to as much. */
const targetsLog2 = 21

/** Where a path ends. */
interface Leaf {
  readonly entry: bigint
  /** log2 of its bytes. */
  readonly sizeLog2: number
}

/** Tables under construction: quad-words by address, and the pages that are taken. */
export class TableMaker {
  readonly words = new Map<bigint, bigint>()
  /** The leaves, for edits. */
  readonly leaves: bigint[] = []
  private nextPage = 0
  private readonly damagedAt = new Set<bigint>()

  constructor(private readonly random: SeededRandom) {}

  /** A page for a table: pages lie in an order of their own. */
  newTable(): bigint {
    const pages = (arena.tablesEnd - arena.tables) / pageBytes
    const page = (this.nextPage * 37) % pages
    this.nextPage++
    return BigInt(arena.tables + page * pageBytes)
  }

  /**
   * Builds a path for an address below a root, through what is there already.
   *
   * @returns an address that goes that way
   */
  map(root: bigint, mode: number, wanted: bigint): bigint {
    const { random } = this
    let iova = wanted
    let table = root
    let level = mode
    for (;;) {
      if (level === this.leafLevel(level)) break
      const next = random.percent(12) && level > 2 ? 1 + random.below(level - 1) : level - 1
      iova = withoutBits(iova, shiftOf(next + 1), shiftOf(level))
      const at = table + indexOf(iova, level) * 8n
      const found = this.words.get(at)
      if (found !== undefined && !isDirectory(found)) return iova
      if (found === undefined)
        this.words.set(at, readWrite | this.newTable() | (BigInt(next) << 9n) | present)
      const entry = this.words.get(at) ?? 0n
      table = entry & frameMask
      level = Number((entry >> 9n) & 7n)
      iova = withoutBits(iova, shiftOf(level + 1), shiftOf(level + 1))
    }
    return this.putLeaf(table, level, iova)
  }

  private leafLevel(level: number): number {
    if (level === 1) return 1
    if (level > 5) return 0
    return this.random.percent(level === 2 ? 25 : 8) ? level : 0
  }

  private putLeaf(table: bigint, level: number, wanted: bigint): bigint {
    const { random } = this
    const { entry, sizeLog2 } = this.leafOf(level)
    // A page larger than RAM is used where RAM is.
    const near = sizeLog2 > targetsLog2 && random.percent(80)
    const iova = near
      ? withoutBits(wanted, BigInt(targetsLog2) + 1n, BigInt(sizeLog2)) | BigInt(arena.targets)
      : wanted
    const first =
      indexOf(iova, level) & ~((1n << BigInt(Math.max(sizeLog2 - Number(shiftOf(level)), 0))) - 1n)
    const copies = sizeLog2 > Number(shiftOf(level)) ? 1 << (sizeLog2 - Number(shiftOf(level))) : 1
    for (let n = 0; n < copies; n++) this.words.set(table + (first + BigInt(n)) * 8n, entry)
    this.leaves.push(table + indexOf(iova, level) * 8n)
    return iova
  }

  private leafOf(level: number): Leaf {
    const { random } = this
    const own = Number(shiftOf(level))
    const coded = random.percent(30) && own < 50
    const sizeLog2 = coded ? own + 1 + random.below(Math.min(8, 51 - own)) : own
    const rights = random.percent(80) ? readWrite : BigInt(random.below(4)) << 61n
    const ignored = random.percent(15)
      ? random.pick([2n, 0x10n, 0x20n, 0x40n, 0x180n, 1n << 63n, 3n << 59n])
      : 0n
    const code = coded ? ((1n << BigInt(sizeLog2 - 1)) - 0x1000n) | (7n << 9n) : 0n
    return { entry: this.frame(sizeLog2) | rights | ignored | code | present, sizeLog2 }
  }

  /** A frame of that size: among the targets if there is room. */
  private frame(sizeLog2: number): bigint {
    const { random } = this
    if (sizeLog2 > targetsLog2)
      return random.percent(80) ? 0n : BigInt(1 + random.below(3)) << BigInt(Math.min(sizeLog2, 50))
    const room = BigInt(arena.targets) + (random.bits(targetsLog2) & ~((1n << BigInt(sizeLog2)) - 1n))
    return random.percent(3) ? random.pick(absentAddresses) & ~((1n << BigInt(sizeLog2)) - 1n) : room
  }

  /** Breaks one entry that is whole, so that somebody should notice. */
  damage(): void {
    const { random, words } = this
    const addresses = [...words.keys()].filter((address) => !this.damagedAt.has(address))
    if (addresses.length === 0) return
    const at = random.pick(addresses)
    this.damagedAt.add(at)
    words.set(at, damaged(random, words.get(at) ?? 0n))
  }
}

const isDirectory = (entry: bigint): boolean => ((entry >> 9n) & 7n) !== 0n && ((entry >> 9n) & 7n) !== 7n

/** An address with the bits from one position up to another cleared. */
function withoutBits(address: bigint, from: bigint, below: bigint): bigint {
  if (below <= from) return address
  return address & ~(((1n << (below - from)) - 1n) << from)
}

/** An entry that is not as software would have it. */
export function damaged(random: SeededRandom, entry: bigint): bigint {
  const level = 7n << 9n
  switch (random.below(9)) {
    case 0:
      return entry & ~present
    case 1:
      return (entry & ~level) | (BigInt(random.below(8)) << 9n)
    case 2:
      return entry | (1n << BigInt(52 + random.below(7)))
    case 3:
      return entry & ~(1n << BigInt(61 + random.below(2)))
    case 4:
      return entry & ~(3n << 61n)
    case 5:
      return (entry & ~frameMask) | random.pick(absentAddresses)
    case 6:
      // A size code that ends elsewhere.
      return entry | level | (((1n << BigInt(random.below(40))) - 1n) << 12n)
    case 7:
      return random.pick([0xffff_ffff_ffff_ffffn, 0n])
    default:
      return entry ^ (1n << BigInt(random.below(64)))
  }
}
