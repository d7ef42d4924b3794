/**
 * Tables at every moment of a program, and walks that read one moment: plain, slow, one entry after the other.
 *
 * AMD 48882 rev 3.10, host tables, guest tables, GCR3 tables. Three host levels, four guest levels, no level skipped:
 * what the world of the cached-answers property has.
 */
import { load64 } from '../src/index.js'
import type { SparseMemory } from '../src/index.js'

export const right = { read: 1, write: 2, execute: 4, user: 8 } as const
export const allRights = 15

/** Every word of memory at every moment, from what it was at first and every change to it since. */
export class TableHistory {
  private readonly changes = new Map<bigint, { readonly since: number; readonly value: bigint }[]>()

  /** @param first - memory as it was before everything; never written to */
  constructor(private readonly first: SparseMemory) {}

  /** The words that were asked for, or noted. */
  addresses(): readonly bigint[] {
    return [...this.changes.keys()]
  }

  /** The word at `at` is `value` from `moment` on. */
  note(at: bigint, moment: number, value: bigint): void {
    this.changesOf(at).push({ since: moment, value })
  }

  read(at: bigint, moment: number): bigint {
    const changes = this.changesOf(at)
    for (let n = changes.length - 1; n >= 0; n--) if (changes[n]!.since <= moment) return changes[n]!.value
    throw new Error('the list has no beginning')
  }

  private changesOf(at: bigint): { since: number; value: bigint }[] {
    let changes = this.changes.get(at)
    if (changes === undefined) {
      changes = [{ since: -1, value: load64(this.first, at) ?? 0n }]
      this.changes.set(at, changes)
    }
    return changes
  }
}

/** Why a walk ended. */
export type Refusal = 'absent' | 'denied' | 'reserved' | 'malformed'

/** A range of GPAs that a nested translation came by. */
export interface Block {
  readonly start: bigint
  readonly sizeLog2: number
}

/** A table that a walk goes on with: at an SPA for the host's, at a GPA for a guest's. */
export interface Table {
  readonly level: number
  readonly at: bigint
  /** What the levels above grant. */
  readonly rights: number
  /** Of guest tables: those on the way. */
  readonly blocks: readonly Block[]
}

/** What a translation ends in. */
export interface Page {
  readonly start: bigint
  readonly sizeLog2: number
  readonly rights: number
  readonly blocks: readonly Block[]
}

export const frameOf = (value: bigint): bigint => value & 0xffffffffff000n
export const shiftOf = (level: number): number => 3 + 9 * level
export const indexOf = (address: bigint, level: number): bigint =>
  ((address >> BigInt(shiftOf(level))) & 0x1ffn) << 3n
export const baseOf = (address: bigint, sizeLog2: number): bigint =>
  (address >> BigInt(sizeLog2)) << BigInt(sizeLog2)
export const offsetIn = (address: bigint, sizeLog2: number): bigint => address - baseOf(address, sizeLog2)
export const meets = (a: Block, b: Block): boolean => {
  const wider = Math.max(a.sizeLog2, b.sizeLog2)
  return baseOf(a.start, wider) === baseOf(b.start, wider)
}

const hostRights = (value: bigint): number => Number((value >> 61n) & 3n)

/** Walks a host table from one of its tables on, as memory is at a moment; `onTable` hears of every table met. */
export function walkHost(
  history: TableHistory,
  moment: number,
  from: Table,
  gpa: bigint,
  granted: number,
  needed: number,
  onTable: (table: Table) => void,
): Page | Refusal {
  let { level, at, rights } = from
  // A cached table brings the rights of the levels above, which no entry below can give back.
  if (level < 3 && (granted & rights & needed) !== needed) return 'denied'
  for (;;) {
    const value = history.read(at + indexOf(gpa, level), moment)
    if ((value & 1n) === 0n) return 'absent'
    const next = Number((value >> 9n) & 7n)
    const isLeaf = next === 0
    if ((value & (isLeaf ? 0x07f0000000000000n : 0x1ff0000000000000n)) !== 0n) return 'reserved'
    rights &= hostRights(value)
    if ((granted & rights & needed) !== needed) return 'denied'
    if (isLeaf) {
      const sizeLog2 = shiftOf(level)
      return { start: baseOf(frameOf(value), sizeLog2), sizeLog2, rights: granted & rights, blocks: [] }
    }
    if (next >= level) return 'malformed'
    level = next
    at = frameOf(value)
    onTable({ level, at, rights, blocks: [] })
  }
}

/** What a guest table entry says: rights, and where it leads. */
export function guestEntry(
  value: bigint,
  level: number,
): { readonly isLeaf: boolean; readonly frame: bigint; readonly rights: number } | Refusal {
  if ((value & 1n) === 0n) return 'absent'
  const isLeaf = level === 1 || (value & 0x80n) !== 0n
  if (level > 1 && isLeaf && (level > 3 || (value & (level === 2 ? 0x1fe000n : 0x3fffe000n)) !== 0n))
    return 'reserved'
  const rights =
    right.read |
    ((value & 2n) !== 0n ? right.write : 0) |
    ((value & 4n) !== 0n ? right.user : 0) |
    (value >> 63n === 0n ? right.execute : 0)
  return { isLeaf, frame: frameOf(value), rights }
}
