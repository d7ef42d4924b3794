/**
 * Invalidations that were taken from the ring and not carried out yet.
 *
 * AMD 48882 rev 3.10, command ordering: a head that has moved says that a command was fetched; only a COMPLETION_WAIT
 * says that those before it are done. A chip that puts invalidations off until then is the hardest one that software has
 * to be right on.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'
import { CommandOutcome } from './command-outcome.js'
import type { Commands } from './commands.js'

/** Who carries commands out. */
type Performer = Pick<Commands, 'carryOut'>

const places = 16
/** Words of one: the command's four, and its SPA. */
const placeWords = 6
const firstAt = 0
const heldAt = 1
const placesAt = 2

/** See the file's comment. */
export class DeferredCommands {
  private constructor(
    private readonly words: Words,
    private readonly keySpace: number,
    private readonly first: number,
  ) {}

  static create(words: Words): DeferredCommands {
    return new DeferredCommands(words, words.newKeySpace(), words.allocate(placesAt + places * placeWords))
  }

  forkOnto(words: Words): DeferredCommands {
    return new DeferredCommands(words, this.keySpace, this.first)
  }

  /** Puts a legal command off. False if there is no place and the oldest one waits for a device. */
  put(commands: Performer, w0: number, w1: number, w2: number, w3: number, lo: number, hi: number): boolean {
    if (this.get(heldAt) === places && !this.carryOutOldest(commands)) return false
    const at = this.placeOf(this.get(heldAt))
    const command = [w0, w1, w2, w3, lo, hi]
    for (let n = 0; n < placeWords; n++) this.set(at + n, command[n]!)
    this.set(heldAt, this.get(heldAt) + 1)
    return true
  }

  /** Carries out all of them, the oldest first. False if one waits for a device. */
  drain(commands: Performer): boolean {
    while (this.get(heldAt) > 0) if (!this.carryOutOldest(commands)) return false
    return true
  }

  private carryOutOldest(commands: Performer): boolean {
    const at = this.placeOf(0)
    const word = (n: number): number => this.get(at + n)
    const outcome = commands.carryOut(word(0), word(1), word(2), word(3), word(4), word(5))
    if (outcome === CommandOutcome.waits) return false
    for (let n = 0; n < placeWords; n++) this.set(at + n, 0)
    this.set(heldAt, this.get(heldAt) - 1)
    this.set(firstAt, this.get(heldAt) === 0 ? 0 : (this.get(firstAt) + 1) % places)
    return true
  }

  private placeOf(n: number): number {
    return placesAt + ((this.get(firstAt) + n) % places) * placeWords
  }

  private get(at: number): number {
    return this.words.array[this.first + at]!
  }

  private set(at: number, value: number): void {
    this.words.writeKeyed(this.first + at, value, at, this.keySpace)
  }
}
