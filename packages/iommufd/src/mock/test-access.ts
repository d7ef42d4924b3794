/**
 * An in-kernel user of an IOAS, as the selftests play one: it pins pages, and lets go of them when told.
 *
 * @packageDocumentation
 */
import { InternalError } from '@nestwalk/driver'
import { Access } from '../io-pagetable/access.js'
import type { AccessOwner } from '../io-pagetable/access.js'
import type { PinEnvironment } from '../io-pagetable/pin-environment.js'

/** Bytes that were pinned together. */
interface PinnedItem {
  readonly iova: bigint
  readonly length: bigint
}

/** What the access has pinned, by number from 0. */
export class TestAccess implements AccessOwner {
  readonly #items: Map<number, PinnedItem>
  #nextItem: number
  #access: Access | undefined

  private constructor(items: Map<number, PinnedItem>, nextItem: number) {
    this.#items = items
    this.#nextItem = nextItem
  }

  /** Makes an access that belongs to a {@link TestAccess}. */
  static create(needsPages: boolean): { readonly access: Access; readonly owner: TestAccess } {
    const owner = new TestAccess(new Map(), 0)
    const access = Access.create({ needsPages, owner })
    owner.#access = access
    return { access, owner }
  }

  fork(memo: Map<object, object>): TestAccess {
    const copy = new TestAccess(new Map(this.#items), this.#nextItem)
    copy.#access = memo.get(this.access) as Access | undefined
    return copy
  }

  /** Notes what was pinned; returns its number. */
  pinned(item: PinnedItem): number {
    const number = this.#nextItem++
    this.#items.set(number, item)
    return number
  }

  /** Lets go of an item. False: it is gone, or never was. */
  unpin(env: PinEnvironment, number: number): boolean {
    const item = this.#items.get(number)
    if (item === undefined) return false
    this.#items.delete(number)
    this.access.unpin(env, item.iova, item.length)
    return true
  }

  unmapped(env: PinEnvironment, first: bigint, length: bigint): void {
    const last = first + (length - 1n)
    for (const [number, item] of this.#items) {
      if (item.iova <= last && first <= item.iova + (item.length - 1n)) this.unpin(env, number)
    }
  }

  /** Lets go of everything. */
  unpinAll(env: PinEnvironment): void {
    for (const number of this.#items.keys()) this.unpin(env, number)
  }

  private get access(): Access {
    if (this.#access === undefined) throw new InternalError('a test access has lost the access that it owns')
    return this.#access
  }
}
