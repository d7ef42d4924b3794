/**
 * Chance that can be repeated.
 *
 * @packageDocumentation
 */

/** A generator of 32-bit words after Chris Doty-Humphrey's sfc32. */
export class SeededRandom {
  private a: number
  private b: number
  private c = 0x9e3779b9 | 0
  private counter = 1

  /** @param stream - which of a seed's sequences, each independent of the others */
  constructor(seed: number, stream: number) {
    this.a = seed | 0
    this.b = stream | 0
    for (let n = 0; n < 16; n++) this.word()
  }

  /** 32 bits, unsigned. */
  word(): number {
    const sum = (this.a + this.b + this.counter) | 0
    this.counter = (this.counter + 1) | 0
    this.a = this.b ^ (this.b >>> 9)
    this.b = (this.c + (this.c << 3)) | 0
    this.c = (((this.c << 21) | (this.c >>> 11)) + sum) | 0
    return sum >>> 0
  }

  /** From 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor((this.word() / 2 ** 32) * limit)
  }

  /** True so often out of a hundred. */
  percent(share: number): boolean {
    return this.word() / 2 ** 32 < share / 100
  }

  /** @throws RangeError for an empty list */
  pick<Item>(items: readonly Item[]): Item {
    const item = items[this.below(items.length)]
    if (item === undefined) throw new RangeError('there is nothing to pick from')
    return item
  }

  /** Random bits, `count` of them, from bit 0. */
  bits(count: number): bigint {
    const whole = (BigInt(this.word()) << 32n) | BigInt(this.word())
    return BigInt.asUintN(count, whole)
  }

  /** The same items in another order. */
  shuffled<Item>(items: readonly Item[]): Item[] {
    return items
      .map((item) => ({ item, key: this.word() }))
      .sort((one, other) => one.key - other.key)
      .map(({ item }) => item)
  }
}
