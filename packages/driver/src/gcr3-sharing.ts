/**
 * Who has which GCR3 table: one for each device, as Linux does (gap U17), or one for each content, whoever uses it.
 *
 * A shared table may be changed in place only for all who share it; who wants it otherwise gets a table of its own with a
 * DomainID of its own before anything changes. Founding mail of 11 Dec 2023, requirement R3. Contents are compared in
 * full, not by a digest, and in the same operation that acts on the answer.
 *
 * @packageDocumentation
 */
import { hasGap, taggedDomain } from './books.js'
import type { Books } from './books.js'
import type { Device } from './device.js'
import type { DomainNumber } from './domain.js'
import { sameContent, writeEntry, writeTable } from './gcr3-table.js'
import type { Gcr3Content, Gcr3Table } from './gcr3-table.js'
import { allOfTag, flushDevice, flushPasid, flushTagOn, Waits } from './invalidation-plan.js'
import { everything } from './invalidation-range.js'
import { MapChange } from './map-change.js'
import { InternalError } from './outcome.js'
import type { Refusal } from './outcome.js'
import type { Plan } from './plan.js'
import { programDevice } from './programmed-entry.js'
import { acquireTag, releaseTag } from './tag-holding.js'

const allOfPasid = (pasid: number) => ({ range: everything, directories: true, pasid })

/**
 * The table for a device that wants a content. It is noted under the table, and the table's tag on the device's IOMMU,
 * before its entry is written.
 */
export function joinTable(
  books: Books,
  plan: Plan,
  device: Device,
  content: Gcr3Content,
): Gcr3Table | Refusal {
  const found = hasGap(books, 'U17') ? undefined : equalTable(books, content)
  const table = found ?? makeTable(books, plan, content)
  if ('ok' in table) return table
  const devices = [...new Set([...table.devices, device.deviceId])].sort((a, b) => a - b)
  const joined = { ...table, devices }
  books.gcr3Tables.set(table.number, joined)
  books.tags.noteIommu(table.tagKey, device.iommu)
  // A fresh table has nothing cached; Linux flushes each entry that it sets all the same.
  if (hasGap(books, 'U17')) {
    for (const pasid of content.entries.keys()) {
      flushPasid(plan, books, joined, allOfPasid(pasid), 'an entry was set').wait()
    }
  }
  return joined
}

const equalTable = (books: Books, content: Gcr3Content, but?: number): Gcr3Table | undefined =>
  [...books.gcr3Tables.values()].find((table) => table.number !== but && sameContent(table, content))

function makeTable(books: Books, plan: Plan, content: Gcr3Content): Gcr3Table | Refusal {
  const number = books.nextGcr3
  const tagKey = keyOfTable(books, content) ?? `GCR3 table ${number}`
  const tag = acquireTag(books, plan, tagKey, undefined)
  if ('ok' in tag) return tag
  const pages = writeTable(plan, books.pages, content, (domain) => rootOf(books, domain))
  if ('ok' in pages) return pages
  const [root] = pages
  if (root === undefined) throw new InternalError('a GCR3 table has no page')
  books.nextGcr3 += 1
  // Where a table says the same already, its entries serve for both.
  const { shape, entries } = equalTable(books, content) ?? content
  return { number, shape, entries, root, pages, tagKey, devices: [] }
}

function keyOfTable(books: Books, { entries }: Gcr3Content): string | undefined {
  const number = entries.get(0)
  const domain = number === undefined ? undefined : books.domains.get(number)
  return domain === undefined ? undefined : books.policy.keyOfGcr3Table?.(taggedDomain(domain))
}

function rootOf(books: Books, number: DomainNumber) {
  const domain = books.domains.get(number)
  if (domain?.kind === 'guest-table' || domain?.kind === 'process') return domain.root
  throw new InternalError(`domain ${number} behind a PASID has no table in guest format`)
}

/** What is left to do for the table that a device's entry no longer names: clean where nobody uses it, free with the last. */
export function leaveTable(books: Books, plan: Plan, device: Device, number: number): void {
  const table = tableNumbered(books, number)
  const devices = table.devices.filter((each) => each !== device.deviceId)
  const left = { ...table, devices }
  books.gcr3Tables.set(number, left)
  if (hasGap(books, 'U17')) clearForGood(books, plan, left)
  if (devices.length > 0) {
    cleanIommu(books, plan, left, device.iommu)
    return
  }
  books.gcr3Tables.delete(number)
  releaseTag(books, plan, table.tagKey)
  for (const page of table.pages) books.pages.free(page)
}

/** Linux's `destroy_gcr3_table` for the PASID 0 of a paging domain: the entry goes first. */
function clearForGood(books: Books, plan: Plan, table: Gcr3Table): void {
  if (!table.entries.has(0)) return
  mustWrite(writeEntry(plan, books.pages, table, 0, undefined))
  flushPasid(plan, books, table, allOfPasid(0), 'the entry was cleared').wait()
}

