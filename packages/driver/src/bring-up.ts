/**
 * Bring-up of the IOMMUs of one driver: where device table, rings and logs lie, and how the chips are turned on.
 *
 * Linux drivers/iommu/amd/init.c: device table and rings, then features, then the enable bit, then a flush of everything.
 *
 * @packageDocumentation
 */
import { spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import { decodeEfr } from '@nestwalk/hardware'
import type { Discovery, FoundIommu } from './discovery.js'
import { openRegisters, turnOn } from './enable.js'
import type { DeviceTablePlace, IommuPlaces, IommuSetup } from './enable.js'
import { persistentBits, settingsRuns } from './firmware-settings.js'
import { flushWhole } from './full-flush.js'
import type { FlushScope } from './full-flush.js'
import { pageBytes } from './page-allocator.js'
import type { PageAllocator } from './page-allocator.js'
import type { Plan } from './plan.js'

const entryBytes = 32n
const entriesPerPage = 128
/** Pages of a ring or log of 512 entries. */
const ringPages = 2

/** V=1, TV=1, no rights: what Linux puts into every entry before a device is known. */
const refusedEntry = 3n
/** V=1, TV=0: for devices whose entry has bits that firmware wants, for IW may be one of them. */
const blockedEntry = 1n

/** An IOMMU of the driver: what it is, and where its ring and logs lie. */
export interface KnownIommu extends FoundIommu, IommuPlaces {}

/** Address of a device's entry. */
export const entryAddress = (deviceTable: Spa, deviceId: number): Spa =>
  spa(deviceTable + BigInt(deviceId) * entryBytes)

/** Pages of a device table up to a DeviceID. */
export const tablePagesFor = (lastDeviceId: number): number => Math.ceil((lastDeviceId + 1) / entriesPerPage)

/** Finds room for ring, logs and completion word of each IOMMU. `undefined` if the pages do not suffice. */
export function makeRoom(
  plan: Plan,
  pages: PageAllocator,
  found: readonly FoundIommu[],
): IommuSetup[] | undefined {
  const setups: IommuSetup[] = []
  for (const [iommu, each] of found.entries()) {
    const { pprSup, gtSup } = decodeEfr(each.features.efr)
    const takesPageRequests = pprSup && gtSup
    const ring = pages.takeRun(ringPages)
    const eventLog = pages.takeRun(ringPages)
    const pprLog = takesPageRequests ? pages.takeRun(ringPages) : undefined
    const completion = pages.take()
    if (ring === undefined || eventLog === undefined || completion === undefined) return undefined
    if (takesPageRequests && pprLog === undefined) return undefined
    setups.push({ iommu, found: each, places: { ring, eventLog, pprLog, completion } })
  }
  for (const { places } of setups) {
    const { eventLog, pprLog, completion } = places
    // What the memory held before must not pass for a completed wait.
    plan.clearPage(completion, 'completion word, cleared')
    // Nor for an entry: an interrupt may be seen before the entry that it tells of (errata 732, 733).
    for (const log of pprLog === undefined ? [eventLog] : [eventLog, pprLog]) {
      for (let page = 0; page < ringPages; page++) {
        plan.clearPage(spa(log + BigInt(page) * pageBytes), 'log, cleared')
      }
    }
  }
  return setups
}

/** A device table that refuses every device, with the bits that firmware wants. `undefined` if there is no room for it. */
export function makeDeviceTable(
  plan: Plan,
  pages: PageAllocator,
  lastDeviceId: number,
  ranges: Discovery['ranges'],
): DeviceTablePlace | undefined {
  const tablePages = tablePagesFor(lastDeviceId)
  const base = pages.takeRun(tablePages)
  if (base === undefined) return undefined
  // What the memory held before must not pass for interrupt fields.
  for (let page = 0n; page < BigInt(tablePages); page++) {
    plan.clearPage(spa(base + page * pageBytes), 'device table, cleared')
  }
  const fill = (first: number, count: number, word: number, value: bigint, what: string): void =>
    plan.fill(spa(entryAddress(base, first) + BigInt(word * 8)), count, Number(entryBytes), value, what)
  fill(0, tablePages * entriesPerPage, 0, refusedEntry, 'device table, all refused')
  for (const { first, last, settings } of settingsRuns(ranges ?? [])) {
    // Firmware may name devices that the table was not wanted for.
    const count = Math.min(last, lastDeviceId) - first + 1
    if (count <= 0) continue
    persistentBits(settings).forEach((bits, word) => {
      const value = word === 0 ? bits | blockedEntry : bits
      if (value !== 0n) fill(first, count, word, value, 'device table, bits that firmware wants')
    })
  }
  return { base, pages: tablePages }
}

/** Turns all IOMMUs on with a device table that they share. */
export function bringUp(
  plan: Plan,
  setups: readonly IommuSetup[],
  table: DeviceTablePlace,
  scope: Omit<FlushScope, 'invalidateAll'>,
): void {
  for (const setup of setups) {
    openRegisters(plan, setup)
    turnOn(plan, setup, table)
    flushIommu(plan, setup, scope)
  }
}

/** Flushes one IOMMU whole, in the way that it has. */
export const flushIommu = (
  plan: Plan,
  { iommu, found }: IommuSetup,
  scope: Omit<FlushScope, 'invalidateAll'>,
): void => flushWhole(plan, iommu, { ...scope, invalidateAll: decodeEfr(found.features.efr).iaSup })
