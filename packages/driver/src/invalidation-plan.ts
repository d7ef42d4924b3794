/**
 * Which invalidations a change needs: commands with the reason for each, IOTLBs first, then device TLBs, then the waits.
 *
 * Linux drivers/iommu/amd/iommu.c, `domain_flush_pages_v1`, `domain_flush_pages_v2`, `domain_flush_complete`.
 *
 * @packageDocumentation
 */
import { deviceId as asDeviceId, domainId as asDomainId, pasid as asPasid } from '@nestwalk/hardware'
import { hasGap, listedOn, usersOf } from './books.js'
import type { Books } from './books.js'
import type { Device } from './device.js'
import type { DomainNumber, GuestTableDomain, ProcessDomain } from './domain.js'
import type { Gcr3Table } from './gcr3-table.js'
import { everything, exactBlocks, rangeFields } from './invalidation-range.js'
import type { AddressRange } from './invalidation-range.js'
import type { Plan } from './plan.js'
import type { Tag } from './tag-table.js'

/** What to drop of a tag's translations. */
export interface Reach {
  readonly range: AddressRange
  /** Cached directory entries too: needed whenever a table page goes away. */
  readonly directories: boolean
  /** The addresses are those of the guest tables of a PASID; else those of the host table. */
  readonly pasid?: number
}

/** All that can be cached under a tag: GN=0 reaches the guest translations of every PASID too. */
export const allOfTag: Reach = { range: everything, directories: true }

/** Invalidates under each tag on each IOMMU that may have entries of it, and waits for each of those IOMMUs. */
export function flushTags(plan: Plan, tags: readonly Tag[], reach: Reach, why: string): void {
  const waits = new Waits(plan)
  for (const tag of tags) for (const iommu of tag.iommus) waits.add(flushTagOn(plan, iommu, tag, reach, why))
  waits.wait()
}

/** Invalidates under a tag on one IOMMU; returns the IOMMU. */
export function flushTagOn(
  plan: Plan,
  iommu: number,
  { domainId }: Pick<Tag, 'domainId'>,
  { range, directories, pasid }: Reach,
  why: string,
): number {
  const guest = { pasid: asPasid(pasid ?? 0), guestNested: pasid !== undefined }
  const command = { kind: 'InvalidateIommuPages', domainId: asDomainId(domainId), directories } as const
  plan.command(iommu, { ...command, ...guest, ...rangeFields(range) }, why)
  return iommu
}

/** Invalidates in the TLB of a device, if it has one that is on; returns the IOMMU to wait for. */
export function flushDevice(
  plan: Plan,
  device: Device,
  { range, pasid }: Pick<Reach, 'range' | 'pasid'>,
  why: string,
): number | undefined {
  const { deviceId, iommu, atsQueueDepth, features } = device
  if (!features.has('ats')) return undefined
  const guest = { pasid: asPasid(pasid ?? 0), guestNested: pasid !== undefined }
  const queue = { maxPending: atsQueueDepth, queueId: deviceId }
  const command = { kind: 'InvalidateIotlbPages', deviceId: asDeviceId(deviceId) } as const
  plan.command(iommu, { ...command, ...queue, ...guest, ...rangeFields(range) }, why)
  return iommu
}

/** After a change of a host table: everything cached through it, under whichever tag, in whichever device. */
export function flushHostTable(
  plan: Plan,
  books: Books,
  table: DomainNumber,
  reach: Reach,
  why: string,
): void {
  const waits = new Waits(plan)
  // Gap U5: a device that is not listed keeps what it cached.
  const devices = hasGap(books, 'U5') ? listedOn(books, table) : usersOf(books, table)
  const cycled = devices.filter((device) => device.features.has('ats') && usesUnknownPasids(device))
  for (const { deviceId } of cycled) plan.feature(deviceId, 'ats', false)
  for (const range of blocksOf(books, reach.range)) {
    for (const tag of books.tags.ofTable(table)) {
      for (const iommu of iommusOf(books, tag))
        waits.add(flushTagOn(plan, iommu, tag, { ...reach, range }, why))
    }
    for (const device of devices) {
      // Through guest tables any address of the device may have led here. Gap U10: what it cached stays.
      const isAnywhere = device.domain.kind === 'nested' && !hasGap(books, 'U10')
      if (!cycled.includes(device)) {
        waits.add(flushDevice(plan, device, isAnywhere ? { range: everything } : { range }, why))
      }
    }
  }
  // Gap U4: the commands are queued, but nobody waits for them.
  if (hasGap(books, 'U4')) waits.only(listedOn(books, table).map(({ iommu }) => iommu))
  waits.wait()
  for (const { deviceId } of cycled) plan.feature(deviceId, 'ats', true)
}

