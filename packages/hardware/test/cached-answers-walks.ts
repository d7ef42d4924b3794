/**
 * Walks that may start from anything that a cache may hold: all their outcomes.
 *
 * AMD 48882 rev 3.10, nested walks. A walk reads memory as it is at one moment; only what it starts from, and where the
 * host table has put the tables it reads, may be older.
 */
import { keyOfTable, tableOf } from './cached-answers-reach.js'
import type { CacheRules, Held, Tag } from './cached-answers-reach.js'
import {
  allRights,
  baseOf,
  frameOf,
  guestEntry,
  indexOf,
  offsetIn,
  right,
  shiftOf,
  walkHost,
} from './cached-answers-tables.js'
import type { Block, Page, Refusal, Table, TableHistory } from './cached-answers-tables.js'

/** A device table entry, as far as the world has it. */
export interface Regime {
  readonly domainId: number
  readonly isValid: boolean
  readonly isTranslating: boolean
  readonly hasHost: boolean
  readonly hostRoot: bigint
  readonly hasGuest: boolean
  readonly isGiov: boolean
  readonly gcr3: bigint
  readonly granted: number
}

/** See the file's comment. */
export class PossibleWalks {
  constructor(
    private readonly history: TableHistory,
    private readonly rules: CacheRules,
    /** What caches may hold under a tag at a moment. */
    private readonly held: (tag: Tag, moment: number) => readonly Held[],
  ) {}

  /** What walks of the host table give, from its root and from the tables that caches may hold. */
  hostWalks(regime: Regime, gpa: bigint, needed: number, moment: number): (Page | Refusal)[] {
    const { history } = this
    const tag: Tag = { kind: 'host-tables', domainId: regime.domainId, pasid: undefined, start: gpa }
    const root = { level: 3, at: regime.hostRoot, rights: 3, blocks: [] }
    if (gpa >> 39n !== 0n) return ['absent']
    return [root, ...this.held(tag, moment).map(tableOf)].map((from) =>
      walkHost(history, moment, from, gpa, regime.granted, needed, () => {}),
    )
  }

  /** What walks of guest tables give, their pages put through the host table. */
  nestedWalks(
    regime: Regime,
    pasid: number,
    gva: bigint,
    needed: number,
    moment: number,
  ): (Page | Refusal)[] {
    const found: (Page | Refusal)[] = []
    for (const guest of this.guestWalks(regime, pasid, gva, needed, moment, () => {})) {
      if (typeof guest === 'string') found.push(guest)
      else {
        const gpa = guest.start + offsetIn(gva, guest.sizeLog2)
        for (const host of this.hostWalks(regime, gpa, needed & 3, moment)) {
          found.push(typeof host === 'string' ? host : joined(guest, host, gpa))
        }
      }
    }
    return found
  }

  guestWalks(
    regime: Regime,
    pasid: number,
    gva: bigint,
    needed: number,
    moment: number,
    onTable: (table: Table) => void,
  ): (Page | Refusal)[] {
    if (gva >> 47n !== 0n) return ['absent']
    const { domainId } = regime
    const found: (Page | Refusal)[] = []
    const starts = this.held({ kind: 'guest-tables', domainId, pasid, start: gva }, moment).map(tableOf)
    for (const root of this.guestRoots(regime, pasid, moment)) {
      if (typeof root === 'string') found.push(root)
      else starts.push(root)
    }
    const seen = new Set<string>()
    for (let from = starts.pop(); from !== undefined; from = starts.pop()) {
      const { level, at, blocks } = from
      const key = keyOfTable(from)
      if (seen.has(key)) continue
      seen.add(key)
      const on = [...blocks, { start: at, sizeLog2: 12 }]
      for (const place of this.placesOf(regime, at + indexOf(gva, level), moment)) {
        if (typeof place === 'string') {
          found.push(place)
          continue
        }
        const value = this.history.read(place.start, moment)
        const entry = guestEntry(value, level)
        if (typeof entry === 'string') {
          found.push(entry)
          continue
        }
        const rights = from.rights & entry.rights
        const granted = rights & (regime.granted | ~3)
        if ((granted & needed) !== needed) {
          found.push('denied')
          continue
        }
        const marks = this.markRefusals(
          regime,
          place,
          value,
          entry.isLeaf && (needed & right.write) !== 0,
          at,
          moment,
        )
        if (marks !== null) {
          found.push(...marks.refusals)
          if (!marks.mayGoOn) continue
        }
        if (entry.isLeaf) {
          const sizeLog2 = shiftOf(level)
          const start = baseOf(entry.frame, sizeLog2)
          found.push({ start, sizeLog2, rights: granted, blocks: on })
        } else {
          const table = { level: level - 1, at: entry.frame, rights, blocks: on }
          onTable(table)
          starts.push(table)
        }
      }
    }
    return found
  }