/** Flushes a table's tag on an IOMMU that no user of it is behind any more. */
function cleanIommu(books: Books, plan: Plan, { tagKey, devices }: Gcr3Table, iommu: number): void {
  if (devices.some((deviceId) => books.devices.get(deviceId)?.iommu === iommu)) return
  const tag = books.tags.get(tagKey)
  if (tag === undefined) return
  flushTagOn(plan, iommu, tag, allOfTag, 'no user of the GCR3 table is left on this IOMMU')
  plan.wait(iommu)
  books.tags.forgetIommu(tagKey, iommu)
}

/**
 * Puts a process behind a PASID of some devices, or takes it away.
 *
 * A table whose users all want it is changed in place; otherwise those who do are moved to a table that is so already, or
 * to a new one.
 */
export function setPasid(
  books: Books,
  plan: Plan,
  deviceIds: readonly number[],
  pasid: number,
  domain: DomainNumber | undefined,
): Refusal | undefined {
  const wanted = new Set(deviceIds)
  const numbers = new Set(deviceIds.map((deviceId) => ownerOf(books, deviceId).gcr3))
  const change = new MapChange(pasid, domain)
  for (const number of numbers) {
    const table = tableNumbered(books, number)
    const movers = table.devices.filter((deviceId) => wanted.has(deviceId))
    const content = { shape: table.shape, entries: change.of(table.entries) }
    const refused =
      movers.length === table.devices.length
        ? changeInPlace(books, plan, table, content, pasid)
        : split(books, plan, movers, content, pasid)
    if (refused !== undefined) return refused
  }
  if (books.policy.merging !== 'when-asked') mergeEqualTables(books, plan)
  return undefined
}

/** A table that a device names. */
export function tableNumbered(books: Books, number: number): Gcr3Table {
  const table = books.gcr3Tables.get(number)
  if (table === undefined) throw new InternalError(`GCR3 table ${number} is gone`)
  return table
}

/** A device that names a table. */
function ownerOf(books: Books, deviceId: number): Device & { readonly gcr3: number } {
  const device = books.devices.get(deviceId)
  if (device?.gcr3 === undefined) throw new InternalError(`device ${deviceId} has no GCR3 table`)
  return { ...device, gcr3: device.gcr3 }
}

function changeInPlace(
  books: Books,
  plan: Plan,
  table: Gcr3Table,
  content: Gcr3Content,
  pasid: number,
): Refusal | undefined {
  const domain = content.entries.get(pasid)
  const root = domain === undefined ? undefined : rootOf(books, domain)
  const pages = writeEntry(plan, books.pages, table, pasid, root)
  if ('ok' in pages) return pages
  const changed = { ...table, entries: content.entries, pages }
  books.gcr3Tables.set(table.number, changed)
  flushPasid(plan, books, changed, allOfPasid(pasid), 'the entry of the PASID changed').wait()
  return undefined
}

function split(
  books: Books,
  plan: Plan,
  movers: readonly number[],
  content: Gcr3Content,
  pasid: number,
): Refusal | undefined {
  for (const deviceId of movers) {
    const moved = moveToTable(books, plan, deviceId, content)
    if ('ok' in moved) return moved
    // What the device's own TLB has of the PASID is of the table that it has left.
    const waits = new Waits(plan)
    waits.add(flushDevice(plan, moved, { range: everything, pasid }, 'the device has another table'))
    waits.wait()
  }
  return undefined
}

/** Gives a device a table of a content, and leaves the one that it had. */
function moveToTable(books: Books, plan: Plan, deviceId: number, content: Gcr3Content): Device | Refusal {
  const device = ownerOf(books, deviceId)
  const table = joinTable(books, plan, device, content)
  if ('ok' in table) return table
  const moved = { ...device, gcr3: table.number, tagKey: table.tagKey }
  books.devices.set(deviceId, moved)
  programDevice(books, plan, moved)
  leaveTable(books, plan, device, device.gcr3)
  return moved
}

/** Makes one of tables that have become equal. In between either tag may be used: both translate alike. */
export function mergeEqualTables(books: Books, plan: Plan): void {
  if (hasGap(books, 'U17')) return
  for (const table of [...books.gcr3Tables.values()]) {
    const other = equalTable(books, table, table.number)
    if (other === undefined || !books.gcr3Tables.has(table.number) || other.number > table.number) continue
    for (const deviceId of table.devices) {
      const moved = moveToTable(books, plan, deviceId, other)
      if ('ok' in moved) throw new InternalError('joining an equal table needs nothing that could be missing')
    }
  }
}

function mustWrite(written: readonly unknown[] | Refusal): void {
  if ('ok' in written) throw new InternalError('clearing an entry that is there needs no page')
}
