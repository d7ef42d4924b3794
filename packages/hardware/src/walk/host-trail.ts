/**
 * The entries that a walk of a host table used, and what hardware sets in them afterwards.
 *
 * AMD 48882 rev 3.10, I/O page tables: A in every entry on the way, D in the leaf of a write.
 *
 * @packageDocumentation
 */
import type { SparseMemory } from '../memory/sparse-memory.js'
import type { WalkTrace } from './trace.js'

/**
 * Which of A and D hardware sets in host entries: DTE.HAD as far as Control.HADUpdate and EFR let it. The bits are
 * those of the low word of an entry.
 */
export type HostMarking = number
export const marksNothing: HostMarking = 0
export const marksAccessed: HostMarking = 0x20
export const marksDirty: HostMarking = 0x40

/** Longest walk: six levels. */
const trailEntries = 6

/** See the file's comment. */
export class HostTrail {
  /** How many entries. */
  length = 0
  /** Their SPAs, the leaf's last. */
  private readonly entries = new Int32Array(trailEntries * 2)

  constructor(
    private readonly memory: SparseMemory,
    /** Whether A is set in directory entries too. */
    private readonly marksDirectories: boolean,
  ) {}

  /** A walk begins. */
  restart(): void {
    this.length = 0
  }

  add(lo: number, hi: number): void {
    const at = this.length++ << 1
    this.entries[at] = lo
    this.entries[at + 1] = hi
  }

  /** Sets A in the entries, and D in the leaf when it was for a write, as far as `marking` says. */
  setBits(marking: HostMarking, forWrite: boolean, trace: WalkTrace | null): void {
    const last = this.length - 1
    for (let i = this.marksDirectories ? 0 : last; i <= last; i++) {
      const lo = this.entries[i << 1]!
      const hi = this.entries[(i << 1) + 1]!
      const before = this.memory.words.array[this.memory.wordOf(lo, hi)]!
      const after = before | (i === last && forWrite ? marking : marking & marksAccessed)
      if (after === before) continue
      this.memory.store32(lo, hi, after)
      if (trace !== null) trace.store('host-table', lo, hi)
    }
  }

  /** SPA of the leaf. */
  get leafLo(): number {
    return this.entries[(this.length - 1) << 1]!
  }
  get leafHi(): number {
    return this.entries[((this.length - 1) << 1) + 1]!
  }

  /** Marks the memory pages that the entries lie in, so that a change to one is noticed. */
  markPages(): void {
    this.markFirst(this.length)
  }

  /** The same for all but the leaf. */
  markDirectoryPages(): void {
    this.markFirst(this.length - 1)
  }

  private markFirst(count: number): void {
    const { words } = this.memory
    for (let i = 0; i < count; i++) {
      words.mark(this.memory.wordOf(this.entries[i << 1]!, this.entries[(i << 1) + 1]!))
    }
  }
}
