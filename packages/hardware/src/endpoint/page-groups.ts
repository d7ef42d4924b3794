/**
 * The page requests that a device waits for: groups, each with one answer to come.
 *
 * PCI Express PRI; AMD 48882 rev 3.10, peripheral page requests. A group is known by its index of 9 bits, which is its
 * place here. The allocation counts requests, so a group of several pages takes several.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'
import { Cells } from './cells.js'

/** What page requests ask for. */
export interface PageNeed {
  /** Undefined: without PASID. */
  readonly pasid: number | undefined
  /** First byte of the first page. */
  readonly page: bigint
  readonly write: boolean
  readonly execute: boolean
  readonly supervisor: boolean
}

/** A group of page requests that was begun: consecutive pages, one request for each. */
export interface PageGroup {
  readonly group: number
  readonly pages: number
}

/** State of a group, 0 for a free place. */
const asked = 1
/** Answered: that access fails. */
const refused = 2
/** Nobody wants the answer any more, but it is still to come. */
const abandoned = 3

/** Words of a group: state, PASID or -1, need bits, pages, first page. */
const groupWords = 6
const bit = { write: 1, execute: 2, supervisor: 4 } as const

/** See the file's comment. */
export class PageGroups {
  private constructor(
    private readonly cells: Cells,
    private readonly allocation: number,
  ) {}

  /** @param allocation - requests that may be under way, 1 to 512 */
  static create(words: Words, allocation: number): PageGroups {
    return new PageGroups(Cells.create(words, allocation * groupWords), allocation)
  }

  forkOnto(words: Words): PageGroups {
    return new PageGroups(this.cells.forkOnto(words), this.allocation)
  }

  /** Requests under way. */
  get outstanding(): number {
    let count = 0
    for (let group = 0; group < this.allocation; group++) {
      const state = this.stateOf(group)
      if (state === asked || state === abandoned) count += this.cells.get(group * groupWords + 3)
    }
    return count
  }

  /** The group that waits for what is needed, or was refused it. */
  find(need: PageNeed): { readonly group: number; readonly isRefused: boolean } | undefined {
    for (let group = 0; group < this.allocation; group++) {
      const state = this.stateOf(group)
      if ((state === asked || state === refused) && this.covers(group, need)) {
        return { group, isRefused: state === refused }
      }
    }
    return undefined
  }

  /** Begins a group of up to `pages` pages, as many as the allocation leaves; undefined if it leaves none. */
  open(need: PageNeed, pages: number): PageGroup | undefined {
    const left = Math.min(pages, this.allocation - this.outstanding)
    if (left <= 0) return undefined
    const group = this.placeForOne()
    const at = group * groupWords
    this.cells.put(at, asked)
    this.cells.put(at + 1, need.pasid ?? -1)
    this.cells.put(at + 2, bitsOf(need))
    this.cells.put(at + 3, left)
    this.cells.putWide(at + 4, need.page)
    return { group, pages: left }
  }

  /**
   * Takes the answer to a group.
   *
   * @param pasid - undefined: the answer names none, and fits any
   * @param isGranted - false: the access fails
   * @returns false if no such group waits
   */
  answer(group: number, pasid: number | undefined, isGranted: boolean): boolean {
    if (group >= this.allocation) return false
    const at = group * groupWords
    const state = this.stateOf(group)
    if (state !== asked && state !== abandoned) return false
    if (pasid !== undefined && this.cells.get(at + 1) !== pasid) return false
    if (state === asked && !isGranted) this.cells.put(at, refused)
    else this.forget(group)
    return true
  }

  /** Frees a place. */
  forget(group: number): void {
    this.cells.clear(group * groupWords, groupWords)
  }

  /** Stops waiting for the answers to a PASID's groups; they keep their places until the answers come. */
  abandon(pasid: number): void {
    for (let group = 0; group < this.allocation; group++) {
      if (this.cells.get(group * groupWords + 1) !== pasid) continue
      if (this.stateOf(group) === asked) this.cells.put(group * groupWords, abandoned)
      else if (this.stateOf(group) === refused) this.forget(group)
    }
  }

  clear(): void {
    this.cells.clear(0, this.allocation * groupWords)
  }

  /** A free place, or one whose refusal nobody came for. There is one, as each group under way takes of the allocation. */
  private placeForOne(): number {
    let found = 0
    for (let group = this.allocation - 1; group >= 0; group--) {
      const state = this.stateOf(group)
      if (state === 0 || (state === refused && this.stateOf(found) !== 0)) found = group
    }
    return found
  }

  private stateOf(group: number): number {
    return this.cells.get(group * groupWords)
  }

  private covers(group: number, need: PageNeed): boolean {
    const at = group * groupWords
    if (this.cells.get(at + 1) !== (need.pasid ?? -1) || this.cells.get(at + 2) !== bitsOf(need)) return false
    const offset = BigInt.asUintN(64, need.page - this.cells.getWide(at + 4))
    return offset < BigInt(this.cells.get(at + 3)) << 12n
  }
}

const bitsOf = ({ write, execute, supervisor }: PageNeed): number =>
  (write ? bit.write : 0) | (execute ? bit.execute : 0) | (supervisor ? bit.supervisor : 0)