  /** Whether A or D must be set and the page of the entry may not be written. */
  private markRefusals(
    regime: Regime,
    place: Page,
    value: bigint,
    asWritten: boolean,
    at: bigint,
    moment: number,
  ): { readonly refusals: readonly Refusal[]; readonly mayGoOn: boolean } | null {
    const bits = asWritten ? 0x60n : 0x20n
    if (!this.rules.marksGuest || (value & bits) === bits) return null
    if ((place.rights & right.write) === 0) return { refusals: ['denied'], mayGoOn: false }
    if (!this.rules.splits) return null
    // The place came perhaps from a cache: then the host table is walked now, for its own bits.
    const walks = this.hostWalks(regime, at, right.read, moment)
    const refusals = walks.filter((each) => typeof each === 'string')
    return { refusals, mayGoOn: refusals.length < walks.length }
  }

  /** Where the guest's top table may be. */
  private guestRoots(regime: Regime, pasid: number, moment: number): (Table | Refusal)[] {
    const tag: Tag = { kind: 'guest-roots', domainId: regime.domainId, pasid, start: 0n }
    return [...this.held(tag, moment).map(tableOf), ...this.gcr3Walks(regime, pasid, moment)]
  }

  gcr3Walks(regime: Regime, pasid: number, moment: number): (Table | Refusal)[] {
    const found: (Table | Refusal)[] = []
    let tables: { at: bigint; blocks: readonly Block[] }[] = [{ at: regime.gcr3, blocks: [] }]
    for (const index of [pasid >> 9, pasid & 511]) {
      const next: typeof tables = []
      for (const { at, blocks } of tables) {
        for (const place of this.placesOf(regime, at + BigInt(index * 8), moment)) {
          const value = typeof place === 'string' ? 0n : this.history.read(place.start, moment)
          if (typeof place === 'string') found.push(place)
          else if ((value & 1n) === 0n) found.push('absent')
          else if ((value & 0xfff0000000000ffen) !== 0n) found.push('reserved')
          else next.push({ at: frameOf(value), blocks: [...blocks, { start: at, sizeLog2: 12 }] })
        }
      }
      tables = next
    }
    return [...found, ...tables.map((table) => ({ ...table, level: 4, rights: allRights }))]
  }

  /** Where the host table may have put a word of a table: `start` is the word's own SPA. */
  private placesOf(regime: Regime, gpa: bigint, moment: number): (Page | Refusal)[] {
    const cached: Page[] = !this.rules.splits
      ? []
      : this.held({ kind: 'host', domainId: regime.domainId, pasid: undefined, start: gpa }, moment).filter(
          ({ rights }) => (rights & (right.read | regime.granted)) === (right.read | regime.granted),
        )
    return [...cached, ...this.hostWalks(regime, gpa, right.read, moment)].map((place) =>
      typeof place === 'string' ? place : { ...place, start: place.start + offsetIn(gpa, place.sizeLog2) },
    )
  }
}

/** A guest's page put through the host's: the smaller of the two. */
export function joined(guest: Page, host: Page, gpa: bigint): Page {
  const sizeLog2 = Math.min(guest.sizeLog2, host.sizeLog2)
  return {
    start: baseOf(host.start + offsetIn(gpa, host.sizeLog2), sizeLog2),
    sizeLog2,
    rights: guest.rights & (host.rights | ~3),
    blocks: [{ start: gpa, sizeLog2 }, ...guest.blocks],
  }
}

export function regimeOf(q0: bigint, q1: bigint): Regime {
  const has = (at: bigint): boolean => ((q0 >> at) & 1n) === 1n
  return {
    domainId: Number(q1 & 0xffffn),
    isValid: has(0n),
    isTranslating: has(1n),
    hasHost: ((q0 >> 9n) & 7n) !== 0n,
    hostRoot: frameOf(q0),
    hasGuest: has(55n),
    isGiov: has(54n),
    gcr3: (((q0 >> 58n) & 7n) << 12n) | (((q1 >> 16n) & 0xffffn) << 15n),
    granted: Number((q0 >> 61n) & 3n),
  }
}
