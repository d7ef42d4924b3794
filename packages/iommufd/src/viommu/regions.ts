/**
 * Memory that drivers offer to be mapped through the iommufd file.
 *
 * Linux drivers/iommu/iommufd/main.c, `iommufd_fops_mmap`.
 *
 * @packageDocumentation
 */
import type { Region } from '../backend.js'
import type { ObjectId } from '../object/object.js'
import { refuse } from '../outcome.js'
import type { Refusal } from '../outcome.js'
import type { MmapRequest } from '../open-file.js'
import { pageBytes } from '../process.js'

const protectionExecute = 4
const mapShared = 1
const page = BigInt(pageBytes)

interface Offered {
  readonly region: Region
  /** The object that cannot be destroyed while the region is mapped; 0 while it is being made. */
  owner: ObjectId
}

/** See the file's comment. */
export class Regions {
  /** There is no room below this offset. */
  private lowestFree = page

  private constructor(private readonly offered: Map<bigint, Offered>) {}

  static create(): Regions {
    return new Regions(new Map())
  }

  /** Offers a region at the lowest free offset; never at 0. */
  offer(region: Region): bigint {
    const size = sizeOf(region)
    let offset = this.lowestFree
    for (let at = offset; at < offset + size; at += page) {
      const taken = this.offered.get(at)
      if (taken === undefined) continue
      offset = at + sizeOf(taken.region)
      at = offset - page
    }
    if (offset === this.lowestFree) this.lowestFree = offset + size
    this.offered.set(offset, { region, owner: 0 })
    return offset
  }

  /** Says whose the region is. */
  assign(offset: bigint, owner: ObjectId): void {
    const offered = this.offered.get(offset)
    if (offered !== undefined) offered.owner = owner
  }

  withdraw(offset: bigint): void {
    this.offered.delete(offset)
    if (offset < this.lowestFree) this.lowestFree = offset
  }

  /** The region that an mmap means, which must be named exactly. */
  find({ length, protection, flags, offset }: MmapRequest): Offered | Refusal {
    if (length % page !== 0n || length === 0n)
      return refuse('mmap-length', `${length} bytes are no whole pages`)
    if ((flags & mapShared) === 0) return refuse('mmap-private', 'a region can only be mapped shared')
    if ((protection & protectionExecute) !== 0) return refuse('mmap-execute', 'a region cannot be executed')
    const offered = this.offered.get(offset)
    if (offered?.region.bytes.length !== Number(length))
      return refuse(
        'mmap-no-region',
        `no region lies at offset 0x${offset.toString(16)}, ${length} bytes long`,
      )
    return offered
  }

  /** Whose a mapped region is. */
  ownerOf(region: Region): ObjectId | undefined {
    for (const offered of this.offered.values()) if (offered.region === region) return offered.owner
    return undefined
  }

  /** @param regionOf - the memory that an owner offers in the fork */
  fork(regionOf: (owner: ObjectId) => Region | undefined): Regions {
    const fork = Regions.create()
    for (const [offset, { region, owner }] of this.offered)
      fork.offered.set(offset, { region: regionOf(owner) ?? region, owner })
    fork.lowestFree = this.lowestFree
    return fork
  }

  snapshot(): unknown {
    return [...this.offered].map(([offset, { region, owner }]) => [offset, owner, [...region.bytes]])
  }
}

/** Whole pages. */
const sizeOf = ({ bytes }: Region): bigint => ((BigInt(bytes.length) + page - 1n) / page) * page