/**
 * A guest's device may have cached translations of any PASID, and no command reaches those of all: such a device is made
 * to forget by turning its ATS off until the IOTLB is clean.
 */
export const usesUnknownPasids = ({ domain, features }: Device): boolean =>
  domain.kind === 'nested' && features.has('pasid')

/** IOMMUs where a tag is flushed. Gap U20: where its vIOMMU is, wherever its devices are. */
export function iommusOf(books: Books, tag: Tag): readonly number[] {
  if (!hasGap(books, 'U20')) return tag.iommus
  const viommu = [...books.viommus.values()].find(({ slots }) =>
    [...slots.values()].some((keys) => keys.has(tag.key)),
  )
  return viommu === undefined ? tag.iommus : [viommu.iommu]
}

/** After a change of a table in guest format: everything cached through it, in every GCR3 table that names it. */
export function flushGuestTable(
  plan: Plan,
  books: Books,
  domain: GuestTableDomain | ProcessDomain,
  reach: Reach,
  why: string,
): void {
  const waits = new Waits(plan)
  const bindings = bindingsOf(books, domain.number)
  // Linux flushes process by process, and device by device: each binding waits for itself.
  if (domain.kind === 'process' && hasGap(books, 'U17')) {
    for (const each of bindings) {
      flushBindings(plan, books, [each], reach, why, waits)
      waits.wait()
    }
    return
  }
  flushBindings(plan, books, bindings, reach, why, waits)
  waits.wait()
}

/** A place in a GCR3 table. */
interface Binding {
  readonly table: Gcr3Table
  readonly pasid: number
}

/** Where a domain stands. */
export const bindingsOf = (books: Books, domain: DomainNumber): Binding[] =>
  [...books.gcr3Tables.values()].flatMap((table) =>
    [...table.entries].flatMap(([pasid, behind]) => (behind === domain ? [{ table, pasid }] : [])),
  )

/** Invalidates what a GCR3 table has behind a PASID, on its IOMMUs and in its devices. */
export function flushPasid(plan: Plan, books: Books, table: Gcr3Table, reach: Reach, why: string): Waits {
  const waits = new Waits(plan)
  flushBindings(plan, books, [{ table, pasid: reach.pasid ?? 0 }], reach, why, waits)
  return waits
}

/** Invalidates what stands in places of GCR3 tables: on their IOMMUs first, then in their devices. */
export function flushBindings(
  plan: Plan,
  books: Books,
  bindings: readonly Binding[],
  reach: Reach,
  why: string,
  waits: Waits,
): void {
  for (const range of blocksOf(books, reach.range)) {
    for (const { table, pasid } of bindings) {
      const tag = books.tags.get(table.tagKey)
      for (const iommu of tag?.iommus ?? []) {
        if (tag !== undefined) waits.add(flushTagOn(plan, iommu, tag, { ...reach, range, pasid }, why))
      }
    }
    for (const { table, pasid } of bindings) {
      for (const deviceId of table.devices) {
        const device = books.devices.get(deviceId)
        // Gap U10: by PASID 0, though the device filed what it asked for without PASID under none.
        const isBare = pasid === 0 && table.shape.usesPasidZero && !hasGap(books, 'U10')
        const reached = isBare ? { range } : { range, pasid }
        if (device !== undefined) waits.add(flushDevice(plan, device, reached, why))
      }
    }
  }
}

/**
 * The blocks that a range is flushed in. One block that holds it is the fewest commands; but an emulated IOMMU has to
 * look for all that the block has besides, so it is told the range exactly (NpCache).
 */
const blocksOf = (books: Books, range: AddressRange): readonly AddressRange[] =>
  books.npCache ? exactBlocks(range) : [range]

/** The IOMMUs that have commands to finish. */
export class Waits {
  private readonly iommus = new Set<number>()

  constructor(private readonly plan: Plan) {}

  add(iommu: number | undefined): void {
    if (iommu !== undefined) this.iommus.add(iommu)
  }

  /** Forgets all others. */
  only(iommus: readonly number[]): void {
    for (const each of [...this.iommus]) if (!iommus.includes(each)) this.iommus.delete(each)
  }

  /** Waits for each, in order; afterwards there is nothing to wait for. */
  wait(): void {
    for (const iommu of [...this.iommus].sort((a, b) => a - b)) this.plan.wait(iommu)
    this.iommus.clear()
  }
}
