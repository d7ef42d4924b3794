/** mulberry32, seeded. */
export class Random {
  private state: number

  constructor(seed: number) {
    // Neighbouring seeds must not give neighbouring streams
    this.state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) >>> 0
  }

  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.state ^ (this.state >>> 15), this.state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }

  /** 0 .. limit-1 */
  below(limit: number): number {
    return Math.floor((this.next() / 0x100000000) * limit)
  }

  chance(probability: number): boolean {
    return this.next() / 0x100000000 < probability
  }

  pick<Item>(list: readonly Item[]): Item {
    const item = list[this.below(list.length)]
    if (item === undefined) throw new Error('pick from an empty list')
    return item
  }

  /** A number of so many random bits. */
  bits(count: number): bigint {
    let value = 0n
    for (let done = 0; done < count; done += 32) value = (value << 32n) | BigInt(this.next())
    return value & ((1n << BigInt(count)) - 1n)
  }

  /** All of the mask's bits, each with one half, or 0. */
  some(probability: number, mask: bigint): bigint {
    return this.chance(probability) ? this.bits(64) & mask : 0n
  }

  /** The mask or 0. */
  flag(probability: number, mask: bigint): bigint {
    return this.chance(probability) ? mask : 0n
  }
}
