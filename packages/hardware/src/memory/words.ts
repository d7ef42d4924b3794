/**
 * The words of a machine: every 32-bit word that can change, in one pool with one history.
 *
 * DRAM, registers and cache contents all lie in the pool, so that one journal serves the whole machine: a fork
 * copies nothing, and going from one fork to another costs the stores that lie between them. Each fork is a
 * {@link Words} handle. One of them is *current*: the pool holds its values; every other one knows how its values
 * differ from its neighbour's on the way there (Baker's rerooting, from persistent arrays).
 *
 * @packageDocumentation
 */

/** A mark covers 2^10 words, as many as a page of memory has. */
const markLog2 = 10

/** Words that a new pool has room for; it doubles when that is used up. */
const firstPoolWords = 1 << 15

/** Change pairs after which a journal drops what it noted twice. */
const compactAfterPairs = 1 << 16

/** One point in the history of a pool. */
class Version {
  /** The neighbour towards the current version; null for the current version itself. */
  next: Version | null = null
  /** Pairs (word, value) that turn the neighbour's words into this version's, the last pair first. */
  changes: Int32Array = noChanges
  pairs = 0
  compactAt = compactAfterPairs
  /** Fingerprint of this version's keyed words, kept while another version is current. */
  hashLo = 0
  hashHi = 0

  note(word: number, value: number): void {
    const at = this.pairs << 1
    if (at === this.changes.length) this.makeRoom()
    const end = this.pairs << 1
    this.changes[end] = word
    this.changes[end + 1] = value
    this.pairs += 1
  }

  /** Drops pairs that a later pair in the order of application overrules, and grows when that was not enough. */
  private makeRoom(): void {
    if (this.pairs >= this.compactAt) {
      this.compact()
      this.compactAt = Math.max(compactAfterPairs, this.pairs * 2)
      if (this.pairs * 2 < this.changes.length) return
    }
    const larger = new Int32Array(Math.max(64, this.changes.length * 2))
    larger.set(this.changes)
    this.changes = larger
  }

  private compact(): void {
    const oldest = new Map<number, number>()
    for (let i = 0; i < this.pairs; i++) {
      const word = this.changes[i << 1]!
      if (!oldest.has(word)) oldest.set(word, this.changes[(i << 1) + 1]!)
    }
    let at = 0
    for (const [word, value] of oldest) {
      this.changes[at++] = word
      this.changes[at++] = value
    }
    this.pairs = oldest.size
  }
}

const noChanges = new Int32Array(0)

/**
 * Adds what a component's words amount to, by XOR, to the two halves of a fingerprint.
 *
 * It serves all forks, one after the other: what it reads are the pool's words and the places that they have in it.
 */
export type FingerprintPart = (pool: Int32Array, sum: Int32Array) => void

/** What all forks of one machine share. */
class Pool {
  words = new Int32Array(firstPoolWords)
  used = 0
  /** Stretches of words that somebody derived something from. */
  marks = new Uint8Array(firstPoolWords >>> markLog2)
  /** Counts the changes that may have reached a marked stretch. */
  generation = 0
  current = new Version()
  /** The version whose neighbour is the current one: stores are noted there. Null until the first fork. */
  journal: Version | null = null
  hashLo = 0
  hashHi = 0
  owners = 0
  /** What counts in the fingerprint besides the keyed words. */
  readonly parts: FingerprintPart[] = []

  /** A marked word changes: what was derived from it no longer holds, so its mark has done its work. */
  touchMarked(word: number): void {
    this.marks[word >>> markLog2] = 0
    this.generation += 1
  }

  /** Makes `target`, another version, the current one. Costs the changes on the way to it. */
  switchTo(target: Version): void {
    this.generation += 1
    const path: Version[] = []
    for (let v: Version | null = target; v !== null; v = v.next) path.push(v)
    this.current.hashLo = this.hashLo
    this.current.hashHi = this.hashHi
    for (let i = path.length - 2; i >= 0; i--) this.stepTo(path[i]!, path[i + 1]!)
    this.current = target
    this.journal = path[1]!
    this.hashLo = target.hashLo
    this.hashHi = target.hashHi
  }

  /** Moves the pool's words from version `from`, the current one, to its neighbour `to`. */
  private stepTo(to: Version, from: Version): void {
    const { changes, pairs } = to
    const back = new Int32Array(Math.max(changes.length, 64))
    const words = this.words
    let at = 0
    for (let i = pairs - 1; i >= 0; i--) {
      const word = changes[i << 1]!
      back[at++] = word
      back[at++] = words[word]!
      words[word] = changes[(i << 1) + 1]!
    }
    from.changes = back
    from.pairs = pairs
    from.compactAt = compactAfterPairs
    from.next = to
    to.changes = noChanges
    to.pairs = 0
    to.next = null
  }
}

/** One machine's view of the pool that it shares with its forks. */
export class Words {
  private constructor(
    private readonly pool: Pool,
    private version: Version,
  ) {}

  /** A new pool without history; all its words will be zero. */
  static create(): Words {
    const pool = new Pool()
    return new Words(pool, pool.current)
  }

  /**
   * Makes this machine's values the ones in the pool and returns the pool.
   *
   * Every entry point of a component calls it first. The array stays the right one until somebody allocates words
   * or another fork of the machine is used: never keep it across calls.
   */
  activate(): Int32Array {
    const pool = this.pool
    if (pool.current !== this.version) pool.switchTo(this.version)
    return pool.words
  }

