/**
 * Things of the mock by number, a new one under the lowest that is free.
 *
 * @packageDocumentation
 */
import type { Journal } from './journal.js'

export class Numbered<T> {
  readonly #what: string
  readonly #items = new Map<number, T>()

  /** @param what - what such a thing is called in an exception */
  constructor(what: string) {
    this.#what = what
  }

  fork(forkItem: (item: T) => T): Numbered<T> {
    const copy = new Numbered<T>(this.#what)
    for (const [number, item] of this.#items) copy.#items.set(number, forkItem(item))
    return copy
  }

  find(number: number): T | undefined {
    return this.#items.get(number)
  }

  /** Throws RangeError for a number that stands for nothing. */
  get(number: number): T {
    const item = this.#items.get(number)
    if (item === undefined) throw new RangeError(`there is no ${this.#what} ${number}`)
    return item
  }

  /** The number that the next one gets. */
  get nextNumber(): number {
    let number = 1
    while (this.#items.has(number)) number++
    return number
  }

  add(number: number, item: T, journal: Journal): void {
    journal.set(this.#items, number, item)
  }

  /** Throws RangeError for a number that stands for nothing. */
  remove(number: number, journal: Journal): void {
    this.get(number)
    journal.delete(this.#items, number)
  }

  snapshot(itemSnapshot: (item: T) => unknown): unknown {
    return [...this.#items].sort(([a], [b]) => a - b).map(([number, item]) => [number, itemSnapshot(item)])
  }
}
