/**
 * All that caches might hold: the answers that a request may get.
 *
 * AMD 48882 rev 3.10, caches and their invalidation. Hardware may fill any cache at any time, and forget any entry at
 * any time. So the oracle keeps, under each tag, *every* entry that any walk at any moment might have left there, and
 * takes away only what a completed invalidation is said to reach. An answer is right if some choice of these entries
 * and of memory as it is now gives it. There is one rule for each cache, see `isReached`.
 */
import type { Chip } from './chip.js'
import { entryAt, worldDevices, worldMemory } from './cached-answers-world.js'
import type { Ask, Invalidation } from './cached-answers-world.js'
import { isOfTables, isReached, keyOf, tableOf } from './cached-answers-reach.js'
import type { CacheRules, Completed, Held, Tag } from './cached-answers-reach.js'
import { baseOf, offsetIn, right, TableHistory, walkHost } from './cached-answers-tables.js'
import type { Page, Refusal, Table } from './cached-answers-tables.js'
import { joined, PossibleWalks, regimeOf } from './cached-answers-walks.js'
import type { Regime } from './cached-answers-walks.js'

/** See the file's comment. */
export class PossibleCaches {
  private moment = 0
  private readonly history: TableHistory
  private readonly walks: PossibleWalks
  /** The invalidations that completed at the end of a moment. */
  private readonly ends: (readonly Completed[])[] = []
  private fetched: Completed[] = []
  private readonly slots = new Map<string, ReadonlyMap<string, Held>[]>()
  private readonly regimes: (readonly Regime[])[] = []

  constructor(
    private readonly chip: Chip,
    private readonly rules: CacheRules,
  ) {
    this.history = new TableHistory(worldMemory)
    for (const deviceId of worldDevices) {
      for (const at of [entryAt(deviceId), entryAt(deviceId) + 8n]) {
        this.history.note(at, this.moment, chip.load(at) ?? 0n)
      }
    }
    this.walks = new PossibleWalks(this.history, rules, (tag, moment) => this.held(tag, moment))
  }

  /** These words may have changed: if so, a new moment begins. */
  changed(addresses: readonly bigint[]): void {
    const values = addresses.map((at) => [at, this.chip.load(at) ?? 0n] as const)
    const changes = values.filter(([at, value]) => this.history.read(at, this.moment) !== value)
    if (changes.length === 0) return
    this.end([])
    for (const [at, value] of changes) this.history.note(at, this.moment, value)
  }

  /** Words that were read so far, of tables and of entries. */
  addresses(): readonly bigint[] {
    return this.history.addresses()
  }

  /** An invalidation was fetched; it may take effect at any time from now on. */
  invalidate(what: Invalidation): void {
    this.fetched.push({ what, fetched: this.moment })
    if (this.rules.completesAtOnce) this.wait()
    else this.end([])
  }

  /** All that were fetched have completed. */
  wait(): void {
    this.end(this.fetched)
    this.fetched = []
  }

  /** What a request may be answered now. */
  answers(asked: Ask): ReadonlySet<string> {
    const found = new Set<string>()
    const now = this.moment
    for (const regime of this.regimesOf(asked.deviceId, now)) this.answersBy(regime, asked, now, found)
    return found
  }

  private end(completed: readonly Completed[]): void {
    this.ends[this.moment] = completed
    this.moment += 1
  }

