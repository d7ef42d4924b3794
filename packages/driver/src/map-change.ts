/**
 * One change made to many maps that are never changed in place.
 *
 * A thousand devices may have the same processes behind their PASIDs: where they hold the very same map, they hold the very
 * same changed one afterwards, and the change costs one copy.
 *
 * @packageDocumentation
 */

/** See the file's comment. */
export class MapChange<K, V> {
  private readonly changed = new Map<ReadonlyMap<K, V>, ReadonlyMap<K, V>>()

  /** @param value - undefined: the key is removed */
  constructor(
    private readonly key: K,
    private readonly value: V | undefined,
  ) {}

  of(map: ReadonlyMap<K, V>): ReadonlyMap<K, V> {
    const known = this.changed.get(map)
    if (known !== undefined) return known
    const changed = new Map(map)
    if (this.value === undefined) changed.delete(this.key)
    else changed.set(this.key, this.value)
    this.changed.set(map, changed)
    return changed
  }
}