  /** The pool's words as they are; for code that runs after {@link activate}. */
  get array(): Int32Array {
    return this.pool.words
  }

  /**
   * Reserves `count` zero words and returns the index of the first.
   *
   * Reserving is not part of the history: all forks see the words, each with its own values.
   */
  allocate(count: number): number {
    const pool = this.pool
    const first = pool.used
    const needed = first + count
    if (needed > pool.words.length) {
      const larger = new Int32Array(Math.max((needed + 1023) & -1024, pool.words.length * 2))
      larger.set(pool.words)
      pool.words = larger
      const marks = new Uint8Array(larger.length >>> markLog2)
      marks.set(pool.marks)
      pool.marks = marks
    }
    pool.used = needed
    return first
  }

  /**
   * A key space of its own for a component that keeps words here: high key words that no address and no other component
   * has. Components made in the same order get the same ones, so equal machines have equal fingerprints.
   */
  newKeySpace(): number {
    this.pool.owners += 1
    return -this.pool.owners
  }

  /**
   * Marks the stretch around a word of {@link writeKeyed} as one that something was derived from: {@link generation}
   * tells when that may no longer hold. Marks are not part of the history.
   */
  mark(word: number): void {
    this.pool.marks[word >>> markLog2] = 1
  }

  /** Changes whenever a marked word may have changed. */
  get generation(): number {
    return this.pool.generation
  }

  /** Stores one word of a component, which is in no stretch that anybody marks. The machine must be active. */
  write(word: number, value: number): void {
    const pool = this.pool
    const words = pool.words
    const old = words[word]!
    if (old === value) return
    const journal = pool.journal
    if (journal !== null) journal.note(word, old)
    words[word] = value
  }

  /** Stores two words as {@link write} does. */
  writeTwo(word: number, value: number, other: number, otherValue: number): void {
    const pool = this.pool
    const words = pool.words
    const journal = pool.journal
    if (journal !== null) {
      journal.note(word, words[word]!)
      journal.note(other, words[other]!)
    }
    words[word] = value
    words[other] = otherValue
  }

  /**
   * Stores one word and keeps the fingerprint up to date: the word counts under the key that its owner chose,
   * whatever its place in the pool. The machine must be active.
   */
  writeKeyed(word: number, value: number, keyLo: number, keyHi: number): void {
    const pool = this.pool
    const old = pool.words[word]!
    if (old === value) return
    const journal = pool.journal
    if (journal !== null) journal.note(word, old)
    if (pool.marks[word >>> markLog2] !== 0) pool.touchMarked(word)
    pool.words[word] = value
    // Zero counts as nothing, so that memory never touched and memory cleared again are the same.
    if (old !== 0) {
      pool.hashLo ^= mix(keyLo, keyHi, old, seedLo)
      pool.hashHi ^= mix(keyLo, keyHi, old, seedHi)
    }
    if (value !== 0) {
      pool.hashLo ^= mix(keyLo, keyHi, value, seedLo)
      pool.hashHi ^= mix(keyLo, keyHi, value, seedHi)
    }
  }

  /**
   * Has a component's part in the fingerprint computed whenever that is asked for: for few words that change often, of
   * which {@link writeKeyed} would keep account at every change.
   */
  countLater(part: FingerprintPart): void {
    this.pool.parts.push(part)
  }

  /** {@link countLater} for a stretch of words, each under its place in the stretch. */
  countStretch(first: number, count: number, keySpace: number): void {
    this.countLater((pool, sum) => {
      for (let n = 0; n < count; n++) {
        const value = pool[first + n]!
        if (value === 0) continue
        sum[0]! ^= mix(n, keySpace, value, seedLo)
        sum[1]! ^= mix(n, keySpace, value, seedHi)
      }
    })
  }

  /** A handle on a copy of all words as they are now. Costs nothing but the handle. */
  fork(): Words {
    this.activate()
    const pool = this.pool
    let point = pool.journal
    if (point?.pairs !== 0) {
      // The current version becomes a point in history, and this handle goes on from it.
      point = this.version
      const ahead = new Version()
      point.next = ahead
      point.changes = noChanges
      point.pairs = 0
      this.version = ahead
      pool.current = ahead
      pool.journal = point
    }
    const twin = new Version()
    twin.next = point
    twin.hashLo = pool.hashLo
    twin.hashHi = pool.hashHi
    return new Words(pool, twin)
  }

  /** Fingerprint of all that counts: two int32 halves. */
  fingerprint(): readonly [lo: number, hi: number] {
    const words = this.activate()
    const { hashLo, hashHi, parts } = this.pool
    const sum = Int32Array.of(hashLo, hashHi)
    for (const part of parts) part(words, sum)
    return [sum[0]!, sum[1]!]
  }
}

const seedLo = 0x2545f491
const seedHi = 0x6c8e9cf5

/** Mixes three words into one, differently for each seed; the finaliser of a multiplicative hash. */
export function mix(a: number, b: number, c: number, seed: number): number {
  let h = Math.imul(a ^ seed, 0x9e3779b1)
  h = Math.imul(h ^ (h >>> 15) ^ b, 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13) ^ c, 0xc2b2ae35)
  h = Math.imul(h ^ (h >>> 16), 0x27d4eb2f)
  return h ^ (h >>> 15)
}

/** The two halves of a fingerprint come from the same words under two seeds. */
export const fingerprintSeeds = [seedLo, seedHi] as const
