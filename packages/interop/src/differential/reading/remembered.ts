/**
 * What a chip may have cached: device table entries, and pages of host tables.
 *
 * AMD 48882 rev 3.10, caches: everything that was used may be kept until an invalidation reaches it, and may be dropped
 * before. Pages are filed under the DomainID, not under the device.
 *
 * @packageDocumentation
 */
import type { AddressRange } from './command-rules.js'
import { placed } from './entry-bits.js'
import type { DeviceEntry } from './manual-walk.js'

/** Why an answer may come from a cache though tables say otherwise. */
export type ChoiceReason = 'not-invalidated' | 'domain-of-two-tables' | 'unequal-copies'

interface Page {
  readonly domainId: number
  readonly deviceId: number
  /** First address, and where it goes. */
  readonly range: AddressRange
  readonly frame: bigint
  readonly granted: bigint
  /** How many edits there had been. */
  readonly edits: number
}

/** A page that may answer. */
export interface CachedAnswer {
  readonly address: bigint
  readonly reason: ChoiceReason
}

/** See the file's comment. */
export class Remembered {
  private readonly entries = new Map<number, DeviceEntry[]>()
  private pages: Page[] = []
  private edits = 0

  /** Software stored to memory. */
  edited(): void {
    this.edits++
  }

  keepEntry(deviceId: number, entry: DeviceEntry): void {
    const kept = this.entriesOf(deviceId)
    if (!kept.some((each) => each.every((word, n) => word === entry[n]))) {
      this.entries.set(deviceId, [...kept, entry])
    }
  }

  entriesOf(deviceId: number): readonly DeviceEntry[] {
    return this.entries.get(deviceId) ?? []
  }

  keepPage(page: {
    readonly domainId: number
    readonly deviceId: number
    readonly iova: bigint
    readonly address: bigint
    readonly sizeLog2: number
    readonly granted: bigint
  }): void {
    const { domainId, deviceId, granted, sizeLog2 } = page
    const size = BigInt(sizeLog2)
    const range = { first: (page.iova >> size) << size, sizeLog2 }
    this.pages.push({
      domainId,
      deviceId,
      range,
      frame: (page.address >> size) << size,
      granted,
      edits: this.edits,
    })
  }

  answers(domainId: number, deviceId: number, iova: bigint, needed: bigint): CachedAnswer[] {
    return this.pages
      .filter(
        (page) => page.domainId === domainId && (page.granted & needed) !== 0n && overlaps(page.range, iova),
      )
      .map((page) => ({
        address: placed(page.frame, iova, page.range.sizeLog2),
        reason: this.reasonFor(page, deviceId),
      }))
  }

  forgetEntry(deviceId: number): void {
    this.entries.delete(deviceId)
  }

  forgetPages(domainId: number, range: AddressRange): void {
    this.pages = this.pages.filter(
      (page) =>
        page.domainId !== domainId ||
        !(overlaps(range, page.range.first) || overlaps(page.range, range.first)),
    )
  }

  forgetAll(): void {
    this.entries.clear()
    this.pages = []
  }

  /** A page of many table entries may be cached from any of them, and they may not be equal. */
  private reasonFor(page: Page, deviceId: number): ChoiceReason {
    if (page.edits < this.edits) return 'not-invalidated'
    return page.deviceId === deviceId ? 'unequal-copies' : 'domain-of-two-tables'
  }
}

const overlaps = ({ first, sizeLog2 }: AddressRange, address: bigint): boolean =>
  first >> BigInt(sizeLog2) === address >> BigInt(sizeLog2)
