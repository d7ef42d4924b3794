/**
 * First in, first out: adding and taking cost the same however long the queue is.
 *
 * @packageDocumentation
 */

/** See the file's comment. */
export class Fifo<T> implements Iterable<T> {
  private constructor(
    private items: T[],
    /** How many at the start are taken already. */
    private taken: number,
  ) {}

  static of<T>(items: readonly T[] = []): Fifo<T> {
    return new Fifo([...items], 0)
  }

  get length(): number {
    return this.items.length - this.taken
  }

  get first(): T | undefined {
    return this.items[this.taken]
  }

  add(item: T): void {
    this.items.push(item)
  }

  /** Drops the first ones. */
  drop(count: number): void {
    this.taken += count
    if (2 * this.taken < this.items.length) return
    this.items = this.items.slice(this.taken)
    this.taken = 0
  }

  *[Symbol.iterator](): Generator<T> {
    for (let i = this.taken; i < this.items.length; i++) yield this.items[i] as T
  }

  fork(): Fifo<T> {
    return Fifo.of([...this])
  }
}
