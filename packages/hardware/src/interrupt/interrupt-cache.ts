/**
 * The interrupt table cache: table entries as they were when first needed, by device and index.
 *
 * AMD 48882 rev 3.10, INVALIDATE_INTERRUPT_TABLE. Only that command or INVALIDATE_IOMMU_ALL drops an entry. Entries are
 * kept raw, and with their form: one read in the other form, before Control.GAEn changed, is no use.
 *
 * @packageDocumentation
 */
import type { Words } from '../memory/words.js'

/** A cached entry, for people. */
export interface CachedInterruptEntry {
  readonly deviceId: number
  readonly index: number
  /** 128 bits; of the short form the other three words are not part of the entry. */
  readonly isLong: boolean
  /** Four 32-bit words, lowest first. Destination and IsRun of a guest-mode entry are not cached and read 0. */
  readonly words: readonly number[]
}

/** Words of a node. */
const nodeWords = 8
const raw = 0 // four words: the entry
const form = 4 // 1 short, 2 long; 0 in a node that is free
const tag = 5 // DeviceID and index
const next = 6 // the next node of its bucket, or of the free ones
const pageNodesLog2 = 6

/** A bucket has a device's entries of one index modulo 32, and those of devices with the same hash. */
const indexBits = 5
const deviceBits = 7
const buckets = 1 << (indexBits + deviceBits)

/** Words of the cache's own record. */
const headWords = 3
const usedNodes = 0
const madeNodes = 1 // nodes from there on were never used since the cache was last empty
const freeNode = 2

const capacityMax = 1 << 20

/** Where things lie in the words; all forks use the same places, each with its own contents. */
interface Places {
  readonly head: number
  readonly keySpace: number
  readonly capacity: number
  /** 0 until something is cached. */
  buckets: number
  readonly pages: Int32Array
}

/** See the file's comment. */
export class InterruptTableCache {
  private constructor(
    private readonly words: Words,
    private readonly places: Places,
  ) {}

