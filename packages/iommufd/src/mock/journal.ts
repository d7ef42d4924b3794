/**
 * How to take back what a transaction has done so far. Empty between transactions, so no fork needs to carry it.
 *
 * @packageDocumentation
 */
import { accept, isRefusal } from '../outcome.js'
import type { Outcome, Refusal } from '../outcome.js'

export class Journal {
  readonly #undo: (() => void)[] = []
  #depth = 0

  get isOpen(): boolean {
    return this.#depth > 0
  }

  /** Notes how to take back a change that has just been made. */
  changed(undo: () => void): void {
    if (this.isOpen) this.#undo.push(undo)
  }

  /** Puts something into a map, whatever was there. */
  set<K, V>(map: Map<K, V>, key: K, value: V): void {
    this.#keep(map, key)
    map.set(key, value)
  }

  /** Takes something out of a map. */
  delete<K, V>(map: Map<K, V>, key: K): void {
    this.#keep(map, key)
    map.delete(key)
  }

  /** Runs operations, and takes back their changes if they end in a refusal or an exception. */
  run<T>(operations: () => T | Refusal): Outcome<T> {
    const before = this.#undo.length
    this.#depth++
    let isDone = false
    try {
      const result = operations()
      if (isRefusal(result)) return result
      isDone = true
      return accept(result)
    } finally {
      if (!isDone) this.#takeBackTo(before)
      this.#depth--
      if (!this.isOpen) this.#undo.length = 0
    }
  }

  #keep<K, V>(map: Map<K, V>, key: K): void {
    const before = map.get(key)
    this.changed(() => {
      if (before === undefined) map.delete(key)
      else map.set(key, before)
    })
  }

  #takeBackTo(length: number): void {
    while (this.#undo.length > length) this.#undo.pop()?.()
  }
}