  /** By one entry that the device might have: first what it says itself, then translations. */
  private answersBy(regime: Regime, asked: Ask, now: number, found: Set<string>): void {
    const { iova, pasid, write } = asked
    if (!regime.isValid) {
      found.add('forwarded')
      return
    }
    const access = write ? right.write : right.read
    if (!regime.isTranslating) found.add(refusal('absent', pasid, regime.domainId))
    else if ((regime.granted & access) === 0) found.add(refusal('denied', pasid, regime.domainId))
    else if (pasid !== undefined && !regime.hasGuest) found.add(refusal('absent', pasid, regime.domainId))
    else if (!regime.isGiov && pasid === undefined && !regime.hasHost) {
      found.add(translated(iova, 64, regime.granted))
    } else {
      const tagged = pasid ?? (regime.isGiov ? 0 : undefined)
      const isUser = tagged !== undefined && (pasid === undefined || !asked.supervisor)
      const executes = pasid !== undefined && asked.execute
      const needed = access | (isUser ? right.user : 0) | (executes ? right.execute : 0)
      this.translations(regime, tagged, iova, needed, now).forEach((answer) => {
        found.add(
          typeof answer === 'string'
            ? refusal(answer, tagged, regime.domainId)
            : translated(answer.start + offsetIn(iova, answer.sizeLog2), answer.sizeLog2, answer.rights),
        )
      })
    }
  }

  private translations(
    regime: Regime,
    pasid: number | undefined,
    iova: bigint,
    needed: number,
    now: number,
  ): (Page | Refusal)[] {
    const { domainId } = regime
    const answers: (Page | Refusal)[] = []
    const cached = [
      ...this.held({ kind: pasid === undefined ? 'host' : 'combined', domainId, pasid, start: iova }, now),
    ]
    for (const page of cached) {
      if ((page.rights & needed) === needed) answers.push(page)
      else if (this.rules.hitsFault) answers.push('denied')
    }
    if (this.held({ kind: 'absent', domainId, pasid, start: iova }, now).length > 0) answers.push('absent')
    if (pasid === undefined) return [...answers, ...this.walks.hostWalks(regime, iova, needed, now)]
    for (const part of this.held({ kind: 'guest-to-gpa', domainId, pasid, start: iova }, now)) {
      if ((part.rights & needed) !== needed) continue
      const gpa = part.start + offsetIn(iova, part.sizeLog2)
      const hosts = this.held({ kind: 'host', domainId, pasid: undefined, start: gpa }, now)
      const usable = hosts.filter(({ rights }) => (rights & needed & 3) === (needed & 3))
      for (const host of [...usable, ...this.walks.hostWalks(regime, gpa, needed & 3, now)]) {
        answers.push(typeof host === 'string' ? host : joined(part, host, gpa))
      }
    }
    return [...answers, ...this.walks.nestedWalks(regime, pasid, iova, needed, now)]
  }

  /** The entries that may stand under a tag at a moment; `start` may be any address that they serve. */
  private held(tag: Tag, moment: number): readonly Held[] {
    if (!this.has(tag)) return []
    const { kind, domainId, pasid } = tag
    const start = kind === 'guest-roots' ? 0n : baseOf(tag.start, isOfTables(kind) ? 21 : 12)
    const key = `${kind} ${domainId} ${pasid} ${start}`
    let moments = this.slots.get(key)
    if (moments === undefined) {
      moments = []
      this.slots.set(key, moments)
    }
    const exact = { ...tag, start }
    for (let at = moments.length; at <= moment; at++) {
      const held = new Map<string, Held>()
      const ends = this.ends[at - 1] ?? []
      for (const [id, each] of moments[at - 1] ?? []) {
        const isGone = ends.some(
          ({ what, fetched }) => each.filled <= fetched && isReached(what, exact, each, this.rules),
        )
        if (!isGone) held.set(id, each)
      }
      // Tables that are held lead to others: what stands there so far counts in the walks that follow.
      moments.push(held)
      this.fill(exact, at, held)
    }
    return [...moments[moment]!.values()]
  }

  private has({ kind, pasid }: Tag): boolean {
    const { rules } = this
    switch (kind) {
      case 'host':
        return true
      case 'combined':
        return rules.combines
      case 'guest-to-gpa':
        return rules.splits
      case 'absent':
        return rules.cachesAbsent
      case 'guest-roots':
        return rules.gcr3Cache
      case 'host-tables':
      case 'guest-tables':
        return rules.pageWalkCache && (kind === 'host-tables') === (pasid === undefined)
    }
  }

