/**
 * Bring-up of the IOMMUs of one driver: where device table, rings and logs lie, and how the chips are turned on.
 *
 * The order is Linux's: device table and rings, then features, then the enable bit, then INVALIDATE_IOMMU_ALL where the
 * chip has it. Without it nothing is flushed: no DomainID has been in use under this driver.
 *
 * @packageDocumentation
 */
import { encode, spa } from '@nestwalk/bits'
import type { Spa } from '@nestwalk/bits'
import {
  commandBufferBaseLayout,
  controlLayout,
  decodeEfr,
  decodeEfr2,
  deviceTableBaseLayout,
  registers,
} from '@nestwalk/hardware'
import type { IommuPort } from '@nestwalk/hardware'
import { CommandRing, ringLengthLog2 } from './command-ring.js'
import type { RingPlace } from './command-ring.js'
import { pageBytes } from './page-allocator.js'
import type { PageAllocator } from './page-allocator.js'
import type { Plan } from './plan.js'

const entryBytes = 32n
const entriesPerPage = 128
/** Pages of a ring or log of 512 entries. */
const ringPages = 2

/** V=1, TV=1, no rights: what Linux puts into every entry before a device is known. */
const refusedEntry = 3n

/** What bring-up made. */
export interface BroughtUp {
  readonly deviceTable: Spa
  readonly rings: CommandRing[]
}

/** Address of a device's entry. */
export const entryAddress = (deviceTable: Spa, deviceId: number): Spa =>
  spa(deviceTable + BigInt(deviceId) * entryBytes)

/**
 * Plans the bring-up of all IOMMUs of a driver, which share one device table.
 *
 * @returns `undefined` if the pages do not suffice
 */
export function bringUp(
  plan: Plan,
  pages: PageAllocator,
  ports: readonly IommuPort[],
  lastDeviceId: number,
): BroughtUp | undefined {
  const tablePages = Math.ceil((lastDeviceId + 1) / entriesPerPage)
  const deviceTable = pages.takeRun(tablePages)
  const places: (RingPlace & { readonly eventLog: Spa })[] = []
  for (let i = 0; i < ports.length; i++) {
    const ring = pages.takeRun(ringPages)
    const eventLog = pages.takeRun(ringPages)
    const completion = pages.take()
    if (ring === undefined || eventLog === undefined || completion === undefined) return undefined
    places.push({ ring, eventLog, completion })
  }
  if (deviceTable === undefined) return undefined
  // What the memory held before must not pass for interrupt fields or for a completed wait.
  for (let page = 0n; page < BigInt(tablePages); page++) {
    plan.clearPage(spa(deviceTable + page * pageBytes), 'device table, cleared')
  }
  for (const { completion } of places) plan.clearPage(completion, 'completion word, cleared')
  plan.fill(
    deviceTable,
    tablePages * entriesPerPage,
    Number(entryBytes),
    refusedEntry,
    'device table, all refused',
  )
  ports.forEach((port, iommu) => {
    const place = places[iommu]
    if (place !== undefined) turnOn(plan, port, iommu, deviceTable, tablePages, place)
  })
  return { deviceTable, rings: places.map((place) => CommandRing.create(place)) }
}

function turnOn(
  plan: Plan,
  port: IommuPort,
  iommu: number,
  deviceTable: Spa,
  tablePages: number,
  place: RingPlace & { readonly eventLog: Spa },
): void {
  const efr = decodeEfr(port.readMmio(registers.efr.offset, 8))
  const efr2 = decodeEfr2(port.readMmio(registers.efr2.offset, 8))
  const write = (
    name: 'deviceTableBase' | 'commandBufferBase' | 'eventLogBase' | 'control',
    value: bigint,
  ): void => plan.register(iommu, registers[name].offset, value, registers[name].name)
  const ringBase = (base: Spa): bigint =>
    encode(commandBufferBaseLayout, { base, lengthLog2: ringLengthLog2 })[0] ?? 0n
  const features = {
    coherent: true,
    cmdBufEn: true,
    eventLogEn: true,
    eventIntEn: true,
    gtEn: efr.gtSup,
    // Before the enable bit: without it a guest's GCR3 pointer would be read as a system address.
    gcr3TrpMode: efr2.gcr3TrpModeSup,
    ephEn: efr.ephSup,
    hadUpdate: efr.haSup && efr.hdSup ? 3 : 0,
  }
  const control = (enable: boolean): bigint =>
    encode(controlLayout, { ...features, iommuEn: enable })[0] ?? 0n
  write('control', 0n)
  write(
    'deviceTableBase',
    encode(deviceTableBaseLayout, { base: deviceTable, size: tablePages - 1 })[0] ?? 0n,
  )
  write('commandBufferBase', ringBase(place.ring))
  write('eventLogBase', ringBase(place.eventLog))
  write('control', control(false))
  write('control', control(true))
  if (efr.iaSup)
    plan.command(iommu, { kind: 'InvalidateIommuAll' }, 'nothing cached before bring-up may stay')
  plan.wait(iommu)
}
