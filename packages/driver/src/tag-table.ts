/**
 * The tags in use: which DomainID stands for which key of the policy, who uses it, and where it may have entries.
 *
 * @packageDocumentation
 */
import type { DomainId } from '@nestwalk/hardware'

/** One DomainID in use. */
export interface Tag {
  readonly key: string
  readonly domainId: DomainId
  /** Numbers of the domains whose tables hardware walks last under this tag: their changes concern the tag. */
  readonly tables: readonly number[]
  /** Domains and attachments that hold the tag. */
  readonly users: number
  /** IOMMUs whose IOTLB may have entries under the tag, ascending. */
  readonly iommus: readonly number[]
}

/** See the file's comment. */
export class TagTable {
  private constructor(private readonly tags: Map<string, Tag>) {}

  static create(): TagTable {
    return new TagTable(new Map())
  }

  get(key: string): Tag | undefined {
    return this.tags.get(key)
  }

  /**
   * Takes a reference on the tag of a key.
   *
   * @param allocate - an ID for a key that has none; without one there is no tag
   */
  acquire(key: string, table: number | undefined, allocate: () => DomainId | undefined): Tag | undefined {
    const old = this.tags.get(key)
    const id = old?.domainId ?? allocate()
    if (id === undefined) return undefined
    const tag = {
      key,
      domainId: id,
      tables: table === undefined ? (old?.tables ?? []) : including(old?.tables ?? [], table),
      users: (old?.users ?? 0) + 1,
      iommus: old?.iommus ?? [],
    }
    this.tags.set(key, tag)
    return tag
  }

  /** Drops a reference and returns the tag; with the last one it is gone, but its ID is not free yet. */
  release(key: string): Tag | undefined {
    const old = this.tags.get(key)
    if (old === undefined) return undefined
    const tag = { ...old, users: old.users - 1 }
    if (tag.users === 0) this.tags.delete(key)
    else this.tags.set(key, tag)
    return tag
  }

  /** Notes that entries under the tag may be cached in an IOMMU from now on. */
  noteIommu(key: string, iommu: number): void {
    const old = this.tags.get(key)
    if (old !== undefined) this.tags.set(key, { ...old, iommus: including(old.iommus, iommu) })
  }

  /** Notes that an IOMMU has no entries under the tag any more: they were flushed, and no device is left there. */
  forgetIommu(key: string, iommu: number): void {
    const old = this.tags.get(key)
    if (old !== undefined) this.tags.set(key, { ...old, iommus: old.iommus.filter((each) => each !== iommu) })
  }

  /** The tags that a change of a table concerns, by DomainID. */
  ofTable(table: number): Tag[] {
    return this.all().filter((tag) => tag.tables.includes(table))
  }

  /** All tags, by DomainID. */
  all(): Tag[] {
    return [...this.tags.values()].sort((a, b) => a.domainId - b.domainId)
  }

  fork(): TagTable {
    return new TagTable(new Map(this.tags))
  }

  snapshot(): unknown {
    return this.all()
  }
}

const including = (numbers: readonly number[], one: number): readonly number[] =>
  numbers.includes(one) ? numbers : [...numbers, one].sort((a, b) => a - b)
