/**
 * Takeover by a crash kernel: IOMMUs that run are taken as they are, for devices of the kernel before still do DMA.
 *
 * The device table that they use is used on, found through their registers. The DomainIDs of its entries are reserved, for
 * translations of the kernel before are cached under them and go on being filled; a domain that got one of them would be
 * served those. An entry stays in force until its device is attached; what is cached under its ID then goes.
 * Linux drivers/iommu/amd/init.c, `reuse_device_table`. Linux also uses ring and event log on, for under SNP their
 * registers are locked; here they are new.
 *
 * @packageDocumentation
 */
import { decode } from '@nestwalk/bits'
import {
  controlLayout,
  decodeDte,
  deviceTableBaseLayout,
  domainId as asDomainId,
  load64,
  registers,
} from '@nestwalk/hardware'
import type { IommuPort, Memory } from '@nestwalk/hardware'
import { entryAddress, flushIommu, tablePagesFor } from './bring-up.js'
import type { Books } from './books.js'
import type { Device } from './device.js'
import type { DomainIdAllocator } from './domain-id.js'
import { exchangeRings, openRegisters } from './enable.js'
import type { DeviceTablePlace, IommuSetup } from './enable.js'
import type { FlushScope } from './full-flush.js'
import { everything, rangeFields } from './invalidation-range.js'
import type { Plan } from './plan.js'

/** DomainIDs of valid entries of another kernel by DeviceID; 0 for entries without one. */
type InheritedEntries = ReadonlyMap<number, number>

/** What can be taken over. */
export interface Running {
  readonly table: DeviceTablePlace
  readonly entries: InheritedEntries
}

/** What IOMMUs that run have to take over; `undefined` if they are to be brought up anew. */
export function findRunning(
  ports: readonly IommuPort[],
  memory: Memory,
  lastDeviceId: number,
): Running | undefined {
  const table = runningTable(ports, tablePagesFor(lastDeviceId))
  const entries = table === undefined ? undefined : entriesOf(memory, table, lastDeviceId)
  return table === undefined || entries === undefined ? undefined : { table, entries }
}

/**
 * The device table of running IOMMUs, if it can be used on: every one of them is on, and all have the same table, in one
 * segment, of the size that this kernel would make it.
 */
function runningTable(ports: readonly IommuPort[], pages: number): DeviceTablePlace | undefined {
  let table: DeviceTablePlace | undefined
  for (const port of ports) {
    const read = (name: 'control' | 'deviceTableBase'): BigUint64Array =>
      BigUint64Array.of(port.readMmio(registers[name].offset, 8))
    const { iommuEn, devTblSegEn } = decode(controlLayout, read('control'))
    const { base, size } = decode(deviceTableBaseLayout, read('deviceTableBase'))
    if (!iommuEn || devTblSegEn !== 0 || size + 1 !== pages) return undefined
    if (table !== undefined && table.base !== base) return undefined
    table = { base, pages }
  }
  return table
}

/** The valid entries of a device table; `undefined` if it lies where there is no memory. */
function entriesOf(
  memory: Memory,
  { base }: DeviceTablePlace,
  lastDeviceId: number,
): InheritedEntries | undefined {
  const entries = new Map<number, number>()
  for (let deviceId = 0; deviceId <= lastDeviceId; deviceId++) {
    const at = entryAddress(base, deviceId)
    const [low, high] = [load64(memory, at), load64(memory, at + 8n)]
    if (low === undefined || high === undefined) return undefined
    const { valid, domainId } = decodeDte(BigUint64Array.of(low, high, 0n, 0n))
    if (valid) entries.set(deviceId, domainId)
  }
  return entries
}

/** Keeps the IDs of another kernel's entries from being handed out. That several entries have one is fine. */
export function reserveIds(ids: DomainIdAllocator, entries: InheritedEntries): void {
  for (const id of new Set(entries.values())) if (id !== 0) ids.reserve(asDomainId(id))
}

/** Makes running IOMMUs take this kernel's commands. They translate all the time. */
export function takeOver(
  plan: Plan,
  setups: readonly IommuSetup[],
  ports: readonly IommuPort[],
  scope: Omit<FlushScope, 'invalidateAll'>,
): void {
  for (const setup of setups) {
    const port = ports[setup.iommu]
    if (port === undefined) continue
    openRegisters(plan, setup)
    exchangeRings(plan, setup, port.readMmio(registers.control.offset, 8))
    flushIommu(plan, setup, scope)
  }
}

/**
 * What is left to do once the entries of a device are this kernel's: what was cached under the IDs that they had goes.
 *
 * Linux does so in `set_dte_entry`, for every old entry with an ID.
 */
export function leaveInherited(books: Books, plan: Plan, { deviceId, aliases, iommu }: Device): void {
  const left = new Set<number>()
  for (const id of [deviceId, ...aliases]) {
    left.add(books.inherited.get(id) ?? 0)
    books.inherited.delete(id)
  }
  left.delete(0)
  for (const id of left) {
    const all = { directories: true, guestNested: false, ...rangeFields(everything) }
    plan.command(
      iommu,
      { kind: 'InvalidateIommuPages', domainId: asDomainId(id), ...all },
      'the old entry carried the ID',
    )
  }
  if (left.size > 0) plan.wait(iommu)
}