  /**
   * An empty cache in a machine's words.
   *
   * @param capacity - entries, 1 to 2^20; one more empties the cache: any cache may forget. RangeError otherwise
   */
  static create(words: Words, capacity = 1 << 16): InterruptTableCache {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > capacityMax) {
      throw new RangeError(`capacity ${capacity} is not an integer from 1 to ${capacityMax}`)
    }
    return new InterruptTableCache(words, {
      head: words.allocate(headWords),
      keySpace: words.newKeySpace(),
      capacity,
      buckets: 0,
      pages: new Int32Array(((capacity - 1) >>> pageNodesLog2) + 1),
    })
  }

  /** The same cache over a fork of the machine's words. */
  forkOnto(words: Words): InterruptTableCache {
    return new InterruptTableCache(words, this.places)
  }

  /** Word index of a cached entry's four words; 0 if there is none of that form. */
  find(deviceId: number, index: number, isLong: boolean): number {
    const pool = this.words.array
    if (this.places.buckets === 0) return 0
    const wanted = tagOf(deviceId, index)
    let node = pool[this.bucketOf(deviceId, index)]!
    while (node !== 0 && pool[node + tag] !== wanted) node = pool[node + next]!
    return node !== 0 && pool[node + form] === formOf(isLong) ? node : 0
  }

  /** Keeps an entry, in place of one that was cached for the same device and index. */
  fill(deviceId: number, index: number, isLong: boolean, entry: Int32Array): void {
    const { words, places } = this
    if (places.buckets === 0) places.buckets = words.allocate(buckets)
    const node =
      this.find(deviceId, index, isLong) ||
      this.find(deviceId, index, !isLong) ||
      this.newNode(deviceId, index)
    for (let i = 0; i < 4; i++) this.write(node, raw + i, entry[i]!)
    this.write(node, form, formOf(isLong))
  }

  /** Drops the entries of one device. */
  invalidate(deviceId: number): void {
    if (this.places.buckets === 0) return
    const { words } = this
    const pool = words.array
    for (let i = 0; i < 1 << indexBits; i++) {
      let link = this.bucketOf(deviceId, i)
      for (let node = pool[link]!; node !== 0; node = pool[link]!) {
        if (pool[node + tag]! >>> 11 !== deviceId) {
          link = node + next
          continue
        }
        words.write(link, pool[node + next]!)
        this.release(node)
      }
    }
  }

  /** Drops all entries. */
  invalidateAll(): void {
    const { words, places } = this
    const { head } = places
    const made = words.array[head + madeNodes]!
    for (let n = 0; n < made; n++) {
      const node = this.nodeOf(n)
      this.clear(node)
      words.write(node + next, 0)
    }
    if (made > 0) for (let i = 0; i < buckets; i++) words.write(places.buckets + i, 0)
    for (let i = 0; i < headWords; i++) words.write(head + i, 0)
  }

  /** The cached entries, by device and index. The machine must be active. */
  entries(): CachedInterruptEntry[] {
    const pool = this.words.array
    const found: CachedInterruptEntry[] = []
    for (let n = 0; n < pool[this.places.head + madeNodes]!; n++) {
      const node = this.nodeOf(n)
      if (pool[node + form] === 0) continue
      found.push({
        deviceId: pool[node + tag]! >>> 11,
        index: pool[node + tag]! & 0x7ff,
        isLong: pool[node + form] === formOf(true),
        words: [...pool.subarray(node + raw, node + raw + 4)],
      })
    }
    return found.sort((a, b) => tagOf(a.deviceId, a.index) - tagOf(b.deviceId, b.index))
  }

  /** A node for an entry that has none, in its bucket. */
  private newNode(deviceId: number, index: number): number {
    const { words, places } = this
    const { head } = places
    if (words.array[head + usedNodes] === places.capacity) this.invalidateAll()
    let node = words.array[head + freeNode]!
    if (node !== 0) words.write(head + freeNode, words.array[node + next]!)
    else {
      const made = words.array[head + madeNodes]!
      node = this.nodeOf(made)
      words.write(head + madeNodes, made + 1)
    }
    const bucket = this.bucketOf(deviceId, index)
    words.write(node + tag, tagOf(deviceId, index))
    words.write(node + next, words.array[bucket]!)
    words.write(bucket, node)
    words.write(head + usedNodes, words.array[head + usedNodes]! + 1)
    return node
  }

  private release(node: number): void {
    const { words } = this
    const { head } = this.places
    this.clear(node)
    words.write(node + next, words.array[head + freeNode]!)
    words.write(head + freeNode, node)
    words.write(head + usedNodes, words.array[head + usedNodes]! - 1)
  }

  private clear(node: number): void {
    for (let i = raw; i <= form; i++) this.write(node, i, 0)
  }

  /** Stores a word that tells what the cache holds; it counts in the machine's fingerprint. */
  private write(node: number, offset: number, value: number): void {
    const key = (this.words.array[node + tag]! << 3) | offset
    this.words.writeKeyed(node + offset, value, key, this.places.keySpace)
  }

  private nodeOf(n: number): number {
    const { pages } = this.places
    const page = n >>> pageNodesLog2
    if (pages[page] === 0) pages[page] = this.words.allocate(nodeWords << pageNodesLog2)
    return pages[page]! + (n & ((1 << pageNodesLog2) - 1)) * nodeWords
  }

  private bucketOf(deviceId: number, index: number): number {
    // Devices differ in the bus or in the slot: the product spreads both over its highest bits.
    const group = Math.imul(deviceId, 0x9e3779b1) >>> (32 - deviceBits)
    return this.places.buckets + ((group << indexBits) | (index & ((1 << indexBits) - 1)))
  }
}

const formOf = (isLong: boolean): number => (isLong ? 2 : 1)

const tagOf = (deviceId: number, index: number): number => (deviceId << 11) | index