  /** All that walks of a moment may leave under a tag. */
  private fill({ kind, domainId, pasid, start }: Tag, moment: number, held: Map<string, Held>): void {
    const add = (page: Page, level = 0): void => {
      const each = { ...page, level, filled: moment }
      held.set(keyOf(each), each)
    }
    const addTable = (table: Table): void => add({ ...table, start: table.at, sizeLog2: 12 }, table.level)
    for (const regime of this.regimesIn(domainId, moment)) {
      if (pasid === undefined) {
        if (!regime.hasHost) continue
        if (kind === 'host-tables') {
          const from = [
            { level: 3, at: regime.hostRoot, rights: 3, blocks: [] },
            ...[...held.values()].map(tableOf),
          ]
          for (const each of from) walkHost(this.history, moment, each, start, 3, 0, addTable)
          continue
        }
        for (const each of this.walks.hostWalks(regime, start, 0, moment)) {
          if (typeof each !== 'string') {
            if (kind === 'host') add(each)
          } else if (kind === 'absent' && each === 'absent') add(nothing)
        }
        continue
      }
      if (!regime.hasGuest || !regime.hasHost) continue
      switch (kind) {
        case 'guest-roots':
          for (const each of this.walks.gcr3Walks(regime, pasid, moment))
            if (typeof each !== 'string') addTable(each)
          break
        case 'guest-tables':
          this.walks.guestWalks(regime, pasid, start, 0, moment, addTable)
          break
        case 'guest-to-gpa':
          for (const each of this.walks.guestWalks(regime, pasid, start, 0, moment, () => {})) {
            if (typeof each !== 'string') add(each)
          }
          break
        default:
          for (const each of this.walks.nestedWalks(regime, pasid, start, 0, moment)) {
            if (typeof each !== 'string') {
              if (kind === 'combined') add(each)
            } else if (kind === 'absent' && each === 'absent') add(nothing)
          }
      }
    }
  }

  /** Entries that devices may have at a moment: as in memory at any moment since they were dropped last. */
  private regimesOf(deviceId: number, moment: number): readonly Regime[] {
    const words = new Map<string, Regime>()
    let first = 0
    for (const { what, fetched } of this.ends.slice(0, moment).flat()) {
      const isDropped = what.of === 'all' || (what.of === 'device' && what.deviceId === deviceId)
      if (isDropped) first = Math.max(first, fetched + 1)
    }
    for (let at = first; at <= moment; at++) {
      const q0 = this.history.read(entryAt(deviceId), at)
      const q1 = this.history.read(entryAt(deviceId) + 8n, at)
      words.set(`${q0} ${q1}`, regimeOf(q0, q1))
    }
    return [...words.values()]
  }

  /** All entries with a DomainID that lets translations be made, of any device. */
  private regimesIn(domainId: number, moment: number): readonly Regime[] {
    this.regimes[moment] ??= worldDevices
      .flatMap((deviceId) => this.regimesOf(deviceId, moment))
      .filter(({ isValid, isTranslating, granted }) => isValid && isTranslating && granted !== 0)
    return this.regimes[moment].filter((regime) => regime.domainId === domainId)
  }
}

const nothing: Page = { start: 0n, sizeLog2: 12, rights: 0, blocks: [] }

const translated = (spa: bigint, sizeLog2: number, rights: number): string =>
  `to ${spa.toString(16)} in 2^${sizeLog2}, rights ${rights & 3}`

/** PR, PE and RZ by cause; and on whose behalf. */
const refusal = (why: Refusal, pasid: number | undefined, domainId: number): string =>
  `refused: ${why}, ${pasid === undefined ? `domain ${domainId}` : `pasid ${pasid}`}`

export { refusal as refusalOf, translated as translationOf }
